"""Close-ups: where they are cut, and that points found in them are points of the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tiny_backbone  # noqa: F401  # timm then knows test_tiny
import torch

from fundusnet.errors import UserError
from fundusnet.landmarks.close_up import CloseUpHead
from fundusnet.landmarks.datamodule import LARGEST_ERROR, LARGEST_SCALE, first_look
from fundusnet.landmarks.module import LandmarkModule
from fundusnet.landmarks.network import LandmarkNetwork

CLOSE = {"side": 32, "radius": 8.0, "strides": [4, 8], "map_stride": 4, "width": 8, "dilations": [1]}


def network(**extra: object) -> LandmarkNetwork:
    torch.manual_seed(0)
    return LandmarkNetwork("test_tiny", strides=[4, 8], map_stride=8, width=8, close_up=CLOSE, **extra)  # type: ignore[arg-type]


def head() -> CloseUpHead:
    found = network().close_up
    assert found is not None
    return found


def smooth_pictures() -> np.ndarray:
    noise = np.random.default_rng(0).random((2, 96, 96, 3)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(each, (0, 0), 4) for each in noise])


@pytest.mark.parametrize("radius", [4.0, 8.0, 13.0])
def test_a_close_up_is_the_picture_moved_and_scaled(radius: float) -> None:
    pictures = smooth_pictures()
    points = torch.tensor([[[40.0, 50.5], [60.25, 48.0]], [[33.0, 41.0], [70.0, 52.75]]])
    cut = head().cut(torch.from_numpy(pictures).permute(0, 3, 1, 2), points, torch.full((2,), radius))
    assert cut.shape == (2, 2, 3, 32, 32)
    zoom = radius / 8
    for number, point in np.ndindex(2, 2):
        x, y = points[number, point].tolist()
        # Pixel (15.5, 15.5), the middle of the close-up, shows the point.
        warp = np.array([[zoom, 0, x - 15.5 * zoom], [0, zoom, y - 15.5 * zoom]])
        expected = cv2.warpAffine(pictures[number], warp, (32, 32), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        inner = slice(4, 28)  # outside of the picture, one repeats its border and the other does not
        assert np.abs(cut[number, point].permute(1, 2, 0).numpy() - expected)[inner, inner].max() < 0.01


def test_outside_of_the_picture_and_around_unknown_points_it_is_black() -> None:
    image = torch.ones(1, 3, 96, 96)
    points = torch.tensor([[[0.0, 0.0], [float("nan")] * 2]])
    cut = head().cut(image, points, torch.tensor([8.0]))
    assert cut[0, 0, :, :14, :14].eq(0).all() and cut[0, 0, :, 18:, 18:].eq(1).all()
    assert cut[0, 1].eq(0).all()


def test_points_move_to_close_ups_and_back() -> None:
    rng = torch.Generator().manual_seed(0)
    points, around = (100 * torch.rand(3, 2, 2, generator=rng) for _ in range(2))
    radius = 5 + 10 * torch.rand(3, generator=rng)
    close = head().from_picture(points, around, radius)
    assert torch.allclose(head().to_picture(close, around, radius), points, atol=1e-4)
    middle = head().from_picture(around, around, radius)
    assert torch.allclose(middle, torch.full_like(middle, 15.5))
    # A disc radius is 8 pixels of a close-up.
    assert torch.allclose(head().from_picture(around + radius[:, None, None], around, radius), middle + 8, atol=1e-4)


def test_the_picture_shrinks_and_close_ups_do_not() -> None:
    whole, small = network(), network(shrink=2)
    image = torch.rand(2, 3, 64, 64)
    maps, smaller = whole.eval().extract(image), small.eval().extract(image)
    assert [each.shape[-1] for each in maps[:2]] == [8, 8] and [each.shape[-1] for each in smaller[:2]] == [4, 4]
    assert all(torch.equal(one, other) for one, other in zip(maps[2:], smaller[2:], strict=True))
    assert [tuple(each.shape[:2]) for each in maps[2:]] == [(2, 2)] * 2
    halved = torch.nn.functional.avg_pool2d(image, 2)
    assert torch.allclose(small(image), network().eval()(halved), atol=1e-6)


class Sure(torch.nn.Module):
    """A network that is sure of given points, and sees each ``shift`` pixels to the right in its close-up."""

    def __init__(self, points: list[list[float]], confidence: float, shift: float) -> None:
        super().__init__()
        self.close_up = head()
        self.points, self.confidence, self.shift = points, confidence, shift

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        cells = torch.full((1, 2, 12 * 12 + 1), -50.0)
        for number, (x, y) in enumerate(self.points):
            cells[0, number, int(y // 8) * 12 + int(x // 8)] = float(np.log(self.confidence))
            cells[0, number, -1] = float(np.log(1 - self.confidence))
        return cells

    def close_maps(self, image: torch.Tensor, points: torch.Tensor, radius: torch.Tensor) -> list[torch.Tensor]:
        self.asked = points, radius
        return [torch.zeros(1, 2, 8, 8, 8), torch.zeros(1, 2, 8, 4, 4)]


@pytest.mark.parametrize("confidence", [0.4, 0.9])
def test_only_likely_points_are_looked_at_closely(confidence: float, monkeypatch: pytest.MonkeyPatch) -> None:
    module = LandmarkModule(96, {"name": "LandmarkNetwork", "backbone": "test_tiny", "strides": [4, 8]})
    module.network = Sure([[19.5, 43.5], [75.5, 51.5]], confidence, 0)
    seen = torch.full((1, 2, 65), -50.0)
    seen[:, :, 4 * 8 + 6] = 0  # cell (4, 6): its middle is pixel (25.5, 17.5) of the close-up
    monkeypatch.setattr(module.network.close_up, "decide_close", lambda maps: seen)
    points, found = module(torch.zeros(1, 3, 96, 96))
    assert torch.allclose(found, torch.full((1, 2), confidence), atol=1e-4)
    first = torch.tensor([[[19.5, 43.5], [75.5, 51.5]]])
    if confidence < 0.5:
        assert torch.allclose(points, first, atol=1e-3) and not hasattr(module.network, "asked")
        return
    radius = float(np.hypot(56, 8)) / 5
    assert torch.allclose(module.network.asked[1], torch.tensor([radius]), atol=1e-3)
    assert torch.allclose(points, first + torch.tensor([10.0, 2.0]) * radius / 8, atol=1e-3)


def test_a_first_look_is_near_and_always_the_same() -> None:
    points = np.array([[30.0, 40.0], [80.0, 40.0]], np.float32)
    looks = [first_look(points, (0, view, 3)) for view in range(400)]
    off = np.abs([look["around"] - points for look in looks]) / 10
    scale = np.array([look["radius"] for look in looks]) / 10
    assert 0.5 < off.max() <= LARGEST_ERROR and 1.2 < scale.max() <= LARGEST_SCALE and 0.8 <= scale.min() < 0.83
    again = first_look(points, (0, 7, 3))
    assert np.array_equal(again["around"], looks[7]["around"]) and again["radius"] == looks[7]["radius"]


def test_close_ups_that_reach_deeper_than_the_picture_are_refused() -> None:
    with pytest.raises(UserError, match=r"close_up\.strides reach deeper"):
        LandmarkNetwork("test_tiny", strides=[4], map_stride=4, close_up={**CLOSE, "strides": [4, 8]})
