"""How readers answered the questions of a study, and how well they agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from fundusnet.annotation.choice_agreement import choice_agreement
from fundusnet.annotation.patterns import choice_patterns
from fundusnet.annotation.plan import EVERYBODY
from fundusnet.annotation.questions import Question

JSON = dict[str, Any]


def question_overview(connection: Connection, questions: Sequence[Question], group: str = EVERYBODY) -> list[JSON]:
    """Choices and agreement of each question, of everybody or of a group."""
    found = []
    for question in questions:
        patterns = choice_patterns(connection, group, question.name)
        result = choice_agreement(patterns, question.choices, ordered=question.ordered)
        row: JSON = {
            "question": question.name,
            "of": question.of,
            "ordered": question.ordered,
            "given": dict(zip(question.choices, result.given, strict=True)),
            "units": result.units,
            "equal_readings": result.equal,
            "kappa": result.coefficients.kappa,
            "kappa_interval": result.coefficients.kappa_interval,
            "alpha": result.coefficients.alpha,
            "alpha_interval": result.coefficients.alpha_interval,
        }
        if result.coefficients.kappa is None:
            row["reason"] = "all readings agree" if result.units else "no image has two readings yet"
        found.append(row)
    return found
