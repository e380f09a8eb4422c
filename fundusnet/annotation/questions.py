"""What readers are asked besides marking regions: a grade, findings without a place, how severe, how certain.

All of these are one thing, a question with a few choices, asked of the photograph as a whole or of each marked finding.
An answer holds them as ``{subject: {question: choice}}``, where the subject is a finding, or "" for the photograph.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fundusnet.errors import UserError

PHOTOGRAPH, FINDING = "photograph", "finding"
WHOLE = ""
"""The subject of questions about the photograph as a whole."""
ABSENT, PRESENT = "absent", "present"
GRADE = "grade"
"""The question whose consensus becomes the grade of a photograph in an export."""
Choices = Mapping[str, Mapping[str, str]]
OPTIONS = ("choices", "of", "ordered", "optional", "adjudicate")


@dataclass(frozen=True)
class Question:
    """A question with a few choices.

    Attributes:
        name: As in ``questions=`` and in an export.
        choices: What can be answered, in the order shown.
        of: "photograph", or "finding": asked of each marked finding.
        ordered: Whether the choices are steps of a scale, so that neighbours disagree less than others.
        optional: Whether a reading is complete without an answer.
        adjudicate: Whether an adjudicator decides where readers disagree.
    """

    name: str
    choices: tuple[str, ...]
    of: str = PHOTOGRAPH
    ordered: bool = True
    optional: bool = False
    adjudicate: bool = False

    @property
    def is_finding(self) -> bool:
        """Whether it asks if a finding is there that has no place; it is exported as a finding without regions."""
        can_be = self.of == PHOTOGRAPH and self.name != GRADE and ";" not in self.name
        return can_be and set(self.choices) == {ABSENT, PRESENT}


def as_questions(given: Mapping[str, Any] | None) -> tuple[Question, ...]:
    """The questions that ``questions=`` or the settings of a study describe.

    Raises:
        UserError: A name, an option or its value is invalid.
    """
    return tuple(_question(str(name), options) for name, options in (given or {}).items())


def _question(name: str, options: Any) -> Question:
    where = f"questions.{name}"
    if not _is_word(name):
        raise UserError(f"'{name}' is not a valid name of a question; use 1 to 80 printable characters")
    if not isinstance(options, Mapping) or "choices" not in options:
        raise UserError(f"{where} needs choices, such as {where}={{choices:[mild,moderate,severe]}}")
    if unknown := [key for key in options if key not in OPTIONS]:
        raise UserError(f"{where} has no option {unknown[0]}; give {', '.join(OPTIONS[:-1])} or {OPTIONS[-1]}")
    listed = options["choices"]
    choices = [] if isinstance(listed, str) or not isinstance(listed, Collection) else [str(each) for each in listed]
    if not 2 <= len(choices) <= 20 or len(set(choices)) < len(choices) or not all(map(_is_word, choices)):
        raise UserError(f"{where}.choices={listed} is not a list of 2 to 20 different words")
    of = options.get("of", PHOTOGRAPH)
    if of not in (PHOTOGRAPH, FINDING):
        raise UserError(f"{where}.of={of} is not {PHOTOGRAPH} or {FINDING}")
    for key in OPTIONS[2:]:
        if not isinstance(options.get(key, True), bool):
            raise UserError(f"{where}.{key}={options[key]} is not true or false")
    if name == GRADE and of == FINDING:
        raise UserError(f"{where} is the grade of a photograph; leave of out, or use another name")
    return Question(name, tuple(choices), **{key: options[key] for key in OPTIONS[1:] if key in options})


def _is_word(text: str) -> bool:
    return 0 < len(text) <= 80 and text.isprintable() and text == text.strip()


def check_choices(choices: Choices, questions: Sequence[Question], marked: Collection[str], *, complete: bool) -> None:
    """Refuse choices that nobody can have made.

    Args:
        choices: Of an answer.
        questions: Of the study.
        marked: The findings that the answer marks.
        complete: Whether every question that is not optional has to be answered.

    Raises:
        UserError: A choice is invalid, or missing.
    """
    known = {question.name: question for question in questions}
    for subject, chosen in choices.items():
        if subject != WHOLE and subject not in marked:
            raise UserError(f"'{subject[:40]}' is not marked; questions are of marked findings or the photograph")
        for name, choice in chosen.items():
            question = known.get(name)
            if question is None or (question.of == PHOTOGRAPH) != (subject == WHOLE):
                raise UserError(
                    f"'{name[:40]}' is not asked of {'the photograph' if subject == WHOLE else 'a finding'}"
                )
            if choice not in question.choices:
                raise UserError(f"{name} '{choice[:40]}' is not one of {', '.join(question.choices)}")
    for question in questions if complete else ():
        for subject in (WHOLE,) if question.of == PHOTOGRAPH else marked:
            if not question.optional and question.name not in choices.get(subject, {}):
                raise UserError(f"{question.name}{f' of {subject}' if subject else ''} is not answered")
