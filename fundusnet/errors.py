"""Errors that a user sees as a single line."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can correct: the message is one line that names the cause and the remedy.

    The command line prints it without a traceback and exits with code 2 (``debug=true`` brings the traceback back).
    """


class RankError(Exception):
    """One of the several processes of a fit raised or was killed: the message says which and why."""


class NotFiniteError(UserError):
    """NaN or infinite loss; ``rows`` of the prepared set were in the batch. The caller maps them to image ids."""

    def __init__(self, split: str, loss: float, rows: list[int]) -> None:
        self.split, self.loss, self.rows = split, loss, rows
        super().__init__(self.message_for(f"rows {', '.join(map(str, rows))} of the prepared set"))

    def message_for(self, images: str) -> str:
        """The message, with these words for the images of the batch."""
        return (
            f"the {self.split} loss is {self.loss} on the batch of {images}; "
            "lower model.optimizer.lr, or look at these images"
        )
