"""The init verb: what it shows, what it writes, what it leaves alone; its output is prepared like any other set."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from fundusnet.cli.main import main
from fundusnet.commands.prepare import prepare_once
from fundusnet.config.compose import compose
from fundusnet.data.labels import finding_labels
from fundusnet.errors import UserError

TABLE = "Datei;MRN;Drusen\n{0}1.png;A;ja\n{0}2.png;B;nein\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two photographs, and a table of them as another machine wrote it."""
    y, x = np.mgrid[:80, :80] - 40
    for number in (1, 2):
        noise = np.random.default_rng(number).integers(80, 250, (80, 80, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), noise * (np.hypot(x, y) < 36)[:, :, None])
    (tmp_path / "labels.csv").write_text(TABLE.format("C:\\study\\"))
    return tmp_path


def init(place: Path, *words: str) -> int:
    return main(["init", f"table={place}/labels.csv", f"images={place}/photos", *words])


def test_it_says_what_it_understood_and_what_to_do_next(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert init(place) == 0
    assert capsys.readouterr().out.strip() == str(place / "photos")
    said = caplog.messages
    assert said[0].splitlines()[:2] == [f"{place}/labels.csv: 2 rows, columns:", "  image     Datei (guessed)"]
    assert "  patient   MRN (guessed)" in said[0].splitlines()
    assert said[1:3] == ["photographs: 2", "patients: 2"] and "  drusen        1        1" in said
    assert any("too few to train on" in line for line in said)
    assert said[-1] == f"next: fundusnet annotate data=csv data.root={place}/photos"
    record = yaml.safe_load((place / "photos" / "init.yaml").read_text())
    assert record["columns"] == {"image": "Datei", "patient": "MRN", "findings": ["Drusen"]}


def test_the_command_that_it_ends_with_is_accepted(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A finding is called as its column is, whether fundusnet has a file for it or not."""
    for number in range(3, 21):
        (place / "photos" / f"{number}.png").touch()
    rows = "".join(f"{number}.png;{number};{'ja' if number % 2 else 'nein'}\n" for number in range(1, 21))
    (place / "labels.csv").write_text(f"Datei;MRN;Cotton-Wool-Herde\n{rows}")
    assert init(place) == 0
    command = shlex.split(caplog.messages[-1].removeprefix("next: "))
    assert "finding.names=[cotton_wool_herde]" in command
    assert list(compose(command[2:]).finding.names) == ["cotton_wool_herde"]
    with pytest.raises(UserError, match="unknown finding cotton_wool_herd; did you mean cotton_wool_herde"):
        compose([word.replace("_herde", "_herd") for word in command[2:]])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_it_wrote_is_prepared(place: Path, elsewhere: bool) -> None:
    output = place / "set" if elsewhere else place / "photos"
    assert init(place, *([f"output={output}"] if elsewhere else [])) == 0
    words = ["data=csv", f"data.root={output}", f"data.folder={place}/prepared", "data.size=32", "data.workers=0"]
    prepared = prepare_once(compose(words, "prepare"))
    assert prepared.manifest.images["patient_id"].tolist() == ["A", "B"]
    assert finding_labels(prepared, ["drusen"], present=1).label.tolist() == [[1.0], [0.0]]
    assert sorted(file.name for file in (place / "photos").glob("*.csv")) == [] if elsewhere else ["images.csv"]


def test_it_replaces_what_it_wrote_and_nothing_else(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(place) == init(place, "columns.patient=false") == 0
    assert "A" not in (place / "photos" / "images.csv").read_text()
    (place / "photos" / "init.yaml").unlink()
    before = (place / "photos" / "images.csv").read_text()
    assert init(place) == 2 and "would be replaced; choose another folder with output=" in capsys.readouterr().err
    assert (place / "photos" / "images.csv").read_text() == before


def test_a_table_called_images_csv_beside_its_photographs_is_kept(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "photos" / "images.csv").write_text(TABLE.format(""))
    words = ["init", f"table={place}/photos/images.csv"]
    assert main(words) == 2 and "is your table and would be replaced" in capsys.readouterr().err
    assert main([*words, f"output={place}/set"]) == 0
    assert (place / "photos" / "images.csv").read_text() == TABLE.format("")


@pytest.mark.parametrize(("answer", "code"), [("\n", 0), ("yes\n", 0), ("n\n", 2), ("", 2)])
def test_on_a_terminal_it_asks(
    place: Path, answer: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = io.StringIO(answer)
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert init(place) == code
    assert f"Write this to {place}/photos? [Y/n]" in capsys.readouterr().err
    assert (place / "photos" / "images.csv").exists() == (code == 0)


def test_a_column_that_is_not_there_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(place, "columns={patient: mrn}") == 2
    assert "columns.patient: labels.csv has no column 'mrn'; did you mean 'MRN'" in capsys.readouterr().err
