"""Optimisers for fine-tuning: other learning rates for the layers of a backbone and for the head."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from fundusnet.config.ranges import NonNegative, Positive, Share
from fundusnet.errors import UserError

MakeOptimizer = Callable[..., Optimizer]


def build_optimizer(make: MakeOptimizer, network: nn.Module) -> Optimizer:
    """Build an optimiser of what is trained of a network.

    One that has a parameter ``network``, as it needs to know the layers, gets it; any other gets the parameters.
    """
    if "network" in inspect.signature(make).parameters:
        return make(network=network)
    return make(parameter for parameter in network.parameters() if parameter.requires_grad)


def fine_tuning(
    network: nn.Module,
    name: str = "adamw",
    lr: Positive = 1e-3,
    weight_decay: NonNegative = 0.05,
    layer_decay: Share = 1.0,
    head: Positive = 1.0,
    **options: Any,
) -> Optimizer:
    """Make an optimiser of timm's by name, with learning rates by layer.

    Weights of one dimension (biases, norms) do not decay.

    Args:
        network: Its submodules of timm are backbones, what is left is the head.
        name: As ``timm.optim.list_optimizers`` gives it.
        lr: Learning rate of the last layer of a backbone.
        weight_decay: Of weights with two dimensions or more.
        layer_decay: Factor from the learning rate of a layer to that of the layer before.
        head: Learning rate of the head, as a multiple of ``lr``.
        **options: Further arguments of that optimiser.

    Raises:
        UserError: timm has no such optimiser.
    """
    from timm.optim._optim_factory import create_optimizer_v2, list_optimizers
    from timm.optim._param_groups import param_groups_layer_decay

    if name not in list_optimizers():
        raise UserError(f"model.optimizer.name={name} is unknown to timm; choose one of timm.optim.list_optimizers()")
    groups = []
    backbones = [module for module in network.modules() if hasattr(module, "group_matcher")]
    for backbone in backbones:
        if not any(parameter.requires_grad for parameter in backbone.parameters()):
            continue
        for group in param_groups_layer_decay(backbone, weight_decay, layer_decay=layer_decay):
            groups.append({**group, "lr": lr * group.pop("lr_scale")})
    in_backbones = {id(parameter) for backbone in backbones for parameter in backbone.parameters()}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in in_backbones]
    for flat in (False, True):
        if parameters := [p for p in rest if (p.ndim <= 1) == flat]:
            groups.append({"params": parameters, "lr": lr * head, "weight_decay": 0.0 if flat else weight_decay})
    return create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=weight_decay, **options)
