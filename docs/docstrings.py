"""For mkdocstrings: entries of our docstrings, ``name: what it is`` on one line, as numpydoc writes them on two.

The pages would otherwise take what a parameter is for its type, and leave it out.
"""

from __future__ import annotations

import re
from functools import partial
from textwrap import indent
from typing import Any

import griffe

_SECTION = re.compile(
    r"^(Parameters|Attributes|Raises|Returns|Yields)\n-{3,}\n(.*?)(?=\n\n\w+\n-{3,}\n|\Z)", re.M | re.S
)
_ENTRY = re.compile(r"^([\w, .*…]+?): (.*)$")
_ROLE = re.compile(r":(?:meth|func|class):`~?")


class Entries(griffe.Extension):
    """Rewrites the docstring of every object that is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one docstring; what it returns takes its type from the signature."""
        if obj.docstring:
            rewritten = partial(_rewritten, returned=str(getattr(obj, "returns", None) or "object"))
            obj.docstring.value = _SECTION.sub(rewritten, _ROLE.sub("`", obj.docstring.value))


def _rewritten(section: re.Match[str], returned: str) -> str:
    name, text = section[1], section[2]
    if name in ("Returns", "Yields"):
        lines = [returned, indent(text, "    ")]
    else:
        lines = [_ENTRY.sub(r"\1\n    \2", line) for line in text.splitlines()]
    return "\n".join([name, "-" * len(name), *lines])
