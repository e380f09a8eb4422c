"""A trained network rewritten to compute the same numbers in fewer passes over memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network")
TOLERANCE = 1e-3  # of the largest value


def fused(network: Network, ask: Callable[[Network], Tensor | Sequence[Tensor]]) -> Network:
    """A copy of a network after ``fuse``; the network itself if there is nothing to fuse or the copy answers otherwise.

    It is the network itself, too, if it cannot be copied or cannot answer.

    Args:
        network: A module in evaluation mode. Networks that anybody may bring need not compute in the order of their
            children, as ``fuse`` supposes.
        ask: Gives what a network answers to some picture.
    """
    try:
        faster = copy.deepcopy(network)
        assert isinstance(faster, nn.Module)
        if not fuse(faster):
            return network
        with torch.inference_mode():
            answers = [[given] if isinstance(given, Tensor) else given for given in (ask(network), ask(faster))]
    except RuntimeError:  # weights computed from others cannot be copied, and some networks take pictures of one size
        return network
    return faster if all(_close(*pair) for pair in zip(*answers, strict=True)) else network


def fuse(module: nn.Module) -> int:
    """Fold each batch norm that follows a convolution into it, and padding that TensorFlow calls "same", in place.

    In the order of a module's children, which has to be that of computation, as in EfficientNets. An activation that is
    part of a norm, as in timm's ``BatchNormAct2d``, stays where it is.

    Args:
        module: In evaluation mode; it cannot be trained any more.

    Returns:
        Number of norms that were folded.
    """
    conv: nn.Conv2d | None
    folded, previous, conv = 0, "", None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and conv is not None and _fit(conv, child):
            setattr(module, previous, _without_copy(fuse_conv_bn_eval(conv, child)))
            setattr(module, name, getattr(child, "act", nn.Identity()))
            folded += 1
        else:
            folded += fuse(child)
        # Other kinds of convolutions may change their weights on the way.
        known = type(child) in (nn.Conv2d, Conv2dSame)
        previous, conv = name, child if isinstance(child, nn.Conv2d) and known else None
    return folded


class HalvingConv2d(nn.Conv2d):
    """A convolution of stride 2 with an odd kernel and "same" padding, which does not copy its input to pad it.

    "Same" pads an even input by one more pixel at its end than at its start, which no convolution of PyTorch does. With
    a row and a column of zeros before the kernel, equal padding on both sides gives the same.
    """

    def __init__(self, same: Conv2dSame) -> None:
        super().__init__(
            same.in_channels, same.out_channels, same.kernel_size[0] + 1, stride=2, groups=same.groups,
            bias=same.bias is not None,
        )  # fmt: skip
        weight = functional.pad(same.weight.detach(), (1, 0, 1, 0))
        last = same.weight.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        self.weight = nn.Parameter(weight.contiguous(memory_format=layout))
        self.bias = same.bias

    def forward(self, x: Tensor) -> Tensor:
        least = self.kernel_size[0] // 2 - 1
        height, width = x.shape[-2:]
        padding = least + height % 2, least + width % 2
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


def _fit(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    return conv.out_channels == norm.num_features and norm.running_mean is not None


def _without_copy(conv: nn.Conv2d) -> nn.Conv2d:
    if not isinstance(conv, Conv2dSame) or conv.stride != (2, 2) or conv.dilation != (1, 1):
        return conv
    height, width = conv.kernel_size
    return HalvingConv2d(conv) if height == width and height % 2 and height > 1 else conv


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.float(), other.float(), rtol=0, atol=TOLERANCE * float(one.abs().max()))
