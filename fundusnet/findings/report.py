"""The report on findings: a self-contained page about one run or several side by side (S1.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from fundusnet.data.labels import finding_labels
from fundusnet.data.prepared import PreparedSet
from fundusnet.evaluation import page, report
from fundusnet.evaluation.binary_tasks_report import delong_rows, task_section
from fundusnet.evaluation.discrimination import Scores, describe, precision_recall, roc
from fundusnet.evaluation.faithfulness_report import faithfulness_sections
from fundusnet.evaluation.folds import join_folds
from fundusnet.evaluation.groups import Group, differing_images, group_differences, group_runs
from fundusnet.evaluation.methods import Methods, name_methods
from fundusnet.evaluation.report import Differences, Entries
from fundusnet.evaluation.runs import Run, read_runs
from fundusnet.evaluation.subgroups import subgroup_tables
from fundusnet.findings import tables
from fundusnet.findings.figures import enlarged, losses, panel_tiles
from fundusnet.findings.statistics import FINDINGS, METRIC_NAMES, TITLES

FOREST = {
    name: TITLES[name]
    for name in ("auroc", "sensitivity", "specificity", "air_tp", "air_fn", "lift_tp", "pointing_game", "lesion_energy")
}
FINE = 512  # pixels: side at which pictures are drawn at least, so that lines are thin
OUTCOMES = {
    "True positives": (1, 1),
    "False positives": (0, 1),
    "False negatives": (1, 0),
    "True negatives": (0, 0),
}


def write_report(runs: list[Path], output: Path, reference: str | None = None) -> Path:
    """Write a report on ``runs`` (folders) to the file ``output`` and return it.

    ``.html`` is a self-contained page, ``.md`` its tables as Markdown. Runs that differ only in seed or finding are
    pooled; ``reference`` (``fundusnet.evaluation.methods.name_methods``) is the method that others are compared with.
    Its predictions choose the pictures; without the prepared set of its ``config.yaml`` the page says so and has none.

    Raises:
        UserError: A file is missing, the suffix of ``output`` is unknown, or no run is the ``reference``.
    """
    page.check_suffix(output)
    methods = read_methods(runs, reference)
    groups = methods.groups
    findings = list(dict.fromkeys(finding for group in groups for finding in group.targets))
    entries, differences = report.pooled_entries(groups, METRIC_NAMES), group_differences(groups)
    if output.suffix == ".md":
        return page.write(tables.markdown(groups, findings, entries, differences), output)
    return page.write(_page(methods, findings, entries, differences), output)


def read_methods(runs: list[Path], reference: str | None) -> Methods:
    """Read the methods that ``runs`` (folders) are of."""
    return name_methods(group_runs(join_folds(read_runs(runs, FINDINGS))), reference)


def maps_of(run: Run, finding: str) -> dict[str, np.ndarray]:
    """Return the run's activation maps ``(h, w)`` of one finding by image id; empty where it kept none."""
    if finding not in run.targets:
        return {}
    number = run.targets.index(finding)
    return {image_id: maps[number] for image_id, maps in run.stored_maps("maps.npz", "map").items()}


def _page(methods: Methods, findings: Sequence[str], entries: Entries, differences: Differences) -> str:
    groups, sections, without_pictures = methods.groups, [], ""
    for finding in findings:
        shown = report.first_runs(groups, finding)
        prepared, why_not = report.prepared_set(next(iter(shown.values())))
        without_pictures = without_pictures or why_not
        sections.append(
            {
                "finding": finding,
                "counts": tables.counts(groups, finding),
                "table": list(tables.finding_table(groups, finding, entries, differences)),
                "forests": {
                    name: page.picture(figure)
                    for name, figure in report.forests(
                        groups, finding, FOREST, entries, differences, counted(groups, finding)
                    ).items()
                },
                "curves": [page.picture(figure) for figure in discrimination_figures(groups, finding)],
                "one_cell": _one_cell(shown, finding),
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
        **report.shared_values(methods, _scores(findings, entries), _validation_auroc, losses, class_counter),
        table1=tables.table1(groups, findings, entries, differences) if several else None,
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


def discrimination_figures(groups: Sequence[Group], finding: str) -> list[Figure]:
    """Return ROC and precision-recall curves; none where no run was scored on images of both classes."""
    curves: dict[str, Scores] = {}
    for group in groups:
        runs = group.runs_of(finding)
        for run in runs:
            label = group.label if len(runs) == 1 else f"{group.label}, seed {run.config.get('seed')}"
            task = run.binary_tasks(finding)[finding]
            at = [(run.metric(finding, name) or {}).get("value") for name in ("sensitivity", "specificity", "ppv")]
            point = None if None in at[:2] else (float(at[0] or 0), float(at[1] or 0), at[2])
            curves[label] = Scores(task.label, task.probability, task.patients, point)
    if not any({0, 1} <= {*np.asarray(each.labels)} for each in curves.values()):
        return []
    return [roc(curves, f"ROC: {_spoken(finding)}"), precision_recall(curves, f"Precision: {_spoken(finding)}")]


def class_counter(run: Run) -> Callable[[Sequence[str]], dict[str, int]]:
    """Return a function from images of the run's prepared set to how many have each finding, and how many do not."""
    prepared, _ = report.prepared_set(run)
    if prepared is None:
        return lambda ids: {}
    data = run.config.get("data") or {}
    labels = finding_labels(prepared, run.targets, present=data.get("present", 2), cue=data.get("cue", "regions")).label
    row_of = {image_id: row for row, image_id in enumerate(prepared.manifest.images["image_id"])}

    def count(ids: Sequence[str]) -> dict[str, int]:
        rows = [row_of[image_id] for image_id in ids if image_id in row_of]
        found = {}
        for column, finding in enumerate(run.targets):
            of = f" {_spoken(finding)}" if len(run.targets) > 1 else ""
            for word, value in (("with", 1), ("without", 0)):
                found[word + of] = int((labels[rows, column] == value).sum())
        return found

    return count


def _one_cell(runs: Mapping[str, Run], finding: str) -> list[str]:
    """Return the methods whose map has a single cell, which says nothing about where a finding is."""
    return [label for label, run in runs.items() if any(one.size == 1 for one in maps_of(run, finding).values())]


def counted(groups: Sequence[Group], finding: str) -> str:
    """The finding and how many images have it, where that is the same for all methods."""
    counts = {describe(run.predictions[finding]["label"]) for group in groups for run in group.runs_of(finding)}
    return f"{_spoken(finding)} ({counts.pop()})" if len(counts) == 1 else _spoken(finding)


def _spoken(finding: str) -> str:
    return finding.replace("_", " ")


def _pictures(groups: Sequence[Group], finding: str, prepared: PreparedSet) -> Iterator[dict[str, Any]]:
    """Yield what the template shows of ``clear_cases``."""
    for outcome in clear_cases(groups, finding, prepared):
        images = [{**image, "tiles": page.tiles(image["tiles"])} for image in outcome["images"]]
        yield {**outcome, "images": images}


def clear_cases(groups: Sequence[Group], finding: str, prepared: PreparedSet) -> Iterator[dict[str, Any]]:
    """Yield the four outcomes with the first group's clearest cases of each, every group's map beside them.

    Of several seeds the first is shown, the same in every group that has it.
    """
    if finding not in groups[0].targets:
        return
    first = groups[0].runs_of(finding)[0]
    found = {group.label: _same_seed(group.runs_of(finding), first) for group in groups}
    runs = {label: run for label, run in found.items() if run and not differing_images(first, run, finding)}
    maps = {label: maps_of(run, finding) for label, run in runs.items()}
    rows = first.predictions[finding]
    row_of = {image_id: row for row, image_id in enumerate(prepared.manifest.images["image_id"])}
    data = first.config.get("data") or {}
    labels = finding_labels(prepared, [finding], present=data.get("present", 2), cue=data.get("cue", "regions"))
    for title, (label, predicted) in OUTCOMES.items():
        members = rows[(rows["label"] == label) & (rows["predicted"] == predicted)]
        known = members[members["image_id"].isin(row_of) & members["image_id"].isin(maps[groups[0].label])]
        clearest = known.sort_values(["probability", "image_id"], ascending=[predicted == 0, True])
        shown = []
        for image_id in clearest.index[: report.pictures_wanted(first)]:
            row = row_of[image_id]
            said = {
                name: _verdict(name if len(runs) > 1 else "", run, finding, str(image_id)) for name, run in runs.items()
            }
            size = prepared.size * -(-FINE // prepared.size)
            lesion = prepared.lesion_mask(str(image_id), finding) if label else None
            tiles = panel_tiles(
                enlarged(np.asarray(prepared.pixels[row]), size),
                {said[name]: maps[name][image_id] for name in runs if image_id in maps[name]},
                levels={
                    said[name]: run.results["operating_points"][finding]
                    for name, run in runs.items()
                    if finding in run.results.get("operating_points", {})
                },
                relative=report.maps_relative(first),
                cue=enlarged(labels.cue(row)[0], size) if label and labels.cue_known[row, 0] else None,
                lesion=None if lesion is None else enlarged(lesion, size),
                landmarks=_landmarks(prepared.manifest.images.iloc[row], size / prepared.size),
            )
            without = [said[name] for name in runs if image_id not in maps[name]]
            text = "; ".join([f"{image_id}, labelled {'present' if label else 'absent'}", *without])
            shown.append({"image_id": image_id, "text": text, "tiles": tiles})
        yield {"title": title, "count": len(members), "images": shown}


def _verdict(name: str, run: Run, finding: str, image_id: str) -> str:
    """What a run says of an image."""
    rows = run.predictions[finding]
    if image_id not in rows.index:
        return f"{name}: not scored" if name else "not scored"
    row = rows.loc[image_id]
    said = f"{row['probability']:.2f}, {'present' if row['predicted'] == 1 else 'absent'}"
    return f"{name}: {said}" if name else said


def _same_seed(runs: Sequence[Run], first: Run) -> Run | None:
    if len(runs) == 1:
        return runs[0]
    return next((run for run in runs if run.config.get("seed") == first.config.get("seed")), None)


def _landmarks(image: pd.Series[Any], scale: float) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Disc and fovea in the enlarged frame; pixel centres lie half a pixel inside their edges at either size."""
    points = [(float(image[name]) + 0.5) * scale - 0.5 for name in ("disc_x", "disc_y", "fovea_x", "fovea_y")]
    return ((points[0], points[1]), (points[2], points[3])) if np.isfinite(points).all() else None
