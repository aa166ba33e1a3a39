"""What the command's exit codes mean, and which error has which.

docs/command.md lists them; scripts may rely on them.
"""

from __future__ import annotations

from fleet.errors import (
    AlreadyRunningError,
    FencedError,
    InvalidInputError,
    InvalidSettingsError,
    NotFoundError,
    SchemaMismatchError,
    StateroomError,
    TooLargeError,
    TransientError,
)

OK = 0
"""It was done, and nothing is wrong."""
FINDING = 1
"""It was done and found something wrong: an unhealthy fleet, a failed check, damaged data."""
USAGE = 2
"""What was asked is not valid: usage, settings, a name that does not exist."""
TRANSIENT = 3
"""The store, the lake or the UI cannot be reached; trying again later may help."""
REFUSED = 4
"""Another process has the right to do it: already running, fenced."""
INTERRUPTED = 130
"""Ctrl-C, as shells report it."""

_CODES: tuple[tuple[type[StateroomError], int], ...] = (
    (TransientError, TRANSIENT),
    (AlreadyRunningError, REFUSED),
    (SchemaMismatchError, REFUSED),
    (FencedError, REFUSED),
    (InvalidInputError, USAGE),
    (InvalidSettingsError, USAGE),
    (NotFoundError, USAGE),
    (TooLargeError, USAGE),
)


def exit_code_for(error: StateroomError) -> int:
    """The exit code of an error: that of the first kind it belongs to, else `FINDING`."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FINDING)
