"""What a node, agent, network, workload or region may be called.

Names become file names, metric labels, partition keys and URL segments, so one narrow alphabet
serves all: no separators, no `..`, no control characters, no blanks.
"""

from __future__ import annotations

import re

from fleet.errors import InvalidInputError

NAME_MAX_CHARS = 128
"""Longest name; leaves room for suffixes under the 255-byte file name limit of ext4 and XFS."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?", re.ASCII)


def is_name(value: str) -> bool:
    """Tell whether `value` may name a thing of the fleet."""
    return _NAME.fullmatch(value) is not None and ".." not in value


def validate_name(field: str, value: str) -> str:
    """Return `value` unchanged when it may be a name.

    Args:
        field: what the error should call it, for example `agent_id`.
        value: the proposed name.

    Raises:
        InvalidInputError: the name is empty, too long, or holds a character outside the alphabet.
    """
    if not is_name(value):
        raise InvalidInputError(
            field,
            value,
            f"1 to {NAME_MAX_CHARS} letters, digits, '.', '_' or '-', without '..', "
            "beginning and ending with a letter or digit",
        )
    return value
