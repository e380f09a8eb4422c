"""Signatures read from source code, so that a key is checked before anything slow is imported.

``_target_: torch.optim.SGD`` takes what ``SGD.__init__`` takes; importing torch to find out would cost seconds.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import typing
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fundusnet.config import ranges

_SCOPE = {**vars(builtins), **vars(collections.abc), **vars(typing), **vars(ranges), "Path": Path}


@dataclass(frozen=True)
class Signature:
    """What a class or function can be called with.

    Attributes:
        types: Type of each parameter by name; ``Any`` where it is not annotated, or with a type that only an import
            would tell.
        required: Parameters without a default.
        takes_any: Whether it takes any further keyword (``**kwargs``).
    """

    types: dict[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    takes_any: bool = False


@cache
def signature_of(target: str) -> Signature | None:
    """The signature of ``package.module.name``; None where the source does not show it.

    Examples:
        >>> list(signature_of("torch.optim.lr_scheduler.ExponentialLR").types)
        ['optimizer', 'gamma', 'last_epoch']
    """
    found = _definition(target)
    if found is None:
        return None
    node, module = found
    return _of_class(node, module) if isinstance(node, ast.ClassDef) else _of_function(node, module)


def is_defined(target: str) -> bool:
    """Whether the source of ``package.module`` has a class or function of this name."""
    return _definition(target) is not None


@dataclass(frozen=True)
class _Module:
    name: str
    tree: ast.Module
    is_package: bool


# What evaluating an annotation raises whose names only an import tells.
UNKNOWN = (NameError, AttributeError, TypeError)
_Definition = ast.ClassDef | ast.FunctionDef


def _definition(target: str) -> tuple[_Definition, _Module] | None:
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = _module(".".join(parts[:cut]))
        if module is not None:
            return _named(parts[cut], module) if cut == len(parts) - 1 else None
    return None


@cache
def _module(name: str) -> _Module | None:
    """The parsed source of a module, found without importing the packages above it."""
    top, *below = name.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    for part in below:
        folder = file.parent / part
        file = folder / "__init__.py" if (folder / "__init__.py").is_file() else folder.with_suffix(".py")
        if not file.is_file():
            return None
    if file.suffix != ".py":
        return None
    return _Module(name, ast.parse(file.read_bytes()), file.name == "__init__.py")


def _named(name: str, module: _Module, seen: frozenset[str] = frozenset()) -> tuple[_Definition, _Module] | None:
    """Where ``name`` is defined: in the module itself, or where the module imports it from."""
    if module.name in seen:
        return None
    for node in _statements(module.tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node, module
    for node in _statements(module.tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name) != name and alias.name != "*":
                continue
            origin = _module(_absolute(node, module))
            wanted = name if alias.name == "*" else alias.name
            if origin and (found := _named(wanted, origin, seen | {module.name})):
                return found
    return None


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Statements at the top of a module, those under ``if`` and ``try`` included."""
    found: list[ast.stmt] = []
    for node in tree.body:
        found += [node, *(node.body if isinstance(node, ast.If | ast.Try) else [])]
    return found


def _absolute(node: ast.ImportFrom, module: _Module) -> str:
    if not node.level:
        return node.module or ""
    above = module.name.split(".")
    above = above[: len(above) - node.level + module.is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def _of_class(node: ast.ClassDef, module: _Module) -> Signature | None:
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return _of_function(each, module, bound=True)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [f for f in node.body if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)]
        types = {f.target.id: _type(f.annotation, module) for f in fields if isinstance(f.target, ast.Name)}
        required = {f.target.id for f in fields if isinstance(f.target, ast.Name) and f.value is None}
        return Signature(types, frozenset(required))
    for base in node.bases:
        if isinstance(base, ast.Name) and (found := _named(base.id, module)):
            inherited, origin = found
            if isinstance(inherited, ast.ClassDef) and (signature := _of_class(inherited, origin)):
                return signature
    return None


def _of_function(node: ast.FunctionDef, module: _Module, bound: bool = False) -> Signature:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args][bound:]
    types = {a.arg: _type(a.annotation, module) for a in [*positional, *arguments.kwonlyargs]}
    without = {a.arg for a in positional[: len(positional) - len(arguments.defaults)]}
    without |= {
        a.arg for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None
    }
    return Signature(types, frozenset(without), arguments.kwarg is not None)


def _type(annotation: ast.expr | None, module: _Module) -> Any:
    """The type that an annotation stands for: builtins, ``typing``, our ranges, and aliases of the module itself."""
    if annotation is None:
        return Any
    scope = dict(_SCOPE)
    for node in _statements(module.tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_alias(node.value):
            try:
                scope[node.targets[0].id] = eval(ast.unparse(node.value), dict(scope))
            except UNKNOWN:  # an alias of what only an import tells
                continue
    try:
        return eval(ast.unparse(annotation), scope)
    except UNKNOWN:  # a type of another package
        return Any


def _is_alias(value: ast.expr) -> bool:
    return isinstance(value, ast.Subscript | ast.BinOp)
