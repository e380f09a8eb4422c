"""Reading a report as a reader does: the tables under a heading, by row and column."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

Row = dict[str, str]
HEADINGS = ("h1", "h2", "h3", "summary")


class _Tables(HTMLParser):
    """Collects the tables of a page as rows of cells, each table under the heading before it."""

    def __init__(self) -> None:
        super().__init__()
        self.heading = ""
        self.found: dict[str, list[list[list[str]]]] = {}
        self.titled: set[str] = set()
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in HEADINGS:
            self._tag, self.heading = tag, ""
        elif tag == "table":
            self.found.setdefault(self.heading, []).append([])
        elif tag == "thead":
            self.titled.add(self.heading)
        elif tag == "tr":
            self.found[self.heading][-1].append([])
        elif tag in ("th", "td"):
            self._tag = tag
            self.found[self.heading][-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._tag:
            self._tag = ""

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if self._tag in HEADINGS:
            self.heading = f"{self.heading} {text}".strip()
        elif self._tag and text:
            row = self.found[self.heading][-1][-1]
            row[-1] = f"{row[-1]} {text}".strip()


def rows_under(page: Path, heading: str) -> list[Row]:
    """The rows of the one table under ``heading``: column title → all the text of the cell.

    A table without titles has its columns numbered.
    """
    parser = _Tables()
    parser.feed(page.read_text(encoding="utf-8"))
    assert heading in parser.found, f"no table under {heading}, but under {', '.join(parser.found)}"
    (table,) = parser.found[heading]
    if heading not in parser.titled:
        table = [[str(number) for number in range(len(table[0]))], *table]
    return [dict(zip(table[0], row, strict=True)) for row in table[1:]]


def row_of(page: Path, heading: str, name: str) -> Row:
    """The one row under ``heading`` whose first cell is ``name``."""
    (row,) = [row for row in rows_under(page, heading) if next(iter(row.values())) == name]
    return row
