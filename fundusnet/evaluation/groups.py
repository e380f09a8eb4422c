"""Runs that differ in nothing but seed and finding, told apart by what else was swept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fundusnet.evaluation.comparison import Run
from fundusnet.evaluation.intervals import Interval, Statistic, difference_of, pooled
from fundusnet.findings.statistics import finding_statistics, patient_clusters
from fundusnet.system.progress import track

# A run's own business: these tell no method from another.
OWN = (
    "name", "seed", "run_dir", "resume", "debug", "logger", "finding", "model.stage1.checkpoint",
    "evaluated.run", "evaluation.subgroups", "evaluation.attributes", "evaluation.faithfulness",
)  # fmt: skip
# The network takes these from the finding: between findings they are their own business as well.
OF_FINDING = ("model.network.dilations", "model.network.pool")
# What follows from other keys is named last, and dropped where they say the same.
DERIVED = ("data.folder", "data.root")
StatisticsOf = Callable[[pd.DataFrame], dict[str, Statistic]]  # every metric of one run, by name


@dataclass(frozen=True)
class Group:
    """Runs of one method: one for each seed and finding."""

    label: str
    runs: tuple[Run, ...]

    @property
    def findings(self) -> list[str]:
        """All findings its runs were scored on, in their order."""
        return list(dict.fromkeys(finding for run in self.runs for finding in run.findings))

    def runs_of(self, finding: str) -> list[Run]:
        """Its runs that know this finding: one for each seed."""
        return [run for run in self.runs if finding in run.findings]

    def metric(
        self, finding: str, name: str, *, n: int = 2000, statistics_of: StatisticsOf = finding_statistics
    ) -> dict[str, Any] | None:
        """An entry as in ``metrics.json``: the run's own, or the mean over seeds with its interval.

        ``seeds`` then holds each seed's value. None where no run has such a metric.
        """
        runs = self.runs_of(finding)
        entries = [entry for run in runs if (entry := run.metric(finding, name)) is not None]
        if len(runs) < 2 or len(entries) < len(runs):
            return entries[0] if entries else None
        rows = [run.rows(finding) for run in runs]
        interval = pooled(
            [statistics_of(table)[name] for table in rows], [patient_clusters(table) for table in rows], n=n
        )
        return {**interval.as_metric(), "seeds": [entry["value"] for entry in entries]}


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs by what their configs differ in, apart from seed and finding; in order of appearance.

    Runs that repeat the same finding, seed and settings cannot be pooled: then each stands alone.
    """
    swept = swept_keys(runs)
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(_settings(run, swept), []).append(run)
    found = []
    for members in groups.values():
        repeats = [(finding, run.config.get("seed")) for run in members for finding in run.findings]
        if len(set(repeats)) < len(repeats):
            return [Group(run.label, (run,)) for run in runs]
        names = {str(run.config.get("name")) for run in members}
        alone = len(members) == 1 or (len(names) == 1 and names != {"None"})
        found.append(Group(members[0].label if len(members) == 1 else _label(members[0], swept, alone), tuple(members)))
    labels = [group.label for group in found]
    if len(set(labels)) < len(labels):
        found = [Group(_label(group.runs[0], swept, False), group.runs) for group in found]
    return found


def swept_keys(runs: Sequence[Run]) -> list[str]:
    """The fewest config keys (dotted) that tell the methods among ``runs`` apart."""
    flat = [dict(_flat(run.config)) for run in runs]
    one_finding = len({tuple(run.findings) for run in runs}) == 1
    own = OWN if one_finding else OWN + OF_FINDING
    every = list(dict.fromkeys(key for config in flat for key in config))
    varying = [
        key for key in every if not _within(key, own) and len({_value(config.get(key)) for config in flat}) > 1
    ]  # fmt: skip
    kept = sorted(varying, key=lambda key: (key in DERIVED, not key.startswith("model."), every.index(key)))
    for key in reversed(kept.copy()):
        rest = [other for other in kept if other != key]
        if _partition(flat, rest) == _partition(flat, kept):
            kept = rest
    return kept


def short_key(key: str, swept: Sequence[str]) -> str:
    """The last parts of a key: as many as say what it is, and keep it apart from the other ``swept`` ones."""
    parts = key.split(".")
    for count in range(1, len(parts) + 1):
        short = ".".join(parts[-count:])
        if sum(other == short or other.endswith(f".{short}") for other in swept) == 1:
            # "weight" alone says nothing to a reader; the loss's weight does.
            return ".".join(parts[-max(count, 2) :])
    return key


def setting(run: Run, key: str) -> Any:
    """The value that a dotted config key has in a run; None where it has no such key."""
    return dict(_flat(run.config)).get(key)


def group_differences(
    groups: Sequence[Group], *, n: int = 2000, statistics_of: StatisticsOf = finding_statistics
) -> dict[tuple[str, str, str], Interval]:
    """Each further group's metric minus the first group's, by (group label, finding, metric name).

    Runs are paired by seed and compared on the images both were scored on, on the same resamples. A pair without a
    common seed or image is left out.
    """
    pairs = [(group, finding) for group in groups[1:] for finding in group.findings if finding in groups[0].findings]
    found = {}
    for group, finding in track(pairs, "compare"):
        tables = list(_paired_rows(groups[0].runs_of(finding), group.runs_of(finding), finding))
        if not tables:
            continue
        patients = [patient_clusters(base) for base, _ in tables]
        statistics = [(statistics_of(base), statistics_of(other)) for base, other in tables]
        for name in statistics[0][0]:
            if not all(name in before and name in after for before, after in statistics):
                continue
            each = [difference_of(before[name], after[name]) for before, after in statistics]
            found[group.label, finding, name] = pooled(each, patients, n=n)
    return found


def _paired_rows(base: Sequence[Run], other: Sequence[Run], finding: str) -> Iterator[tuple[Any, Any]]:
    by_seed = {run.config.get("seed"): run for run in base}
    for run in other:
        # Two single runs are compared whatever their seeds: their common images are what counts.
        partner = base[0] if len(base) == len(other) == 1 else by_seed.get(run.config.get("seed"))
        if partner is None:
            continue
        first, second = partner.rows(finding), run.rows(finding)
        shared = first.index.intersection(second.index)
        if not shared.empty:
            yield first.loc[shared], second.loc[shared]


def _label(run: Run, swept: Sequence[str], named: bool) -> str:
    if named:
        return str(run.config.get("name"))
    flat = dict(_flat(run.config))
    return ", ".join(f"{short_key(key, swept)}={flat.get(key)}" for key in swept) or run.label


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
