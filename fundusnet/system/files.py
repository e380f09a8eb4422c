"""Files that are complete at every moment: the earlier content, or the new one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(file: Path, partial: Path | None = None) -> Iterator[Path]:
    """Yield a path to write to; it takes the place of ``file`` at the end, or is removed after an exception.

    Args:
        file: What to replace; its folder is made if needed.
        partial: The path to write to, in the same folder; needed where several processes may write ``file`` at once.

    Examples:
        >>> with replacing(Path("table.csv")) as partial:  # doctest: +SKIP
        ...     table.to_csv(partial)
    """
    partial = partial or file.with_name(f"{file.name}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        _sync(partial)
        partial.replace(file)
        _sync(file.parent)  # the renaming outlasts a power cut
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(file: Path, text: str) -> None:
    """Replace ``file`` by ``text`` in UTF-8."""
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(file: Path, value: Any) -> None:
    """Replace ``file`` by ``value`` as indented JSON."""
    write_text(file, json.dumps(value, indent=2) + "\n")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
