"""Whether a map shows what a network's decision rests on: deletion, insertion, and shuffled weights.

Deletion blurs the picture under the cells of a map, the highest first; insertion starts from the blurred picture and
restores them, the highest first (Petsiuk et al. 2018). With a faithful map the probability falls early and rises early.
The same in random order is the baseline. The sanity check (Adebayo et al. 2018) shuffles the weights layer by layer,
from the head to the first: a map that stays the same shows the picture, not what was learnt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics.functional.image import structural_similarity_index_measure

from fundusnet.evaluation.intervals import Floats
from fundusnet.system.progress import track

Pictures = Sequence[NDArray[np.uint8]]
IMAGES = 64  # of each target: each takes hundreds of passes through the network
STEPS = 16
LEVELS = 7  # numbers of shuffled layers at which the maps are compared
BATCH = 16
BLUR = 1 / 16  # sigma of the blurred picture, as a share of the width
WINDOW = 7  # cells: side of SSIM's window
TESTS = ("deletion", "deletion_random", "insertion", "insertion_random")


@dataclass(frozen=True)
class Explanation:
    """A network and maps that claim to explain its probabilities.

    Attributes:
        network: The network.
        score: Maps the network, pictures ``(B, 3, H, W)`` in [0, 1] and targets ``(B,)`` to the explained probabilities
            ``(B,)``. A target is the number of a finding or a grade.
        maps: Maps the same to the maps ``(B, h, w)``.
    """

    network: nn.Module
    score: Callable[[nn.Module, Tensor, Tensor], Tensor]
    maps: Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Faithfulness:
    """The outcome of both tests for the maps of N pictures.

    Attributes:
        curves: ``(N, 4, STEPS + 1)``, the probability after each share of the cells, in the order of ``TESTS``.
        levels: L shares of layers whose weights are shuffled.
        correlation: ``(N, L)``, rank correlation of the map with the original one; NaN where either is constant.
        similarity: ``(N, L)``, their structural similarity (SSIM), likewise.
    """

    curves: Floats
    levels: list[float]
    correlation: Floats
    similarity: Floats


def sample_rows(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at most ``IMAGES`` of ``rows``, always the same, in their order."""
    if len(rows) <= IMAGES:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, IMAGES, replace=False))


@torch.no_grad()
def measure_faithfulness(
    explanation: Explanation, pictures: Pictures, targets: Sequence[int], seed: int = 0
) -> Faithfulness:
    """Run both tests on the maps of pictures, uint8 ``(S, S, 3)`` each; ``seed`` sets the random orders."""
    device = next(explanation.network.parameters()).device
    target = torch.tensor(list(targets), device=device)
    before = _in_batches(explanation.maps, explanation.network, pictures, target)
    curves = [
        perturbation_curves(explanation, picture, before[number], int(target[number]), seed + number)
        for number, picture in enumerate(track(pictures, "deletion, insertion", total=len(pictures)))
    ]
    levels, correlation, similarity = [], [], []
    shuffled = shuffle_weights(explanation, pictures, target, seed)
    for share, network in track(shuffled, "shuffle weights", total=LEVELS):
        after = _in_batches(explanation.maps, network, pictures, target)
        levels.append(share)
        correlation.append([rank_correlation(a, b) for a, b in zip(before, after, strict=True)])
        similarity.append([structural_similarity(a, b) for a, b in zip(before, after, strict=True)])
    return Faithfulness(np.array(curves), levels, np.array(correlation).T, np.array(similarity).T)


@torch.no_grad()
def perturbation_curves(
    explanation: Explanation, picture: NDArray[np.uint8], activation: Floats, target: int, seed: int = 0
) -> Floats:
    """Return the probabilities ``(4, STEPS + 1)`` of one picture, in the order of ``TESTS``.

    Args:
        explanation: The network.
        picture: uint8 ``(S, S, 3)``.
        activation: Its map ``(h, w)``; cells of equal height are ordered at random.
        target: What the probability is of.
        seed: Of the random orders.
    """
    device = next(explanation.network.parameters()).device
    generator = np.random.default_rng(seed)
    chance = generator.permutation(activation.size)
    by_map = chance[np.argsort(-activation.ravel()[chance], kind="stable")]
    original, blurred = (_tensor([one], device) for one in (picture, blur(picture)))
    shown = []
    for start, end in ((original, blurred), (blurred, original)):
        for order in (by_map, generator.permutation(activation.size)):
            rank_of_cell = np.empty(activation.size)
            rank_of_cell[order] = np.arange(activation.size)
            counts = np.round(np.linspace(0, activation.size, STEPS + 1))[:, None, None]
            changed = torch.from_numpy(rank_of_cell.reshape(activation.shape)[None] < counts)[:, None].to(device)
            cells = nn.functional.interpolate(changed.float(), size=picture.shape[:2], mode="nearest")
            shown.append(torch.where(cells > 0, end, start))
    pictures = torch.cat(shown)
    targets = torch.full((len(pictures),), target, device=device)
    scores = [
        explanation.score(explanation.network, some, wanted).float()
        for some, wanted in zip(torch.split(pictures, BATCH), torch.split(targets, BATCH), strict=True)
    ]
    return torch.cat(scores).cpu().numpy().astype(np.float64).reshape(len(TESTS), STEPS + 1)


def blur(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blur a picture so far that lesions disappear and brightness stays."""
    blurred = cv2.GaussianBlur(picture, (0, 0), picture.shape[1] * BLUR, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.uint8)


def shuffle_weights(
    explanation: Explanation, pictures: Pictures, targets: Tensor, seed: int = 0
) -> Iterator[tuple[float, nn.Module]]:
    """Shuffle the weights of more and more layers, starting at the head.

    Weights are shuffled within each tensor, so that their distribution stays that of trained ones. Batch-norm
    statistics of shuffled layers are estimated again from the pictures, or activations would vanish or explode.

    Yields:
        The share of shuffled layers, and the network: the same object each time, changed in place.
    """
    network = deepcopy(explanation.network).eval()
    generator = torch.Generator().manual_seed(seed)
    layers = layers_from_head(network, lambda: _in_batches(explanation.score, network, pictures[:1], targets[:1]))
    stops = np.unique(np.geomspace(1, len(layers), LEVELS).round().astype(int)).tolist()
    norms: list[_BatchNorm] = []
    for done, stop in zip([0, *stops], stops, strict=False):
        for layer in (layer for group in layers[done:stop] for layer in group):
            for weight in layer.parameters(recurse=False):
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.flatten()[order].view_as(weight))
            if isinstance(layer, _BatchNorm) and layer.track_running_stats:
                norms.append(layer)
        _reestimate(norms, lambda: _in_batches(explanation.score, network, pictures, targets))
        yield stop / len(layers), network


def layers_from_head(network: nn.Module, run: Callable[[], object]) -> list[list[nn.Module]]:
    """Return the layers that have weights, the last to be executed first.

    Layers at the same place in several heads or members form one group.

    Args:
        network: The network.
        run: Sends a picture through it.
    """
    order: dict[str, list[nn.Module]] = {}
    leaves = {name: one for name, one in network.named_modules() if any(True for _ in one.parameters(recurse=False))}

    def recorder(name: str, layer: nn.Module) -> Callable[..., None]:
        def record(*_: object) -> None:
            group = order.setdefault(re.sub(r"\b(heads|members)\.\d+", r"\1", name), [])
            if not any(layer is other for other in group):
                group.append(layer)

        return record

    hooks = [layer.register_forward_pre_hook(recorder(name, layer)) for name, layer in leaves.items()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return list(order.values())[::-1]


def rank_correlation(first: Floats, second: Floats) -> float:
    """Return Spearman's correlation of two maps ``(h, w)``; NaN where one is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def structural_similarity(first: Floats, second: Floats) -> float:
    """Return the SSIM of two maps ``(h, w)``, each stretched to [0, 1]; NaN where one is constant.

    Wang et al. 2004 with a flat window of seven cells, mirrored at the border.
    """
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    # torchmetrics mirrors maps too, but not those smaller than its window.
    edge = WINDOW // 2
    padded = (np.pad((one - one.min()) / np.ptp(one), edge, mode="symmetric") for one in (first, second))
    a, b = (torch.from_numpy(one)[None, None] for one in padded)
    _, cells = structural_similarity_index_measure(
        a, b, gaussian_kernel=False, kernel_size=WINDOW, data_range=1.0, return_full_image=True
    )
    return float(cells[..., edge:-edge, edge:-edge].mean())


def _in_batches(
    function: Callable[[nn.Module, Tensor, Tensor], Tensor], network: nn.Module, pictures: Pictures, targets: Tensor
) -> Floats:
    batches = [slice(start, start + BATCH) for start in range(0, len(pictures), BATCH)]
    found = [function(network, _tensor(pictures[some], targets.device), targets[some]) for some in batches]
    return torch.cat(found).float().cpu().numpy().astype(np.float64)


def _reestimate(norms: Sequence[_BatchNorm], run: Callable[[], object]) -> None:
    """Estimate the running statistics of batch-norm layers from what ``run`` sends through the network."""
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
