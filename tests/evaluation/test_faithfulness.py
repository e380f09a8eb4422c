"""Maps that are right, wrong or constant by construction, and similarity measures against their definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from fundusnet.evaluation import faithfulness as tests_of
from fundusnet.evaluation.faithfulness import (
    Explanation,
    layers_from_head,
    measure_faithfulness,
    perturbation_curves,
    rank_correlation,
    structural_similarity,
)
from fundusnet.evaluation.faithfulness_report import per_image_values, summary, write_faithfulness
from fundusnet.findings.network import GuidedCAM
from fundusnet.grading.network import GradingNetwork

SIZE = 64
Pixels = NDArray[np.uint8]


def pictures(count: int = 6) -> list[Pixels]:
    """A bright square of 16 pixels on grey noise; where it lies changes."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(count):
        picture = generator.integers(80, 90, (SIZE, SIZE, 3), dtype=np.uint8)
        corner = 16 * (number % 3)
        picture[corner : corner + 16, 16:32] = 250
        found.append(picture)
    return found


class Brightest(nn.Module):
    """Its score is how bright the brightest of 8x8 cells are, its map how bright each is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Conv2d(3, 1, 8, stride=8, bias=False)
        nn.init.constant_(self.weight.weight, 1 / (3 * 64))

    def forward(self, image: Tensor) -> Tensor:
        cells: Tensor = self.weight(image)[:, 0]
        return cells


def explained(sign: float) -> Explanation:
    """``sign`` 1: the map is what decides; -1: it points at everything else; 0: it says nothing."""
    return Explanation(
        Brightest().eval(),
        lambda network, image, _: network(image).flatten(1).topk(4, dim=1).values.mean(dim=1),
        lambda network, image, _: sign * network(image),
    )


def values(sign: float) -> dict[str, float]:
    tested = measure_faithfulness(explained(sign), pictures(), [0] * 6)
    return {name: float(np.mean(column)) for name, column in per_image_values(tested).items()}


def test_a_faithful_map_falls_early_and_rises_early() -> None:
    right, wrong = values(1.0), values(-1.0)
    assert right["deletion"] < right["deletion_random"] < wrong["deletion"]
    assert right["insertion"] > right["insertion_random"] > wrong["insertion"]
    assert right["deletion_gain"] > 0.05 and right["insertion_gain"] > 0.05
    assert wrong["deletion_gain"] < -0.05 and wrong["insertion_gain"] < -0.05


def test_a_constant_map_is_as_good_as_chance() -> None:
    blind = values(0.0)
    assert abs(blind["deletion_gain"]) < 0.045 and abs(blind["insertion_gain"]) < 0.045


def test_the_curve_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # Four cells; what is deleted is black. The score is the mean of the picture: 1, then one cell less each time.
    monkeypatch.setattr(tests_of, "STEPS", 4)
    monkeypatch.setattr(tests_of, "blur", lambda picture: np.zeros_like(picture))
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2], picture[:2, 2:], picture[2:, :2], picture[2:, 2:] = 255, 153, 102, 51
    mean = Explanation(Brightest().eval(), lambda _, image, __: image.mean(dim=(1, 2, 3)), lambda *_: torch.zeros(1))
    activation = np.array([[0.1, 0.9], [0.5, 0.3]])
    deletion, _, insertion, _ = perturbation_curves(mean, picture, activation, 0)
    cells = np.array([0.6, 0.4, 0.2, 1.0]) / 4  # in the order of the map
    np.testing.assert_allclose(deletion, cells.sum() - np.r_[0, cells.cumsum()], atol=1e-6)
    np.testing.assert_allclose(insertion, np.r_[0, cells.cumsum()], atol=1e-6)


def test_deletion_ends_where_insertion_begins() -> None:
    for picture in pictures(2):
        curve = perturbation_curves(explained(1.0), picture, np.random.default_rng(0).random((8, 8)), 0, seed=3)
        np.testing.assert_allclose(curve[:2, 0], curve[2:, -1], rtol=1e-5)
        np.testing.assert_allclose(curve[:2, -1], curve[2:, 0], rtol=1e-5)
        again = perturbation_curves(explained(1.0), picture, np.random.default_rng(0).random((8, 8)), 0, seed=3)
        np.testing.assert_array_equal(curve, again)


def test_similarity_measures() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((9, 9)), np.round(generator.random((9, 9)), 1)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic)
    assert rank_correlation(first, np.exp(first)) == pytest.approx(1)
    assert structural_similarity(first, 3 * first + 1) == pytest.approx(1)
    assert -1 <= structural_similarity(first, -first) < 0
    assert (
        structural_similarity(first, second) == pytest.approx(structural_similarity(second, first))
        and structural_similarity(first, second) < 0.5
    )
    assert np.isnan(structural_similarity(first, np.ones((9, 9)))) and np.isnan(
        rank_correlation(np.zeros((9, 9)), first)
    )


def test_ssim_equals_its_formula() -> None:
    generator = np.random.default_rng(1)
    a, b = (generator.random((15, 15)) for _ in range(2))
    a, b = ((one - one.min()) / np.ptp(one) for one in (a, b))
    x, y = (sliding_window_view(np.pad(one, 3, mode="symmetric"), (7, 7)).reshape(-1, 49) for one in (a, b))
    total = [
        (2 * u.mean() * v.mean() + 1e-4) * (2 * np.cov(u, v, bias=True)[0, 1] + 9e-4)
        / ((u.mean() ** 2 + v.mean() ** 2 + 1e-4) * (u.var() + v.var() + 9e-4))
        for u, v in zip(x, y, strict=True)
    ]  # fmt: skip
    assert structural_similarity(a, b) == pytest.approx(np.mean(total), abs=1e-9)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_ssim_of_small_maps(side: int) -> None:
    activation = np.random.default_rng(0).random((side, side + 1))
    assert structural_similarity(activation, activation) == pytest.approx(1)
    assert structural_similarity(activation, -activation) < 1


def test_the_cascade_goes_from_the_head_to_the_first_layer() -> None:
    network = GuidedCAM(findings=2, dilations=(1, 2), pool=1, width=4, reductions=3, pyramid_width=4).eval()
    groups = layers_from_head(network, lambda: network(torch.rand(1, 3, 64, 64)))
    names = {id(layer): name for name, layer in network.named_modules()}
    order = [[names[id(layer)] for layer in group] for group in groups]
    assert order[0] == ["heads.0.classifier", "heads.1.classifier"]
    assert order[-1] == ["reductions.0.0"] and order[-2] == ["reductions.0.1"]
    assert order.index(["residuals.1.0.body.2"]) > order.index(["reductions.2.0"])
    weighted = {name for name, one in network.named_modules() if list(one.parameters(recurse=False))}
    assert {name for group in order for name in group} == weighted


def test_members_of_a_ranking_are_shuffled_side_by_side() -> None:
    network = GradingNetwork(3, backbone="test_resnet").eval()
    groups = layers_from_head(network, lambda: network.with_maps(torch.rand(1, 3, 64, 64)))
    assert all(len(group) == 2 for group in groups)
    # The classifier's layer comes first, its weights making the maps.
    assert groups[0][0] is network.members[0].classifier


def trained(seed: int = 0) -> Explanation:
    torch.manual_seed(seed)
    network = GuidedCAM(dilations=(1, 2), pool=1, width=4, reductions=3, pyramid_width=4).eval()
    return Explanation(
        network,
        lambda one, image, _: one(image)[1][:, 0].sigmoid(),
        lambda one, image, _: one(image)[0][:, 0],
    )


def test_shuffling_destroys_the_map_and_leaves_the_network_unchanged() -> None:
    subject = trained()
    before = {name: value.clone() for name, value in subject.network.state_dict().items()}
    tested = measure_faithfulness(subject, pictures(), [0] * 6)
    assert tested.levels[-1] == 1 and tested.levels == sorted(tested.levels)
    assert np.isfinite(tested.correlation).all() and tested.correlation.shape == (6, len(tested.levels))
    for name, value in subject.network.state_dict().items():
        torch.testing.assert_close(value, before[name])
    assert np.abs(tested.correlation[:, -1]).mean() < 0.9


def test_a_map_that_shows_the_picture_alone_does_not_change() -> None:
    edges = Explanation(trained().network, trained().score, lambda _, image, __: image.mean(dim=1)[:, ::8, ::8])
    tested = measure_faithfulness(edges, pictures(), [0] * 6)
    np.testing.assert_allclose(tested.correlation, 1)
    np.testing.assert_allclose(tested.similarity, 1)


def test_metrics_with_patient_intervals_and_their_files(tmp_path: Path) -> None:
    tested = measure_faithfulness(explained(1.0), pictures(), [0] * 6)
    images = pd.DataFrame({"image_id": [*"abcdef"], "patient_id": [*"xxyyzz"]})
    found = write_faithfulness(tmp_path, {"drusen": (images, tested)}, n=100)["drusen"]
    assert (found["n_images"], found["n_patients"]) == (6, 3)
    table = pd.read_csv(tmp_path / "faithfulness.csv")
    assert list(table["image_id"]) == [*"abcdef"] and set(table["finding"]) == {"drusen"}
    assert found["metrics"]["deletion"]["value"] == pytest.approx(table["deletion"].mean(), abs=1e-4)
    assert found["curves"]["deletion"]["mean"][0] == pytest.approx(found["curves"]["insertion"]["mean"][-1], abs=1e-4)
    low, high = found["metrics"]["insertion_gain"]["ci95"]
    assert low <= found["metrics"]["insertion_gain"]["value"] <= high
    assert found["metrics"]["insertion_gain"]["unreliable"] is True
    assert (tmp_path / "figures" / "faithfulness_drusen.png").stat().st_size > 1000
    # A map without any spread has no likeness, and says so.
    blind = summary(images, measure_faithfulness(explained(0.0), pictures(), [0] * 6), n=20)
    assert blind["metrics"]["correlation_all"]["reason"] == "no images whose map is not constant"
    assert blind["curves"]["correlation"]["mean"][0] is None
