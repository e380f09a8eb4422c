"""Networks from what a checkpoint holds: the name of a class and plain keywords.

A name is only looked up here. Nothing is imported because a file names it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from fundusnet.errors import UserError

# Modules are imported on demand: they import this package.
NETWORKS = {
    "GuidedCAM": "fundusnet.findings.network",
    "GuidedTimm": "fundusnet.findings.network",
    "InceptionCAM": "fundusnet.findings.network",
    "GradingNetwork": "fundusnet.grading.network",
    "LandmarkNetwork": "fundusnet.landmarks.network",
}
# Names that version 0.1.0 wrote, and the keywords they imply: it normalised for every backbone as for ImageNet.
OLD_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "guided": ("GuidedCAM", {}),
    "guided_timm": ("GuidedTimm", {"mean_std": "imagenet"}),
    "inception_cam": ("InceptionCAM", {"mean_std": "imagenet"}),
}


def network_class(name: str, given: type[nn.Module] | None = None) -> type[nn.Module]:
    """The network class called ``name``.

    Args:
        name: Class of ours, a name that version 0.1.0 wrote, or the dotted name of a user's own class.
        given: The user's own class; needed where ``name`` is dotted, otherwise ignored.

    Raises:
        UserError: Unknown name, or a user's own class that is not given, or another one.
    """
    ours = OLD_NAMES[name][0] if name in OLD_NAMES else name
    if ours in NETWORKS:
        found: type[nn.Module] = getattr(import_module(NETWORKS[ours]), ours)
        return found
    if "." not in name:
        raise UserError(f"unknown network {name}; choose one of {', '.join(NETWORKS)}")
    short = name.rpartition(".")[2]
    if given is None or given.__name__ != short:
        instead = f", not {given.__name__}" if given else ""
        raise UserError(
            f"checkpoint needs the network class {name}{instead}; pass it: fundusnet.load(checkpoint, network={short})"
        )
    return given


def network_spec(node: Mapping[str, Any]) -> tuple[dict[str, Any], type[nn.Module] | None]:
    """What a checkpoint keeps of a configured network, and its class if that is the user's own.

    Args:
        node: ``_target_``, the dotted name of the class, and plain arguments.

    Raises:
        UserError: The user's class cannot be imported.
    """
    target = str(node["_target_"])
    options = {str(key): value for key, value in node.items() if not str(key).startswith("_")}
    module, _, name = target.rpartition(".")
    if NETWORKS.get(name) == module:
        return {"name": name, **options}, None
    return {"name": target, **options}, import_network(target, "model.network._target_")


def import_network(name: str | None, key: str = "network") -> type[nn.Module] | None:
    """The class of the user's own that ``key`` names; None if it names none.

    Raises:
        UserError: There is no such class, or it is not an ``nn.Module``.

    Examples:
        >>> import_network("torch.nn.Identity")
        <class 'torch.nn.modules.linear.Identity'>
    """
    if name is None:
        return None
    module, _, attribute = name.rpartition(".")
    try:
        found: type[nn.Module] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{key}={name} cannot be imported: {error}; give a dotted name such as clinic.nets.MyNet, and install its "
            "package or add the folder that holds it to PYTHONPATH"
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{key}={name} is not a subclass of torch.nn.Module; give the class of the network")
    return found


def without_start(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a network whose weights are at hand: none have to be fetched to start from."""
    return {**spec, **{key: off for key, off in (("pretrained", False), ("weights", None)) if key in spec}}


def build_network(spec: Mapping[str, Any], given: type[nn.Module] | None = None, **extra: Any) -> nn.Module:
    """A network with random or initial weights from its specification.

    Args:
        spec: ``name`` of the class and its keywords; without a name, as version 0.1.0 wrote it for grading, it is of a
            ``GradingNetwork``. Old names may come with keys of other networks, which are dropped.
        given: The user's own class, see ``network_class``.
        **extra: Keywords that the data decides: ``findings`` or ``classes``.

    Raises:
        UserError: Unknown name, a keyword that the class does not take, or one that it needs and lacks.
    """
    name = str(spec.get("name", "GradingNetwork"))
    kind = network_class(name, given)
    signature = inspect.signature(kind)
    keywords = {key: value for key, value in spec.items() if key != "name"}
    if name in OLD_NAMES:
        keywords = {key: value for key, value in keywords.items() if key in signature.parameters}
        keywords |= OLD_NAMES[name][1]
    keywords |= extra
    try:
        signature.bind(**keywords)
    except TypeError as error:
        raise UserError(f"network {name} cannot be built: {error}; use a fundusnet that knows it") from error
    return kind(**keywords)
