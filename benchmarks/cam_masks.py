"""Masks and activation maps: their cost beside bare forward passes, and two libraries for the predicted class.

The complete grading system on two pictures of 512 pixels, three grades, DenseNet121 at stride 16 in both stages, random
weights; maps at the size of the picture. The libraries (of ``pip install "fundusnet[bench]"``) run twice: as is,
fp32 in torch's layout, beside ours in bf16 and channels_last; and like ours, fp32 and channels_last. Before anything is
timed, torchcam's maps have to agree with ours within 0.001; pytorch-grad-cam's keep the positive part only.

Pytorch-grad-cam computes by a backward pass what a linear layer after global pooling already has as weights. Torchcam
does not, so both make one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measuring import Figure, alternate, ratio, show
from fundusnet.grading.cam import class_mask
from fundusnet.grading.network import GradingNetwork
from fundusnet.grading.two_stage import TwoStage

NETWORK: dict[str, Any] = {"backbone": "densenet121", "cam_stride": 16}
IMAGES, SIZE, ROUNDS = 2, 512, 5


def measure() -> Iterator[Figure]:
    """The system over its passes; the libraries over ours."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield _system()
    yield from _libraries()


def _system() -> Figure:
    two = TwoStage(3, {**NETWORK, "hidden": 2048}, stage1=NETWORK).eval()
    image = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), dtype=torch.uint8)
    picture = two.picture(image)

    @torch.no_grad()
    def complete() -> object:
        return two(image)

    @torch.no_grad()
    def passes() -> object:
        return two.stage1(picture), two.network(picture)

    taken = alternate({"complete": complete, "passes": passes}, ROUNDS)
    return ratio("forward passes of the four networks", "stage 1, mask and stage 2 complete", taken["passes"],
                 taken["complete"], goal=1.1, limit=True)  # fmt: skip


class OneSubClassifier(nn.Module):
    """A plain classifier, as the libraries need it: image → logits ``(B, 2)``."""

    def __init__(self, network: GradingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> Tensor:
        return self.network(picture)[:, 0]


def _libraries() -> Iterator[Figure]:
    from pytorch_grad_cam import GradCAM
    from torchcam.methods import CAM

    network = GradingNetwork(2, **NETWORK).eval().to(memory_format=torch.channels_last)
    plain = GradingNetwork(2, **NETWORK).eval()
    plain.load_state_dict(network.state_dict())
    picture = torch.rand(IMAGES, 3, SIZE, SIZE)
    pictures = {network: picture.contiguous(memory_format=torch.channels_last), plain: picture}

    @torch.no_grad()
    def ours(bf16: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, cams = network.with_maps(pictures[network])
        return class_mask(cams[:, 0], logits[:, 0].argmax(dim=1), (SIZE, SIZE))

    @torch.no_grad()
    def torchcam(net: GradingNetwork) -> Tensor:
        member: Any = net.members[0]
        model = OneSubClassifier(net)
        with CAM(model, member.backbone.features.norm5, member.classifier) as extractor:
            classes = model(pictures[net]).argmax(dim=1).tolist()
            (maps,) = extractor(classes)
        return functional.interpolate(maps[:, None], size=(SIZE, SIZE), mode="bilinear")

    def grad_cam(net: GradingNetwork) -> Tensor:
        member: Any = net.members[0]
        with GradCAM(OneSubClassifier(net), [member.backbone.features.norm5]) as extractor:
            return torch.from_numpy(extractor(pictures[net], None))[:, None]

    torch.testing.assert_close(torchcam(network), ours(bf16=False), atol=1e-3, rtol=0)
    libraries: dict[str, Callable[[GradingNetwork], Tensor]] = {"pytorch-grad-cam": grad_cam, "torchcam": torchcam}
    calls: dict[str, Callable[[], object]] = {"bf16": partial(ours, True), "fp32": partial(ours, False)}
    for name, call in libraries.items():
        calls |= {
            f"{name}, fp32, contiguous": partial(call, plain),
            f"{name}, fp32, channels_last": partial(call, network),
        }
    taken = alternate(calls, ROUNDS)
    what = f"activation map of the predicted class, DenseNet121, {SIZE} px"
    goals = {"pytorch-grad-cam": (8.0, 1.9), "torchcam": (3.0, 0.97)}
    for name, (default, same) in goals.items():
        yield ratio(f"{what} (bf16, channels_last)", f"{name} at its defaults (fp32, contiguous)", taken["bf16"],
                    taken[f"{name}, fp32, contiguous"], goal=default,
                    miss="both make one pass; bf16 and layout do not gain more on this processor")  # fmt: skip
        yield ratio(f"{what} (fp32, channels_last)", f"{name} (fp32, channels_last)", taken["fp32"],
                    taken[f"{name}, fp32, channels_last"], goal=same)  # fmt: skip


if __name__ == "__main__":
    show(measure())
