"""IDRiD: the real subset, and miniature trees in the official layout with its defects."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fundusnet.data.manifest import Manifest, read_manifest, write_manifest
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError

FOLDERS = {"": "a. Training Set", "test": "b. Testing Set"}
MASK_FOLDERS = {
    "MA": "1. Microaneurysms",
    "HE": "2. Haemorrhages",
    "EX": "3. Hard Exudates",
    "SE": "4. Soft Exudates",
}
FINDINGS = {"MA": "microaneurysm", "HE": "hemorrhage", "EX": "hard_exudate", "SE": "cotton_wool_patch"}


def retina(seed: int) -> np.ndarray:
    """A smooth random picture: no two seeds look alike, even at 32 x 32."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (5, 7, 3)).astype(np.float32)
    return cv2.resize(coarse, (384, 256), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


class Tree:
    """Writes one miniature IDRiD, piece by piece."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def picture(self, part: str, split: str, name: str, seed: int, quality: int = 95) -> None:
        folder = self.root / {"A": "A. Segmentation", "B": "B. Disease Grading"}[part] / "1. Original Images"
        file = folder / FOLDERS[split] / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), retina(seed), [cv2.IMWRITE_JPEG_QUALITY, quality])

    def masks(self, split: str, name: str, letters: tuple[str, ...]) -> None:
        for each, folder in MASK_FOLDERS.items():
            place = self.root / "A. Segmentation/2. All Segmentation Groundtruths" / FOLDERS[split] / folder
            place.mkdir(parents=True, exist_ok=True)
            if each in letters:
                cv2.imwrite(str(place / f"{name}_{each}.tif"), np.eye(8, dtype=np.uint8))

    def table(self, place: str, text: str) -> None:
        (self.root / place).parent.mkdir(parents=True, exist_ok=True)
        (self.root / place).write_bytes(text.encode("utf-8"))

    def labels(self, split: str, rows: dict[str, tuple[int, int, int, int, int]]) -> None:
        """Grade, disc x and y, fovea x and y; with byte order mark, spaces, empty columns and notes."""
        letter, word = {"": ("a", "Training"), "test": ("b", "Testing")}[split]
        grades = "".join(f"{name} ,{row[0]} ,1,,,,,\r\n" for name, row in rows.items())
        self.table(
            f"B. Disease Grading/2. Groundtruths/{letter}. IDRiD_Disease Grading_{word} Labels.csv",
            "\ufeffImage name,Retinopathy grade,Risk of macular edema ,,,,,\r\n" + grades + ",,,,,,,\r\n",
        )
        for place, at in (
            (f"1. Optic Disc Center Location/{letter}. IDRiD_OD_Center_{word} Set_Markups.csv", 1),
            (f"2. Fovea Center Location/IDRiD_Fovea_Center_{word} Set_Markups.csv", 3),
        ):
            points = "".join(f"{name},{row[at]},{row[at + 1]},,\r\n" for name, row in rows.items())
            self.table(
                f"C. Localization/2. Groundtruths/{place}",
                "Image No,X- Coordinate,Y - Coordinate,,\r\n" + points + ",,,,\r\nTotal,2,x,,\r\n\r\n",
            )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Training: A 01 (no SE) = B 102, A 02 (all), B 001 healthy, B 002 ill. Testing: A 01 = B 001, B 002."""
    tree = Tree(tmp_path / "idrid")
    tree.picture("A", "", "IDRiD_01", 1)
    tree.picture("A", "", "IDRiD_02", 2)
    tree.masks("", "IDRiD_01", ("MA", "HE", "EX"))
    tree.masks("", "IDRiD_02", ("MA", "HE", "EX", "SE"))
    tree.picture("B", "", "IDRiD_102", 1, quality=80)
    tree.picture("B", "", "IDRiD_001", 3)
    tree.picture("B", "", "IDRiD_002", 4)
    tree.labels(
        "",
        {
            "IDRiD_102": (3, 300, 120, 180, 130),
            "IDRiD_001": (0, 80, 120, 200, 130),
            "IDRiD_002": (2, 300, 1, 180, 2),
        },
    )
    tree.picture("A", "test", "IDRiD_01", 11)
    tree.masks("test", "IDRiD_01", ("SE",))
    tree.picture("B", "test", "IDRiD_001", 11)
    tree.picture("B", "test", "IDRiD_002", 12)
    tree.labels("test", {"IDRiD_001": (4, 10, 20, 30, 40), "IDRiD_002": (0, 50, 60, 30, 40)})
    # Strays: a Mac's shadow file, a thumbnail cache, a copy, a mask whose picture is not here.
    pictures = tree.root / "A. Segmentation/1. Original Images/a. Training Set"
    for name in ("._IDRiD_01.jpg", "Thumbs.db", "IDRiD_01 2.jpg"):
        (pictures / name).write_bytes(b"stray")
    tree.masks("", "IDRiD_77", ("MA",))
    return tree


def load(tree: Tree, **options: object) -> Manifest:
    return load_source("idrid", tree.root, options)


def labels(manifest: Manifest, image_id: str) -> dict[str, bool]:
    """Finding -> has a mask, for the rows of one photograph."""
    rows = manifest.lesions[manifest.lesions["image_id"] == image_id]
    return {row.finding: row.path != "" for row in rows.itertuples()}


def test_a_picture_in_both_parts_is_one_image_with_the_points_of_part_b(tree: Tree) -> None:
    images = load(tree).images.set_index("image_id")
    assert sorted(images.index) == sorted(
        ["A_IDRiD_01", "A_IDRiD_02", "B_IDRiD_001", "B_IDRiD_002", "A_test_IDRiD_01", "B_test_IDRiD_002"]
    )
    twin = images.loc["A_IDRiD_01"]
    assert twin["path"] == "A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg"
    assert twin[["grade", "disc_x", "disc_y", "fovea_x", "fovea_y"]].tolist() == [3, 300, 120, 180, 130]
    assert images.loc["A_IDRiD_02", ["grade", "disc_x", "disc_y", "fovea_x", "fovea_y"]].isna().all()
    # The same number in the testing set is another picture.
    assert images.loc["A_test_IDRiD_01", "grade"] == 4


def test_eye_follows_the_side_of_the_disc_and_split_the_official_one(tree: Tree) -> None:
    images = load(tree).images.set_index("image_id")
    assert images["eye"].to_dict() == {
        "A_IDRiD_01": "right",
        "A_IDRiD_02": "",
        "B_IDRiD_001": "left",
        "B_IDRiD_002": "right",
        "A_test_IDRiD_01": "left",
        "B_test_IDRiD_002": "right",
    }
    assert {name: split for name, split in images["split"].items() if split} == {
        "A_test_IDRiD_01": "test",
        "B_test_IDRiD_002": "test",
    }


def test_missing_masks_and_healthy_eyes_are_absent_and_diseased_eyes_without_masks_undecided(
    tree: Tree,
) -> None:
    manifest = load(tree, negatives="both")
    present_but_soft = {
        "microaneurysm": True,
        "hemorrhage": True,
        "hard_exudate": True,
        "cotton_wool_patch": False,
    }
    assert labels(manifest, "A_IDRiD_01") == present_but_soft
    assert labels(manifest, "A_IDRiD_02") == dict.fromkeys(FINDINGS.values(), True)
    assert labels(manifest, "B_IDRiD_001") == dict.fromkeys(FINDINGS.values(), False)
    assert labels(manifest, "B_IDRiD_002") == {}
    assert labels(manifest, "A_test_IDRiD_01") == {
        **dict.fromkeys(FINDINGS.values(), False),
        "cotton_wool_patch": True,
    }
    assert set(manifest.lesions["image_id"]) <= set(manifest.images["image_id"])
    for path in filter(None, manifest.lesions["path"]):
        assert (manifest.root / path).is_file()


def test_within_a_drops_healthy_eyes_and_grade0_leaves_missing_masks_undecided(tree: Tree) -> None:
    within = load(tree, negatives="within_a")
    assert set(within.images["image_id"]) == {"A_IDRiD_01", "A_IDRiD_02", "B_IDRiD_002", "A_test_IDRiD_01"}
    assert labels(within, "A_IDRiD_01")["cotton_wool_patch"] is False
    healthy = load(tree, negatives="grade0")
    assert "cotton_wool_patch" not in labels(healthy, "A_IDRiD_01")
    assert labels(healthy, "B_IDRiD_001") == dict.fromkeys(FINDINGS.values(), False)


def test_grading_takes_every_photograph_with_a_grade_once(tree: Tree) -> None:
    manifest = load(tree, task="grading")
    assert manifest.images.set_index("image_id")["grade"].to_dict() == {
        "A_IDRiD_01": 3, "B_IDRiD_001": 0, "B_IDRiD_002": 2, "A_test_IDRiD_01": 4, "B_test_IDRiD_002": 0,
    }  # fmt: skip
    assert len(manifest.classes) == 5
    assert manifest.lesions.empty


def test_the_manifest_survives_the_checks_of_a_written_one(tree: Tree, tmp_path: Path) -> None:
    manifest = load(tree)
    write_manifest(manifest, tmp_path / "manifest")
    read = read_manifest(tmp_path / "manifest", manifest.classes)
    pd.testing.assert_frame_equal(read.images, manifest.images, check_dtype=False)
    pd.testing.assert_frame_equal(read.lesions, manifest.lesions, check_dtype=False)


def test_a_twin_across_the_official_splits_is_not_taken_out_of_the_testing_set(tree: Tree) -> None:
    tree.picture("B", "test", "IDRiD_002", 2)  # A_IDRiD_02 of the training set
    images = load(tree).images.set_index("image_id")
    assert images.loc["A_IDRiD_02", "disc_x"] == images.loc["B_test_IDRiD_002", "disc_x"] == 50
    assert (images.loc["A_IDRiD_02", "split"], images.loc["B_test_IDRiD_002", "split"]) == ("", "test")


def test_a_twin_of_the_testing_set_leaves_training_in_both_tasks(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    tree.picture("A", "test", "IDRiD_07", 4)  # as B_IDRiD_002 of the training set
    for task in ("findings", "grading"):
        caplog.clear()
        with caplog.at_level("INFO"):
            images = load(tree, task=task).images.set_index("image_id")
        assert "photographs of part A's testing set are in part B's training set" in caplog.text
        assert "B_IDRiD_002" not in images.index
        twin = images.loc["A_test_IDRiD_07"]
        assert twin[["split", "grade", "disc_x", "fovea_y"]].tolist() == ["test", 2, 300, 2]


def test_an_unreadable_picture_matches_nothing_and_stops_nothing(tree: Tree) -> None:
    folder = tree.root / "A. Segmentation/1. Original Images/a. Training Set"
    (folder / "IDRiD_02.jpg").write_bytes(b"not a jpeg")
    images = load(tree).images.set_index("image_id")
    assert len(images) == 6
    assert np.isnan(images.loc["A_IDRiD_02", "grade"])
    assert images.loc["A_IDRiD_01", "grade"] == 3


def test_parts_that_were_not_unpacked_leave_cells_unknown_and_are_logged(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    (tree.root / "C. Localization").rename(tree.root / "elsewhere")
    with caplog.at_level(logging.WARNING):
        images = load(tree).images
    assert images[["disc_x", "fovea_x"]].isna().all(axis=None)
    assert set(images["eye"]) == {""}
    assert "OD_Center" in caplog.text
    assert "Training Set: found 2, the published set has 54" in caplog.text


def test_a_mask_folder_that_was_not_unpacked_is_not_taken_for_absence(tree: Tree) -> None:
    masks = tree.root / "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/4. Soft Exudates"
    masks.rename(tree.root / "elsewhere")
    with pytest.raises(UserError, match=r"4. Soft Exudates is missing: unpack the masks"):
        load(tree)


def test_wrong_roots_and_options_say_what_was_expected_and_found(tree: Tree) -> None:
    with pytest.raises(UserError, match=r"expects photographs IDRiD_\*.jpg in 'A. Segmentation.*1. Original Images"):
        load_source("idrid", tree.root / "A. Segmentation")
    with pytest.raises(UserError, match="task=segment is not valid; use findings or grading"):
        load(tree, task="segment")
    with pytest.raises(UserError, match="negatives=all is not valid; use grade0 or within_a or both"):
        load(tree, negatives="all")


def test_wrong_tables_are_named_with_their_line(tree: Tree) -> None:
    place = "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv"
    tree.table(place, "Image name,Retinopathy grade\nIDRiD_001,mild\n")
    with pytest.raises(UserError, match=r"Training Labels.csv, line 2: Retinopathy grade 'mild' is not a number"):
        load(tree)
    tree.table(place, "Image name,Retinopathy grade\nIDRiD_001,7\n")
    with pytest.raises(UserError, match="grade 7 of IDRiD_001 is not one of 0 to 4"):
        load(tree)
    tree.table(place, "Image name,DR\nIDRiD_001,7\n")
    with pytest.raises(UserError, match="no column 'Retinopathy grade', found Image name, DR"):
        load(tree)


@pytest.fixture(scope="module")
def manifest(real_data: Path) -> Manifest:
    return load_source("idrid", real_data / "idrid")


@pytest.mark.real
class TestReal:
    def test_50_pictures_of_a_and_171_of_b_share_42(self, manifest: Manifest) -> None:
        images = manifest.images
        part_a = images[images["image_id"].str.startswith("A_")]
        assert len(part_a) == 50
        assert len(images) == 50 + 171 - 42
        assert part_a["disc_x"].notna().sum() == part_a["grade"].notna().sum() == 42
        assert images["image_id"].is_unique

    def test_a_01_is_b_102(self, manifest: Manifest, real_data: Path) -> None:
        tables = real_data / "idrid/C. Localization/2. Groundtruths"
        disc = pd.read_csv(next((tables / "1. Optic Disc Center Location").glob("*.csv"))).set_index("Image No")
        row = manifest.images.set_index("image_id").loc["A_IDRiD_01"]
        assert [row["disc_x"], row["disc_y"]] == disc.loc["IDRiD_102"].dropna().tolist()
        assert "B_IDRiD_102" not in set(manifest.images["image_id"])

    def test_lesions_as_published(self, manifest: Manifest) -> None:
        assert (manifest.lesions["path"] != "").groupby(manifest.lesions["finding"]).sum().to_dict() == {
            "microaneurysm": 50, "hemorrhage": 49, "hard_exudate": 50, "cotton_wool_patch": 23,
        }  # fmt: skip
        assert (manifest.lesions["path"] == "").sum() == 42 * 4 + 1 + 27

    def test_the_disc_mask_lies_where_the_matched_disc_point_is(self, manifest: Manifest) -> None:
        """Independent of the matching: part A's own outline of the disc must hold part C's centre of it."""
        masks = manifest.root / "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/5. Optic Disc"
        known = manifest.images[manifest.images["image_id"].str.startswith("A_") & manifest.images["disc_x"].notna()]
        assert len(known) == 42
        for row in known.iloc[::6].itertuples():
            mask = cv2.imread(str(masks / f"{Path(row.path).stem}_OD.tif"), cv2.IMREAD_UNCHANGED)
            assert mask.reshape(*mask.shape[:2], -1)[int(row.disc_y), int(row.disc_x)].any()

    def test_grading_has_each_graded_picture_once(self, real_data: Path) -> None:
        manifest = load_source("idrid", real_data / "idrid", {"task": "grading"})
        assert manifest.images["grade"].value_counts().sort_index().tolist() == [42, 16, 56, 30, 27]
