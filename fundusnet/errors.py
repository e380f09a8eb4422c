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
