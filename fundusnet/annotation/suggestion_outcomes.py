"""What became of the suggestions that readers were shown, in their finished readings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.readings import CurrentAnswer, Readings
from fundusnet.annotation.suggestions import shown_to
from fundusnet.annotation.tables import suggestions

OUTCOMES = ("confirmed", "changed", "removed", "refused", "marked", "open")
"""Of a suggested finding: confirmed with its regions; confirmed, and other regions marked then; confirmed, and removed
then; refused, or the image is called normal; marked by the reader without confirming it; none of these."""
COLUMNS = (
    "image_id", "annotator_id", "networks", "finding", "probability", "suggested_regions", "verdict", "marked_regions",
    "outcome",
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A suggestion and the finished reading of somebody who was shown it.

    Attributes:
        answer: The reading.
        networks: Who made the suggestion.
        content: ``Suggestion.content()``.
    """

    answer: CurrentAnswer
    networks: str
    content: Mapping[str, Any]

    @property
    def verdicts(self) -> Mapping[str, str]:
        """Finding → ``confirmed`` or ``refused``, of those that the reader decided."""
        said = self.answer.content.get("suggestion")
        return said["verdicts"] if said and said["networks"] == self.networks else {}

    @property
    def outcomes(self) -> dict[str, str]:
        """Suggested finding → one of ``OUTCOMES``."""
        return {finding: self._outcome(finding, regions) for finding, regions in self.content["findings"].items()}

    def _outcome(self, finding: str, regions: Collection[str]) -> str:
        marked, verdict = self.answer.content["findings"].get(finding), self.verdicts.get(finding)
        if marked and verdict == "confirmed":
            return "confirmed" if set(marked) == set(regions) else "changed"
        if marked:
            return "marked"
        if verdict == "confirmed":
            return "removed"
        return "refused" if verdict == "refused" or self.answer.content["normal"] else "open"


def shown_suggestions_of(connection: Connection, readings: Readings) -> list[Shown]:
    """The suggestion of every finished reading whose reader was shown one; ungradable ones are left out.

    Args:
        connection: Of the transaction that ``readings`` were loaded in.
        readings: All answers so far.
    """
    shown = shown_to(connection)
    rows = connection.execute(sa.select(suggestions.c.image_id, suggestions.c.networks, suggestions.c.content))
    made = {(row.image_id, row.networks): row.content for row in rows} if shown else {}
    return [
        Shown(answer, networks, made[image_id, networks])
        for image_id in readings.images
        for answer in readings.gradable(image_id)
        if (networks := shown.get((answer.annotator, image_id)))
    ]


def outcomes_table(shown: Collection[Shown]) -> pd.DataFrame:
    """``suggestions.csv`` of an export: a row for each suggested finding and reader, one without a finding where
    nothing was suggested."""
    return pd.DataFrame([row for each in shown for row in _rows(each)], columns=list(COLUMNS))


def _rows(shown: Shown) -> Iterator[dict[str, Any]]:
    key = {"image_id": shown.answer.image_id, "annotator_id": shown.answer.annotator, "networks": shown.networks}
    for finding, outcome in shown.outcomes.items():
        yield key | {
            "finding": finding,
            "probability": shown.content["probabilities"][finding],
            "suggested_regions": ";".join(shown.content["findings"][finding]),
            "verdict": shown.verdicts.get(finding, ""),
            "marked_regions": ";".join(shown.answer.content["findings"].get(finding, [])),
            "outcome": outcome,
        }
    if not shown.content["findings"]:
        yield key
