"""The plan of a study: which group of readers reads which photographs, and how often each photograph is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fundusnet.data.manifest import SPLITS
from fundusnet.errors import UserError

EVERYBODY = ""
"""Name of the only group of a study without groups."""


@dataclass(frozen=True)
class Group:
    """Readers who share photographs.

    Attributes:
        splits: Whose photographs they read; empty = all photographs.
        readings_per_image: Readings of each by this group; None = as many as the study has.
    """

    splits: tuple[str, ...] = ()
    readings_per_image: int | None = None

    def reads(self, split: str) -> bool:
        """Whether the group reads the photographs of a split."""
        return not self.splits or split in self.splits


@dataclass(frozen=True)
class Plan:
    """Who reads what.

    Attributes:
        readings_per_image: Of each photograph by each group that reads it.
        groups: Name → group; empty = everybody reads everything.
        reread_ungradable: More readings, at most, of a photograph that readers call ungradable: one for each of these,
            by the same group.
    """

    readings_per_image: int = 3
    groups: Mapping[str, Group] = field(default_factory=dict)
    reread_ungradable: int = 0

    def parts(self) -> dict[str, Group]:
        """The groups, or everybody as one."""
        return dict(self.groups) or {EVERYBODY: Group()}

    def readings(self, group: str) -> int:
        """Readings of each photograph by a group."""
        own = self.groups[group].readings_per_image if group in self.groups else None
        return own or self.readings_per_image


def as_groups(given: Mapping[str, Any] | None) -> dict[str, Group]:
    """The groups that ``groups=`` or the settings of a study describe.

    Raises:
        UserError: A name, an option or its value is invalid.
    """
    groups = {}
    for name, options in (given or {}).items():
        where = f"groups.{name}"
        if not 0 < len(str(name)) <= 80 or not str(name).isprintable() or str(name) != str(name).strip():
            raise UserError(f"'{name}' is not a valid name of a group; use 1 to 80 printable characters")
        options = options or {}
        if not isinstance(options, Mapping):
            raise UserError(f"{where}={options} is no group; give {where}={{splits:[train,val]}}")
        if unknown := [key for key in options if key not in ("splits", "readings_per_image")]:
            raise UserError(f"{where} has no option {unknown[0]}; give splits or readings_per_image")
        splits = options.get("splits") or ()
        if isinstance(splits, str) or any(split not in SPLITS for split in splits):
            raise UserError(f"{where}.splits={splits} is not a list of {', '.join(SPLITS)}")
        readings = options.get("readings_per_image")
        if readings is not None and (not isinstance(readings, int) or isinstance(readings, bool) or readings < 1):
            raise UserError(f"{where}.readings_per_image={readings} is not a number from 1 on")
        groups[str(name)] = Group(tuple(splits), readings)
    return groups


def by_group(
    names: Sequence[str] | Mapping[str, Sequence[str]], groups: Mapping[str, Group], key: str
) -> list[tuple[str, str]]:
    """(name, group) of the annotators that the command's ``key`` names, by group if the study has groups.

    Raises:
        UserError: Names are given without a group, or with one that the study does not have.
    """
    if not isinstance(names, Mapping):
        if names and groups:
            example = ", ".join(f"{name}:[{names[0]}]" for name in list(groups)[:1])
            raise UserError(f"this study has the groups {', '.join(groups)}; give {key}={{{example}}}")
        return [(name, EVERYBODY) for name in names]
    if unknown := [name for name in names if name not in groups]:
        raise UserError(
            f"{key}: {unknown[0]} is no group of this study ({', '.join(groups) or 'it has none'}); add it to groups="
        )
    return [(str(name), group) for group, own in names.items() for name in own]
