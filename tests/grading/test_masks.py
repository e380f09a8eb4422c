"""Facts of the stored masks: whose model made them, and that no label had a part in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from graded import SIZE, graded_set
from torch.nn.functional import interpolate

from fundusnet.data.manifest import SPLITS
from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError
from fundusnet.grading.cam import grade_mask
from fundusnet.grading.datamodule import GradingDataModule, upsampled
from fundusnet.grading.masks import write_masks
from fundusnet.grading.ranking import grade_from_probabilities
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.two_stage import first_stage

GRADES = [number // 2 % 3 for number in range(48)]
CPU = torch.device("cpu")
MASK = {"kind": "predicted", "scale": "minmax", "floor": 0.0}
FOLDS = 3


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return graded_set(tmp_path_factory.mktemp("masks"), [*GRADES, None])


def make(prepared: PreparedSet, folds: int = FOLDS) -> GradingDataModule:
    module = GradingDataModule(prepared.folder, batch_size=5, fractions=(0.5, 0.25, 0.25), mask_folds=folds)
    module.setup()
    return module


@pytest.fixture(scope="module")
def models() -> list[RankingStage]:
    """Stage 1 and one model a fold, each with random weights of its own."""
    found = []
    for seed in range(FOLDS + 1):
        torch.manual_seed(seed)
        network: dict[str, Any] = {"backbone": "test_resnet", "cam_stride": 16, "hidden": None, "dropout": 0.0}
        stage = RankingStage(3, network)
        # Random weights say the same grade of every image; with spread logits all three occur.
        for member in stage.network.members:
            torch.nn.init.normal_(member.classifier.weight, std=20.0)
        found.append(stage.eval())
    return found


def mask_by(model: RankingStage, prepared: PreparedSet, row: int) -> np.ndarray:
    """The mask that one model makes of one image, from its activation maps."""
    picture = torch.from_numpy(np.array(prepared.pixels[row])).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        logits, cams = model.network.with_maps(picture)
    grade = grade_from_probabilities(logits.softmax(dim=-1)[..., 1])
    return grade_mask(cams, grade, (4, 4))[0, 0].numpy()


def test_a_training_image_is_seen_by_the_model_of_its_own_fold_alone(
    prepared: PreparedSet, models: list[RankingStage], tmp_path: Path
) -> None:
    datamodule = make(prepared)
    write_masks(tmp_path / "masks.npy", datamodule, models[0], models[1:], MASK, CPU)
    masks = np.load(tmp_path / "masks.npy")
    assert masks.shape == (len(prepared), 4, 4) and masks.dtype == np.float16
    for row in datamodule.rows["train"]:
        fold = datamodule.fold_of[row]
        by = [np.abs(masks[row] - mask_by(model, prepared, int(row))).max() for model in models]
        assert by[1 + fold] < 1e-3
        assert min(by[: 1 + fold] + by[2 + fold :]) > 1e-2  # and of none that saw it
    for row in [*datamodule.rows["val"], *datamodule.rows["test"]]:
        assert np.allclose(masks[row], mask_by(models[0], prepared, int(row)), atol=1e-3)
    assert not masks[48].any()  # without a grade, in no split


def test_with_one_fold_stage_1_makes_every_mask(
    prepared: PreparedSet, models: list[RankingStage], tmp_path: Path
) -> None:
    datamodule = make(prepared, folds=1)
    write_masks(tmp_path / "masks.npy", datamodule, models[0], [], MASK, CPU)
    masks = np.load(tmp_path / "masks.npy")
    for row in range(48):
        assert np.allclose(masks[row], mask_by(models[0], prepared, row), atol=1e-3)


def test_labels_have_no_way_into_the_masks(prepared: PreparedSet, models: list[RankingStage], tmp_path: Path) -> None:
    datamodule = make(prepared)
    write_masks(tmp_path / "masks.npy", datamodule, models[0], models[1:], MASK, CPU)
    datamodule.grade = np.where(datamodule.grade >= 0, 2 - datamodule.grade, -1)
    write_masks(tmp_path / "other.npy", datamodule, models[0], models[1:], MASK, CPU)
    assert (tmp_path / "masks.npy").read_bytes() == (tmp_path / "other.npy").read_bytes()
    first, other = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("masks", "other"))
    assert (first["grade"] != other["grade"]).any()
    assert (first["stage1_predicted"] == other["stage1_predicted"]).all()
    assert first["stage1_predicted"].nunique() == 3


def test_upsampling_what_is_stored_gives_the_mask_of_the_whole_image(
    prepared: PreparedSet, models: list[RankingStage], tmp_path: Path
) -> None:
    """The size of the activation maps loses nothing: only the rounding to 16 bits is left."""
    mask = {**MASK, "floor": 0.2}
    write_masks(tmp_path / "masks.npy", make(prepared, folds=1), models[0], [], mask, CPU)
    masks = np.load(tmp_path / "masks.npy")
    pictures = torch.from_numpy(prepared.pixels[:8].copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits, cams = models[0].network.with_maps(pictures)
    grade = grade_from_probabilities(logits.softmax(dim=-1)[..., 1])
    whole = grade_mask(cams, grade, (SIZE, SIZE), floor=0.2)
    for row in range(8):
        assert np.allclose(upsampled(masks[row], (SIZE, SIZE)), whole[row, 0], atol=1e-3)


@pytest.mark.parametrize("kind", ["constant", "agnostic"])
def test_masks_to_compare_with(kind: str, prepared: PreparedSet, models: list[RankingStage], tmp_path: Path) -> None:
    write_masks(tmp_path / "masks.npy", make(prepared, folds=1), models[0], [], {**MASK, "kind": kind}, CPU)
    masks = np.load(tmp_path / "masks.npy")
    pictures = torch.from_numpy(prepared.pixels[:48].copy()).permute(0, 3, 1, 2).float() / 255
    expected = first_stage(models[0].network, pictures, kind=kind)  # type: ignore[arg-type]  # a name of the list above
    assert np.allclose(masks[:48], interpolate(expected.mask, (4, 4))[:, 0], atol=1e-3)
    assert (masks[:48] == 1).all() == (kind == "constant")


def test_every_image_gets_the_mask_of_another_one_of_its_split(
    prepared: PreparedSet, models: list[RankingStage], tmp_path: Path
) -> None:
    datamodule = make(prepared)
    write_masks(tmp_path / "own.npy", datamodule, models[0], models[1:], MASK, CPU)
    write_masks(tmp_path / "masks.npy", datamodule, models[0], models[1:], {**MASK, "kind": "other"}, CPU)
    own, masks = np.load(tmp_path / "own.npy"), np.load(tmp_path / "masks.npy")
    for split in SPLITS:
        rows = datamodule.rows[split]
        giver = [int(np.flatnonzero((own[rows] == masks[row]).all(axis=(1, 2)))[0]) for row in rows]
        assert sorted(giver) == list(range(len(rows)))  # every mask is given once
        assert not any(giver == np.arange(len(rows)))


def test_one_image_in_a_split_has_nobody_to_exchange_with(
    prepared: PreparedSet, models: list[RankingStage], tmp_path: Path
) -> None:
    datamodule = make(prepared)
    datamodule.rows["test"] = datamodule.rows["test"][:1]
    with pytest.raises(UserError, match=r"kind=other needs two images in each split"):
        write_masks(tmp_path / "masks.npy", datamodule, models[0], models[1:], {**MASK, "kind": "other"}, CPU)
    assert not (tmp_path / "masks.npy").exists()


def test_a_fold_without_a_model_is_never_filled_in(
    prepared: PreparedSet, models: list[RankingStage], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="every fold"):
        write_masks(tmp_path / "masks.npy", make(prepared), models[0], models[1:3], MASK, CPU)
