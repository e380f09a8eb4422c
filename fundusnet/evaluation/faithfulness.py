"""Whether a map shows what the network decides by: deletion, insertion, and what is left when the weights are gone.

Deletion blurs the cells of a map away, the highest first, and insertion brings them back into the blurred picture, the
highest first (Petsiuk et al. 2018): with a faithful map the probability falls early and rises early. The same in random
order is what any map would give. The sanity check (Adebayo et al. 2018) takes the layers' weights away one after the
other, from the head to the first: a map that stays as it was shows the picture, and not what was learnt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fundusnet.evaluation.intervals import Floats
from fundusnet.system.progress import track

Pictures = Sequence[NDArray[np.uint8]]
STEPS = 16
LEVELS = 7  # stops of the cascade at which the maps are compared
BATCH = 16
BLUR = 1 / 16  # sigma of the baseline, as a share of the width
WINDOW = 7  # cells: side of SSIM's window
TESTS = ("deletion", "deletion_random", "insertion", "insertion_random")


@dataclass(frozen=True)
class Explained:
    """A network and the maps that are said to explain it.

    ``score(network, pictures (B, 3, H, W) in [0, 1], targets (B,))`` is the probability ``(B,)`` that the maps explain,
    ``maps(network, pictures, targets)`` are they, ``(B, h, w)``. A target is what a probability is of: a finding, a
    grade.
    """

    network: nn.Module
    score: Callable[[nn.Module, Tensor, Tensor], Tensor]
    maps: Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Tested:
    """What the maps of N pictures make of both tests.

    ``curves`` ``(N, 4, STEPS + 1)``: the probability after each share of the cells, in the order of ``TESTS``. For each
    level of the cascade ``levels`` is the share of layers shuffled, ``correlation`` and ``similarity`` ``(N, L)`` are
    rank correlation and SSIM of the map with the one before, NaN where either is constant.
    """

    curves: Floats
    levels: list[float]
    correlation: Floats
    similarity: Floats


@torch.no_grad()
def faithfulness(explained: Explained, pictures: Pictures, targets: Sequence[int], seed: int = 0) -> Tested:
    """Put the maps of pictures, uint8 ``(S, S, 3)`` each, to both tests; a picture's random order hangs on ``seed``."""
    device = next(explained.network.parameters()).device
    target = torch.tensor(list(targets), device=device)
    before = _maps(explained, explained.network, pictures, target)
    curves = [
        perturbed(explained, picture, before[number], int(target[number]), seed + number)
        for number, picture in enumerate(track(pictures, "deletion, insertion", total=len(pictures)))
    ]
    levels, correlation, similarity = [], [], []
    for share, network in track(shuffled(explained, pictures, target, seed), "shuffle weights", total=LEVELS):
        after = _maps(explained, network, pictures, target)
        levels.append(share)
        correlation.append([rank_correlation(a, b) for a, b in zip(before, after, strict=True)])
        similarity.append([ssim(a, b) for a, b in zip(before, after, strict=True)])
    return Tested(np.array(curves), levels, np.array(correlation).T, np.array(similarity).T)


@torch.no_grad()
def perturbed(
    explained: Explained, picture: NDArray[np.uint8], activation: Floats, target: int, seed: int = 0
) -> Floats:
    """``(4, STEPS + 1)`` probabilities of one picture, in the order of ``TESTS``; ties in the map fall at random."""
    device = next(explained.network.parameters()).device
    generator = np.random.default_rng(seed)
    chance = generator.permutation(activation.size)
    by_map = chance[np.argsort(-activation.ravel()[chance], kind="stable")]
    original, blurred = (_tensor([one], device) for one in (picture, baseline(picture)))
    shown = []
    for start, end in ((original, blurred), (blurred, original)):
        for order in (by_map, generator.permutation(activation.size)):
            turn = np.empty(activation.size)
            turn[order] = np.arange(activation.size)
            counts = np.round(np.linspace(0, activation.size, STEPS + 1))[:, None, None]
            changed = torch.from_numpy(turn.reshape(activation.shape)[None] < counts)[:, None].to(device)
            cells = nn.functional.interpolate(changed.float(), size=picture.shape[:2], mode="nearest")
            shown.append(torch.where(cells > 0, end, start))
    pictures = torch.cat(shown)
    targets = torch.full((len(pictures),), target, device=device)
    scores = [
        explained.score(explained.network, some, wanted).float()
        for some, wanted in zip(torch.split(pictures, BATCH), torch.split(targets, BATCH), strict=True)
    ]
    return torch.cat(scores).cpu().numpy().astype(np.float64).reshape(len(TESTS), STEPS + 1)


def baseline(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What stands for nothing to see: the picture blurred, its lesions gone and its light kept."""
    blurred = cv2.GaussianBlur(picture, (0, 0), picture.shape[1] * BLUR, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.uint8)


def shuffled(
    explained: Explained, pictures: Pictures, targets: Tensor, seed: int = 0
) -> Iterator[tuple[float, nn.Module]]:
    """The network with more and more layers' weights shuffled, from the head on, and the share of them that are.

    Shuffled within each tensor, so that their sizes stay those of trained ones; batch-norm statistics of shuffled
    layers are taken anew from the pictures, or activations would vanish or run away. It is one network, which changes.
    """
    network = deepcopy(explained.network).eval()
    generator = torch.Generator().manual_seed(seed)
    layers = layers_from_head(network, lambda: _scores(explained, network, pictures[:1], targets[:1]))
    stops = np.unique(np.geomspace(1, len(layers), LEVELS).round().astype(int)).tolist()
    norms: list[_BatchNorm] = []
    for done, stop in zip([0, *stops], stops, strict=False):
        for layer in (layer for group in layers[done:stop] for layer in group):
            for weight in layer.parameters(recurse=False):
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.flatten()[order].view_as(weight))
            if isinstance(layer, _BatchNorm) and layer.track_running_stats:
                norms.append(layer)
        _estimate(norms, lambda: _scores(explained, network, pictures, targets))
        yield stop / len(layers), network


def layers_from_head(network: nn.Module, run: Callable[[], object]) -> list[list[nn.Module]]:
    """The layers with weights, the last to work first; ``run`` sends a picture through the network.

    Those that stand at the same place of several heads or members are in one group.
    """
    order: dict[str, list[nn.Module]] = {}
    leaves = {name: one for name, one in network.named_modules() if any(True for _ in one.parameters(recurse=False))}

    def noting(name: str, layer: nn.Module) -> Callable[..., None]:
        def note(*_: object) -> None:
            group = order.setdefault(re.sub(r"\b(heads|members)\.\d+", r"\1", name), [])
            if not any(layer is other for other in group):
                group.append(layer)

        return note

    hooks = [layer.register_forward_pre_hook(noting(name, layer)) for name, layer in leaves.items()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return list(order.values())[::-1]


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's correlation of two maps ``(h, w)``; NaN where one is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(first.ravel()), rankdata(second.ravel()))[0, 1])


def ssim(first: Floats, second: Floats) -> float:
    """Structural similarity of two maps ``(h, w)``, each stretched to [0, 1]; NaN where one is constant.

    Wang et al. 2004 with a flat window of seven cells, mirrored at the border.
    """
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    a, b = ((one - one.min()) / np.ptp(one) for one in (first, second))
    size = min(WINDOW, *a.shape)

    def mean(values: Floats) -> Floats:
        return np.asarray(uniform_filter(values, size, mode="reflect"))

    of_a, of_b = mean(a), mean(b)
    spread_a, spread_b, common = mean(a * a) - of_a**2, mean(b * b) - of_b**2, mean(a * b) - of_a * of_b
    light = (2 * of_a * of_b + 1e-4) / (of_a**2 + of_b**2 + 1e-4)
    return float((light * (2 * common + 9e-4) / (spread_a + spread_b + 9e-4)).mean())


def _maps(explained: Explained, network: nn.Module, pictures: Pictures, targets: Tensor) -> Floats:
    return _passed(partial(explained.maps, network), pictures, targets)


def _scores(explained: Explained, network: nn.Module, pictures: Pictures, targets: Tensor) -> Floats:
    return _passed(partial(explained.score, network), pictures, targets)


def _passed(through: Callable[[Tensor, Tensor], Tensor], pictures: Pictures, targets: Tensor) -> Floats:
    batches = [slice(start, start + BATCH) for start in range(0, len(pictures), BATCH)]
    found = [through(_tensor(pictures[some], targets.device), targets[some]) for some in batches]
    return torch.cat(found).float().cpu().numpy().astype(np.float64)


def _estimate(norms: Sequence[_BatchNorm], run: Callable[[], object]) -> None:
    """Take the running statistics of batch-norm layers anew from what ``run`` sends through the network."""
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    if norms:
        run()
    for norm in norms:
        norm.eval()


def _tensor(pictures: Pictures, device: torch.device) -> Tensor:
    stacked = np.stack([np.asarray(picture) for picture in pictures])
    return torch.from_numpy(stacked).to(device).permute(0, 3, 1, 2).float().div(255)
