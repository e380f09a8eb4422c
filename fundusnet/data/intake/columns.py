"""What each column of a user's table is: guessed from its name and cells, or given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from fundusnet.data.delimiters import number_from
from fundusnet.data.intake import words
from fundusnet.data.intake.naming import IDS, PATIENT, choose_sheet, eye_column, rows_of_photographs
from fundusnet.data.intake.photographs import Photographs
from fundusnet.data.intake.shapes import READER, one_row_a_reader, reader_in
from fundusnet.data.intake.table import Table
from fundusnet.data.intake.visits import are_dates, visits_of
from fundusnet.data.manifest import COORDINATES
from fundusnet.errors import UserError

#: what one column can be; ``findings`` are several
ROLES = (
    *("image", "patient", "fellow", "eye", "visit", "split", "grade", "finding", "present", "annotator", "regions"),
    *COORDINATES,
)
MOST_GRADES = 10
#: share of the fullest yes-or-no column that another must reach, so that a sparse one does not spoil the rows
FILLED = 0.9
_ANNOTATOR = re.compile(
    r"(?:annotator|reader|grader|rater|doctor|expert|observer|physician|ophthalmologist|examiner|untersucher"
    r"|gutachter|befunder|lector|evaluador|observador|medico)(?:_?(?:id|no|nr|name|code))?|(?:read|graded|annotated|labell?ed)_by"
)
_FELLOW = re.compile(
    r"(?:fellow|partner|contralateral|other)_?(?:eye|auge|image|photo|picture|bild|file)?(?:_?(?:id|no|nr|name|file))*"
)
_DATE = re.compile(r"(?:.*(?:date|datum|fecha)|(?:.*_)?(?:datetime|data))(?:_.*)?")
_VISIT = re.compile(r"(?:.*_)?(?:visit|besuch|visita|visite)(?:_.*)?")
#: dates of something else
_NO_VISIT = re.compile(
    r"birth|born|dob|geburt|geb_|nacim|naiss|nascita|death|regist|report|surgery|operation|label|anno"
)
_OF_PHOTOGRAPH = re.compile(
    r"study|exam|visit|acqui|capture|photo|image|taken|scan|untersuch|aufnahme|besuch|estudio|toma|captura|visite"
)
_REGIONS = re.compile(r"regions?|locations?|quadrants?|areas?")
_GRADE = re.compile(
    r"(?:.*_)?(?:grade|grading|severity|stage|level|icdr|stadium|grad|schweregrad|stade|grado|estadio|severidad"
    r"|gravedad)(?:_.*)?"
)
_LABEL = re.compile(
    r"(?:.*_)?(?:label|class|diagnosis|category|target|dr|dme|amd|dx|diagnose|befund|diagnostico)|column_\d+"
)
_PLAIN_LABELS = (
    "label",
    "class",
    "diagnosis",
    "category",
    "target",
    "grade",
    "dx",
    "diagnose",
    "befund",
    "diagnostico",
)
_FINDING = re.compile(
    r"(?:.*_)?(?:findings?|lesions?|diagnos[ei]s|labels?|diseases?|abnormalit(?:y|ies)|conditions?|pathology|category"
    r"|class|keywords|signs?|dx|diagnosen?|befunde?|hallazgos?|diagnosticos?|lesion(?:es)?)"
)
_PRESENT = re.compile(r"present|presence|value|positive|is_present|label")
_NO_FINDING = re.compile(
    r"(?:.*_)?(?:un)?(?:gradable|gradeable|quality|sex|gender|male|female|dilated|mydria\w*|consent|included?"
    r"|excluded?|usable|adequate|readable|smoker|smoking|normal|healthy|raucher|auswertbar|geschlecht|sexo"
    r"|fumador)(?:_.*)?"
)
_SITES = {"fovea": re.compile(r"fovea|macula"), "disc": re.compile(r"dis[ck]|onh|papilla|optic")}
_AXIS = re.compile(r"(?:^|_)([xy])(?:_|$)|([xy])$")


@dataclass(frozen=True)
class Columns:
    """The names of the columns by what they are.

    Attributes:
        one: Role → column, of ``ROLES``; roles that the table has no column for are not there.
        findings: Columns that say yes or no, a finding each.
        marks: Those of them that only ever say yes, so that an empty cell means no rather than unknown.
        without: Roles that the user said there is no column for.
        unused: The other columns.
        unordered: One of these that is called like grades, of words whose order is not known; "" for none.
    """

    one: Mapping[str, str]
    findings: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()
    unordered: str = ""

    def __getitem__(self, role: str) -> str | None:
        return self.one.get(role)


def understand_columns(
    tables: Sequence[Table], pictures: Photographs, given: Mapping[str, object] | None = None
) -> tuple[Table, Columns]:
    """The columns of a table, and the table with a row for each photograph and reader.

    Args:
        tables: The sheets of a workbook, or one table; the sheet is taken that names most photographs.
        pictures: The photographs that it is about.
        given: Role → column of the table, False if it has none, None to guess; ``image`` may be two columns, one for
            either eye, and ``findings`` a list of columns.

    Raises:
        UserError: A role or column is unknown, or neither a column nor patient and eye name a photograph.
    """
    table, counts = choose_sheet(tables, pictures)
    named = {role: _names(table, role, value) for role, value in (given or {}).items() if value is not None}
    table, one, shared = rows_of_photographs(table, counts, pictures, named)
    if named.get("annotator") is None:
        table = one_row_a_reader(table)
        one |= {"annotator": READER} if READER in table.columns else {}
    one |= {
        role: _now(each[0], table) for role, each in named.items() if role != "findings" and each and role not in one
    }
    free = [name for name in table.columns if name not in one.values()]
    for role in ROLES[1:]:
        if role in one or role in named or (role == "present" and "finding" not in one):
            continue
        if role == "fellow" and "patient" in one:
            continue
        names = [name for name in free if name not in one.values()]
        if role == "finding" and "grade" in one and READER in table.columns:
            names = [name for name in names if name not in table.origins]  # the grades from which the final one is
        if name := _guess(role, table, names, bool(shared), one["image"]):
            one[role] = name
    if "findings" in named:
        findings = list(dict.fromkeys(_now(name, table) for name in named["findings"]))
    else:
        findings = _finding_columns(table, [name for name in free if name not in {*one.values(), *shared}])
    marks = frozenset(name for name in findings if False not in map(words.presence, table.column(name)))
    without = frozenset(role for role, each in named.items() if not each)
    unused = tuple(name for name in table.columns if name not in {*one.values(), *findings})
    unordered = "" if {"grade", "finding"} & {*one, *without} else _unordered(table, unused)
    return table, Columns(one, tuple(findings), marks, without, unused, unordered)


def _names(table: Table, role: str, value: object) -> list[str]:
    """The columns that ``columns.role=value`` names, none for False."""
    listed = value if isinstance(value, list) else [] if value is False else [value]
    for name in map(str, listed):
        if name not in table.columns:
            lower = {column.lower(): column for column in table.columns}
            near = get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
            meant = f"did you mean '{lower[near[0]]}'" if near else f"it has {', '.join(table.columns[:12])}"
            sheet = f", sheet {table.sheet}," if table.sheet else ""
            raise UserError(f"columns.{role}: {table.file.name}{sheet} has no column '{name}'; {meant}")
    return list(map(str, listed))


def _now(name: str, table: Table) -> str:
    """What a column of the file is called in a table with a row for each eye, where "Left label" became "label"."""
    return name if name in table.columns else next(now for now, before in table.origins.items() if name in before)


def _guess(role: str, table: Table, names: Sequence[str], by_patient: bool, image: str) -> str | None:
    """The column of ``names`` that is most likely ``role``."""
    if role == "eye":
        return eye_column(table, names)
    if role in COORDINATES:
        return next((name for name in names if _coordinate(name) == role and _numbers(table.column(name))), None)
    if role == "fellow":
        return next(
            (name for name in names if _FELLOW.fullmatch(words.plain(name)) and _of_others(table, name, image)), None
        )
    tests: dict[str, Callable[[str, list[str]], int]] = {
        "visit": _visit_score,
        "patient": lambda name, cells: (
            not _yes_no(cells) and bool(PATIENT.fullmatch(name) or (by_patient and name in IDS))
        ),
        "split": lambda name, cells: (
            _all(cells, lambda cell: bool(words.split_of(cell)))
            and any(words.split_of(cell) == "train" for cell in cells)
        ),
        "grade": _grade_score,
        "finding": lambda name, cells: bool(_FINDING.fullmatch(name)) and _texts(cells) and len(set(cells)) > 1,
        "present": lambda name, cells: bool(_PRESENT.fullmatch(name)) and _yes_no(cells),
        "annotator": lambda name, cells: bool(_ANNOTATOR.fullmatch(name)),
        "regions": lambda name, cells: bool(_REGIONS.fullmatch(name)) and _texts(cells),
    }
    scores: dict[str, int] = {}
    for name in names:
        if cells := [cell for cell in table.column(name) if not words.is_unknown(cell)]:
            scores[name] = int(tests[role](words.plain(name), cells))
    best = max(scores, key=lambda name: scores[name], default=None)
    return best if best is not None and scores[best] else None


def _visit_score(name: str, cells: list[str]) -> int:
    """How likely a column says when photographs were taken; dates of something else are left out."""
    # Numbers are visits only by name: "Harte Exsudate" ends with "date", and holds 0 and 1.
    numbered = _VISIT.fullmatch(name) and visits_of(cells)
    dated = (_VISIT.fullmatch(name) or _DATE.fullmatch(name)) and are_dates(cells)
    if _NO_VISIT.search(name) or not (numbered or dated):
        return 0
    return 2 if _OF_PHOTOGRAPH.search(name) else 1


def _of_others(table: Table, name: str, image: str) -> bool:
    """Whether a column names photographs or eyes of other rows, some of them here."""
    here = set(table.column(image))
    return any(cell in here for cell in table.column(name) if not words.is_unknown(cell))


def _grade_score(name: str, cells: list[str]) -> int:
    """How likely a column holds grades: its name says so, and its cells are few numbers or words of known order."""
    values = {cell for cell in cells if not words.is_negative(cell)}
    if not 2 <= len(values) <= MOST_GRADES or not (_GRADE.fullmatch(name) or _LABEL.fullmatch(name)):
        return 0
    numbers = {words.grade_number(value) for value in values}
    known = None not in numbers or words.in_order(values) is not None
    if not known or (_yes_no(cells) and name not in _PLAIN_LABELS):  # "glaucoma_label" or "dr" with 0 and 1: a finding
        return 0
    return 2 if _GRADE.fullmatch(name) else 1


def _unordered(table: Table, names: Sequence[str]) -> str:
    """A column that is called like grades and holds a few words, "" if there is none."""
    for name in names:
        values = {cell for cell in table.column(name) if not words.is_unknown(cell)}
        if _GRADE.fullmatch(words.plain(name)) and 2 <= len(values) <= MOST_GRADES and _texts(list(values)):
            return name
    return ""


def _finding_columns(table: Table, names: Sequence[str]) -> list[str]:
    """The columns that say yes in some rows and no in others; sparse ones are left out beside full ones."""
    consensus = {words.plain(name) for name in names}
    filled: dict[str, int] = {}
    marks: list[str] = []  # yes or nothing
    for name in names:
        cells = [cell for cell in table.column(name) if not words.is_unknown(cell)]
        answers = {words.presence(cell) for cell in cells}
        if None in answers or True not in answers or _NO_FINDING.fullmatch(words.plain(name)):
            continue
        reader, finding = reader_in(name)
        if (reader and finding in consensus) or (_GRADE.fullmatch(words.plain(name)) and not _yes_no(cells)):
            continue
        if False in answers:
            filled[name] = len(cells)
        elif len(cells) < len(table.rows):
            marks.append(name)
    full = FILLED * max(filled.values(), default=0)
    return [name for name in names if name in marks or filled.get(name, -1) >= full]


def _coordinate(name: str) -> str:
    """ "fovea_x" and the like, "" if a column's name says none."""
    text = words.plain(name)
    site = next((site for site, pattern in _SITES.items() if pattern.search(text)), None)
    axis = _AXIS.search(text)
    return f"{site}_{axis[1] or axis[2]}" if site and axis else ""


def _numbers(cells: Sequence[str]) -> bool:
    known = [cell for cell in cells if not words.is_unknown(cell)]
    try:
        return bool(known) and all(number_from(cell) >= 0 for cell in known)
    except ValueError:
        return False


def _texts(cells: Sequence[str]) -> bool:
    """Whether most cells are words rather than numbers or yes and no."""
    return 2 * sum(words.yes_or_no(cell) is None and bool(re.search(r"[^\W\d]{2}", cell)) for cell in cells) > len(
        cells
    )


def _yes_no(cells: Sequence[str]) -> bool:
    return all(words.yes_or_no(cell) is not None for cell in cells)


def _all(cells: Sequence[str], test: Callable[[str], bool]) -> bool:
    """Whether nearly all cells pass: a table has its slips."""
    return sum(map(test, cells)) >= 0.95 * len(cells)
