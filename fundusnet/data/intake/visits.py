"""When photographs were taken, as tables say it: dates in the orders that countries write them, or numbered visits."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection

from fundusnet.data.intake import words

NEARLY_ALL = 0.95  # share of the cells that must be understood: a table has its slips
_MONTHS = ("jan ene gen", "feb fev", "mar mrz", "apr abr avr", "may mai mag", "jun giu", "jul lug", "aug ago aou",
           "sep set", "oct okt ott out", "nov", "dec dez dic")  # fmt: skip
_MONTH = {word: month for month, each in enumerate(_MONTHS, start=1) for word in each.split()}
_TIME = re.compile(
    r"[t\s]+\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[ap]m)?(?:z|[+-]\d{2}:?\d{2})?$|(?<=^\d{8})[t\s]?\d{4,6}(?:\.\d+)?$"
)
_YEAR_FIRST = re.compile(r"((?:19|20)\d{2})(?:([-./])(\d{1,2})\2(\d{1,2})|(\d{2})(\d{2}))")
_YEAR_LAST = re.compile(r"(\d{1,2})([-./])(\d{1,2})\2((?:19|20)?\d{2})")
_NAMED_MONTH = re.compile(r"(\d{1,2})[\s.-]*([a-z]{3})[a-z]*[\s.-]*((?:19|20)\d{2})")
_MONTH_FIRST = re.compile(r"([a-z]{3})[a-z]*[\s.]+(\d{1,2}),?\s+((?:19|20)\d{2})")
_NUMBER = re.compile(r"(?:([a-z]+)[\s_.-]*)?(\d{1,3})(?:[.,]0+)?")


def visits_of(cells: Collection[str]) -> dict[str, str] | None:
    """Cell → an ISO date, or the number of the visit, of a column that says when photographs were taken.

    Whether "03/04/2024" is in March or in April is told by the others of the column: one of them has a 13 or more.
    With dots the day is first.

    Returns:
        None if the cells are neither dates nor numbers of visits, or nothing tells which of two numbers is the day.
        Single cells that are not understood are missing.

    Examples:
        >>> visits_of(["20240131", "20230228"])
        {'20240131': '2024-01-31', '20230228': '2023-02-28'}
        >>> visits_of(["03/04/2024", "03/31/2024"])
        {'03/04/2024': '2024-03-04', '03/31/2024': '2024-03-31'}
        >>> visits_of(["03/04/2024"])
    """
    known = [cell for cell in dict.fromkeys(cells) if not words.is_unknown(cell)]
    if not are_dates(known):
        return _numbers(known)
    day_first, month_first = (_understood(known, first) for first in (True, False))
    if len(day_first) == len(month_first):
        return day_first if day_first == month_first else None
    best = max(day_first, month_first, key=len)
    return best if len(best) >= NEARLY_ALL * len(known) else None


def are_dates(cells: Collection[str]) -> bool:
    """Whether nearly all cells are dates, be it that nothing tells the day from the month."""
    known = {cell for cell in cells if not words.is_unknown(cell)}
    return bool(known) and len(_understood(known, True) | _understood(known, False)) >= NEARLY_ALL * len(known)


def _understood(cells: Collection[str], day_first: bool) -> dict[str, str]:
    return {cell: date for cell in cells if (date := _date(cell, day_first))}


def _date(cell: str, day_first: bool) -> str:
    """A date as YYYY-MM-DD, "" if it is none."""
    text = _TIME.sub("", words.lower_ascii(cell))
    if found := _YEAR_FIRST.fullmatch(text):
        year, month, day = found[1], found[3] or found[5], found[4] or found[6]
    elif found := _YEAR_LAST.fullmatch(text):
        day, month = (found[1], found[3]) if day_first or found[2] == "." else (found[3], found[1])
        year = found[4] if len(found[4]) == 4 else ("19" if found[4] >= "70" else "20") + found[4]
    elif found := _NAMED_MONTH.fullmatch(text):
        day, month, year = found[1], str(_MONTH.get(found[2], 0)), found[3]
    elif found := _MONTH_FIRST.fullmatch(text):
        month, day, year = str(_MONTH.get(found[1], 0)), found[2], found[3]
    else:
        return ""
    try:
        return datetime.date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return ""


def _numbers(cells: Collection[str]) -> dict[str, str] | None:
    """Cell → number, of "2", "Visit 2", "V2" or "baseline"; None if the word before the number differs."""
    found = {cell: _NUMBER.fullmatch(words.lower_ascii(cell)) for cell in cells}
    numbers = {cell: str(int(each[2])) for cell, each in found.items() if each}
    numbers |= {cell: "0" for cell in cells if words.plain(cell) == "baseline"}
    one_word = len({each[1] for each in found.values() if each}) == 1
    return numbers if one_word and len(numbers) >= NEARLY_ALL * len(cells) else None
