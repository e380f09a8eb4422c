"""What a page calls its methods, and which of them the others are compared with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fundusnet.errors import UserError
from fundusnet.evaluation.groups import Group
from fundusnet.evaluation.runs import Run


@dataclass(frozen=True)
class Methods:
    """The methods of a page.

    Attributes:
        groups: Each with a short label; the first is the one that differences are against.
        shared: What all names have in common, said once above; "" for nothing.
    """

    groups: list[Group]
    shared: str = ""


def name_methods(groups: Sequence[Group], reference: str | None = None) -> Methods:
    """Give methods short names and put the one to compare with first.

    Args:
        groups: The methods, in order of appearance.
        reference: The name of a method, the folder of a run or of a sweep of one method; None is the method that its
            system compares with, else the first.

    Raises:
        UserError: No method is called so or has a run there, or several methods have.
    """
    labels = [_name(group) for group in groups]
    if len(groups) < 2 or len(set(labels)) < len(labels):
        labels = [group.label for group in groups]
    labels, brackets = _without_shared_brackets(labels)
    shared = _shared(labels)
    # "(backbone) without guidance" begins with what it is called; "(backbone)" alone needs no brackets.
    short = [re.sub(r"^(\([^)]*\)) (.+)", r"\2 \1", label[len(shared) :].strip(" ,")) for label in labels]
    short = [re.sub(r"^\(([^()]*)\)$", r"\1", label) for label in short]
    named = [replace(group, label=label) for group, label in zip(groups, short, strict=True)]
    first = _reference(groups, named, reference)
    together = [shared.strip(" ,"), *(each.strip("()") for each in brackets)]
    return Methods([named[first], *named[:first], *named[first + 1 :]], ", ".join(filter(None, together)))


def _name(group: Group) -> str:
    """The name that all runs of a group have but for their targets; the group's own label where they differ."""
    names = {run.system.method(str(run.config["name"]), run.targets) for run in group.runs if run.config.get("name")}
    return names.pop() if len(names) == 1 and all(run.config.get("name") for run in group.runs) else group.label


def _without_shared_brackets(labels: list[str]) -> tuple[list[str], list[str]]:
    """The labels without what stands in brackets in all of them, such as the backbone, and what that is."""
    found = [re.findall(r"\([^)]*\)", label) for label in labels]
    brackets = [each for each in found[0] if all(each in others for others in found)] if len(labels) > 1 else []
    rest = labels
    for each in brackets:
        rest = [" ".join(label.replace(each, "", 1).split()) for label in rest]
    if not all(rest) or len(set(rest)) < len(rest):
        return labels, []
    return rest, brackets


def _shared(labels: Sequence[str]) -> str:
    """The words that all labels begin with, with the space after them; each label keeps at least one of its own."""
    words = [label.split(" ") for label in labels]
    if len(labels) < 2:
        return ""
    count = 0
    while all(len(each) > count + 1 and each[count] == words[0][count] for each in words):
        count += 1
    # A name stays whole where its first word alone would say too little.
    return " ".join(words[0][:count]) + " " if count else ""


def _reference(groups: Sequence[Group], named: Sequence[Group], reference: str | None) -> int:
    if reference is None:
        return next(
            (place for place, group in enumerate(named) if groups[0].runs[0].system.is_baseline(group.label)), 0
        )
    called = [place for place, group in enumerate(groups) if reference in (group.label, named[place].label)]
    found = called or [place for place, group in enumerate(groups) if _lies_in(group, Path(reference).resolve())]
    if len(found) == 1:
        return found[0]
    known = ", ".join(group.label for group in named)
    problem = "has runs of several methods" if found else "is none of the runs on this page"
    raise UserError(f"reference={reference} {problem}; give the folder of one, or a name: {known}")


def _lies_in(group: Group, folder: Path) -> bool:
    """Whether a run of the group is this folder, or lies in it."""
    runs: list[Run] = [part for run in group.runs for part in (run.parts or (run,))]
    return any(folder in (place, *place.parents) for place in (run.folder.resolve() for run in runs))
