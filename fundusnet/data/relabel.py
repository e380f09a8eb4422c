"""A prepared set in the words of a run that was trained on another: its findings renamed, its grades renumbered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError


def relabelling(config: Mapping[str, Any]) -> Callable[[PreparedSet], PreparedSet] | None:
    """What puts the set of an evaluation into the words of its run; None where it is the run's own set.

    ``config`` is that of a run or of an evaluation: the latter's ``evaluated`` says what is called what.
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
    """The set with its findings under the run's names.

    Args:
        findings: of the run.
        labels: the run's name of a finding → what the set calls it; a finding that is not named keeps its name.

    Raises:
        UserError: a name in ``labels`` is not the run's or not the set's, or none of the run's findings is in the set.
    """
    manifest = prepared.manifest
    known = sorted({*manifest.readings["finding"], *manifest.lesions["finding"]} - {""})
    for ours, theirs in labels.items():
        if ours not in findings:
            raise UserError(f"labels names {ours}, which the run does not tell; it tells {', '.join(findings)}")
        if theirs not in known:
            raise UserError(
                f"labels says {ours} is called {theirs} in {prepared.folder}, which knows of "
                f"{', '.join(known) or 'no finding'}"
            )
    ours_of = {labels.get(name, name): name for name in findings}
    if len(ours_of) < len(findings):
        twice = next(labels[name] for name in labels if ours_of[labels[name]] != name)
        raise UserError(f"labels gives {twice} to two findings of the run; each needs one of its own")
    if not set(ours_of) & set(known):
        raise UserError(
            f"{prepared.folder} knows of {', '.join(known) or 'no finding'}, the run tells {', '.join(findings)}; "
            "say what is what with labels={NAME_IN_THE_RUN: NAME_IN_THE_SET}"
        )

    def renamed(name: str) -> str:
        if name in ours_of:
            return ours_of[name]
        # A reader who marked this alone has read the image: the row stays, under a name the run does not take for its.
        return f"their {name}" if name in findings else name

    readings, lesions = (
        table.assign(finding=table["finding"].map(renamed)) for table in (manifest.readings, manifest.lesions)
    )
    masks = {(image_id, renamed(name)): path for (image_id, name), path in prepared._lesions.items()}
    return replace(prepared, manifest=replace(manifest, readings=readings, lesions=lesions), _lesions=masks)


def with_grades(prepared: PreparedSet, classes: Sequence[str], grades: Sequence[int | None] | None) -> PreparedSet:
    """The set with the grades 0 … K-1 of the run.

    Args:
        classes: names of the run's K grades.
        grades: for each grade of the set the run's, None = left out; None = they are the same.

    Raises:
        UserError: the grades do not go together.
    """
    manifest = prepared.manifest
    grade = manifest.images["grade"].to_numpy(dtype=float)
    known = grade[np.isfinite(grade)].astype(int)
    if not len(known):
        raise UserError(f"{prepared.folder} has no grades; choose a graded set, or fill the column grade of its source")
    theirs = manifest.classes or tuple(str(k) for k in range(int(known.max()) + 1))
    what = f"{prepared.folder} holds the grades {', '.join(theirs)}, the run tells {', '.join(classes)}"
    if grades is None:
        named = bool(manifest.classes) and not all(name.isdigit() for name in classes)
        if len(theirs) > len(classes) or (named and list(theirs) != list(classes)):
            example = ",".join(str(min(k, len(classes) - 1)) for k in range(len(theirs)))
            raise UserError(f"{what}; say which grade of the run each of the set's is, such as grades=[{example}]")
        grades = list(range(len(theirs)))
    if len(grades) != len(theirs):
        raise UserError(f"{what}; grades={list(grades)} needs one number for each of the set's {len(theirs)}")
    for value in grades:
        if value is not None and value not in range(len(classes)):
            raise UserError(f"{what}; {value} in grades is none of 0 to {len(classes) - 1} (null leaves a grade out)")
    table = np.array([np.nan if value is None else value for value in grades], dtype=float)
    renumbered = np.full(len(grade), np.nan)
    renumbered[np.isfinite(grade)] = table[known]
    images = manifest.images.assign(grade=renumbered)
    return replace(prepared, manifest=replace(manifest, images=images, classes=tuple(classes)))
