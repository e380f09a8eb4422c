"""What a misspelt name was meant to be."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


def nearest(name: str, known: Sequence[str], list_all: bool = False) -> str:
    """The end of a line about a wrong name: the likely right one, where there is one, and all of them if wanted."""
    # The right name in the wrong place goes before one that merely looks like it.
    close = [key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    close = close or get_close_matches(name, known, n=1)
    meant, listed = f"; did you mean {close[0]}?" if close else "", ", ".join(known)
    if not list_all:
        return meant
    return f"{meant} Valid names: {listed}" if meant else f"; valid names: {listed}"
