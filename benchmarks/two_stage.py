"""Grading in two stages, against its four networks run one by one with the masked images saved between the stages.

The rival is what a script after the paper does: DenseNet121 in torch's default layout, a map from the last features and
the classifier's weights, the image times its mask as a PNG file, which the networks of the second stage read. One
thread, random weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measuring import Figure, alternate, ratio, show
from fundusnet.grading.two_stage import TwoStage

SIZE, IMAGES = 512, 2
NETWORK: dict[str, Any] = {"backbone": "densenet121", "cam_stride": 16}


def measure() -> Iterator[Figure]:
    """Ours in fp32 and in bf16 over the script."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    system = TwoStage(3, {**NETWORK, "hidden": 2048}, stage1=NETWORK).eval()
    script = TwoStage(3, {**NETWORK, "hidden": 2048}, stage1=NETWORK, channels_last=False).eval()
    script.load_state_dict(system.state_dict())
    images = torch.randint(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)

    @torch.inference_mode()
    def ours(bf16: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return system(images).p

    with tempfile.TemporaryDirectory() as folder:
        theirs = partial(by_script, script, images.contiguous(), Path(folder))
        torch.testing.assert_close(theirs(), ours(bf16=False), atol=0.02, rtol=0)  # PNG rounds to 8 bits
        calls = {"fp32": partial(ours, bf16=False), "bf16": partial(ours, bf16=True), "script": theirs}
        taken = alternate(calls, rounds=5)
    what = f"two-stage prediction, 4 × DenseNet121, {SIZE} px"
    rival = "four networks one by one (fp32), images saved between the stages"
    yield ratio(f"{what} (precision=bf16-mixed)", rival, taken["bf16"], taken["script"], goal=2.5)
    yield ratio(f"{what} (precision=32-true, the default)", rival, taken["fp32"], taken["script"])


@torch.inference_mode()
def by_script(system: TwoStage, images: Tensor, folder: Path) -> Tensor:
    """Probabilities ``(B, 2)`` of "grade > k", from four networks that are passed one after the other."""
    size = images.shape[-2:]
    picture = images.float() / 255
    logits, maps = [], []
    for member in system.stage1.members:
        (features,) = member.features(system.stage1.normalize(picture))
        logits.append(member.classifier(features.mean(dim=(2, 3))))
        maps.append(torch.einsum("cf,bfhw->bchw", member.classifier.weight, features))
    grades = torch.stack([each[:, 1] > each[:, 0] for each in logits]).sum(dim=0).tolist()
    for number, (image, grade) in enumerate(zip(picture, grades, strict=True)):
        no, yes = ([_scaled(each[number, answer]) for each in maps] for answer in (0, 1))
        cells = [no[0], (yes[0] + no[1]) / 2, yes[1]][grade]
        mask = functional.interpolate(cells[None, None], size=size, mode="bilinear")[0]
        roi = (255 * image * mask).round().byte().permute(1, 2, 0).numpy()
        cv2.imwrite(str(folder / f"{number}.png"), roi[:, :, ::-1])
    files = [cv2.imread(str(folder / f"{number}.png"))[:, :, ::-1] for number in range(len(picture))]
    masked = torch.from_numpy(np.stack(files)).permute(0, 3, 1, 2).contiguous().float() / 255
    second = []
    for member in system.network.members:
        (features,) = member.features(system.network.normalize(masked))
        second.append(member.classify(features.mean(dim=(2, 3))))
    return torch.stack([each.softmax(dim=-1)[:, 1] for each in second], dim=1)


def _scaled(cells: Tensor) -> Tensor:
    return (cells - cells.min()) / (cells.max() - cells.min())


if __name__ == "__main__":
    show(measure())
