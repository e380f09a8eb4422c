"""Runs that differ only in seed and target are one method; methods differ in what else was swept."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fundusnet.evaluation.intervals import Interval, bootstrap, difference_of, pooled
from fundusnet.evaluation.predictions import patient_clusters
from fundusnet.evaluation.runs import Run
from fundusnet.system.progress import track

log = logging.getLogger(__name__)

# Config keys that do not make a run another method, in every system.
OWN_KEYS = (
    "name", "seed", "run_dir", "resume", "debug", "logger",
    "evaluated.run", "evaluation.subgroups", "evaluation.attributes", "evaluation.faithfulness",
)  # fmt: skip
# Keys that follow from others come last, and are dropped where the others say the same.
DERIVED_KEYS = ("data.folder", "data.root")


@dataclass(frozen=True)
class Group:
    """Runs of one method: one for each seed and target."""

    label: str
    runs: tuple[Run, ...]

    @property
    def targets(self) -> list[str]:
        """All targets its runs were scored on, in their order."""
        return list(dict.fromkeys(target for run in self.runs for target in run.targets))

    def runs_of(self, target: str) -> list[Run]:
        """Return its runs that predict this target: one for each seed."""
        return [run for run in self.runs if target in run.targets]

    def metric(self, target: str, name: str, *, n: int = 2000) -> dict[str, Any] | None:
        """Return an entry as in ``metrics.json``: the run's own, or the mean over seeds with its interval.

        ``seeds`` then holds each seed's value. None where no run has such a metric.
        """
        runs = self.runs_of(target)
        entries = [entry for run in runs if (entry := _entry(run, target, name, n)) is not None]
        if len(runs) < 2 or len(entries) < len(runs):
            return entries[0] if entries else None
        statistics = [run.statistics(run.predictions[target])[name] for run in runs]
        interval = pooled(statistics, [patient_clusters(run.predictions[target]) for run in runs], n=n)
        return {**interval.as_metric(), "seeds": [entry["value"] for entry in entries]}


def _entry(run: Run, target: str, name: str, n: int) -> dict[str, Any] | None:
    """An entry of ``metrics.json``, or what an earlier version did not measure, from the predictions it kept."""
    if (entry := run.metric(target, name)) is not None:
        return entry
    rows = run.predictions[target]
    statistic = run.statistics(rows).get(name)
    interval = bootstrap(statistic, patient_clusters(rows), n=n) if statistic else None
    return interval.as_metric() if interval and interval.value is not None else None


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs by what their configs differ in, apart from seed and target; in order of appearance.

    Runs that repeat the same target, seed and settings cannot be pooled: then each is a group of its own.
    """
    swept = swept_keys(runs)
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(_settings(run, swept), []).append(run)
    found = []
    for members in groups.values():
        repeats = [(target, run.config.get("seed")) for run in members for target in run.targets]
        if len(set(repeats)) < len(repeats):
            return [Group(run.label, (run,)) for run in runs]
        names = {str(run.config.get("name")) for run in members}
        alone = len(members) == 1 or (len(names) == 1 and names != {"None"})
        found.append(
            Group(_own_name(members[0]) if len(members) == 1 else _label(members[0], swept, alone), tuple(members))
        )
    labels = [group.label for group in found]
    if len(set(labels)) < len(labels):
        found = [Group(_label(group.runs[0], swept, False), group.runs) for group in found]
    return found


def swept_keys(runs: Sequence[Run]) -> list[str]:
    """Return the fewest config keys (dotted) that distinguish the methods among ``runs``."""
    flat = [dict(_flat(run.config)) for run in runs]
    own = [*OWN_KEYS, *runs[0].system.own_keys]
    if len({tuple(run.targets) for run in runs}) > 1:
        own += runs[0].system.target_keys
    every = list(dict.fromkeys(key for config in flat for key in config))
    varying = [
        key for key in every if not _within(key, own) and len({_value(config.get(key)) for config in flat}) > 1
    ]  # fmt: skip
    kept = sorted(varying, key=lambda key: (key in DERIVED_KEYS, not key.startswith("model."), every.index(key)))
    for key in reversed(kept.copy()):
        rest = [other for other in kept if other != key]
        if _partition(flat, rest) == _partition(flat, kept):
            kept = rest
    return kept


def short_key(key: str, swept: Sequence[str]) -> str:
    """Return the last parts of a key: as many as are needed to distinguish it from the other ``swept`` ones."""
    parts = key.split(".")
    for count in range(1, len(parts) + 1):
        short = ".".join(parts[-count:])
        if sum(other == short or other.endswith(f".{short}") for other in swept) == 1:
            # "weight" alone says nothing to a reader, "loss.weight" does.
            return ".".join(parts[-max(count, 2) :])
    return key


def setting(run: Run, key: str) -> Any:
    """Return the value of a dotted config key in a run; None where it has no such key."""
    return dict(_flat(run.config)).get(key)


def group_differences(groups: Sequence[Group], *, n: int = 2000) -> dict[tuple[str, str, str], Interval]:
    """Return each further group's metric minus the first group's, by (group label, target, metric name).

    Runs are paired by seed and compared on the images both were scored on, on the same resamples. A pair without a
    common seed or image is left out.
    """
    pairs = [(group, target) for group in groups[1:] for target in group.targets if target in groups[0].targets]
    found = {}
    for group, target in track(pairs, "compare"):
        patients, statistics = [], []
        for base, other in _paired_runs(groups[0].runs_of(target), group.runs_of(target)):
            before, after = base.predictions[target], other.predictions[target]
            shared = shared_images(base, other, target)
            if not shared.empty:
                patients.append(patient_clusters(before.loc[shared]))
                statistics.append((base.statistics(before.loc[shared]), other.statistics(after.loc[shared])))
        for name in statistics[0][0] if statistics else ():
            if not all(name in first and name in second for first, second in statistics):
                continue
            each = [difference_of(first[name], second[name]) for first, second in statistics]
            found[group.label, target, name] = pooled(each, patients, n=n)
    return found


def shared_images(base: Run, other: Run, target: str) -> pd.Index[str]:
    """Names of the images that both runs were scored on; none, with a warning, if these are of different sets."""
    shared: pd.Index[str] = base.predictions[target].index.intersection(other.predictions[target].index)
    if differ := differing_images(base, other, target):
        line = "%s and %s are different sets and not compared: %d of %d images of the same name differ in class"
        log.warning(line, _place(base), _place(other), differ, len(shared))
        return shared[:0]
    return shared


def differing_images(base: Run, other: Run, target: str) -> int:
    """Number of images of the same name that differ in class between data of different places; 0 for the same place.

    Any such image says that the names mean other images: 001.jpg is in many sets.
    """
    if _place(base) == _place(other):
        return 0
    before, after = (run.predictions[target][run.system.truth] for run in (base, other))
    first, second = before.align(after, join="inner")
    return int((first.notna() & second.notna() & (first != second)).sum())


def _place(run: Run) -> Any:
    return setting(run, "data.root") or setting(run, "data.folder")


def _paired_runs(base: Sequence[Run], others: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    by_seed = {run.config.get("seed"): run for run in base}
    for run in others:
        # Two single runs are compared whatever their seeds: their common images are what counts.
        partner = base[0] if len(base) == len(others) == 1 else by_seed.get(run.config.get("seed"))
        if partner is not None:
            yield partner, run


def _label(run: Run, swept: Sequence[str], named: bool) -> str:
    if named:
        return str(run.config.get("name"))
    flat = dict(_flat(run.config))
    return ", ".join(f"{short_key(key, swept)}={_text(flat.get(key))}" for key in swept) or run.label


def _own_name(run: Run) -> str:
    """The label of a run without the folder that tells it from runs of the same name."""
    name = str(run.config.get("name"))
    return name if run.label.startswith(f"{name} (") else run.label


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _settings(run: Run, keys: Sequence[str]) -> Hashable:
    flat = dict(_flat(run.config))
    return tuple(_value(flat.get(key)) for key in keys)


def _partition(flat: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[int]:
    first: dict[Hashable, int] = {}
    return [first.setdefault(tuple(_value(config.get(key)) for key in keys), i) for i, config in enumerate(flat)]


def _value(value: Any) -> str:
    """A config value as text; ``0`` and ``0.0`` are one number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return repr(float(value)) if number else repr(value)


def _within(key: str, groups: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in groups)


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
