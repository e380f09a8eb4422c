"""Resumable tables: however a crash cuts the file, complete groups of rows are kept and nothing else."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundusnet.data.listing import file_name
from fundusnet.prediction.output_files import ResumableTable, read_columns, read_rows

COLUMNS = ("image_id", "finding", "value")
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=8)


@given(
    ids=st.lists(text, unique=True, min_size=1, max_size=5),
    group=st.integers(1, 3),
    share=st.floats(0, 1),
    tail=st.binary(max_size=12),
)
def test_whole_groups_survive_a_cut_anywhere(ids: list[str], group: int, share: float, tail: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "table.csv"
        groups = [[(name, f"f{n}", "1,\n") for n in range(group)] for name in ids]
        ends = []
        with ResumableTable(file, COLUMNS, "image_id", group) as table:
            for rows in groups:
                table.add(rows)
                ends.append(file.stat().st_size)
        whole = file.read_bytes()
        cut = round(share * len(whole))
        # What follows the cut is no end of a line: that is what a torn write leaves.
        file.write_bytes(whole[:cut] + tail.replace(b"\n", b"").replace(b'"', b""))
        with ResumableTable(file, COLUMNS, "image_id", group) as table:
            kept = sum(end <= cut for end in ends)
            assert table.done == set(ids[:kept])
            for rows in groups[kept:]:
                table.add(rows)
        assert file.read_bytes() == whole
        assert [row["image_id"] for row in read_rows(file)] == [name for name in ids for _ in range(group)]
        assert read_columns(file) == list(COLUMNS)


@pytest.mark.parametrize("part", ["", "drusen"])
def test_file_names_are_unique_and_short(part: str) -> None:
    long = ["é" * 200 + str(number) for number in range(3)]
    names = {file_name(image_id, part) for image_id in [*long, "a", "a.b", "a_b"]}
    assert len(names) == 6
    assert all(len(name.encode()) < 230 and name.endswith(".png") for name in names)
