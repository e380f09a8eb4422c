"""From the ``model`` group of a configuration to the constructor of its LightningModule."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.config.objects import build, factory
from fundusnet.networks.build import network_spec


def module_arguments(model: DictConfig) -> dict[str, Any]:
    """What the LightningModules of both tasks take: network, loss, optimiser, schedule, memory layout and flips.

    Raises:
        UserError: A ``_target_`` cannot be imported, or not be called with these arguments.
    """
    network: Any = OmegaConf.to_container(model.network, resolve=True)
    spec, own = network_spec(network)
    return {
        "network": spec,
        "network_class": own,
        "channels_last": bool(model.channels_last),
        "flips": bool(model.get("flips", False)),
        "loss": build(model.loss),
        "optimizer": factory(model.optimizer),
        "schedule": factory(model.schedule) if model.schedule else None,
    }
