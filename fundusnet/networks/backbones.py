"""Backbones of timm, and the weights they start from: a file's, timm's own, or random ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fundusnet.errors import UserError
from fundusnet.system.log_level import log_level

log = logging.getLogger(__name__)


def bare_backbone(name: str, **options: Any) -> Any:
    """A network of timm without pooling and classifier, with random weights; ``options`` are timm's.

    Raises
    ------
    UserError: timm has no such network.
    """
    import timm

    if not timm.is_model(name):
        raise UserError(f"model.network.backbone={name} is unknown to timm; timm.list_models() names those it has")
    return timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **options)


def load_weights(backbones: Sequence[Any], name: str, pretrained: bool, weights: str | None) -> str:
    """Load the same weights into all backbones, and say which: a file's, timm's, or random ones, each its own.

    Raises
    ------
    UserError: the file ``weights`` is missing, damaged, or of another network.
    """
    state = None
    source = "random"
    if weights is not None:
        if not Path(weights).is_file():
            raise UserError(f"model.network.weights={weights} does not exist; give a file or null")
        state, source = _file_state(name, weights), f"file {weights}"
    elif pretrained:
        state = _pretrained_state(name)
        source = "pretrained (timm)" if state is not None else "random (pretrained weights could not be had)"
    if state is not None:
        for backbone in backbones:
            backbone.load_state_dict(state)
    return source


def _file_state(name: str, weights: str) -> dict[str, Tensor]:
    try:
        # Twice, from other random weights: what the file does not hold stays random, and timm does not mind.
        first, second = (_created(name, seed, pretrained_cfg_overlay={"file": weights}) for seed in (0, 1))
    except Exception as error:  # timm on damaged files: from SafetensorError to AttributeError and IndexError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"model.network.weights={weights} does not fit {name}: {reason}") from error
    missing = [key for key, value in first.items() if not torch.equal(value, second[key])]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"model.network.weights={weights} does not fit {name}: it lacks {missing[0]}{more}")
    return first


@lru_cache(maxsize=1)
def _pretrained_state(name: str) -> dict[str, Tensor] | None:
    """timm's weights, or None. Kept: without a connection each try takes most of a minute."""
    log.info("fetching timm's weights of %s; without a connection it is tried for most of a minute", name)
    try:
        with log_level(logging.ERROR, "huggingface_hub"):  # each try is a line of its own, and told twice
            return _created(name, seed=0)
    except Exception as error:  # the hub's client has errors of its own for each way of being out of reach
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        log.warning("no pretrained weights for %s, it starts from random ones: %s", name, reason)
        return None


def _created(name: str, seed: int, **options: Any) -> dict[str, Tensor]:
    """The state of a network that timm makes with ``pretrained=True``; it knows older spellings of its own weights."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = timm.create_model(name, pretrained=True, num_classes=0, global_pool="", **options)
    state: dict[str, Tensor] = backbone.state_dict()
    return state
