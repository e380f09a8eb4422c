"""Whether a value fits the type that a constructor gives its argument, and in words what would."""

from __future__ import annotations

import collections.abc
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from omegaconf import OmegaConf
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fundusnet.errors import UserError

PYDANTIC = {
    "a valid boolean": "true or false",
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid string": "a string",
    "a valid list": "a list",
    "a valid dictionary": "a mapping {name: value}",
}
ORDER = list(PYDANTIC.values())
_NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def check_value(key: str, value: Any, kind: Any, verb: str) -> None:
    """Refuse a value that does not fit.

    Args:
        key: Where it was given.
        value: Plain, or a node of omegaconf.
        kind: Any type that pydantic checks; ``Any`` takes everything.
        verb: The command, since training can sweep over several values.

    Raises:
        UserError: Names the key and what it may be.
    """
    if kind is Any:
        return
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    try:
        read = TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(plain)
    except ValidationError as error:
        sweep = verb == "train" and isinstance(plain, str) and ("," in plain or plain.endswith(")"))
        several = "; to train with each of several values add -m" if sweep else ""
        if isinstance(plain, str) and any(
            get_origin(each) in (list, collections.abc.Sequence) for each in kinds_of(kind)
        ):
            several = f", such as {key}=[{plain}]"
        raise UserError(f"{key}={plain} is not valid: use {_allowed(error, kind)}{several}") from error
    if isinstance(plain, bool | str) and type(read) is not type(plain) and not isinstance(read, Path):
        raise UserError(f"{key}={plain} is not valid: use {_NAMES.get(type(read), type(read).__name__)}")


def _allowed(error: ValidationError, kind: Any) -> str:
    """What a value should be, in words."""
    allowed = []
    for each in error.errors():
        text = each["msg"].removeprefix("Input should be ").partition(",")[0]
        if each["type"] == "literal_error":
            allowed.append(str(each["ctx"]["expected"]).replace("'", ""))
        elif each["type"] in ("missing", "too_long") and get_origin(kind) is tuple:
            allowed.append(f"a list of {len(get_args(kind))} values")
        else:
            allowed.append(PYDANTIC.get(text, f"a value {text}"))
    # Unions are cached by typing in the order of their first use, which is no order to show.
    return " or ".join(
        sorted(set(allowed), key=lambda text: (ORDER.index(text) if text in ORDER else len(ORDER), text))
    )


def kinds_of(kind: Any) -> list[Any]:
    """The members of a union, or the type itself."""
    return list(get_args(kind)) if get_origin(kind) in (Union, UnionType) else [kind]
