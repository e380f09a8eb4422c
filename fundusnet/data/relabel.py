"""Mapping a prepared set to the labels of a run that was trained on another: findings renamed, grades renumbered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fundusnet.data.manifest import UNANSWERED
from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError


def relabelling(config: Mapping[str, Any]) -> Callable[[PreparedSet], PreparedSet] | None:
    """The function that maps an evaluated set to the labels of its run; None for the run's own set.

    Args:
        config: The configuration of a run or of an evaluation; the latter has ``evaluated``, the names to map.
    """
    evaluated = config.get("evaluated")
    if not evaluated:
        return None
    if config["task"] == "findings":
        names = list(config["finding"]["names"])
        return partial(with_findings, findings=names, labels=dict(evaluated.get("labels") or {}))
    grades = evaluated.get("grades")
    return partial(with_grades, classes=list(evaluated["classes"]), grades=None if grades is None else list(grades))


def with_findings(prepared: PreparedSet, findings: Sequence[str], labels: Mapping[str, str]) -> PreparedSet:
    """The set with its findings under the names of the run.

    Args:
        findings: The findings of the run.
        labels: The run's name of a finding → the set's name; other findings keep their name.

    Raises:
        UserError: ``labels`` has a name that the run or the set lacks, or none of the run's findings is in the set.
    """
    manifest = prepared.manifest
    known = sorted({*manifest.readings["finding"], *manifest.lesions["finding"]} - {""})
    for ours, theirs in labels.items():
        if ours not in findings:
            raise UserError(f"labels names {ours}, which the run does not predict; it predicts {', '.join(findings)}")
        if theirs not in known:
            raise UserError(
                f"labels maps {ours} to {theirs}, which {prepared.folder} does not have; it has "
                f"{', '.join(known) or 'no finding'}"
            )
    ours_of = {labels.get(name, name): name for name in findings}
    if len(ours_of) < len(findings):
        twice = next(labels[name] for name in labels if ours_of[labels[name]] != name)
        raise UserError(f"labels gives {twice} to two findings of the run; give each its own")
    if not set(ours_of) & set(known):
        raise UserError(
            f"{prepared.folder} has {', '.join(known) or 'no finding'}, the run predicts {', '.join(findings)}; "
            "map the names with labels={NAME_IN_THE_RUN: NAME_IN_THE_SET}"
        )

    def renamed(name: str) -> str:
        if name in ours_of:
            return ours_of[name]
        # A reader who marked only this has read the image: keep the row, under a name that is not one of the run's.
        return f"their {name}" if name in findings else name

    readings, lesions = (
        table.assign(finding=table["finding"].map(renamed)) for table in (manifest.readings, manifest.lesions)
    )
    if UNANSWERED in readings:
        names = readings[UNANSWERED].str.split(";")
        readings[UNANSWERED] = names.map(lambda each: ";".join(renamed(name) for name in each if name))
    masks = {(image_id, renamed(name)): path for (image_id, name), path in prepared._lesions.items()}
    return replace(prepared, manifest=replace(manifest, readings=readings, lesions=lesions), _lesions=masks)


def with_grades(prepared: PreparedSet, classes: Sequence[str], grades: Sequence[int | None] | None) -> PreparedSet:
    """The set with the grades 0 … K-1 of the run.

    Args:
        classes: Names of the run's K grades.
        grades: The run's grade for each grade of the set, None = left out; None = the grades are the same.

    Raises:
        UserError: The set has no grades, or its grades do not fit the run's.
    """
    manifest = prepared.manifest
    grade = manifest.images["grade"].to_numpy(dtype=float)
    known = grade[np.isfinite(grade)].astype(int)
    if not len(known):
        raise UserError(f"{prepared.folder} has no grades; choose a graded set, or fill the column grade of its source")
    theirs = manifest.classes or tuple(str(k) for k in range(int(known.max()) + 1))
    what = f"{prepared.folder} holds the grades {', '.join(theirs)}, the run predicts {', '.join(classes)}"
    if grades is None:
        named = bool(manifest.classes) and not all(name.isdigit() for name in classes)
        if len(theirs) > len(classes) or (named and list(theirs) != list(classes)):
            example = ",".join(str(min(k, len(classes) - 1)) for k in range(len(theirs)))
            raise UserError(f"{what}; map each grade of the set to one of the run, such as grades=[{example}]")
        grades = list(range(len(theirs)))
    if len(grades) != len(theirs):
        raise UserError(f"{what}; grades={list(grades)} needs one number for each of the set's {len(theirs)}")
    for value in grades:
        if value is not None and value not in range(len(classes)):
            raise UserError(f"{what}; {value} in grades is not 0 to {len(classes) - 1} (null leaves a grade out)")
    table = np.array([np.nan if value is None else value for value in grades], dtype=float)
    renumbered = np.full(len(grade), np.nan)
    renumbered[np.isfinite(grade)] = table[known]
    images = manifest.images.assign(grade=renumbered)
    return replace(prepared, manifest=replace(manifest, images=images, classes=tuple(classes)))
