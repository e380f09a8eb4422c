"""The report on grading runs: metrics, differences, pictures, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from graded import CLASSES, SIZE, graded_set
from pages import rows_under

from fundusnet import compose
from fundusnet.commands.report import report
from fundusnet.errors import UserError
from fundusnet.grading.figures import confusion_matrices, energy_inside, losses, panel_tiles
from fundusnet.grading.report import write_report
from fundusnet.grading.statistics import grading_metrics

GRADES = [0, 1, 2] * 8


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graded_set(tmp_path_factory.mktemp("report"), GRADES).folder


def made(
    folder: Path, prepared: Path, name: str, wrong: Sequence[int] = (), seed: int = 0, two_stage: bool = False,
    classes: Sequence[str] = CLASSES,
) -> Path:  # fmt: skip
    """A finished run that errs by one grade on the images ``wrong``."""
    folder.mkdir(parents=True)
    grade = np.array(GRADES)
    predicted = np.where(np.isin(np.arange(24), wrong), (grade + 1) % 3, grade)
    p = np.stack([(predicted > k) * 0.8 + 0.1 for k in range(2)], axis=1)
    table = pd.DataFrame(
        {
            "image_id": [f"image{number:03d}" for number in range(24)],
            "patient_id": [f"patient{number // 2:03d}" for number in range(24)],
            "grade": grade,
            "predicted": predicted,
            "stage1_predicted": grade if two_stage else np.nan,
            "p_gt_0": p[:, 0],
            "p_gt_1": p[:, 1],
        }
    )
    table.to_csv(folder / "predictions.csv", index=False)
    (folder / "metrics.json").write_text(json.dumps(grading_metrics(table, classes, n=20)))
    model = {"head": "ranking", "stage1": {"folds": 1} if two_stage else None}
    config = {"task": "grading", "name": name, "seed": seed, "model": model}
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "data": {"source": "csv", "folder": str(prepared)}}))
    history = pd.DataFrame({"epoch": [0.0, 1.0]})
    for key in ("loss", "loss_gt_0", "loss_gt_1"):
        history[f"train/{key}"], history[f"val/{key}"] = [0.9, 0.5], [0.8, 0.6]
    if two_stage:
        history = pd.concat({"stage1": history, "stage2": history}, names=["stage"]).reset_index("stage")
        masks = np.random.default_rng(seed).random((24, 4, 4)).astype(np.float16)
        np.savez_compressed(folder / "masks.npz", image_id=table["image_id"].to_numpy(dtype=str), mask=masks)
        (folder / "stages").mkdir()
        leak = table[["image_id", "grade"]].assign(split=["train"] * 12 + ["val"] * 6 + ["test"] * 6, fold="")
        leak["stage1_predicted"] = [*grade[:12], *grade[12:15], 0, 0, 0, *[1] * 6]
        leak.to_csv(folder / "stages" / "masks.csv", index=False)
    history.to_csv(folder / "history.csv", index=False)
    return folder


def text_of(page: Path) -> str:
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", page.read_text(), flags=re.S).split())


def test_each_method_has_a_row_with_its_difference_below(prepared: Path, tmp_path: Path) -> None:
    runs = [
        made(tmp_path / "a", prepared, "two-stage ranking", wrong=[0], two_stage=True),
        made(tmp_path / "b", prepared, "multiclass", wrong=[0, 3, 6, 9, 1, 4]),
    ]
    page = write_report(runs, tmp_path / "page.html")
    text, rows = text_of(page), rows_under(page, "Grades")
    columns = ["Accuracy", "Recall of normal", "Recall of suspicious", "Recall of glaucoma", "Kappa", "Mean error"]
    assert list(rows[0])[:8] == ["Method", *columns, "AUROC"]
    # Wrong by one grade on 1 of 8 normal ones, and on 4 normal and 2 suspicious ones.
    values = {row["Method"]: [row[column].split()[0] for column in columns[:4]] for row in rows}
    assert values == {
        "two-stage ranking": ["0.958", "0.875", "1.000", "1.000"],
        "multiclass": ["0.750", "0.500", "0.750", "1.000"],
        "difference to two-stage ranking": ["-0.208", "-0.375", "-0.250", "+0.000"],
    }
    assert "Test images: 8 normal, 8 suspicious, 8 glaucoma." in text
    # In training every mask was that of the true grade, in test a third.
    assert rows_under(page, "Masks of the true grade") == [
        {"Method": "two-stage ranking", "Training": "1.000", "Validation": "0.667", "Test": "0.333"}
    ]
    assert "image000: stage 1 says normal, stage 2 suspicious" not in text  # the surest come first, and it errs there
    assert "stage 1 says glaucoma, stage 2 glaucoma" in text


def test_the_page_stands_alone(prepared: Path, tmp_path: Path) -> None:
    page = write_report([made(tmp_path / "a", prepared, "ranking", two_stage=True)], tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 3 * 3 * 3  # grades, images of each, photograph + mask + region
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "expert outlines" not in page and "No pictures" not in page


def test_seeds_are_pooled(prepared: Path, tmp_path: Path) -> None:
    runs = [made(tmp_path / f"a{seed}", prepared, "ranking", wrong=range(seed), seed=seed) for seed in (1, 3)]
    page = write_report(runs, tmp_path / "page.html")
    (row,) = rows_under(page, "Grades")
    assert row["Accuracy"].startswith(f"{(23 / 24 + 21 / 24) / 2:.3f} ")
    assert "seeds 0.958 · 0.875" in row["Accuracy"]
    assert "summed over seeds" in text_of(page)


def test_markdown_holds_the_table(prepared: Path, tmp_path: Path) -> None:
    runs = [made(tmp_path / name, prepared, name, wrong=wrong) for name, wrong in (("a", [0]), ("b", []))]
    lines = write_report(runs, tmp_path / "table.md").read_text().splitlines()
    assert lines[0].startswith("| method | Accuracy | Recall of normal |")
    assert lines[2].startswith("| a | 0.958 [") and lines[3].startswith("| b | 1.000 [")
    assert lines[4].startswith("| difference to a | +0.042 [")


def test_without_its_prepared_set_a_page_says_so(prepared: Path, tmp_path: Path) -> None:
    run = made(tmp_path / "a", tmp_path / "gone", "ranking", two_stage=True)
    page = write_report([run], tmp_path / "page.html").read_text()
    assert "No pictures" in page and "data:image/jpeg" not in page


@pytest.mark.parametrize(("relabelled", "shown"), [(False, 2), (True, 1)])
def test_the_mask_of_another_photograph_of_the_same_name_is_not_shown(
    relabelled: bool, shown: int, prepared: Path, tmp_path: Path
) -> None:
    first = made(tmp_path / "a", prepared, "here", two_stage=True)
    other = made(tmp_path / "b", tmp_path / "elsewhere", "there", two_stage=True)
    if relabelled:
        table = pd.read_csv(other / "predictions.csv")
        table.assign(grade=2 - table["grade"]).to_csv(other / "predictions.csv", index=False)
    tiles = [
        write_report(runs, tmp_path / "page.html").read_text().count("data:image/jpeg")
        for runs in ([first], [first, other])
    ]
    photographs = 9  # three of each grade
    assert tiles == [3 * photographs, (1 + 2 * shown) * photographs]


def test_runs_of_other_grades_are_refused(prepared: Path, tmp_path: Path) -> None:
    runs = [
        made(tmp_path / "a", prepared, "a"),
        made(tmp_path / "b", prepared, "b", classes=("none", "mild", "severe")),
    ]
    with pytest.raises(UserError, match=r"b has the grades none, mild, severe, .*a has normal"):
        write_report(runs, tmp_path / "page.html")


def test_a_page_compares_runs_of_one_task(prepared: Path, tmp_path: Path) -> None:
    made(tmp_path / "runs" / "a", prepared, "a")
    findings = made(tmp_path / "runs" / "b", prepared, "b")
    cfg = compose([f"runs={tmp_path}/runs/*", f"output={tmp_path}/page.html"], "report")
    assert report(cfg).is_file()
    config = yaml.safe_load((findings / "config.yaml").read_text())
    (findings / "config.yaml").write_text(yaml.safe_dump({**config, "task": "findings"}))
    with pytest.raises(UserError, match=r"a is a run of task=grading and .*b of task=findings; a page compares"):
        report(cfg)


def test_a_paper_is_a_folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fundusnet.evaluation.paper.DPI", 50)  # quick
    run = made(tmp_path / "a", prepared, "two-stage ranking", wrong=[0], two_stage=True)
    with pytest.raises(UserError, match=r"output=.*paper\.html is to be a folder with format=paper"):
        report(compose([f"runs={run}", "format=paper", f"output={tmp_path}/paper.html"], "report"))
    folder = report(compose([f"runs={run}", "format=paper", f"output={tmp_path}/paper"], "report"))
    assert (folder / "tables" / "table1.csv").read_text().startswith("method,Accuracy,Recall of normal,")
    names = {file.stem for file in (folder / "figures").glob("*.pdf")}
    assert {"fig2_normal_1", "fig3_confusion_matrices", "fig4_losses_1", "roc_above_normal"} <= names
    assert "graded as normal, suspicious, glaucoma" in (folder / "methods.md").read_text()


def test_a_flat_mask_has_as_much_energy_inside_as_the_outline_covers() -> None:
    outline = np.zeros((8, 8), dtype=bool)
    outline[:2] = True
    assert energy_inside(np.full((8, 8), 0.3), outline) == pytest.approx(outline.mean())
    assert energy_inside(outline.astype(float), outline) == 1
    assert np.isnan(energy_inside(np.zeros((8, 8)), outline))


def test_outlines_are_drawn_and_measured_where_they_are_known(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fundusnet.data.prepared import PreparedSet

    disc = np.zeros((SIZE, SIZE), dtype=bool)
    disc[:16] = True
    monkeypatch.setattr(
        PreparedSet, "lesion_mask", lambda self, image_id, finding: disc if finding == "optic_disc" else None
    )
    run = made(tmp_path / "a", prepared, "two-stage ranking", two_stage=True)
    text = text_of(write_report([run], tmp_path / "page.html"))
    assert re.search(r"Masks and expert outlines .* two-stage ranking 24 0\.2\d\d 0\.250 – –", text)
    tiles = panel_tiles(np.zeros((SIZE, SIZE, 3), np.uint8), {"a": np.ones((SIZE, SIZE))}, disc)
    assert tiles["photograph"].any() and not tiles["ROI"].any()
    assert list(tiles) == ["photograph", "mask", "ROI"]


def test_figures_show_what_they_are_given() -> None:
    matrices = {"a": np.array([[3.0, 1.0], [0.0, 2.0]]), "b": np.eye(2)}
    figure = confusion_matrices(matrices, ["no", "yes"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["3", "1", "0", "2"]
    history: Any = pd.DataFrame(
        {"stage": ["stage1", "stage1", "fold_0", "fold_1"], "epoch": [0, 1, 0, 0],
         "train/loss_gt_0": 1.0, "val/loss_gt_0": [0.3, 0.5, 0.1, 0.2], "val/loss": 1.0}
    )  # fmt: skip
    drawn = losses(history, ["no_signs", "yes"])
    assert [axes.get_title() for axes in drawn.axes] == ["stage1", "folds"]
    assert "above no signs" in {line.get_label() for line in drawn.axes[0].lines}
    dots = [line for line in drawn.axes[0].lines if line.get_marker() == "o"]
    assert [list(dot.get_xydata()[0]) for dot in dots] == [[0, 0.3]]
