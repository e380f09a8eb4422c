"""Facts of the graded batches: splits, masks that follow their image, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graded import SIZE, graded_set
from torch.nn.functional import interpolate

from fundusnet.data.augment import Augment, Warp
from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError
from fundusnet.grading.datamodule import GradingDataModule, upsampled
from fundusnet.grading.stage import RankingStage

GRADES = [number // 2 % 3 for number in range(48)]  # both eyes of a patient alike


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return graded_set(tmp_path_factory.mktemp("graded"), [*GRADES, None, None])


def make(prepared: PreparedSet, **options: Any) -> GradingDataModule:
    module = GradingDataModule(prepared.folder, **{"batch_size": 4, "fractions": (0.5, 0.25, 0.25)} | options)
    module.setup()
    return module


def test_a_batch_holds_pixels_grade_and_row(prepared: PreparedSet) -> None:
    module = make(prepared)
    (batch, *_) = module.val_dataloader()
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert set(batch) == {"image", "grade", "index"}
    for image, grade, row in zip(batch["image"], batch["grade"], batch["index"], strict=True):
        assert np.array_equal(image.permute(1, 2, 0), prepared.pixels[row])
        assert int(grade) == GRADES[int(row)]


def test_images_without_a_grade_are_left_out_and_counted(
    prepared: PreparedSet, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        module = make(prepared)
    assert sorted(np.concatenate(list(module.rows.values()))) == list(range(48))
    assert "2 of 50 images have no grade" in caplog.text


def test_patients_keep_to_one_split_and_grades_are_balanced(prepared: PreparedSet) -> None:
    module = make(prepared)
    patients = prepared.manifest.images["patient_id"].to_numpy()
    homes = [set(patients[rows]) for rows in module.rows.values()]
    assert not homes[0] & homes[1] | homes[0] & homes[2] | homes[1] & homes[2]
    assert [np.bincount(module.grade[rows]).tolist() for rows in module.rows.values()] == [[8] * 3, [4] * 3, [4] * 3]
    assert module.counts == [8, 8, 8]


def test_without_a_test_share_all_images_are_trained_on_or_validated(prepared: PreparedSet) -> None:
    module = make(prepared, fractions=(0.75, 0.25, 0))
    assert len(module.rows["test"]) == 0 and list(module.test_dataloader()) == []
    assert sorted(np.concatenate([module.rows["train"], module.rows["val"]])) == list(range(48))


def test_a_fold_is_left_out_of_training_and_of_nothing_else(prepared: PreparedSet) -> None:
    whole = make(prepared, mask_folds=4)
    left_out = []
    for fold in range(4):
        module = make(prepared, mask_folds=4, left_out=fold)
        assert np.array_equal(module.fold_of, whole.fold_of)
        assert np.array_equal(module.rows["val"], whole.rows["val"])
        out = np.setdiff1d(whole.rows["train"], module.rows["train"])
        assert np.array_equal(out, np.flatnonzero(whole.fold_of == fold))
        seen = torch.cat([batch["index"] for batch in module.train_dataloader()]).tolist()
        assert sorted(seen) == sorted(module.rows["train"])
        left_out += out.tolist()
    assert sorted(left_out) == sorted(whole.rows["train"])


def test_folds_never_separate_a_patient_or_twins(tmp_path: Path) -> None:
    prepared = graded_set(tmp_path, GRADES)
    # Twins: the first and last photograph, of different patients.
    prepared.duplicate_group[[0, 47]] = 0
    module = GradingDataModule(prepared.folder, mask_folds=3, fractions=(1.0, 0.0, 0.0))
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr("fundusnet.data.datamodule.open_prepared", lambda _: prepared)
        module.setup()
    patients = prepared.manifest.images["patient_id"].to_numpy()
    for patient in set(patients):
        assert len(set(module.fold_of[patients == patient])) == 1
    assert module.fold_of[0] == module.fold_of[47]


@pytest.mark.parametrize("cells", [4, 7, SIZE])
def test_upsampling_is_torchs(cells: int) -> None:
    mask = np.random.default_rng(0).random((cells, cells)).astype(np.float16)
    expected = interpolate(torch.from_numpy(mask).float()[None, None], (SIZE, SIZE), mode="bilinear")[0, 0]
    assert np.allclose(upsampled(mask, (SIZE, SIZE)), expected, atol=1e-5)


def test_a_mask_goes_where_its_image_goes(prepared: PreparedSet, tmp_path: Path) -> None:
    """Masks that are the images' own grey stay their grey, whatever the augmentation does."""
    grey = prepared.pixels[..., 1].astype(np.float16) / 255
    np.save(tmp_path / "masks.npy", grey)
    still = make(prepared, masks=tmp_path / "masks.npy")
    (batch, *_) = still.val_dataloader()
    assert tuple(batch["mask"].shape) == (4, 1, SIZE, SIZE)
    assert torch.allclose(batch["mask"][:, 0], batch["image"][:, 1] / 255, atol=1e-3)
    augment = Augment({"warp": Warp(scale=(0.875, 1.125), rotate=20, translate=0, shear=0)})
    moved = make(prepared, masks=tmp_path / "masks.npy", augment=augment)
    for batch in moved.train_dataloader():
        assert not np.array_equal(batch["image"][0].permute(1, 2, 0), prepared.pixels[batch["index"][0]])
        assert torch.allclose(batch["mask"][:, 0], batch["image"][:, 1] / 255, atol=0.01)


def test_masks_do_not_change_the_augmentation_of_the_image(prepared: PreparedSet, tmp_path: Path) -> None:
    np.save(tmp_path / "masks.npy", np.ones((len(prepared), 4, 4), np.float16))
    with_masks, without = (
        {
            int(row): image
            for batch in make(prepared, augment=Augment({"warp": Warp()}), masks=masks).train_dataloader()
            for row, image in zip(batch["index"], batch["image"], strict=True)
        }
        for masks in (tmp_path / "masks.npy", None)
    )
    assert all(torch.equal(with_masks[row], image) for row, image in without.items())


@pytest.mark.parametrize(
    ("grades", "classes", "message"),
    [
        ([None] * 6, (), "holds no grade at all, and grading needs two or more; fill the column grade"),
        ([1] * 6, (), "holds only grade 1"),
        ([0, 0, 2, 2, 0, 2], (), r"grade 1 has no image in .*renumber"),
        ([0, 0, 2, 2, 0, 2], ("normal", "early", "advanced"), r"grade 1 \(early\) has no image"),
        ([0, 0, 1, 1, 0, 0, 0, 0], ("normal", "early"), r"split '(val|test)' has no image of grade 1 \(early\)"),
    ],
)
def test_missing_grades_are_refused(
    grades: list[int | None], classes: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        make(graded_set(tmp_path, grades, classes))
    assert "\n" not in str(refused.value)


def test_more_folds_than_patients_are_refused(prepared: PreparedSet) -> None:
    with pytest.raises(UserError, match="folds=40 is not possible"):
        make(prepared, mask_folds=40)


@pytest.mark.real
@pytest.mark.parametrize(
    ("source", "options", "counts"),
    [("keh", {}, [392, 141, 232]), ("idrid", {"task": "grading"}, None)],
)
def test_public_sets_yield_grades(
    source: str, options: dict[str, object], counts: list[int] | None, real_data: Path
) -> None:
    from fundusnet.data.sources import load_source

    manifest = load_source(source, real_data / source, options)
    found = np.bincount(manifest.images["grade"].dropna().astype(int))
    assert len(found) == len(manifest.classes) and found.min() > 0
    assert counts is None or found.tolist() == counts


def test_stored_features_of_a_second_stage_are_those_of_masked_pictures(prepared: PreparedSet, tmp_path: Path) -> None:
    file = tmp_path / "stages" / "masks.npy"
    file.parent.mkdir()
    np.save(file, np.random.default_rng(0).random((len(prepared), 8, 8)).astype(np.float16))
    network = {"name": "GradingNetwork", "backbone": "test_resnet", "freeze": "all", "pooling": "mean_std",
               "strides": [8, 16], "hidden": 8}  # fmt: skip
    stage = RankingStage(3, network, input="roi").eval()
    options: dict[str, Any] = {"masks": file, "augment": Augment({"warp": Warp()}), "views": 2}
    plain, stored = make(prepared, **options), make(prepared, **options)
    stored.store_features(stage.network, torch.device("cpu"), stage.network_inputs)
    for images, features in (
        (plain.train_dataloader(), stored.train_dataloader()),
        (plain.val_dataloader(), stored.val_dataloader()),
    ):
        for one, other in zip(images, features, strict=True):
            assert set(other) == {"grade", "index", "features0"}  # once, as the sub-classifiers share the backbone
            assert torch.equal(one["index"], other["index"])
            masked = one["image"].float() / 255 * one["mask"]
            (expected,) = stage.network.extract(masked)
            torch.testing.assert_close(expected, other["features0"].float(), rtol=4e-3, atol=4e-3)
    assert not (prepared.folder / "features").exists()
    np.save(file, np.load(file)[::-1])  # another run
    others = make(prepared, **options)
    others.store_features(stage.network, torch.device("cpu"), stage.network_inputs)
    assert len(list((file.parent / "features").iterdir())) == 2
