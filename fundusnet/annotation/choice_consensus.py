"""What readers answered to a question together: the median, the majority, or what an adjudicator decided."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from fundusnet.annotation.questions import ABSENT, GRADE, PRESENT, Question
from fundusnet.annotation.readings import Readings


@dataclass(frozen=True)
class ChoiceConsensus:
    """The consensus on one question of one photograph, or of one finding in it.

    Attributes:
        image_id: Of the photograph.
        question: Name of the question.
        subject: The finding, or "" for the photograph.
        choice: None where readers disagree without a consensus.
        readings: How many answered.
        adjudicated: Whether an adjudicator decided.
    """

    image_id: str
    question: str
    subject: str
    choice: str | None
    readings: int
    adjudicated: bool


def consensus_choice(question: Question, given: Sequence[str], present: int) -> str | None:
    """The choice that readers made together; None without one.

    Our reading: of a scale the median, between two choices the higher; of names the one that most chose, none where two
    were chosen equally often. A finding follows the rule for findings: present where ``present`` readers say so, absent
    where none does.

    Args:
        question: With its choices.
        given: The choice of each reader who answered.
        present: Readings that make a finding present.
    """
    places = [question.choices.index(choice) for choice in given if choice in question.choices]
    if not places:
        return None
    if question.is_finding:
        votes = given.count(PRESENT)
        return PRESENT if votes >= present else None if votes else ABSENT
    if question.ordered:
        return question.choices[math.floor(median(places) + 0.5)]
    (most, count), *others = Counter(places).most_common(2)
    return None if others and others[0][1] == count else question.choices[most]


def choice_consensus(readings: Readings, questions: Sequence[Question], present: int) -> Iterator[ChoiceConsensus]:
    """The consensus on each question that somebody answered, image by image.

    Answers about a finding that an adjudicator called absent are left out.
    """
    known = {question.name: question for question in questions}
    decided: dict[str, dict[tuple[str, str], str]] = {}
    for (image_id, *key), decision in readings.choices.items():
        if decision.choice is not None:
            decided.setdefault(image_id, {})[key[0], key[1]] = decision.choice
    for image_id in readings.images:
        given: dict[tuple[str, str], list[str]] = {key: [] for key in decided.get(image_id, {})}
        for answer in readings.gradable(image_id):
            for subject, chosen in answer.content.get("choices", {}).items():
                for name, choice in chosen.items():
                    given.setdefault((subject, name), []).append(choice)
        for (subject, name), choices in sorted(given.items()):
            finding = readings.decisions.get((image_id, subject))
            if name in known and not (finding and finding.present is False):
                verdict = decided.get(image_id, {}).get((subject, name))
                together = verdict or consensus_choice(known[name], choices, present)
                yield ChoiceConsensus(image_id, name, subject, together, len(choices), verdict is not None)


def grades(found: Sequence[ChoiceConsensus], questions: Sequence[Question]) -> dict[str, int] | None:
    """Image id → grade 0 … K-1, of the images with a consensus on the question ``grade``; None if it is not asked."""
    question = next((each for each in questions if each.name == GRADE), None)
    if question is None:
        return None
    return {
        each.image_id: question.choices.index(each.choice)
        for each in found
        if each.question == GRADE and each.choice is not None
    }
