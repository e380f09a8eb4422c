"""Progress bars for every long step, drawn by rich on a terminal only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` with a progress bar on standard error; ``total`` is needed if they have no length."""
    if isinstance(items, Sized) and not len(items):
        return  # a bar that never moves looks like a hanging step
    with progress_bar() as progress:
        task = progress.add_task(description, total=None, remark="")
        yield from progress.track(items, total=total, task_id=task)


def progress_bar() -> Progress:
    """A bar with room for a remark: ``add_task(description, total=n, remark="")``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<22}"),  # so that the bars of one command are aligned
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[remark]}"),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)
