"""How often readers answered alike, kept beside the answers: marks by group, and choices of each question.

A pattern is what the readers of one image said of one thing, as counts without names. Agreement needs only how many
images have each pattern (``fundusnet.annotation.agreement``), so a row is kept for each image and thing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.agreement import Pattern
from fundusnet.annotation.plan import EVERYBODY
from fundusnet.annotation.tables import patterns
from fundusnet.data.regions import REGIONS

ALL = ""
"""As a finding: the image as a whole. As a question: whether a finding is there, and where."""


def write_patterns(connection: Connection, image_ids: Sequence[str], answers: Mapping[str, Sequence[Any]]) -> None:
    """Derive the patterns of images anew.

    Args:
        connection: Of a write transaction.
        image_ids: Of all images to derive.
        answers: Image → a row for each reader: ``state``, ``content``, ``group_name``.
    """
    connection.execute(sa.delete(patterns).where(patterns.c.image_id.in_(image_ids)))
    rows = [row for image_id, given in answers.items() for row in _rows(image_id, given)]
    if rows:
        connection.execute(sa.insert(patterns), rows)


def _rows(image_id: str, given: Sequence[Any]) -> Iterable[dict[str, Any]]:
    read = [row for row in given if row.state == "done"]
    groups = dict.fromkeys(row.group_name for row in read if row.group_name != EVERYBODY)
    for group in (EVERYBODY, *groups):
        contents = [row.content for row in read if group in (EVERYBODY, row.group_name)]
        found = _choices(contents)
        if group != EVERYBODY:  # marks of everybody are in another table
            found |= _marks(contents)
        for (finding, question), pattern in found.items():
            key = {"image_id": image_id, "group_name": group, "finding": finding, "question": question}
            yield key | {"pattern": pattern}


def _marks(contents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    found = {(ALL, ALL): json.dumps(len(contents))}
    for finding in dict.fromkeys(name for content in contents for name in content["findings"]):
        regions = [content["findings"][finding] for content in contents if finding in content["findings"]]
        touched = [sum(region in each for each in regions) for region in REGIONS.values()]
        found[finding, ALL] = json.dumps([len(contents), len(regions), touched])
    return found


def _choices(contents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for content in contents:
        for finding, chosen in content.get("choices", {}).items():
            for question, choice in chosen.items():
                counts.setdefault((finding, question), Counter())[choice] += 1
    return {key: json.dumps(count, sort_keys=True) for key, count in counts.items()}


def mark_patterns(connection: Connection, group: str, finding: str) -> Counter[Pattern]:
    """How many images the readers of a group marked alike with a finding; of those in which one marked it."""
    found: Counter[Pattern] = Counter()
    for pattern, count in _counted(connection, group, ALL, finding):
        gradable, present, regions = json.loads(pattern)
        found[gradable, present, tuple(regions)] = count
    return found


def readings_of_images(connection: Connection, group: str) -> dict[int, int]:
    """How many images have each number of readings by a group."""
    return {int(json.loads(pattern)): count for pattern, count in _counted(connection, group, ALL, ALL)}


def choice_patterns(connection: Connection, group: str, question: str) -> Counter[tuple[tuple[str, int], ...]]:
    """How many images (or findings in images) have each pattern of choices: (choice, readers) of each choice made."""
    found: Counter[tuple[tuple[str, int], ...]] = Counter()
    for pattern, count in _counted(connection, group, question, None):
        found[tuple(json.loads(pattern).items())] += count
    return found


def _counted(connection: Connection, group: str, question: str, finding: str | None) -> list[tuple[str, int]]:
    same = [patterns.c.group_name == group, patterns.c.question == question]
    if finding is not None:
        same.append(patterns.c.finding == finding)
    grouped = sa.select(patterns.c.pattern, sa.func.count()).where(*same).group_by(patterns.c.pattern)
    return [(pattern, int(count)) for pattern, count in connection.execute(grouped)]
