"""The consensus of several annotators about an image: present, absent or undecided, and where (S1.2)."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from fundusnet.data.manifest import UNANSWERED
from fundusnet.errors import UserError

CONSENSUS_COLUMNS = ("image_id", "finding", "label", "regions")


def consensus(readings: pd.DataFrame, present: int = 2, findings: Iterable[str] = ()) -> pd.DataFrame:
    """One label for every image that was read and every finding (S1.2).

    A finding is ``present`` when at least ``present`` annotators marked it, ``absent`` when none did and
    otherwise ``undecided``. Our reading of the paper's "more than 2 out of 3": ``consensus.present: 2``; 3 is
    the strict one. Annotators are counted, not rows.

    Args:
        readings: Table with image_id, annotator_id, finding ("" = normal) and regions (names joined by ";"). A column
            unanswered may name findings that a reading leaves open; where all do, the finding has no row.
        present: Number of annotators that makes a finding present, at least 1.
        findings: Findings to label besides those in ``readings``; one that nobody marked is absent everywhere.

    Returns:
        Table with image_id, finding, label and regions, the frozenset of names that any annotator marked: images
        in the order of ``readings``, the passed findings first and then the others by name. Images without
        readings have no row.

    Raises:
        UserError: ``present`` is below 1.
    """
    if present < 1:
        raise UserError(f"consensus.present is {present}, so every finding would be present; use 1 or more")
    annotators: dict[tuple[str, str], set[str]] = {}
    regions: dict[tuple[str, str], set[str]] = {}
    images: dict[str, set[str]] = {}
    columns = (readings[name] for name in ("image_id", "annotator_id", "finding", "regions"))
    for image_id, annotator, finding, cell in zip(*columns, strict=True):
        images.setdefault(image_id, set()).add(annotator)
        if finding:
            key = (image_id, finding)
            annotators.setdefault(key, set()).add(annotator)
            regions.setdefault(key, set()).update(filter(None, (name.strip() for name in cell.split(";"))))

    unanswered = _unanswered(readings)
    marked = {finding for _, finding in annotators}
    order = list(dict.fromkeys([*findings, *sorted(marked)]))
    rows = []
    for image_id, readers in images.items():
        for finding in order:
            if unanswered.get((image_id, finding)) == readers:
                continue
            votes = len(annotators.get((image_id, finding), ()))
            label = "present" if votes >= present else "undecided" if votes else "absent"
            rows.append((image_id, finding, label, frozenset(regions.get((image_id, finding), ()))))
    return pd.DataFrame(rows, columns=list(CONSENSUS_COLUMNS))


def _unanswered(readings: pd.DataFrame) -> dict[tuple[str, str], set[str]]:
    """(image id, finding) → annotators who leave it open."""
    found: dict[tuple[str, str], set[str]] = {}
    if UNANSWERED not in readings:
        return found
    columns = (readings[name] for name in ("image_id", "annotator_id", UNANSWERED))
    for image_id, annotator, cell in zip(*columns, strict=True):
        for finding in filter(None, cell.split(";")):
            found.setdefault((image_id, finding), set()).add(annotator)
    return found
