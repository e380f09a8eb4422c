"""The errors a user sees as a single line."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right: the message is one line that names the cause and the remedy.

    The command line prints it without a traceback and exits with code 2 (``debug=true`` brings the traceback back).
    """


class RankError(Exception):
    """One of the several processes of a fit raised or was killed: the message says which and why.

    Plain, so that it survives the way between processes.
    """


class NotFiniteError(UserError):
    """A loss that is no number; ``rows`` of the prepared set were in the batch. Who knows the set names the images."""

    def __init__(self, split: str, loss: float, rows: list[int]) -> None:
        self.split, self.loss, self.rows = split, loss, rows
        super().__init__(self.message_for(f"rows {', '.join(map(str, rows))} of the prepared set"))

    def message_for(self, images: str) -> str:
        """The line for the user, with these words for the images of the batch."""
        return (
            f"the {self.split} loss is {self.loss} on the batch of {images}; "
            "lower model.optimizer.lr, or look at these images"
        )
