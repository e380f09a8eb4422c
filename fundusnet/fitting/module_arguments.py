"""From the ``model`` group of a configuration to the constructor of its LightningModule."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.config.objects import build, factory
from fundusnet.networks.build import network_spec


def module_arguments(model: DictConfig) -> dict[str, Any]:
    """What the LightningModules of all tasks take: network, optimiser, schedule, memory layout, loss and flips if any.

    Raises:
        UserError: A ``_target_`` cannot be imported, or not be called with these arguments.
    """
    network: Any = OmegaConf.to_container(model.network, resolve=True)
    spec, own = network_spec(network)
    return {
        "network": spec,
        "network_class": own,
        "channels_last": bool(model.channels_last),
        "optimizer": factory(model.optimizer),
        "schedule": factory(model.schedule) if model.schedule else None,
        **({"loss": build(model.loss)} if "loss" in model else {}),
        **({"flips": bool(model.flips)} if "flips" in model else {}),
    }
