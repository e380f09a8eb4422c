"""The cost of masks: the complete system against its bare forward passes, and maps against two libraries.

Needs pytorch-grad-cam and torchcam (``pip install fundusnet[bench]``) for the second part; ``--alone`` skips it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fundusnet.grading.cam import class_mask
from fundusnet.grading.network import GradingNetwork
from fundusnet.grading.two_stage import TwoStage

NETWORK: dict[str, Any] = {"backbone": "densenet121", "cam_stride": 16}
SYSTEM_LIMIT, GRAD_CAM_GOAL, TORCHCAM_GOAL = 1.1, 1.9, 1.0
NOISE = 0.03  # torchcam also makes one pass of the same network, so the ratio is 1 within the noise of two passes


def ratios(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, list[float]]:
    """Median seconds of ``second``, and time of ``first`` over time of ``second``, measured alternately.

    Processor time instead of wall-clock time, which other programs on the machine would lengthen.
    """
    first(), second()  # warm
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        pair = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):  # alternate which comes first
            start = time.process_time()
            (first, second)[which]()
            pair[which] = time.process_time() - start
        times.append((pair[0], pair[1]))
    return statistics.median(b for _, b in times), [a / b for a, b in times]


def system(images: int, size: int, rounds: int) -> float:
    """Time of stage 1, mask and stage 2 over that of the forward passes of the same networks."""
    two = TwoStage(3, {**NETWORK, "hidden": 2048}, stage1=NETWORK).eval()
    image = torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8)
    picture = two.picture(image)

    @torch.no_grad()
    def complete() -> object:
        return two(image)

    @torch.no_grad()
    def passes() -> object:
        return two.stage1(picture), two.network(picture)

    seconds, over = ratios(complete, passes, rounds)
    print(f"forward passes: {seconds:.2f} s for {images} images of {size} pixels")
    return report("system / its forward passes", over)


class OneSubClassifier(nn.Module):
    """A plain classifier, as the libraries need it: image → logits ``(B, 2)``."""

    def __init__(self, network: GradingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> Tensor:
        return self.network(picture)[:, 0]


def libraries(images: int, size: int, rounds: int) -> tuple[float, float]:
    """Map of the predicted class at the size of the image: time of each library over ours, same network, fp32."""
    from pytorch_grad_cam import GradCAM
    from torchcam.methods import CAM

    network = GradingNetwork(2, **NETWORK).eval().to(memory_format=torch.channels_last)
    model = OneSubClassifier(network)
    member: Any = network.members[0]
    last = member.backbone.features.norm5
    picture = torch.rand(images, 3, size, size).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def ours() -> Tensor:
        logits, cams = network.with_maps(picture)
        return class_mask(cams[:, 0], logits[:, 0].argmax(dim=1), (size, size))

    @torch.no_grad()
    def torchcam() -> Tensor:
        with CAM(model, last, member.classifier) as extractor:
            classes = model(picture).argmax(dim=1).tolist()
            (maps,) = extractor(classes)
        return functional.interpolate(maps[:, None], size=(size, size), mode="bilinear")

    def grad_cam() -> Tensor:
        with GradCAM(model, [last]) as extractor:
            return torch.from_numpy(extractor(picture, None))[:, None]

    torch.testing.assert_close(torchcam(), ours(), atol=1e-3, rtol=0)  # times of different maps are not comparable
    with torch.no_grad():
        logits, cams = network.with_maps(picture)
        positive = class_mask(cams[:, 0], logits[:, 0].argmax(dim=1), (size, size), "relu")
    together = torch.stack([positive.flatten(), grad_cam().flatten()])
    print(f"correlation with pytorch-grad-cam (positive part): {float(torch.corrcoef(together)[0, 1]):.3f}")
    first = report("pytorch-grad-cam / fundusnet", ratios(grad_cam, ours, rounds)[1])
    return first, report("torchcam / fundusnet", ratios(torchcam, ours, rounds)[1])


def report(name: str, over: list[float]) -> float:
    median = statistics.median(over)
    low, high = statistics.quantiles(over, n=4)[::2]
    print(f"{name}: median {median:.3f} (quartiles {low:.3f} to {high:.3f}, {len(over)} rounds)", flush=True)
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--alone", action="store_true", help="skip the libraries")
    options = parser.parse_args()
    torch.manual_seed(0)
    measured = system(options.images, options.size, options.rounds)
    failed = measured > SYSTEM_LIMIT
    if not options.alone:
        grad_cam, torchcam = libraries(options.images, options.size, options.rounds)
        failed |= grad_cam < GRAD_CAM_GOAL
        print(f"goals: at most {SYSTEM_LIMIT}; at least {GRAD_CAM_GOAL} and {TORCHCAM_GOAL}")
        failed |= torchcam < TORCHCAM_GOAL * (1 - NOISE)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
