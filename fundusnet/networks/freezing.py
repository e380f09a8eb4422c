"""Parts of a pretrained backbone that training leaves as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fundusnet.errors import UserError
from fundusnet.networks.joint import JointBackbone

Freeze = int | Literal["all"]


def freeze_layers(backbone: Any, layers: Freeze) -> None:
    """Exclude the first layers of a backbone from training.

    Args:
        backbone: Network of timm.
        layers: How many of the layers that timm groups its parameters into (the stem is the first), or ``all``.

    Raises:
        UserError: A word other than ``all``, or more layers than the backbone has.
    """
    from timm.models import group_parameters

    if isinstance(layers, str) and layers != "all":
        raise UserError(f"model.network.freeze={layers} is not possible; use a number of layers, or all")
    if layers == 0:
        return
    if isinstance(backbone, JointBackbone):
        for part in backbone.parts:
            freeze_layers(part, layers)
        return
    layer_of = group_parameters(backbone, backbone.group_matcher(coarse=True), reverse=True)
    last = max(layer_of.values(), default=0)
    if layers != "all" and layers > last:
        raise UserError(f"model.network.freeze={layers} is more than the {last} layers of this backbone; or use all")
    for name, parameter in backbone.named_parameters():
        if layers == "all" or layer_of[name] < layers:
            parameter.requires_grad_(False)


def frozen_to_eval(backbones: Iterable[nn.Module], batch_norm: bool = False) -> None:
    """Keep the batch-norm statistics of frozen layers, and dropout of a wholly frozen backbone off.

    ``train()`` undoes this, so networks call it from there.

    Args:
        backbones: Networks, frozen in part or not at all.
        batch_norm: Keep the statistics of layers that are trained, too.
    """
    for backbone in backbones:
        if not any(parameter.requires_grad for parameter in backbone.parameters()):
            backbone.eval()
            continue
        for module in backbone.modules():
            if isinstance(module, _BatchNorm) and (
                batch_norm or not any(parameter.requires_grad for parameter in module.parameters())
            ):
                module.eval()
