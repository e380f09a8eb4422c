"""What the page of predictions says of the networks: where each comes from, and how good it was."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from answered import run
from predicted import found_findings

from fundusnet.prediction.output_files import read_record, write_record
from fundusnet.prediction.provenance import run_of
from fundusnet.prediction.report_page import write_page


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The checkpoint of a run that was scored on 117 decided images of two a patient."""
    file = run(tmp_path / "run", 3) / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    file.touch()
    return file


def test_a_checkpoint_in_its_run_knows_how_good_it_was(checkpoint: Path) -> None:
    found = run_of(checkpoint)
    results = json.loads((checkpoint.parent.parent / "metrics.json").read_text())
    assert found is not None and (found["name"], found["seed"]) == ("guided", 3)
    assert found["metrics"] == {name: results["metrics"][name] for name in ("auroc", "sensitivity", "specificity")}
    moved = checkpoint.rename(checkpoint.parent.parent / "elsewhere.ckpt")
    assert run_of(moved) is None


def test_the_page_has_a_row_for_each_finding(checkpoint: Path, tmp_path: Path) -> None:
    folder = found_findings(tmp_path / "out", [(0.9, 0.1)])
    record = read_record(folder)
    (network,) = record["checkpoints"]
    known = run_of(checkpoint)
    assert known is not None
    both, measured = ("drusen", "bleeding"), known["metrics"]
    several = known | {
        "metrics": {f"{finding}/{name}": entry for finding in both for name, entry in measured.items()},
        "counts": dict.fromkeys(both, known["counts"]["drusen"]),
    }
    auroc, counts = known["metrics"]["auroc"], known["counts"]["drusen"]
    cell = f"{auroc['value']:.3f} {auroc['ci95'][0]:.3f} to {auroc['ci95'][1]:.3f}"
    present = f"in {counts['n_present']} of {counts['n_present'] + counts['n_absent']} images"
    for about, titles in ((known, ["Drusen"]), (several, ["Drusen", "Bleeding"])):
        write_record(folder, record | {"checkpoints": [network | {"run": about}]})
        page = write_page(folder, folder / "report.html", 1).read_text()
        table = page[page.index('<table class="scores">') : page.index("On its test split")]
        words = " ".join(re.sub(r"<[^>]+>", " ", table).split())
        assert words.startswith("AUROC Sensitivity Specificity")
        for title in titles:
            assert f"{title} {present} {cell}" in words
    # A record of an earlier version has values and intervals only.
    old = known | {
        "metrics": {name: {key: one[key] for key in ("value", "ci95")} for name, one in known["metrics"].items()}
    }
    del old["counts"]
    write_record(folder, record | {"checkpoints": [network | {"run": yaml.safe_load(yaml.safe_dump(old))}]})
    assert f"{auroc['value']:.3f}" in write_page(folder, folder / "report.html", 1).read_text()
