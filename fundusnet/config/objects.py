"""Objects that a configuration describes by ``_target_``, as Hydra's ``instantiate`` makes them."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from fundusnet.errors import UserError


def build(node: DictConfig, **extra: Any) -> Any:
    """The object that ``node`` describes.

    Args:
        node: ``_target_``, the dotted name of a class or function, and its arguments.
        **extra: Further arguments, of any type; they replace those of the node.

    Raises:
        UserError: The target cannot be imported, or not be called with these arguments.
    """
    return factory(node)(**extra)


def factory(node: DictConfig) -> Any:
    """A function of the arguments that ``node`` leaves open, which makes the object that it describes."""
    key = str(node._get_full_key(None))
    try:
        make = instantiate(node, _partial_=True, _convert_="all")
    except InstantiationException as error:
        raise _cannot_be_built(key, node, error.__cause__ or error) from error

    def call(*arguments: Any, **extra: Any) -> Any:
        try:
            return make(*arguments, **extra)
        except (TypeError, ValueError) as error:
            raise _cannot_be_built(key, node, error) from error

    call.__wrapped__ = make  # type: ignore[attr-defined]  # inspect.signature looks through it
    return call


def _cannot_be_built(key: str, node: DictConfig, error: BaseException) -> UserError:
    if isinstance(error, UserError):
        return error
    return UserError(f"{key}: {node._target_} cannot be built: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
