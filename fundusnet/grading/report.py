"""One page about grading runs: Table 1, confusion matrices, masks by grade, loss curves (S2.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundusnet.data.manifest import SPLITS
from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError
from fundusnet.evaluation import page, tables
from fundusnet.evaluation.comparison import Run, read_runs, same_images
from fundusnet.evaluation.delong import delong_rows
from fundusnet.evaluation.faithfulness_report import faithfulness_sections
from fundusnet.evaluation.groups import Group, group_differences, group_runs
from fundusnet.evaluation.intervals import Interval
from fundusnet.evaluation.subgroups import subgroup_tables
from fundusnet.evaluation.sweeps import best_on_validation, sweep_section
from fundusnet.evaluation.use_report import use_section
from fundusnet.findings.statistics import column
from fundusnet.grading import figures
from fundusnet.grading.datamodule import upsampled
from fundusnet.grading.statistics import read_predictions, run_statistics
from fundusnet.system.progress import track

GRADE = "grade"  # what every row of a grading run is about
TITLES = {
    "accuracy": "Accuracy",
    "kappa_quadratic": "Kappa",
    "mae": "Mean error",
    "auroc_macro": "AUROC",
    "rank_violations": "Rank violations",
    "stage1_accuracy": "Accuracy of stage 1",
}
DISC, CUP = "optic_disc", "optic_cup"
Entries = Mapping[tuple[str, str], Mapping[str, Any]]
Differences = Mapping[tuple[str, str, str], Interval]


def write_report(runs: list[Path], output: Path) -> Path:
    """Write about ``runs`` (folders) to the file ``output`` and return it.

    ``.html`` is a self-contained page; ``.md`` its table as Markdown. Runs that differ in seed alone are pooled; the
    first method is the one others are compared with. Pictures come from the prepared set of the first two-stage run;
    where that is gone, the page says so and has none.

    Raises:
        UserError: a file is missing, the runs tell different grades, or the ending is neither.
    """
    page.check_ending(output)
    read = read_runs(runs, _read)
    classes = _classes(read)
    groups = group_runs(read)
    statistics_of = partial(run_statistics, classes=classes)
    names = _names(read, classes)
    entries: dict[tuple[str, str], Mapping[str, Any]] = {}
    for group in track(groups, "pool runs", total=len(groups)):
        for name in names:
            if any(name in run.results["metrics"] for run in group.runs):
                entry = group.metric(GRADE, name, statistics_of=statistics_of)
                entries[group.label, name] = entry or tables.NOT_MEASURED
    differences = group_differences(groups, statistics_of=statistics_of)
    table = list(_table(groups, names, entries, differences))
    titles = [_title(name) for name in names]
    if output.suffix == ".md":
        return page.write(_markdown(titles, table, _counts(groups, classes)), output)

    two_stage = [group for group in groups if (group.runs[0].folder / "masks.npz").is_file()]
    prepared, why_not = page.prepared_set(two_stage[0].runs[0]) if two_stage else (None, "")
    content = page.render(
        "report_grading.html.j2",
        title=page.title(groups),
        summaries=[page.summary(group) for group in groups],
        labels=[group.label for group in groups],
        pooled=any(len(group.runs) > 1 for group in groups),
        same_images=_all_on_the_same_images(groups),
        sweep=sweep_section(groups, _scores(groups, entries), best_on_validation(groups, _validation_accuracy)),
        measure="accuracy",
        titles=titles,
        table=table,
        counts=_counts(groups, classes),
        confusion=page.picture(figures.confusion_matrices(_confusions(groups), classes)),
        uses=[
            {
                "title": f"Above {name.replace('_', ' ')}",
                "use": found,
                "delong": list(delong_rows(groups, GRADE, f"gt_{k}")),
            }
            for k, name in enumerate(classes[:-1])
            if (found := use_section(groups, GRADE, f"gt_{k}"))
        ],
        subgroups=subgroup_tables({group.label: group.runs[0] for group in groups}, GRADE),
        faithfulness=faithfulness_sections({group.label: group.runs[0] for group in groups}, GRADE),
        leaks=list(_leaks(groups)),
        grades=list(_grades(two_stage, classes, prepared)) if prepared is not None else [],
        outlines=list(_outlines(two_stage, prepared)) if prepared is not None else [],
        without_pictures=why_not,
        losses=[
            {"label": group.label, "panels": len(drawn.axes), "image": page.picture(drawn)}
            for group in groups
            if not group.runs[0].history.empty
            for drawn in [figures.losses(group.runs[0].history)]
        ],
    )
    return page.write(content, output)


def _read(path: Path) -> pd.DataFrame:
    return read_predictions(path).assign(finding=GRADE)


def _classes(runs: Sequence[Run]) -> list[str]:
    classes = [list(run.results.get("classes", [])) for run in runs]
    for run, found in zip(runs, classes, strict=True):
        if found != classes[0]:
            raise UserError(
                f"{run.folder} tells the grades {', '.join(found)}, {runs[0].folder} tells {', '.join(classes[0])}; "
                "give runs of the same grades"
            )
    return classes[0]


def _names(runs: Sequence[Run], classes: Sequence[str]) -> list[str]:
    """The columns of Table 1: the paper's four first."""
    recalls = [f"recall_{name}" for name in classes]
    order = ["accuracy", *recalls, *(name for name in TITLES if name != "accuracy")]
    return [name for name in order if any(name in run.results["metrics"] for run in runs)]


def _title(name: str) -> str:
    return TITLES.get(name) or f"Recall of {name.removeprefix('recall_').replace('_', ' ')}"


def _table(
    groups: Sequence[Group], names: Sequence[str], entries: Entries, differences: Differences
) -> Iterator[dict[str, Any]]:
    """A row a method, and below each but the first its differences to the first."""
    for group in groups:
        scores = [tables.cell(entries.get((group.label, name), tables.NOT_MEASURED)) for name in names]
        yield {"label": group.label, "cells": scores, "difference": False}
        between = [differences.get((group.label, GRADE, name)) for name in names]
        if any(between):
            cells = [tables.cell(one.as_metric(), signed=True) if one else None for one in between]
            yield {"label": f"difference to {groups[0].label}", "cells": cells, "difference": True}


def _scores(groups: Sequence[Group], entries: Entries) -> dict[str, dict[str, Mapping[str, Any]]]:
    """What a sweep is judged by."""
    names = ("accuracy", "kappa_quadratic")
    return {TITLES[name]: {group.label: entries[group.label, name] for group in groups} for name in names}


def _validation_accuracy(predictions: pd.DataFrame) -> float:
    return float((predictions["grade"] == predictions["predicted"]).mean())


def _counts(groups: Sequence[Group], classes: Sequence[str]) -> str:
    """How many test images of each grade there are, where that is the same for all runs."""
    found = [run.results["counts"] for group in groups for run in group.runs]
    if any(counts != found[0] for counts in found):
        return "The test images differ in their grades from run to run."
    return "Test images: " + ", ".join(f"{found[0][name]} {name.replace('_', ' ')}" for name in classes) + "."


def _markdown(titles: Sequence[str], table: Sequence[Mapping[str, Any]], counts: str) -> str:
    rows = [["method", *titles], ["---"] * (1 + len(titles))]
    rows += [[row["label"], *(tables.markdown_cell(one) if one else "–" for one in row["cells"])] for row in table]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", counts]) + "\n"


def _all_on_the_same_images(groups: Sequence[Group]) -> bool:
    by_seed: dict[object, list[Run]] = {}
    for group in groups:
        for run in group.runs:
            by_seed.setdefault(run.config.get("seed") if len(group.runs) > 1 else None, []).append(run)
    return all(same_images(runs) for runs in by_seed.values())


def _confusions(groups: Sequence[Group]) -> dict[str, NDArray[np.float64]]:
    return {
        group.label: np.sum([run.results["confusion"] for run in group.runs], axis=0).astype(np.float64)
        for group in groups
    }


def _leaks(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """In each split the share of images whose mask is that of their true grade, over the runs with stored masks."""
    for group in groups:
        files = [run.folder / "stages" / "masks.csv" for run in group.runs]
        found = [pd.read_csv(file) for file in files if file.is_file()]
        if not found:
            continue
        made = pd.concat(found)
        right = (made["grade"] == made["stage1_predicted"]).groupby(made["split"]).mean()
        yield {"label": group.label, "cells": [f"{right[split]:.3f}" for split in SPLITS]}


def _masks(run: Run) -> dict[str, NDArray[np.float32]]:
    """Masks ``(h, w)`` of the test images by image id; none of a single stage."""
    file = run.folder / "masks.npz"
    if not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as stored:
        return dict(zip(stored["image_id"].tolist(), stored["mask"].astype(np.float32), strict=True))


def _grades(groups: Sequence[Group], classes: Sequence[str], prepared: PreparedSet) -> Iterator[dict[str, Any]]:
    """For each grade the images that the first method is surest of, every method's mask and region beside them."""
    first = groups[0].runs[0]
    masks = {group.label: _masks(group.runs[0]) for group in groups}
    rows = first.rows(GRADE)
    row_of = {image_id: row for row, image_id in enumerate(prepared.manifest.images["image_id"])}
    limit = int((first.config.get("evaluation") or {}).get("panels", 3))
    p = np.stack([column(rows, f"p_gt_{k}") for k in range(len(classes) - 1)], axis=1)
    padded = np.pad(p, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    certainty = pd.DataFrame(padded[:, :-1] - padded[:, 1:], index=rows.index)
    for grade, name in enumerate(classes):
        ordered = certainty[grade][rows["grade"] == grade].sort_values(ascending=False, kind="stable")
        known = [image_id for image_id in ordered.index if image_id in row_of and image_id in masks[groups[0].label]]
        shown = []
        for image_id in known[:limit]:
            pixels = np.asarray(prepared.pixels[row_of[image_id]])
            large = {
                label: upsampled(found[image_id], pixels.shape[:2])
                for label, found in masks.items()
                if image_id in found
            }
            outlines = (prepared.lesion_mask(image_id, DISC), prepared.lesion_mask(image_id, CUP))
            tiles = figures.panel_tiles(pixels, large, *outlines)
            answer = rows.loc[image_id]
            text = (
                f"{image_id}: stage 1 says {classes[int(answer['stage1_predicted'])]}, "
                f"stage 2 {classes[int(answer['predicted'])]}"
            )
            pictures = [{"name": tile, "image": page.jpeg(picture)} for tile, picture in tiles.items()]
            shown.append({"image_id": image_id, "text": text, "tiles": pictures})
        yield {"name": name.replace("_", " ").capitalize(), "images": shown}


def _outlines(groups: Sequence[Group], prepared: PreparedSet) -> Iterator[dict[str, Any]]:
    """How much of the masks lies inside expert outlines of disc and cup, where there are any (Fig. 5)."""
    for group in groups:
        energy: dict[str, list[tuple[float, float]]] = {DISC: [], CUP: []}
        for run in group.runs:
            for image_id, mask in _masks(run).items():
                for name, found in energy.items():
                    outline = prepared.lesion_mask(image_id, name)
                    if outline is not None and outline.any():
                        large = upsampled(mask, outline.shape)
                        found.append((figures.energy_inside(large, outline), float(outline.mean())))
        count = max(len(found) for found in energy.values())
        if count:
            means = [np.nanmean(found, axis=0) if found else (np.nan, np.nan) for found in energy.values()]
            cells = ["–" if np.isnan(value) else f"{value:.3f}" for pair in means for value in pair]
            yield {"label": group.label, "cells": [count, *cells]}
