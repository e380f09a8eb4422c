"""One HTML page for a run, or for several side by side; it needs no other file and no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from fundusnet.data.labels import finding_labels
from fundusnet.data.prepared import PreparedSet
from fundusnet.evaluation import figures, page, tables
from fundusnet.evaluation.comparison import Run, maps_of, read_runs, same_images
from fundusnet.evaluation.delong import delong_rows
from fundusnet.evaluation.faithfulness_report import faithfulness_sections
from fundusnet.evaluation.groups import Group, group_differences, group_runs
from fundusnet.evaluation.subgroups import subgroup_tables
from fundusnet.evaluation.sweeps import best_on_validation, sweep_section
from fundusnet.evaluation.use_report import use_section
from fundusnet.findings.statistics import column

OUTCOMES = {
    "True positives": (1, 1),
    "False positives": (0, 1),
    "False negatives": (1, 0),
    "True negatives": (0, 0),
}
PANELS = 3


def write_report(runs: list[Path], output: Path) -> Path:
    """Write about ``runs`` (folders) to the file ``output`` and return it.

    ``.html`` is a self-contained page; ``.md`` its tables as Markdown. Runs that differ in seed or finding alone
    are pooled; the first method is the one others are compared with. Its predictions choose the pictures; where
    the prepared set of its ``config.yaml`` is gone, the page says so and has no pictures.

    Raises
    ------
    UserError: names a file that is missing, or an ending that is neither.
    """
    page.check_ending(output)
    groups = group_runs(read_runs(runs))
    findings = list(dict.fromkeys(finding for group in groups for finding in group.findings))
    entries, differences = tables.entries_of(groups), group_differences(groups)
    if output.suffix == ".md":
        content = tables.markdown(groups, findings, entries, differences)
    else:
        content = _page(groups, findings, entries, differences)
    return page.write(content, output)


def _page(
    groups: Sequence[Group], findings: Sequence[str], entries: tables.Entries, differences: tables.Differences
) -> str:
    sections, without_pictures = [], ""
    for finding in findings:
        prepared, why_not = page.prepared_set(
            next(group for group in groups if finding in group.findings).runs_of(finding)[0]
        )
        without_pictures = without_pictures or why_not
        sections.append(
            {
                "finding": finding,
                "counts": tables.counts(groups, finding),
                "table": list(tables.finding_table(groups, finding, entries, differences)),
                "roc": _roc(groups, finding),
                "delong": list(delong_rows(groups, finding, finding)),
                "use": use_section(groups, finding, finding),
                "faithfulness": faithfulness_sections(_drawn(groups, finding), finding),
                "subgroups": subgroup_tables(_drawn(groups, finding), finding),
                "outcomes": list(_pictures(groups, finding, prepared)) if prepared is not None else [],
            }
        )
    several = len(findings) > 1 and len(groups) > 1
    return page.render(
        "report_findings.html.j2",
        title=page.title(groups),
        summaries=[page.summary(group) for group in groups],
        labels=[group.label for group in groups],
        pooled=any(len(group.runs_of(finding)) > 1 for group in groups for finding in findings),
        same_images=all(same_images(runs) for runs in _compared(groups, findings)),
        sweep=sweep_section(groups, _scores(findings, entries), best_on_validation(groups, _validation_auroc)),
        measure="AUROC",
        overview=list(tables.overview_table(groups, findings, entries, differences)) if several else [],
        overview_titles=[tables.TITLES[name] for name in tables.OVERVIEW],
        sections=sections,
        losses=[
            {"label": _run_label(group, run), "image": page.picture(figures.losses(run.history))}
            for group in groups
            for run in _one_a_finding(group)
            if not run.history.empty
        ],
        without_pictures=without_pictures,
    )


def _scores(findings: Sequence[str], entries: tables.Entries) -> dict[str, dict[str, Mapping[str, Any]]]:
    """What a sweep is judged by: does it tell, and does it look where the finding is."""
    names = ("auroc", "lift_tp") if len(findings) == 1 else ("auroc",)
    scores = {}
    for finding in findings:
        for name in names:
            found = {label: entry for (label, *what), entry in entries.items() if what == [finding, name]}
            if any(entry["value"] is not None for entry in found.values()):
                of = "" if len(findings) == 1 else f", {finding.replace('_', ' ')}"
                scores[tables.TITLES[name] + of] = found
    return scores


def _validation_auroc(predictions: pd.DataFrame) -> float:
    """The mean over findings; NaN where one has a single class."""
    areas = []
    for _, rows in predictions.dropna(subset=["label"]).groupby("finding"):
        if rows["label"].nunique() < 2:
            return float("nan")
        areas.append(float(roc_auc_score(rows["label"], rows["probability"])))
    return float(np.mean(areas))


def _compared(groups: Sequence[Group], findings: Sequence[str]) -> Iterator[list[Run]]:
    """Runs that should have been scored on the same images: those of one finding and seed."""
    for finding in findings:
        by_seed: dict[object, list[Run]] = {}
        for group in groups:
            for run in group.runs_of(finding):
                seed = run.config.get("seed") if len(group.runs_of(finding)) > 1 else None
                by_seed.setdefault(seed, []).append(run)
        yield from by_seed.values()


def _drawn(groups: Sequence[Group], finding: str) -> dict[str, Run]:
    """The run of each group that is shown where seeds cannot be pooled: its first."""
    return {group.label: group.runs_of(finding)[0] for group in groups if finding in group.findings}


def _one_a_finding(group: Group) -> list[Run]:
    """The runs whose curves and pictures stand for a group: its first seed of each finding."""
    return list({id(run): run for run in (group.runs_of(finding)[0] for finding in group.findings)}.values())


def _run_label(group: Group, run: Run) -> str:
    if len(group.runs) == 1:
        return group.label
    return f"{'+'.join(run.findings)}, {group.label}, seed {run.config.get('seed')}"


def _roc(groups: Sequence[Group], finding: str) -> str | None:
    """The picture of the curves, where any run was scored on images with the finding and on images without it."""
    curves, points = {}, {}
    for group in groups:
        runs = group.runs_of(finding)
        for run in runs:
            label = group.label if len(runs) == 1 else f"{group.label}, seed {run.config.get('seed')}"
            rows = run.rows(finding)
            curves[label] = (column(rows, "label"), column(rows, "probability"))
            at = [(run.metric(finding, name) or {}).get("value") for name in ("sensitivity", "specificity")]
            if None not in at:
                points[label] = (float(at[0] or 0), float(at[1] or 0))
    drawable = any({0, 1} <= {*label} for label, _ in curves.values())
    return page.picture(figures.roc(curves, points)) if drawable else None


def _pictures(groups: Sequence[Group], finding: str, prepared: PreparedSet) -> Iterator[dict[str, object]]:
    """Yield the four outcomes with the first group's clearest cases of each, every group's map beside them.

    Of several seeds the first is shown, the same in every group that has it.
    """
    if finding not in groups[0].findings:
        return
    runs = [_same_seed(group.runs_of(finding), groups[0].runs_of(finding)[0]) for group in groups]
    maps = {group.label: maps_of(run, finding) for group, run in zip(groups, runs, strict=True) if run is not None}
    assert runs[0] is not None
    rows = runs[0].rows(finding)
    row_of = {image_id: row for row, image_id in enumerate(prepared.manifest.images["image_id"])}
    data = runs[0].config.get("data") or {}
    labels = finding_labels(prepared, [finding], present=data.get("present", 2), cue=data.get("cue", "regions"))
    limit = int((runs[0].config.get("evaluation") or {}).get("panels", PANELS))
    for title, (label, predicted) in OUTCOMES.items():
        chosen = rows[(rows["label"] == label) & (rows["predicted"] == predicted)]
        chosen = chosen[chosen["image_id"].isin(row_of) & chosen["image_id"].isin(maps[groups[0].label])]
        shown = []
        for image_id, probability in _clearest(chosen, predicted == 1, limit):
            row = row_of[image_id]
            tiles = figures.panel_tiles(
                np.asarray(prepared.pixels[row]),
                {name: found[image_id] for name, found in maps.items() if image_id in found},
                cue=labels.cue(row)[0] if label and labels.cue_known[row, 0] else None,
                lesion=prepared.lesion_mask(image_id, finding) if label else None,
                landmarks=_landmarks(prepared.manifest.images.iloc[row]),
            )
            shown.append(
                {
                    "image_id": image_id,
                    "probability": f"{probability:.2f}",
                    "tiles": [{"name": name, "image": page.jpeg(tile)} for name, tile in tiles.items()],
                }
            )
        yield {"title": title, "count": int(((rows["label"] == label) & (rows["predicted"] == predicted)).sum()),
               "images": shown}  # fmt: skip


def _same_seed(runs: Sequence[Run], first: Run) -> Run | None:
    if len(runs) == 1:
        return runs[0]
    return next((run for run in runs if run.config.get("seed") == first.config.get("seed")), None)


def _clearest(rows: pd.DataFrame, positive: bool, limit: int) -> list[tuple[str, float]]:
    ordered = rows.sort_values(["probability", "image_id"], ascending=[not positive, True])[:limit]
    return list(zip(ordered["image_id"].astype(str), ordered["probability"].astype(float), strict=True))


def _landmarks(image: pd.Series[Any]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    points = [float(image[name]) for name in ("disc_x", "disc_y", "fovea_x", "fovea_y")]
    return ((points[0], points[1]), (points[2], points[3])) if np.isfinite(points).all() else None
