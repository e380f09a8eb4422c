"""Asks trained networks for suggestions in the background, so that no reader waits for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from fundusnet.annotation.photographs import Photographs
from fundusnet.annotation.storage import BusyError, DiskFullError, Storage
from fundusnet.annotation.suggestions import (
    Point,
    Suggestion,
    is_suggested,
    keep_suggestion,
    networks_for,
    note_share,
    stored_suggestion,
    uncertainty,
)
from fundusnet.annotation.tables import images, suggestions
from fundusnet.data.decode import Unreadable
from fundusnet.data.manifest import COORDINATES
from fundusnet.prediction.preparation import prepare_photograph

if TYPE_CHECKING:
    from fundusnet.prediction.findings import FindingsPredictor

log = logging.getLogger(__name__)

PAUSE = 5.0  # seconds before a database that was busy is tried again


class Suggester:
    """Suggestions of a study: those that are stored, and a thread that makes the others.

    Images that a reader has asked for come first, then the others one after another. The networks are opened by the
    thread, since that takes seconds, and only if something is missing.

    Args:
        storage: The study's database.
        photographs: Its photographs.
        findings: What the study can mark.
        networks: Name of the networks (``networks_digest``); suggestions of others stay stored and are not used.
        open_networks: Opens them.
        seed, share: Of the choice of images with suggestions, see ``is_suggested``.

    Attributes:
        failed: Why the thread ended before all suggestions were made; "" if it did not.
    """

    def __init__(
        self,
        storage: Storage,
        photographs: Photographs,
        findings: Sequence[str],
        networks: str,
        open_networks: Callable[[], FindingsPredictor],
        seed: int = 0,
        share: float = 1.0,
    ) -> None:
        self.networks, self.failed = networks, ""
        self._seed, self._share = seed, share
        self._storage, self._photographs, self._findings = storage, photographs, tuple(findings)
        self._open = open_networks
        self._asked: list[str] = []
        self._unreadable: dict[str, str] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="suggestions", daemon=True)

    def start(self, ahead: Sequence[str]) -> None:
        """Start to make the suggestions for the images ``ahead``, in this order, unless they are stored."""
        with self._storage.write() as connection:
            note_share(connection, self._seed, self._share)
        with self._storage.read() as connection:
            stored = set(
                connection.scalars(sa.select(suggestions.c.image_id).where(suggestions.c.networks == self.networks))
            )
        self._ahead = [image_id for image_id in reversed(ahead) if image_id not in stored]
        self._thread.start()

    def has(self, image_id: str) -> bool:
        """Whether the readers of this image get suggestions."""
        return is_suggested(image_id, self._seed, self._share)

    def offer(self, annotator_id: int, image_id: str) -> dict[str, Any]:
        """What the page gets for an image: ``state`` is ready, with the suggestion; waiting (ask again); or none."""
        newest = self.networks if self.has(image_id) else None
        with self._storage.read() as connection:
            networks = networks_for(connection, annotator_id, image_id, newest)
            found = networks and stored_suggestion(connection, image_id, networks)
        if networks is None:
            return {"state": "none"}
        if found := found or self.ask(image_id):
            return {"state": "ready", "networks": networks, **found}
        reason = self.why_not(image_id)
        return {"state": "none", "reason": reason} if reason else {"state": "waiting"}

    def ask(self, image_id: str) -> dict[str, Any] | None:
        """The suggestion for an image; None if it is not made yet: then it is made next.

        Never waits for the networks.
        """
        with self._storage.read() as connection:
            found = stored_suggestion(connection, image_id, self.networks)
        if found is None:
            with self._changed:
                if image_id in self._asked:
                    self._asked.remove(image_id)
                self._asked.append(image_id)  # who asked last looks at it now
                self._changed.notify()
        return found

    def why_not(self, image_id: str) -> str:
        """Why no suggestion for an image can be made; "" if it can.

        A photograph that could not be read may be back, so the reason is given once, and the next question tries again.
        """
        with self._changed:
            return self.failed or self._unreadable.pop(image_id, "")

    def close(self) -> None:
        """End the thread; the suggestion that is being made is finished first."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        predictor = None
        while (image_id := self._next()) is not None:
            try:
                with self._storage.read() as connection:
                    row = connection.execute(sa.select(images).where(images.c.image_id == image_id)).first()
                    if row is None or stored_suggestion(connection, image_id, self.networks) is not None:
                        continue
                predictor = predictor or self._open()
                found = suggest(predictor, self._photographs, row, self._findings)
                with self._storage.write() as connection:
                    keep_suggestion(connection, image_id, self.networks, found)
            except (BusyError, DiskFullError):  # the same may work a moment later
                with self._changed:
                    self._ahead.append(image_id)
                    self._changed.wait(PAUSE)
            except Unreadable as error:
                with self._changed:
                    self._unreadable[image_id] = str(error)
            except Exception as error:  # the study goes on without suggestions
                log.exception("no more suggestions are made")
                self.failed = " ".join(str(error).split()) or type(error).__name__
                return

    def _next(self) -> str | None:
        """The image to look at next; waits for a question if all are done. None at the end."""
        with self._changed:
            while not self._ended:
                if self._asked:
                    return self._asked.pop()
                if self._ahead:
                    return self._ahead.pop()
                self._changed.wait()
        return None


def suggest(predictor: FindingsPredictor, photographs: Photographs, row: Any, findings: Sequence[str]) -> Suggestion:
    """What the networks suggest for one image.

    Args:
        predictor: The networks.
        photographs: Of the study.
        row: Of the table ``images``.
        findings: What the study can mark; of the networks' findings only these are suggested.

    Raises:
        Unreadable: The photograph is damaged or missing.
    """
    given = [getattr(row, name) for name in COORDINATES]
    points = (_point(*given[:2]), _point(*given[2:]))
    picture = prepare_photograph(photographs.file(row.path), predictor.specs, points)
    result = predictor.result_of(picture)
    known = [name for name in findings if name in result.probability]
    return Suggestion(
        {name: list(result.regions[name] or ()) for name in known if result.predicted[name]},
        {name: result.probability[name] for name in known},
        result.points.disc,
        result.points.fovea,
        result.points.origin,
        uncertainty({name: result.probability[name] for name in known}, predictor.thresholds),
    )


def _point(x: float | None, y: float | None) -> Point | None:
    return None if x is None or y is None else (x, y)
