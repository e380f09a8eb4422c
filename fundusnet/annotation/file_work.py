"""Work on photographs, in threads of its own: however long a network drive hangs, no answer waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, fail_after, to_thread

from fundusnet.annotation.photographs import AWAY, PhotographAway

PATIENCE = 8.0  # seconds; a page waits for ten
_READERS = 16
_MOST_HUNG = 32
Result = TypeVar("Result")


class FileWork:
    """Runs functions that open photographs; few at once decode, and none makes the others wait.

    A thread in a call to a drive that hangs cannot be ended. It is left behind, and when many are, no new one is
    started.
    """

    def __init__(self) -> None:
        self._reading = CapacityLimiter(_READERS)
        self._decoding = CapacityLimiter(max(1, (os.cpu_count() or 2) // 2))
        self._hung = 0

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """``work(*arguments)``, which should be quick; raises ``PhotographAway`` after a few seconds."""
        return await self._run(self._reading, work, *arguments)

    async def decode(self, work: Callable[..., Result], *arguments: object) -> Result:
        """``work(*arguments)``, which keeps a processor busy; raises ``PhotographAway`` after a few seconds."""
        return await self._run(self._decoding, work, *arguments)

    async def _run(self, limiter: CapacityLimiter, work: Callable[..., Result], *arguments: object) -> Result:
        if self._hung >= _MOST_HUNG:
            raise PhotographAway(AWAY)
        left = False

        def watched() -> Result:
            try:
                return work(*arguments)
            finally:
                if left:
                    self._hung -= 1

        async with limiter:  # waiting for a turn is no hanging
            try:
                with fail_after(PATIENCE):
                    return await to_thread.run_sync(watched, abandon_on_cancel=True, limiter=CapacityLimiter(1))
            except TimeoutError:
                left = True
                self._hung += 1
                raise PhotographAway(AWAY) from None
