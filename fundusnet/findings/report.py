"""The report on findings: a self-contained page about one run or several side by side (S1.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from fundusnet.data.labels import finding_labels
from fundusnet.data.prepared import PreparedSet
from fundusnet.evaluation import page, report
from fundusnet.evaluation.binary_tasks_report import delong_rows, task_section
from fundusnet.evaluation.faithfulness_report import faithfulness_sections
from fundusnet.evaluation.figures import roc
from fundusnet.evaluation.folds import join_folds
from fundusnet.evaluation.groups import Group, group_differences, group_runs
from fundusnet.evaluation.report import Differences, Entries
from fundusnet.evaluation.runs import Run, read_runs
from fundusnet.evaluation.subgroups import subgroup_tables
from fundusnet.findings import tables
from fundusnet.findings.figures import losses, panel_tiles
from fundusnet.findings.statistics import FINDINGS, METRIC_NAMES, TITLES

OUTCOMES = {
    "True positives": (1, 1),
    "False positives": (0, 1),
    "False negatives": (1, 0),
    "True negatives": (0, 0),
}


def write_report(runs: list[Path], output: Path) -> Path:
    """Write a report on ``runs`` (folders) to the file ``output`` and return it.

    ``.html`` is a self-contained page, ``.md`` its tables as Markdown. Runs that differ only in seed or finding are
    pooled; the first method is the one others are compared with. Its predictions choose the pictures; without the
    prepared set of its ``config.yaml`` the page says so and has no pictures.

    Raises:
        UserError: A file is missing, or the suffix of ``output`` is unknown.
    """
    page.check_suffix(output)
    groups = group_runs(join_folds(read_runs(runs, FINDINGS)))
    findings = list(dict.fromkeys(finding for group in groups for finding in group.targets))
    entries, differences = report.pooled_entries(groups, METRIC_NAMES), group_differences(groups)
    render = tables.markdown if output.suffix == ".md" else _page
    return page.write(render(groups, findings, entries, differences), output)


def maps_of(run: Run, finding: str) -> dict[str, np.ndarray]:
    """Return the run's activation maps ``(h, w)`` of one finding by image id; empty where it kept none."""
    if finding not in run.targets:
        return {}
    number = run.targets.index(finding)
    return {image_id: maps[number] for image_id, maps in run.stored_maps("maps.npz", "map").items()}


def _page(groups: Sequence[Group], findings: Sequence[str], entries: Entries, differences: Differences) -> str:
    sections, without_pictures = [], ""
    for finding in findings:
        shown = report.first_runs(groups, finding)
        prepared, why_not = report.prepared_set(next(iter(shown.values())))
        without_pictures = without_pictures or why_not
        sections.append(
            {
                "finding": finding,
                "counts": tables.counts(groups, finding),
                "table": list(tables.finding_table(groups, finding, entries, differences)),
                "roc": _roc(groups, finding),
                "delong": list(delong_rows(groups, finding, finding)),
                "task": task_section(groups, finding, finding),
                "faithfulness": faithfulness_sections(shown, finding),
                "regions": tables.region_tables(shown, finding),
                "subgroups": subgroup_tables(shown, finding),
                "outcomes": list(_pictures(groups, finding, prepared)) if prepared is not None else [],
            }
        )
    several = len(findings) > 1 and len(groups) > 1
    return page.render(
        "fundusnet.findings",
        "report_findings.html.j2",
        **report.shared_values(groups, _scores(findings, entries), _validation_auroc, losses),
        overview=list(tables.overview_table(groups, findings, entries, differences)) if several else [],
        overview_titles=[TITLES[name] for name in tables.OVERVIEW],
        sections=sections,
        without_pictures=without_pictures,
    )


def _scores(findings: Sequence[str], entries: Entries) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return what a sweep is judged by: AUROC, and for a single finding whether the map lies in the cue."""
    names = ("auroc", "lift_tp") if len(findings) == 1 else ("auroc",)
    scores = {}
    for finding in findings:
        for name in names:
            found = {label: entry for (label, *what), entry in entries.items() if what == [finding, name]}
            if any(entry["value"] is not None for entry in found.values()):
                of = "" if len(findings) == 1 else f", {finding.replace('_', ' ')}"
                scores[TITLES[name] + of] = found
    return scores


def _validation_auroc(predictions: pd.DataFrame) -> float:
    """Return the mean AUROC over findings; NaN where one has a single class."""
    areas = []
    for _, rows in predictions.dropna(subset=["label"]).groupby("finding"):
        if rows["label"].nunique() < 2:
            return float("nan")
        areas.append(float(roc_auc_score(rows["label"], rows["probability"])))
    return float(np.mean(areas))


def _roc(groups: Sequence[Group], finding: str) -> str | None:
    """Return the ROC curves; None where no run was scored on images of both classes."""
    curves, points = {}, {}
    for group in groups:
        runs = group.runs_of(finding)
        for run in runs:
            label = group.label if len(runs) == 1 else f"{group.label}, seed {run.config.get('seed')}"
            task = run.binary_tasks(finding)[finding]
            curves[label] = (task.label, task.probability)
            at = [(run.metric(finding, name) or {}).get("value") for name in ("sensitivity", "specificity")]
            if None not in at:
                points[label] = (float(at[0] or 0), float(at[1] or 0))
    drawable = any({0, 1} <= {*label} for label, _ in curves.values())
    return page.picture(roc(curves, points)) if drawable else None


def _pictures(groups: Sequence[Group], finding: str, prepared: PreparedSet) -> Iterator[dict[str, Any]]:
    """Yield the four outcomes with the first group's clearest cases of each, every group's map beside them.

    Of several seeds the first is shown, the same in every group that has it.
    """
    if finding not in groups[0].targets:
        return
    first = groups[0].runs_of(finding)[0]
    runs = {group.label: _same_seed(group.runs_of(finding), first) for group in groups}
    maps = {label: maps_of(run, finding) for label, run in runs.items() if run is not None}
    levels = {
        label: run.results["operating_points"][finding]
        for label, run in runs.items()
        if run is not None and finding in run.results.get("operating_points", {})
    }
    rows = first.predictions[finding]
    row_of = {image_id: row for row, image_id in enumerate(prepared.manifest.images["image_id"])}
    data = first.config.get("data") or {}
    labels = finding_labels(prepared, [finding], present=data.get("present", 2), cue=data.get("cue", "regions"))
    for title, (label, predicted) in OUTCOMES.items():
        members = rows[(rows["label"] == label) & (rows["predicted"] == predicted)]
        known = members[members["image_id"].isin(row_of) & members["image_id"].isin(maps[groups[0].label])]
        clearest = known.sort_values(["probability", "image_id"], ascending=[predicted == 0, True])
        shown = []
        for image_id, probability in clearest["probability"][: report.pictures_wanted(first)].items():
            row = row_of[image_id]
            tiles = panel_tiles(
                np.asarray(prepared.pixels[row]),
                {name: found[image_id] for name, found in maps.items() if image_id in found},
                levels=levels,
                relative=report.maps_relative(first),
                cue=labels.cue(row)[0] if label and labels.cue_known[row, 0] else None,
                lesion=prepared.lesion_mask(str(image_id), finding) if label else None,
                landmarks=_landmarks(prepared.manifest.images.iloc[row]),
            )
            text = f"{image_id}, probability {probability:.2f}"
            shown.append({"image_id": image_id, "text": text, "tiles": page.tiles(tiles)})
        yield {"title": title, "count": len(members), "images": shown}


def _same_seed(runs: Sequence[Run], first: Run) -> Run | None:
    if len(runs) == 1:
        return runs[0]
    return next((run for run in runs if run.config.get("seed") == first.config.get("seed")), None)


def _landmarks(image: pd.Series[Any]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    points = [float(image[name]) for name in ("disc_x", "disc_y", "fovea_x", "fovea_y")]
    return ((points[0], points[1]), (points[2], points[3])) if np.isfinite(points).all() else None
