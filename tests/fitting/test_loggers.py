"""Dashboards: what W&B is told of a sweep whose second job breaks and is resumed, read back from its offline files."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
from omegaconf import OmegaConf
from tiny_runs import tiny_overrides, tiny_place
from wandb.proto.wandb_internal_pb2 import Record

from fundusnet.cli.main import main
from fundusnet.fitting.resume import Reseed
from fundusnet.runs.folder import state_of

BLOCK = 32768
pytestmark = pytest.mark.timeout(900)  # the first test waits for both sweeps


def records(file: Path) -> Iterator[Record]:
    """The records of an offline ``.wandb`` file: blocks of chunks, each ``crc, length, type`` and its payload."""
    content, place, joined = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while place + 7 <= len(content):
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        check, length, kind = struct.unpack_from("<IHB", content, place)
        payload = content[place + 7 : place + 7 + length]
        assert zlib.crc32(payload, zlib.crc32(bytes([kind]))) == check
        place += 7 + length
        joined += payload
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(joined)
            joined = b""
            yield record


def history(file: Path) -> list[dict[str, Any]]:
    """The rows that were logged."""
    return [nested(record.history.item) for record in records(file) if record.WhichOneof("record_type") == "history"]


def nested(items: Any) -> dict[str, Any]:
    """Values by key; those of a picture or a table are a dict."""
    values: dict[str, Any] = {}
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        place = values
        for key in above:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
    return values


def run_record(file: Path) -> Any:
    return next(record.run for record in records(file) if record.WhichOneof("record_type") == "run")


def offline_files(run: Path) -> list[Path]:
    return sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two seeds, of which the second breaks in its second epoch; then the same command once more."""
    place = tiny_place(tmp_path_factory.mktemp("wandb"))
    folder = place / "two_seeds"
    words = [
        *tiny_overrides(place),
        "trainer.max_epochs=2",
        "logger=[csv,wandb]",
        "callbacks.step_metrics.every=2",
        "callbacks.pictures.count=2",
    ]
    command = ["train", "-m", *words, "logger.wandb.artifact=true", "seed=0,1", f"hydra.sweep.dir={folder}"]

    def breaks(self: Reseed, trainer: pl.Trainer, *_: object) -> None:
        if self.seed == 1 and trainer.current_epoch == 1:
            raise RuntimeError("the light went out")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setattr(Reseed, "on_train_epoch_start", breaks)
        assert main(command) == 1
        patch.undo()
        patch.setenv("WANDB_MODE", "offline")
        first = folder.glob("seed=0_*/history.csv")
        before = {file: file.stat().st_mtime_ns for file in first}
        assert main(command) == 0
        assert {file: file.stat().st_mtime_ns for file in before} == before, "what was done was done again"
    yield folder


def job(sweep: Path, seed: int) -> Path:
    (folder,) = sweep.glob(f"seed={seed}_*")
    return folder


def test_the_sweep_is_whole_in_the_end(sweep: Path) -> None:
    assert sorted(folder.name[:6] for folder in sweep.iterdir() if folder.is_dir()) == ["seed=0", "seed=1"]
    assert all(state_of(job(sweep, seed)) == "done" for seed in (0, 1))


def test_each_job_is_one_wandb_run_that_a_resume_continues(sweep: Path) -> None:
    of_first, of_second = ([run_record(file) for file in offline_files(job(sweep, seed))] for seed in (0, 1))
    assert len(of_first) == 1 and len(of_second) == 2
    ids = [{run.run_id for run in runs} for runs in (of_first, of_second)]
    assert [len(each) for each in ids] == [1, 1] and ids[0] != ids[1]
    assert [run.display_name for run in (*of_first, *of_second)] == ["seed=0", "seed=1", "seed=1"]
    assert {run.run_group for run in (*of_first, *of_second)} == {"two_seeds"}
    assert {run.project for run in (*of_first, *of_second)} == {"fundusnet"}


def test_a_resumed_run_goes_on_along_the_same_axis(sweep: Path) -> None:
    broken, resumed = (history(file) for file in offline_files(job(sweep, 1)))
    steps = [[row["trainer/global_step"] for row in rows if "train/loss_step" in row] for rows in (broken, resumed)]
    assert steps == [[2, 4], [6, 8]]


def test_what_is_logged(sweep: Path) -> None:
    (file,) = offline_files(job(sweep, 0))
    rows = history(file)
    logged = {key for row in rows for key in row}
    losses = {f"{split}/{name}" for split in ("train", "val") for name in ("loss", "classification", "guidance")}
    assert losses | {"val/auroc", "lr", "images_per_second", "memory_gb"} <= logged
    kept = pd.read_csv(job(sweep, 0) / "history.csv")
    assert [row["val/loss"] for row in rows if "val/loss" in row] == pytest.approx(kept["val/loss"].tolist())
    pictures = {key for key in logged if key.startswith("validation/")}
    assert len(pictures) == 2
    for picture in pictures:
        shown = [row[picture] for row in rows if picture in row]
        assert len(shown) == 2  # epochs
        assert all((file.parent / "files" / name).is_file() for each in shown for name in each["filenames"])


def test_the_end_of_a_run(sweep: Path) -> None:
    run = job(sweep, 0)
    (file,) = offline_files(run)
    logged = {key for row in history(file) for key in row}
    assert {"roc/drusen_table", "pr/drusen_table", "confusion/drusen_table", "predictions"} <= logged
    (table,) = (row["predictions"] for row in history(file) if "predictions" in row)
    content = json.loads((file.parent / "files" / table["path"]).read_text())
    predictions = pd.read_csv(run / "predictions.csv")
    assert content["columns"] == ["picture", *predictions.columns]
    np.testing.assert_allclose(
        [row[content["columns"].index("probability")] for row in content["data"]], predictions["probability"]
    )
    artifacts = [record.artifact for record in records(file) if record.WhichOneof("record_type") == "artifact"]
    kept = {each.name.rpartition("-")[2]: [entry.path for entry in each.manifest.contents] for each in artifacts}
    assert len([path for path in kept["predictions"] if path.endswith(".png")]) == len(predictions)  # thumbnails
    summaries = [record.summary.update for record in records(file) if record.WhichOneof("record_type") == "summary"]
    summary = {key: value for each in summaries for key, value in nested(each).items()}
    metrics = json.loads((run / "metrics.json").read_text())
    assert summary["test/auroc"] == pytest.approx(metrics["metrics"]["auroc"]["value"])
    assert summary["operating_point/drusen"] == pytest.approx(metrics["operating_points"]["drusen"])
    assert ["best.ckpt"] in kept.values()


def test_the_configuration_of_a_run(sweep: Path) -> None:
    config = OmegaConf.load(job(sweep, 0) / "config.yaml")
    (file,) = offline_files(job(sweep, 0))
    run = run_record(file)
    told = nested(run.config.update)
    assert told["seed"] == 0
    assert told["model"] == OmegaConf.to_container(config.model)
    assert len(told["data_fingerprint"]) == 12 and "git" in told
    assert config.logger.wandb.id == run.run_id


def test_the_table_of_steps(sweep: Path) -> None:
    (table,) = job(sweep, 0).glob("csv/version_0/metrics.csv")
    assert pd.read_csv(table)["train/loss_step"].dropna().size == 4
    assert len(list(job(sweep, 1).glob("csv/version_*/metrics.csv"))) == 2
