"""The overview of a study by group of readers: photographs, readings, and agreement within each group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.agreement import Agreement, agreement
from fundusnet.annotation.patterns import mark_patterns, readings_of_images
from fundusnet.annotation.question_overview import question_overview
from fundusnet.annotation.study import Study
from fundusnet.annotation.tables import images

JSON = dict[str, Any]


def group_overview(
    connection: Connection,
    study: Study,
    people: Sequence[Mapping[str, Any]],
    described: Callable[[str, Agreement, int], JSON],
) -> list[JSON]:
    """What each group of a study has done, none in a study without groups.

    Args:
        connection: Of a read transaction.
        study: The study.
        people: Progress of each annotator, with ``group``, ``done`` and ``total``.
        described: An agreement as JSON, of a finding and in how many images it is present.
    """
    plan = study.plan
    counted = sa.select(images.c.split, sa.func.count()).where(images.c.listed).group_by(images.c.split)
    sizes = {split: int(count) for split, count in connection.execute(counted)} if plan.groups else {}
    found = []
    for name, group in plan.groups.items():
        of_size = readings_of_images(connection, name)
        own = [row for row in people if row["group"] == name]
        rows = []
        for finding in study.findings:
            marked = mark_patterns(connection, name, finding)
            positive = sum(count for (_, marks, _), count in marked.items() if marks >= study.present)
            rows.append(described(finding, agreement(marked, of_size), positive))
        found.append(
            {
                "name": name,
                "splits": list(group.splits),
                "readings_per_image": plan.readings(name),
                "images": sum(count for split, count in sizes.items() if group.reads(split)),
                "done": sum(row["done"] for row in own),
                "total": sum(row["total"] for row in own),
                "agreement": rows,
                "questions": question_overview(connection, study.questions, name),
            }
        )
    return found
