"""What the reports of both systems share: how runs are grouped, pooled, compared and described."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.relabel import relabelling
from fundusnet.errors import UserError
from fundusnet.evaluation import page
from fundusnet.evaluation.about import Counter, about_rows, split_counts
from fundusnet.evaluation.forest import forest
from fundusnet.evaluation.groups import Group
from fundusnet.evaluation.intervals import Interval
from fundusnet.evaluation.methods import Methods
from fundusnet.evaluation.runs import Run
from fundusnet.evaluation.sweeps import best_on_validation, sweep_section
from fundusnet.evaluation.tables import describe_images
from fundusnet.system.progress import track

Entries = Mapping[tuple[str, str, str], Mapping[str, Any]]  # by group label, target, metric name
Differences = Mapping[tuple[str, str, str], Interval]
PANELS = 3  # pictures of each kind, where config.yaml does not say


def pooled_entries(groups: Sequence[Group], names: Sequence[str], *, n: int = 2000) -> dict[tuple[str, str, str], Any]:
    """Return every group's metrics, pooled over its seeds, by (group label, target, metric name)."""
    return {
        (group.label, target, name): entry
        for group in track(groups, "pool runs", total=len(groups))
        for target in group.targets
        for name in names
        if (entry := group.metric(target, name, n=n)) is not None
    }


def shared_values(
    methods: Methods,
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]],
    validation_score: Callable[[pd.DataFrame], float],
    draw_losses: Callable[[pd.DataFrame], Figure],
    counts_of: Counter,
) -> dict[str, Any]:
    """Return the values of the template ``report.html.j2``.

    Args:
        methods: The methods.
        scores: What a sweep is judged by: for each metric (its title) the entry of every group. The first chooses.
        validation_score: The first of ``scores``, from a table of predictions on validation.
        draw_losses: Draws ``history.csv``.
        counts_of: As ``fundusnet.evaluation.about.about_rows`` takes it.
    """
    groups = methods.groups
    return {
        "title": _title(groups),
        "shared": methods.shared.strip("()"),
        "colors": page.gradient(),
        "about": about_rows(groups, counts_of),
        "date": f"{datetime.now():%Y-%m-%d}",
        "version": version("fundusnet"),
        "relative": maps_relative(groups[0].runs[0]),
        "summaries": [_summary(group) for group in groups],
        "labels": [group.label for group in groups],
        "pooled": any(len(group.runs_of(target)) > 1 for group in groups for target in group.targets),
        "same_images": all(len({run.image_ids for run in runs}) == 1 for runs in _comparable(groups)),
        "sweep": sweep_section(groups, scores, best_on_validation(groups, validation_score)),
        "losses": [
            {"label": _run_label(group, run), "panels": len(drawn.axes), "image": page.picture(drawn)}
            for group in groups
            for run in {id(run): run for run in (group.runs_of(target)[0] for target in group.targets)}.values()
            if (drawn := loss_curves(run, draw_losses))
        ],
    }


def loss_curves(run: Run, draw: Callable[[pd.DataFrame], Figure]) -> Figure | None:
    """Return the loss curves of a run under the numbers of its photographs; None for one without history."""
    if run.history.empty:
        return None
    figure, counts = draw(run.history), split_counts(run, lambda _: lambda _: {})
    if {"train", "val"} <= counts.keys():
        train, val = (counts[split]["images"] for split in ("train", "val"))
        figure.suptitle(f"n = {train} photographs in training, {val} in validation", fontsize=9)
    return figure


def forests(
    groups: Sequence[Group],
    target: str,
    titles: Mapping[str, str],
    entries: Entries,
    differences: Differences,
    about: str,
) -> dict[str, Figure]:
    """Return forest plots of a target: ``values`` of each method, and paired ``differences`` to the first one.

    Args:
        groups: The methods; none is drawn of a single one.
        target: What they predict.
        titles: Metric name → title; metrics that no method has are left out.
        entries: By group label, target and metric name.
        differences: Likewise.
        about: What the title says after it names the figure.
    """
    labels = [group.label for group in groups]
    values = {name: [entries.get((label, target, name)) for label in labels] for name in titles}
    known = [name for name, found in values.items() if any(one and one["value"] is not None for one in found)]
    if len(groups) < 2 or not known:
        return {}
    drawn = {"values": forest(labels, {titles[name]: values[name] for name in known}, f"{about}, 95 % intervals")}
    between = {
        titles[name]: [one.as_metric() for one in found if one]
        for name in known
        if all(found := [differences.get((label, target, name)) for label in labels[1:]])
    }
    if between:
        against = f"{about}: difference to {labels[0]}, paired, 95 % intervals"
        drawn["differences"] = forest(labels[1:], between, against, zero=True)
    return drawn


def first_runs(groups: Sequence[Group], target: str) -> dict[str, Run]:
    """Return the run that stands for each group where seeds cannot be pooled: its first, by label."""
    return {group.label: runs[0] for group in groups if (runs := group.runs_of(target))}


def prepared_set(run: Run) -> tuple[PreparedSet | None, str]:
    """Return the prepared set of a run, or None and the reason."""
    folder = (run.config.get("data") or {}).get("folder")
    if not folder:
        return None, "config.yaml names no prepared set (data.folder)"
    try:
        prepared = open_prepared(Path(str(folder)))
        relabel = relabelling(run.config)
        return relabel(prepared) if relabel else prepared, ""
    except UserError as error:
        return None, str(error)


def pictures_wanted(run: Run) -> int:
    """Return how many pictures of each kind the run's config asks for."""
    return int((run.config.get("evaluation") or {}).get("panels", PANELS))


def maps_relative(run: Run) -> bool:
    """Return whether the run's config asks for maps stretched to their own range."""
    return (run.config.get("evaluation") or {}).get("maps") == "relative"


def _comparable(groups: Sequence[Group]) -> Iterator[list[Run]]:
    """Yield runs that should have been scored on the same images: those of one target and seed."""
    for target in dict.fromkeys(target for group in groups for target in group.targets):
        by_seed: dict[object, list[Run]] = {}
        for group in groups:
            for run in group.runs_of(target):
                seed = run.config.get("seed") if len(group.runs_of(target)) > 1 else None
                by_seed.setdefault(seed, []).append(run)
        yield from by_seed.values()


def _run_label(group: Group, run: Run) -> str:
    if len(group.runs) == 1:
        return group.label
    targets = "+".join(run.targets) if len(group.targets) > 1 else ""
    return ", ".join(filter(None, (targets, group.label, f"seed {run.config.get('seed')}")))


def _title(groups: Sequence[Group]) -> str:
    """Return the title of a page: its methods, or the first of many."""
    labels = [group.label for group in groups]
    called = " · ".join(labels) if len(labels) < 4 else f"{labels[0]} and {len(labels) - 1} others"
    targets = [target.replace("_", " ") for target in dict.fromkeys(name for group in groups for name in group.targets)]
    of = ", ".join(targets) if len(targets) < 4 else f"{len(targets)} findings"
    return called if len(groups) == 1 else f"{of[:1].upper()}{of[1:]}: {called}"


def _summary(group: Group) -> dict[str, str]:
    """Return the label of a group of runs and, in words, what they were scored on."""
    sources = ", ".join(dict.fromkeys(_source(run) for run in group.runs))
    run = group.runs[0]
    if len(group.runs) > 1:
        seeds = sorted({str(run.config.get("seed")) for run in group.runs})
        return {"label": group.label, "text": f"{sources}, {len(group.runs)} runs with seeds {', '.join(seeds)}"}
    images = describe_images({"n_images": len(run.image_ids), **run.results})
    split = run.results.get("split", "test")
    which = "all" if split == "all" else f"{split} split,"
    return {"label": group.label, "text": f"{sources}, {which} {images}{_trained_on(run)}"}


def _trained_on(run: Run) -> str:
    """Return, for a run scored on another set, the set it was trained on and how many images are in both."""
    evaluated = run.config.get("evaluated")
    if not evaluated:
        return ""
    seen = (run.results.get("also_in_training") or {}).get("image_ids")
    known = "" if seen is None else f"; {len(seen) or 'none'} of them also among the images it was trained on"
    return f"; trained on {evaluated['trained_on']}{known}"


def _source(run: Run) -> str:
    data = run.config.get("data") or {}
    return str(data.get("source") or Path(str(data.get("folder") or "")).name or "unknown data")
