"""Patients from tables that name no patient but, for an eye, its fellow eye."""

from __future__ import annotations

from collections.abc import Sequence

from fundusnet.data.duplicates import connected


def patients_of(eyes: Sequence[str], fellows: Sequence[str]) -> dict[str, str]:
    """Eye → its patient, named after the first of the eyes that refer to each other.

    Args:
        eyes: Names of eyes or photographs; one may stand in several rows.
        fellows: The fellow eye of each; "" or a name that is not in ``eyes`` where it is unknown or absent. It is
            enough that one of the two refers to the other.
    """
    place: dict[str, int] = {}
    for eye in eyes:
        place.setdefault(eye, len(place))
    pairs = [(place[fellow], place[eye]) for eye, fellow in zip(eyes, fellows, strict=True) if fellow in place]
    names = list(place)
    return {eye: names[first] for eye, first in zip(names, connected(len(names), pairs).tolist(), strict=True)}
