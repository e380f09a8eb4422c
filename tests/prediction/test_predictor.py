"""``fundusnet.load``: predictions from nothing but a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
from graded import CLASSES, graded_set
from PIL import Image
from tiny import tiny_prepared
from tiny_networks import STAGE, findings_checkpoint, grading_checkpoint, written
from torch import nn

import fundusnet
from fundusnet.data.prepared import PreparedSet
from fundusnet.data.regions import REGIONS
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError
from fundusnet.findings.by_region import find_regions, in_cells
from fundusnet.findings.module import GuidedModule
from fundusnet.grading.datamodule import GradingDataModule
from fundusnet.grading.scoring import score
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.two_stage import TwoStage
from fundusnet.networks.build import import_network
from fundusnet.prediction.eye_points import EyePoints
from fundusnet.prediction.findings import FindingsPredictor
from fundusnet.prediction.grading import GradingPredictor
from fundusnet.prediction.preparation import Points, prepare_photograph
from fundusnet.prediction.trained_network import open_network
from fundusnet.runs.checkpoints import KEY, load_checkpoint, load_module, write_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("predictor")


@pytest.fixture(scope="module")
def eyes(place: Path) -> PreparedSet:
    return tiny_prepared(place / "eyes")


@pytest.fixture(scope="module")
def graded(place: Path) -> PreparedSet:
    return graded_set(place / "graded", [number // 2 % 3 for number in range(36)])


@pytest.fixture(scope="module")
def network(place: Path, eyes: PreparedSet) -> Path:
    return findings_checkpoint(place / "run" / "checkpoints" / "best.ckpt", seen=eyes)


def files_of(prepared: PreparedSet) -> list[Path]:
    """The original photographs, in the order of the set."""
    return [Path(prepared.info["root"]) / path for path in prepared.manifest.images["path"]]


def expected(file: Path, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps and probabilities by the module itself, on the pixels of the prepared set."""
    module = load_module(file, GuidedModule)
    with torch.inference_mode():
        maps, probability = module(torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2))
    return maps.numpy(), probability.numpy()


def test_paths_are_predicted_as_the_prepared_set_is(network: Path, eyes: PreparedSet) -> None:
    results = fundusnet.load(network).predict(files_of(eyes), batch_size=5)
    _, probability = expected(network, eyes.pixels)
    assert probability.std() > 1e-4  # the network does not say the same of every picture
    found = [[result.probability[name] for name in ("drusen", "hemorrhage")] for result in results]
    np.testing.assert_allclose(found, probability, atol=1e-6)
    for result, row in zip(results, probability, strict=True):
        assert list(result.predicted.values()) == (row >= 0.5).tolist()
        assert result.maps is None and result.flags == ()


def test_arrays_images_paths_and_one_or_many_agree(network: Path, eyes: PreparedSet) -> None:
    file = files_of(eyes)[3]
    predictor = fundusnet.load(network.parents[1])  # the run folder
    array = cv2.imread(str(file))[:, :, ::-1]
    one = predictor.predict(file)
    same = predictor.predict([str(file), array, np.ascontiguousarray(array), Image.open(file)])
    for result in [*same, predictor.predict(array), predictor.predict(array[None])[0]]:
        assert result.probability == pytest.approx(one.probability, abs=1e-6)
    assert [r.probability for r in predictor.stream(iter([file]))] == [one.probability]


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def test_every_network_of_a_checkpoint_is_fused(place: Path, graded: PreparedSet) -> None:
    file = grading_checkpoint(place / "fused" / "checkpoints" / "best.ckpt", CLASSES, stages=2)
    opened, plain = open_network(file), cast(TwoStage, open_network(file).module)
    before = torch.get_rng_state()
    faster = cast(TwoStage, GradingPredictor([opened], torch.device("cpu")).networks[0].module)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers stay as they are"
    for name in ("stage1", "network"):
        assert norms(getattr(faster, name)) < norms(getattr(plain, name))


def test_a_map_is_in_the_frame_of_the_photograph(network: Path, eyes: PreparedSet) -> None:
    """The same field in a large picture, away from its middle: the map moves with it, and is 0 outside."""
    field = cv2.imread(str(files_of(eyes)[0]))[:, :, ::-1]
    large = np.zeros((150, 260, 3), np.uint8)
    large[40:136, 130:226] = field
    predictor = fundusnet.load(network)
    alone, moved = predictor.predict([field, large], maps=True)
    assert alone.maps["drusen"].shape == (96, 96) and moved.maps["drusen"].shape == (150, 260)
    np.testing.assert_allclose(moved.maps["drusen"][45:130, 135:220], alone.maps["drusen"][5:90, 5:90], atol=0.02)
    assert moved.maps["drusen"][:, :120].max() == 0 and moved.maps["drusen"][50:126, 140:216].min() > 0
    cells, _ = expected(network, eyes.pixels[:1])
    assert alone.maps["drusen"][48, 48] == pytest.approx(cells[0, 0, 3:5, 3:5].mean(), abs=0.02)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("head", ["ranking", "multiclass"])
def test_grades_are_those_of_a_run(place: Path, graded: PreparedSet, stages: int, head: str) -> None:
    file = grading_checkpoint(place / f"{head}{stages}.ckpt", CLASSES, stages=stages, head=head, seen=graded)
    module = load_module(file, TwoStage if stages == 2 else RankingStage)
    data = GradingDataModule(folder=graded.folder, batch_size=4)
    scored = score(module, data, "test", torch.device("cpu")).predictions.set_index("image_id")
    predictor = fundusnet.load(file)
    rows = data.rows["test"]
    results = predictor.predict([files_of(graded)[row] for row in rows], maps=True)
    for row, result in zip(rows, results, strict=True):
        own = scored.loc[graded.manifest.images["image_id"].iloc[row]]
        assert (result.grade, result.name) == (own["predicted"], CLASSES[own["predicted"]])
        np.testing.assert_allclose(result.p_gt, [own["p_gt_0"], own["p_gt_1"]], atol=1e-6)
        assert result.flags == ()
        if stages == 2:
            assert result.stage1_grade == own["stage1_predicted"]
            assert result.mask.shape == (96, 96) and 0 <= result.mask.min() <= result.mask.max() <= 1
            assert result.roi.shape == (64, 64, 3)
        else:
            assert result.stage1_grade is None and result.mask is None and result.roi is None


def test_the_roi_is_what_the_second_stage_saw(place: Path, graded: PreparedSet) -> None:
    file = grading_checkpoint(place / "roi.ckpt", CLASSES)
    module = load_module(file, TwoStage)
    with torch.inference_mode():
        seen = module(torch.from_numpy(np.array(graded.pixels[:1])).permute(0, 3, 1, 2)).roi[0]
    roi = fundusnet.load(file).predict(files_of(graded)[0], maps=True).roi
    np.testing.assert_allclose(roi, 255 * seen.permute(1, 2, 0).numpy(), atol=0.51)


def test_a_single_stage_with_maps_shows_its_mask(place: Path, graded: PreparedSet) -> None:
    file = grading_checkpoint(place / "maps.ckpt", CLASSES, stages=1, hidden=None)
    result = fundusnet.load(file).predict(files_of(graded)[0], maps=True)
    assert result.mask.max() > 0.9 and result.roi is None


def test_regions_are_those_of_the_map_and_only_of_what_is_predicted(network: Path, eyes: PreparedSet) -> None:
    predictor = fundusnet.load(network)
    assert isinstance(predictor, FindingsPredictor)
    file, disc, fovea = files_of(eyes)[0], (70.0, 48.0), (40.0, 50.0)
    maps, probability = expected(network, eyes.pixels[:1])
    predictor.thresholds = {"drusen": float(probability[0, 0]) - 0.01, "hemorrhage": float(probability[0, 1]) + 0.01}
    result = predictor.result_of(prepare_photograph(file, predictor.specs, (disc, fovea)))
    places = eyes.manifest.images.iloc[0][["disc_x", "disc_y", "fovea_x", "fovea_y"]].to_numpy(dtype=float)
    where = [find_regions(each, *(in_cells(tuple(p), 64, 8) for p in (places[:2], places[2:]))) for each in maps[0]]
    assert result.points == EyePoints(disc, fovea, "given")
    assert result.regions == {"drusen": where[0].regions, "hemorrhage": ()} and where[1].regions
    for name, one in zip(("drusen", "hemorrhage"), where, strict=True):
        assert list(result.shares[name]) == list(REGIONS.values())
        np.testing.assert_allclose(list(result.shares[name].values()), one.shares, atol=1e-3)


@pytest.mark.parametrize("points", [(None, None), ((70.0, 48.0), None), ((70.0, 48.0), (70.0, 48.0))])
def test_without_two_points_there_are_no_regions(network: Path, eyes: PreparedSet, points: Points) -> None:
    predictor = fundusnet.load(network, points="given")
    result = predictor.result_of(prepare_photograph(files_of(eyes)[0], predictor.specs, points))
    assert result.points.origin == "none" and set(result.regions.values()) == set(result.shares.values()) == {None}


@pytest.mark.parametrize("task", ["findings", "grading"])
def test_bf16_is_nearly_the_same_and_only_on_request(
    task: str, place: Path, network: Path, graded: PreparedSet, eyes: PreparedSet
) -> None:
    if task == "grading":
        network = grading_checkpoint(place / "bf16" / "checkpoints" / "best.ckpt", CLASSES, seen=graded)
    files = files_of(eyes if task == "findings" else graded)[:4]
    exact, half, default = (
        np.array(
            [np.ravel(_probabilities(result)) for result in fundusnet.load(network, "cpu", **options).predict(files)]
        )
        for options in ({"precision": "32-true"}, {"precision": "bf16-mixed"}, {})
    )
    assert np.array_equal(exact, default)
    assert 0 < np.abs(exact - half).max() < 0.05


def _probabilities(result: Any) -> list[float]:
    return list(result.probability.values()) if hasattr(result, "probability") else list(result.p_gt)


def test_points_that_are_not_given_are_found(tmp_path: Path) -> None:
    """In a drawn eye with a border, whose truth is known; what is given is not looked for."""
    network = findings_checkpoint(tmp_path / "network.ckpt", ["drusen"], size=192)
    manifest = load_source("synthetic", tmp_path / "eyes", {"images": 4, "size": 384, "seed": 3})
    row = manifest.images.iloc[0]
    disc, fovea = ((row[f"{name}_x"] + 200, row[f"{name}_y"] + 30) for name in ("disc", "fovea"))
    picture = np.asarray(Image.open(manifest.root / row["path"]))
    bordered = np.pad(picture, ((30, 60), (200, 10), (0, 0)))
    predictor = fundusnet.load(network)
    result = predictor.predict(bordered)
    radius = np.hypot(disc[0] - fovea[0], disc[1] - fovea[1]) / 5
    assert result.points.origin == "localised"
    assert np.hypot(*np.subtract(result.points.disc, disc)) < radius
    assert np.hypot(*np.subtract(result.points.fovea, fovea)) < radius
    assert set(result.regions.values()) != {None}
    one = predictor.result_of(prepare_photograph(bordered, predictor.specs, ((1.0, 2.0), None)))
    assert one.points.disc == (1.0, 2.0) and one.points.fovea == result.points.fovea
    assert fundusnet.load(network, points="given").predict(bordered).points.origin == "none"


def test_networks_of_one_finding_are_averaged_and_others_used_side_by_side(place: Path, eyes: PreparedSet) -> None:
    one = findings_checkpoint(place / "one.ckpt", ["drusen"], seed=1, threshold=0.4)
    two = findings_checkpoint(place / "two.ckpt", ["drusen"], seed=2, threshold=0.6, size=32)
    other = findings_checkpoint(place / "other.ckpt", ["membrane"], seed=3)
    file = files_of(eyes)[2]
    alone = [fundusnet.load(each).predict(file, maps=True) for each in (one, two, other)]
    predictor = fundusnet.load([one, other, two])
    assert predictor.thresholds == {"drusen": pytest.approx(0.5), "membrane": 0.5}
    assert predictor.counts == {"drusen": 2, "membrane": 1}
    joint = predictor.predict(file, maps=True)
    mean = (alone[0].probability["drusen"] + alone[1].probability["drusen"]) / 2
    assert joint.probability == pytest.approx({"drusen": mean, "membrane": alone[2].probability["membrane"]}, abs=1e-6)
    assert joint.predicted["drusen"] == (mean >= 0.5)
    centre = [each.maps["drusen"][48, 48] for each in alone[:2]]
    assert joint.maps["drusen"][48, 48] == pytest.approx(np.mean(centre), abs=0.02)


def test_grades_of_several_follow_from_their_mean(place: Path, graded: PreparedSet) -> None:
    files = [grading_checkpoint(place / f"seed{seed}.ckpt", CLASSES, seed=seed) for seed in (1, 2)]
    picture = files_of(graded)[0]
    each = [fundusnet.load(file).predict(picture) for file in files]
    joint = fundusnet.load(files).predict(picture)
    mean = np.mean([one.p_gt for one in each], axis=0)
    np.testing.assert_allclose(joint.p_gt, mean, atol=1e-6)
    assert joint.grade == int((mean > 0.5).sum())


def test_several_decide_by_the_rule_they_share(place: Path, graded: PreparedSet) -> None:
    """Their mean probabilities are 0.6 and 0.45: the last grade is the most probable, and one says yes."""
    files = {}
    rules = {"a": ("most_probable", (0.5, 0.4)), "b": ("most_probable", (0.7, 0.5)), "c": (None, (0.7, 0.5))}
    for name, (decision, p) in rules.items():
        module = RankingStage(len(CLASSES), {**STAGE, "head": "ranking", "hidden": None, "decision": decision})
        with torch.no_grad():
            for member, yes in zip(module.network.members, p, strict=True):
                member.classifier.weight.zero_()  # type: ignore[union-attr, operator]
                member.classifier.bias.copy_(torch.tensor([1 - yes, yes]).log())  # type: ignore[union-attr, operator]
        stored = {"task": "grading", "classes": list(CLASSES), "size": 64}
        files[name] = written(place / f"decision_{name}.ckpt", module, stored, graded)
    picture = files_of(graded)[0]
    assert fundusnet.load(files["b"]).predict(picture).grade == 2
    assert fundusnet.load([files["a"], files["b"]]).predict(picture).grade == 2
    assert fundusnet.load([files["a"], files["c"]]).predict(picture).grade == 1


def test_every_required_stored_value_is_checked(place: Path, network: Path, graded: PreparedSet) -> None:
    whole = load_checkpoint(network)
    for key in ("findings", "size", "operating_points"):
        file = place / f"without_{key}.ckpt"
        write_checkpoint(file, {**whole, KEY: {name: v for name, v in whole[KEY].items() if name != key}})
        with pytest.raises(UserError, match=f"holds no {key.replace('_', ' ')}: its training was not finished"):
            fundusnet.load(file)


def test_without_training_statistics_photographs_are_flagged_unchecked(place: Path, eyes: PreparedSet) -> None:
    file = findings_checkpoint(place / "early.ckpt")
    assert fundusnet.load(file).predict(files_of(eyes)[0]).flags == ("unchecked",)


def test_bad_checkpoints_are_refused_in_one_line(place: Path, network: Path) -> None:
    whole = load_checkpoint(network)
    torn = place / "torn.ckpt"
    torn.write_bytes(network.read_bytes()[:-100])
    unknown, plain, changed = place / "unknown.ckpt", place / "plain.ckpt", place / "changed.ckpt"
    write_checkpoint(unknown, {**whole, KEY: {**whole[KEY], "task": "segmentation"}})
    write_checkpoint(plain, {key: value for key, value in whole.items() if key != KEY})
    weights = {name: value for name, value in whole["state_dict"].items() if "bias" not in name}
    write_checkpoint(changed, {**whole, "state_dict": weights})
    stage2 = place / "stage2.ckpt"
    module = RankingStage(3, {"backbone": "test_resnet", "cam_stride": 32}, input="roi")
    stored = {"task": "grading", "classes": list(CLASSES), "size": 64}
    write_checkpoint(stage2, {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), KEY: stored})
    grading = grading_checkpoint(place / "three.ckpt", CLASSES)
    two = grading_checkpoint(place / "two_grades.ckpt", CLASSES[:2])
    for given, message in (
        (place / "nowhere.ckpt", "does not exist"),
        (torn, "cannot be read"),
        (unknown, "of the task segmentation"),
        (plain, "holds no size of pictures and no operating point"),
        (changed, "does not hold a GuidedModule: Error"),
        (stage2, "second stage without its first"),
        ([network, grading], "one task at a time"),
        ([grading, two], "networks of the same grades"),
        ([], "no checkpoint is given"),
    ):
        with pytest.raises(UserError) as refused:
            fundusnet.load(given)
        assert message in str(refused.value) and "\n" not in str(refused.value)


def test_bad_photographs_are_named(network: Path, tmp_path: Path) -> None:
    predictor = fundusnet.load(network)
    (tmp_path / "text.jpg").write_text("no picture")
    for given, message in (
        (tmp_path / "text.jpg", "text.jpg: file is not a picture"),
        (tmp_path / "none.jpg", "none.jpg: file is missing"),
        ([np.zeros((40, 40, 3), np.uint8)], "photograph 0: picture is black"),
        ([np.zeros((40, 40), np.uint8)], "photograph 0: a photograph is a uint8 RGB array"),
        (np.zeros((2, 40, 40, 3)), "not an array float64"),
    ):
        with pytest.raises(UserError, match=message):
            predictor.predict(given)


def test_an_unknown_device_is_refused(network: Path) -> None:
    with pytest.raises(UserError, match="device=tpu9 cannot be used"):
        fundusnet.load(network, device="tpu9")


class OwnNetwork(nn.Module):
    """A user's own network: a 1 x 1 convolution whose map is averaged."""

    def __init__(self, findings: int, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, findings, kernel_size=1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logit_map = self.layer(nn.functional.avg_pool2d(image, 8))
        return logit_map, logit_map.mean(dim=(2, 3))


def test_a_class_of_the_users_own_is_built_from_the_stored_options(
    place: Path, network: Path, eyes: PreparedSet
) -> None:
    whole = load_checkpoint(network)
    layer = OwnNetwork(2, channels=3)
    file = place / "own.ckpt"
    own = {"name": "clinic.OwnNetwork", "channels": 3}
    parameters = {**whole["hyper_parameters"], "network": own}
    weights = {f"network.{name}": value for name, value in layer.state_dict().items()}
    write_checkpoint(file, {**whole, "state_dict": weights, "hyper_parameters": parameters})
    found = fundusnet.load(file, network=OwnNetwork).predict(eyes.pixels[0])
    with torch.inference_mode():
        pixels = torch.from_numpy(eyes.pixels[0].copy()).permute(2, 0, 1)[None].float() / 255
        expected = layer(pixels)[1].sigmoid()[0].tolist()
    assert list(found.probability.values()) == pytest.approx(expected, abs=0.02)
    with pytest.raises(UserError, match=r"needs the network class clinic\.OwnNetwork; pass it: fundusnet\.load"):
        fundusnet.load(file)


def test_the_network_key_names_a_class_that_can_be_imported() -> None:
    assert import_network(None) is None
    assert import_network("torch.nn.Identity") is nn.Identity
    for name, message in (
        ("OwnNetwork", "network=OwnNetwork cannot be imported"),
        ("nowhere.Net", "network=nowhere.Net cannot be imported: No module named 'nowhere'"),
        ("torch.nn.Missing", "cannot be imported"),
        ("torch.Tensor", "network=torch.Tensor is not a subclass of torch.nn.Module"),
    ):
        with pytest.raises(UserError, match=message):
            import_network(name)
