"""What goes into a paper: tables that LaTeX and spreadsheets read, figures that journals take, words from the run."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from finished_runs import run_folder
from matplotlib.figure import Figure
from PIL import Image

from fundusnet.evaluation.figures import COLORS
from fundusnet.evaluation.paper import DPI, ONE_COLUMN, TWO_COLUMNS, Paper, Table, latex, write_paper
from fundusnet.findings.paper import write_paper as write_findings

SYSTEM = {
    "label": "guided", "network": "GuidedCAM", "backbone": None, "pretrained": False, "frozen": None, "dilations": [1],
    "head": None, "two_stage": False, "guidance": 1.0, "optimizer": "SGD", "lr": 0.1, "schedule": "cosine",
    "batch_size": 8, "augment": ["Warp"], "max_epochs": 40, "patience": 5, "monitor": "val/loss", "epochs": "17",
    "thresholds": {"drusen": 0.25}, "calibrated": True,
}  # fmt: skip
FACTS = {
    "task": "findings", "targets": ["drusen"], "classes": [], "methods": ["a"], "source": "idrid", "size": 512,
    "split_by": "patient", "folds": None, "present": 2, "cue": "regions", "scored": "30 images", "external": None,
    "splits": [{"name": "test", "images": 30, "classes": "15 with, 15 without"}], "systems": [SYSTEM], "seeds": ["3"],
    "threshold_from": "val", "resamples": 500, "faithfulness": False, "subgroups": False, "seconds": 1.0,
    "versions": {"fundusnet": "1.2.3"}, "commit": None, "command": "fundusnet train seed=3",
}  # fmt: skip


def drawn(panels: int) -> Figure:
    figure = Figure(figsize=(4.4, 4.2))
    for axes in figure.subplots(1, panels, squeeze=False)[0]:
        axes.plot([0, 1], [0, 1])
        axes.set_title("a title")
    return figure


def test_every_table_and_figure_has_every_format(tmp_path: Path) -> None:
    table = Table("Drusen", ["metric", "a"], [["AUROC", "0.9 (0.8 to 1.0)"], ["AIR, true", "–"]])
    write_paper(tmp_path, Paper({"metrics": table}, {"one": drawn(1), "two": drawn(2)}, FACTS))
    with (tmp_path / "tables" / "metrics.csv").open(newline="") as stream:
        assert list(csv.reader(stream)) == [table.head, *table.rows]
    assert "| AUROC | 0.9 (0.8 to 1.0) |" in (tmp_path / "tables" / "metrics.md").read_text()
    for name, width in (("one", ONE_COLUMN), ("two", TWO_COLUMNS)):
        picture = Image.open(tmp_path / "figures" / f"{name}.png")
        assert picture.width == pytest.approx(width * DPI, abs=2)
        pdf = (tmp_path / "figures" / f"{name}.pdf").read_bytes()
        assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # embedded, as TrueType
        box = re.search(rb"/MediaBox \[ ?0 0 ([0-9.]+) ", pdf)
        assert box is not None and float(box[1]) == pytest.approx(width * 72, abs=1)
        svg = (tmp_path / "figures" / f"{name}.svg").read_text()
        assert "<text" not in svg and "<path" in svg  # letters are shapes
    methods = (tmp_path / "methods.md").read_text()
    for words in ("idrid", "512 × 512", "λ = 1.0", "learning rate 0.1", "at most 40 epochs", "500 bootstrap", "0.2500"):
        assert words in methods
    checklist = (tmp_path / "checklist.md").read_text()
    assert "TRIPOD+AI" in checklist and "CLAIM" in checklist
    assert "| 17 | Ethical approval | *to be written by the authors* |" in checklist
    assert "| 10 | Sample size | test 30 (15 with, 15 without) |" in checklist


def test_methods_are_described_one_by_one_where_they_differ(tmp_path: Path) -> None:
    inception = SYSTEM | {"label": "Inception-v3", "network": "PooledCAM", "backbone": "inception_v3", "guidance": None}
    inception |= {"pretrained": True, "thresholds": {"drusen": 0.75}, "calibrated": False}
    write_paper(tmp_path, Paper({}, {}, FACTS | {"systems": [SYSTEM, inception]}))
    methods = (tmp_path / "methods.md").read_text()
    network = methods[methods.index("**Network.**") : methods.index("**Training.**")]
    guided, other = re.findall(r"^- \*(.+)", network, re.MULTILINE)
    assert guided.startswith("guided:* The network (GuidedCAM)") and "λ = 1.0" in guided and "ImageNet" not in guided
    assert other.startswith("Inception-v3:* The network (PooledCAM with inception_v3)")
    assert "guidance" not in other and "ImageNet weights" in other
    assert methods.count("learning rate 0.1") == 1, "both were trained in the same way"
    assert "guided, drusen: 0.2500; Inception-v3, drusen: 0.7500" in methods and "by a temperature" in methods
    checklist = (tmp_path / "checklist.md").read_text()
    assert "| GuidedCAM; PooledCAM (inception_v3) |" in checklist and "| Random; ImageNet weights |" in checklist


@pytest.mark.parametrize(
    ("head", "decision", "words"),
    [
        ("ranking", None, "the number of grades that are exceeded"),
        ("ranking", "most_probable", "the most probable one"),
        ("multiclass", None, "the most probable one"),
        ("multiclass", "count", "the number of grades that are exceeded"),
    ],
)
def test_methods_say_how_a_grade_follows(tmp_path: Path, head: str, decision: str | None, words: str) -> None:
    facts = FACTS | {
        "task": "grading",
        "classes": ["a", "b"],
        "systems": [SYSTEM | {"head": head, "decision": decision}],
    }
    write_paper(tmp_path, Paper({}, {}, facts))
    assert f"The predicted grade is {words}" in " ".join((tmp_path / "methods.md").read_text().split())


def test_latex_escapes_what_it_would_read_as_commands() -> None:
    text = latex(Table("50 % of A_1 & B", ["λ", "x < 1"], [["a_b", r"\\input{x}"]]))
    assert r"\caption{50 \% of A\_1 \& B}" in text and r"a\_b" in text and r"\input{" not in text
    assert r"$\lambda$ & x $<$ 1 \\" in text
    assert [line for line in text.splitlines() if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]


def test_colours_differ_in_grey() -> None:
    def grey(color: str) -> float:
        red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    first = [grey(color) for color in COLORS[:2]]
    assert abs(first[0] - first[1]) > 25  # of more, the dashes tell them apart


def test_a_comparison_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fundusnet.evaluation.paper.DPI", 50)  # quick
    folders = [run_folder(tmp_path, finding=f, weight=w) for f in ("drusen", "membrane") for w in (1.0, 0.0)]
    folder = write_findings(folders, tmp_path / "paper")
    with (folder / "tables" / "table1.csv").open(newline="") as stream:
        head, first, second = csv.reader(stream)
    assert head[:3] == ["finding", "AUROC, without guidance", "AUROC, with guidance, λ=1"]
    assert (first[0], second[0]) == ("drusen", "membrane")
    names = {file.stem for file in (folder / "figures").glob("*.pdf")}
    assert {"drusen_roc", "drusen_precision_recall", "drusen_forest_values", "membrane_forest_differences"} <= names
    assert "without guidance; with guidance, λ=1" in (folder / "methods.md").read_text()
