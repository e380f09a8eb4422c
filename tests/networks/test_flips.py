"""Averaging over mirror images: symmetric predictions, and maps in the frame of the image."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fundusnet.findings.module import GuidedModule
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.two_stage import TwoStage
from fundusnet.networks.flips import FLIPS, flipped, mean_map

CAM = {"name": "GuidedCAM", "width": 4, "reductions": 3, "pyramid_width": 4}
STAGE = {"name": "GradingNetwork", "backbone": "test_resnet", "cam_stride": 32, "pretrained": False}
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def ranking(head: str, flips: bool) -> RankingStage:
    torch.manual_seed(0)
    return RankingStage(3, {**STAGE, "head": head, "hidden": 8}, flips=flips).eval()


def two_stages(flips: bool) -> TwoStage:
    torch.manual_seed(0)
    return TwoStage(3, {**STAGE, "hidden": 8}, {**STAGE, "hidden": None}, flips=flips).eval()


def test_maps_return_to_the_frame_of_the_image() -> None:
    torch.testing.assert_close(mean_map(list(flipped(IMAGES))), IMAGES)


@torch.no_grad()
def test_a_finding_is_the_mean_over_the_mirror_images() -> None:
    torch.manual_seed(0)
    module = GuidedModule(["drusen"], 64, CAM, flips=True).eval()
    activation, probability = module(IMAGES)
    single = [module.network(IMAGES.flip(axes)) for axes in FLIPS]
    torch.testing.assert_close(probability, torch.stack([logit.sigmoid() for _, logit in single]).mean(0))
    torch.testing.assert_close(activation[0, 0, 2, 5], torch.stack([  # the cell's place in each
        single[0][0].sigmoid()[0, 0, 2, 5], single[1][0].sigmoid()[0, 0, 2, 2],
        single[2][0].sigmoid()[0, 0, 5, 5], single[3][0].sigmoid()[0, 0, 5, 2],
    ]).mean())  # fmt: skip
    mirrored_map, mirrored = module(IMAGES.flip(3))
    torch.testing.assert_close(mirrored, probability)
    torch.testing.assert_close(mirrored_map.flip(3), activation)
    stepped = module.predict_step({"image": IMAGES, "index": torch.arange(2)}, 0)
    torch.testing.assert_close(stepped["probability"], probability)


@pytest.mark.parametrize("head", ["ranking", "multiclass"])
@torch.no_grad()
def test_a_grade_follows_from_the_mean(head: str) -> None:
    module, plain = ranking(head, flips=True), ranking(head, flips=False)
    expected = torch.stack([plain(IMAGES.flip(axes)).p for axes in FLIPS]).mean(0)
    found = module(IMAGES)
    torch.testing.assert_close(found.p, expected)
    assert not torch.equal(found.p, plain(IMAGES).p)
    assert found.grade.tolist() == module.predict_step({"image": IMAGES, "index": torch.arange(2)}, 0)["grade"].tolist()
    torch.testing.assert_close(module(IMAGES.flip(2, 3)).p, found.p)


@torch.no_grad()
def test_both_stages_see_the_mirror_images() -> None:
    module, plain = two_stages(flips=True), two_stages(flips=False)
    each: list[Any] = [plain(IMAGES.flip(axes)) for axes in FLIPS]
    found = module(IMAGES)
    torch.testing.assert_close(found.p, torch.stack([answer.p for answer in each]).mean(0))
    torch.testing.assert_close(found.first.p, torch.stack([answer.first.p for answer in each]).mean(0))
    torch.testing.assert_close(found.mask, mean_map([answer.mask for answer in each]))
    mask = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(module(IMAGES, mask).p, module(IMAGES.flip(3), mask.flip(3)).p)


def test_a_checkpoint_keeps_the_choice() -> None:
    for module in (GuidedModule(["drusen"], 64, CAM, flips=True), ranking("ranking", True), two_stages(True)):
        assert module.hparams["flips"] is True
