"""The readings table of a manifest, made of the answers and decisions of a study (S1.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from fundusnet.annotation.questions import PRESENT, WHOLE
from fundusnet.annotation.readings import CurrentAnswer, CurrentDecision, Readings
from fundusnet.data.manifest import READING_COLUMNS, UNANSWERED

ADJUDICATED = "adjudicated"

Row = tuple[str, str, str, str, str]


def readings_table(
    readings: Readings, *, adjudicated: bool, present: int = 2, asked: Sequence[str] = ()
) -> pd.DataFrame:
    """The readings table of a manifest: one row for each finding, one with an empty finding for a normal reading.

    With ``adjudicated``, each decision replaces the annotators' marks of that finding, so that consensus follows it: a
    present finding is marked by ``adjudicated-1``, ``adjudicated-2`` … (as many as there are readings, at least
    ``present``), an absent one by nobody. An annotator's name is never used for a mark that the annotator did not make.

    Args:
        readings: Current answers and decisions.
        adjudicated: Whether decisions replace marks.
        present: Readings that make a finding present.
        asked: Questions that are findings without a place. A reading that leaves one of them open names it in the
            column ``unanswered``, which is left out where none does.
    """
    decided: dict[str, list[CurrentDecision]] = {}
    for decision in [*readings.decisions.values(), *_decided_questions(readings, asked)] if adjudicated else []:
        if decision.present is not None:
            decided.setdefault(decision.image_id, []).append(decision)
    rows: list[Row] = []
    for image_id in readings.images:
        rows += _adjudicated(image_id, _rows(readings.gradable(image_id), asked), decided.get(image_id, []), present)
    table = pd.DataFrame(rows, columns=[*READING_COLUMNS, UNANSWERED], dtype=str)
    return table if table[UNANSWERED].any() else table.drop(columns=UNANSWERED)


def _decided_questions(readings: Readings, asked: Sequence[str]) -> Iterable[CurrentDecision]:
    """Decisions on questions that are findings, as decisions on findings."""
    for each in readings.choices.values():
        if each.finding == WHOLE and each.question in asked:
            verdict = None if each.choice is None else each.choice == PRESENT
            yield CurrentDecision(
                each.image_id, each.question, each.version, each.adjudicator, verdict, (), each.saved, each.change
            )


def _rows(given: Iterable[CurrentAnswer], asked: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for answer in given:
        chosen = answer.content.get("choices", {}).get(WHOLE, {})
        marked = {name: ";".join(regions) for name, regions in answer.content["findings"].items()}
        marked |= {name: "" for name in asked if chosen.get(name) == PRESENT}
        unanswered = ";".join(name for name in asked if name not in chosen)
        rows += [
            (answer.image_id, answer.annotator, name, regions, unanswered)
            for name, regions in (marked or {"": ""}).items()
        ]
    return rows


def _adjudicated(image_id: str, rows: list[Row], decided: Sequence[CurrentDecision], present: int) -> list[Row]:
    if not decided:
        return rows
    replaced = {decision.finding for decision in decided}
    rows = [(*row[:4], ";".join(name for name in row[4].split(";") if name not in replaced)) for row in rows]
    kept = [row for row in rows if row[2] not in replaced]
    readers = {row[1] for row in rows}
    # What no reader answered stays open; what one did answer whose row is replaced does not.
    left = [set(row[4].split(";")) for row in rows]
    unanswered = ";".join(sorted(set.intersection(*left))) if left else ""
    names = [f"{ADJUDICATED}-{number + 1}" for number in range(max(present, len(readers)))]
    for decision in decided:
        if decision.present:
            kept += [(image_id, name, decision.finding, ";".join(decision.regions), unanswered) for name in names]
    named = {row[1] for row in kept}
    answers_lost = not readers <= named and names[0] not in named and any(row[4] for row in kept)
    # The image was read and no mark is left: that is a normal reading.
    if rows and (not kept or answers_lost):
        kept.append((image_id, names[0], "", "", unanswered))
    return kept
