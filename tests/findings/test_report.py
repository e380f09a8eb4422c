"""The report of made-up runs: complete, self-contained, and honest about what is missing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pages import row_of, rows_under
from PIL import Image

from fundusnet.data.prepare import prepare
from fundusnet.data.regions import REGIONS
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError
from fundusnet.evaluation.groups import group_differences, group_runs
from fundusnet.evaluation.runs import read_runs
from fundusnet.evaluation.tables import describe_images
from fundusnet.findings.report import maps_of, write_report
from fundusnet.findings.statistics import FINDINGS, findings_metrics

IMAGES = 40


def made_up_run(folder: Path, name: str, *, skill: float = 1.0, prepared: str | None = None) -> Path:
    generator = np.random.default_rng(7)
    label = np.arange(IMAGES) % 2
    probability = 1 / (1 + np.exp(-(skill * (label - 0.5) * 3 + generator.normal(size=IMAGES))))
    present = label == 1
    predictions = pd.DataFrame(
        {
            "image_id": [f"eye{i:02}" for i in range(IMAGES)],
            "patient_id": [f"p{i // 2 % 15}" for i in range(IMAGES)],
            "finding": "hemorrhage",
            "label": label.astype(float),
            "probability": probability,
            "predicted": (probability >= 0.5).astype(int),
            "air": np.where(present, np.clip(0.5 * skill + generator.normal(0, 0.05, IMAGES), 0, 1), np.nan),
            "cue_fraction": np.where(present, 0.25, 0.0),
        }
    )
    folder.mkdir()
    predictions.to_csv(folder / "predictions.csv", index=False)
    (folder / "metrics.json").write_text(json.dumps(findings_metrics(predictions, n=100)))
    config = {"name": name, "data": {"source": "synthetic", "folder": prepared}, "finding": {"names": ["hemorrhage"]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    epochs = np.arange(4)
    pd.DataFrame({"epoch": epochs, "train/loss": 1 / (1 + epochs), "val/loss": 1.2 / (1 + epochs)}).to_csv(
        folder / "history.csv", index=False
    )
    np.savez_compressed(
        folder / "maps.npz",
        image_id=predictions["image_id"].to_numpy(dtype=str),
        map=generator.random((IMAGES, 1, 4, 4)).astype(np.float16),
    )
    return folder


def test_the_page_needs_nothing_outside_itself(tmp_path: Path) -> None:
    file = write_report([made_up_run(tmp_path / "a", "<guided>")], tmp_path / "deep" / "report.html")
    page = file.read_text()
    assert not re.search(r"https?:|src=\"(?!data:)|href=\"(?!#)|<script|@import|url\(", page)
    assert "&lt;guided&gt;" in page and "<guided>" not in page
    assert "synthetic, test split" in page
    assert "40 images of 15 patients" in page
    assert "20 present (0 of them without a cue), 20 absent, 0 undecided" in page
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())["metrics"]
    assert row_of(file, "Hemorrhage", "AUROC")["<guided>"].startswith(f"{metrics['auroc']['value']:.3f} ")
    assert row_of(file, "Hemorrhage", "Lesion energy")["<guided>"] == "– no present images with lesion pixels"
    assert "No pictures" in page
    assert page.count("data:image/png;base64,") == 3  # ROC, precision and recall, losses
    assert "Difference" not in page


def test_no_curve_is_drawn_of_one_class(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "a", "a")
    assert "ROC curve" in write_report([run], tmp_path / "report.html").read_text()
    table = pd.read_csv(run / "predictions.csv")
    table[table["label"] == 1].to_csv(run / "predictions.csv", index=False)
    assert "ROC curve" not in write_report([run], tmp_path / "report.html").read_text()


def test_two_runs_stand_side_by_side_with_their_difference(tmp_path: Path) -> None:
    runs = [made_up_run(tmp_path / "a", "with"), made_up_run(tmp_path / "b", "without", skill=0.4)]
    row = row_of(write_report(runs, tmp_path / "report.html"), "Hemorrhage", "AIR, true positives")
    assert list(row) == ["Metric", "with", "without", "Difference"]
    for folder, label in zip(runs, ("with", "without"), strict=True):
        entry = json.loads((folder / "metrics.json").read_text())["metrics"]["air_tp"]
        assert row[label].startswith(f"{entry['value']:.3f} {entry['ci95'][0]:.3f} to {entry['ci95'][1]:.3f}")
    difference = group_differences(group_runs(read_runs(runs, FINDINGS)), n=200)["without", "hemorrhage", "air_tp"]
    assert difference.value == pytest.approx(-0.3, abs=0.05)
    assert difference.high is not None and difference.high < -0.2
    assert row["Difference"].startswith(f"{difference.value:+.3f} ")


def test_the_page_says_how_the_runs_were_made(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "a", "guided")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config |= {"seed": 3, "trainer": {"max_epochs": 40}}
    config["data"]["size"] = 512
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    status = {"command": "fundusnet train data=csv seed=3", "started": "2026-01-31 12:00", "git": "0123456789abcdef"}
    (run / "status.json").write_text(json.dumps({**status, "versions": {"fundusnet": "1.2.3"}}))
    (run / "fit.json").write_text(json.dumps({"epochs": 17, "best_epoch": 11}))
    page = write_report([run], tmp_path / "report.html")
    said = {row[""]: row["guided"] for row in rows_under(page, "Runs")}
    assert said["Seed"] == "3" and said["Size"] == "512 × 512 pixels" and said["At most"] == "40 epochs"
    assert said["Epochs"] == "17 (weights of number 12)" and said["Started"] == "2026-01-31 12:00"
    assert said["Command"] == "fundusnet train data=csv seed=3" and said["Versions"] == "fundusnet 1.2.3"
    assert said["Test images"] == "40" and said["Commit"] == "0123456789ab"
    assert "For research, not for diagnosis" in page.read_text()


def test_a_difference_uses_the_shared_images_only(tmp_path: Path) -> None:
    runs = [made_up_run(tmp_path / "a", "a"), made_up_run(tmp_path / "b", "b")]
    assert "scored on different images" not in write_report(runs, tmp_path / "report.html").read_text()
    path = runs[1] / "predictions.csv"
    table = pd.read_csv(path)
    table.iloc[::-1].iloc[10:].to_csv(path, index=False)  # other order, ten images fewer
    found = group_differences(group_runs(read_runs(runs, FINDINGS)), n=50)
    assert found["b", "hemorrhage", "auroc"].value == pytest.approx(0)
    assert "scored on different images" in write_report(runs, tmp_path / "report.html").read_text()
    table.assign(image_id="other" + table["image_id"]).to_csv(path, index=False)
    assert not group_differences(group_runs(read_runs(runs, FINDINGS)), n=50)


def test_labels_fall_back_to_the_folder_and_stay_distinct(tmp_path: Path) -> None:
    runs = read_runs(
        [made_up_run(tmp_path / name, label) for name, label in (("a", ""), ("b", "x"), ("c", "x"))], FINDINGS
    )
    assert [run.label for run in runs] == ["a", "x (b)", "x (c)"]
    assert maps_of(runs[0], "hemorrhage")["eye03"].shape == (4, 4)


@pytest.mark.parametrize("missing", ["config.yaml", "metrics.json", "predictions.csv"])
def test_an_unfinished_run_is_named(missing: str, tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "a", "a")
    (run / missing).unlink()
    with pytest.raises(UserError, match=missing):
        write_report([run], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_pictures_of_every_outcome_come_from_the_prepared_set(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for i in range(IMAGES):
        pixels = np.zeros((96, 96, 3), np.uint8)
        y, x = np.ogrid[:96, :96]
        pixels[(y - 48) ** 2 + (x - 48) ** 2 < 44**2] = (150, 60 + 2 * i, 30)
        Image.fromarray(pixels).save(photographs / f"eye{i:02}.png")
    manifest = load_source("folder", photographs, {})
    rows = [(name, who, "hemorrhage", "") for name in manifest.images["image_id"] for who in ("x", "y")]
    readings = pd.DataFrame(rows, columns=["image_id", "annotator_id", "finding", "regions"])
    manifest = replace(manifest, readings=readings)
    prepared = prepare(manifest, tmp_path / "prepared", size=64)
    run = made_up_run(tmp_path / "a", "guided", prepared=str(prepared.folder))
    ids = [str(name) for name in prepared.manifest.images["image_id"]]
    table = pd.read_csv(run / "predictions.csv").assign(image_id=ids)
    table.to_csv(run / "predictions.csv", index=False)
    maps = np.load(run / "maps.npz")["map"]
    np.savez_compressed(run / "maps.npz", image_id=np.array(ids), map=maps)

    page = write_report([run], tmp_path / "report.html").read_text()
    assert "No pictures" not in page
    shown = 0
    for title, label, predicted in (("True positives", 1, 1), ("False positives", 0, 1), ("True negatives", 0, 0)):
        count = int(((table["label"] == label) & (table["predicted"] == predicted)).sum())
        assert f"{title} <small>({count})</small>" in page
        shown += min(count, 3)
    shown += min(int(((table["label"] == 1) & (table["predicted"] == 0)).sum()), 3)
    # Nobody said where the finding lies, so each picture has two tiles: the photograph and the map.
    assert page.count("data:image/jpeg;base64,") == 2 * shown

    # A map of another photograph of the same name is not shown beside it.
    for folder, relabelled, tiles in (("prepared", False, 3), ("elsewhere", True, 2)):
        other = shutil.copytree(run, tmp_path / folder / "run")
        config = yaml.safe_load((run / "config.yaml").read_text())
        config |= {"name": "other", "data": config["data"] | {"folder": str(tmp_path / folder)}}
        (other / "config.yaml").write_text(yaml.safe_dump(config))
        if relabelled:
            table.assign(label=1 - table["label"]).to_csv(other / "predictions.csv", index=False)
        page = write_report([run, other], tmp_path / "both.html").read_text()
        assert page.count("data:image/jpeg;base64,") == tiles * shown


@pytest.mark.parametrize(
    ("unknown", "words"),
    [
        (0, "7 images of 5 patients"),
        (2, "7 images (patient unknown for 2 of them: each counts as one)"),
        (7, "7 images (patients unknown: each image counts as one)"),
    ],
)
def test_unknown_patients_are_not_counted_as_known_ones(unknown: int, words: str) -> None:
    assert describe_images({"n_images": 7, "n_patients": 5, "n_without_patient": unknown}) == words


def test_markdown_has_the_auroc_of_each_region(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "a", "guided")
    plain = write_report([run], tmp_path / "plain.md").read_text()
    assert "each region" not in plain  # of a run that knows no regions
    rows = pd.read_csv(run / "predictions.csv")
    where = np.where(np.arange(IMAGES) % 4 == 1, "macula", "macula;temporal")
    rows["marked_regions"] = np.where(rows["label"] == 1, where, "")
    rows["regions"] = np.where(rows["predicted"] == 1, "macula", "")
    for name in REGIONS.values():
        rows[f"activation_{name}"] = rows["probability"] if name == "macula" else 0.1
    rows.to_csv(run / "predictions.csv", index=False)
    results = findings_metrics(rows, n=100)
    (run / "metrics.json").write_text(json.dumps(results))
    lines = write_report([run], tmp_path / "report.md").read_text().splitlines()
    place = lines.index("AUROC in each region:")
    head, cells = ([cell.strip() for cell in lines[at].strip("|").split("|")] for at in (place + 2, place + 4))
    macula = results["regions"]["hemorrhage"]["macula"]["auroc"]["value"]
    assert (
        macula == results["metrics"]["auroc"]["value"]
    )  # ranked by the probability, and marked in every present image
    shown = dict(zip(head, cells, strict=True))
    assert shown["macula"].startswith(f"{macula:.3f} [") and shown["temporal"].startswith("0.500")
    assert shown["disc superior"] == "–"
    (over_all,) = [line for line in lines if line.startswith("| hemorrhage | guided | ")][:1]
    assert f"{results['metrics']['region_sensitivity']['value']:.3f}" in over_all
