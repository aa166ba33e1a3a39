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


def validate_text(field: str, value: str) -> str:
    """Return `value` unchanged when every store can hold it as text.

    PostgreSQL holds no NUL, and UTF-8 no lone surrogate; one rule for all stores keeps a record
    that was accepted by one acceptable to the other.

    Args:
        field: what the error should call it, for example `note.text`.
        value: free text from outside.

    Raises:
        InvalidInputError: the text holds one of the two.
    """
    if "\x00" in value or (
        not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)
    ):
        shown = value if len(value) <= 80 else value[:80] + "..."
        raise InvalidInputError(field, shown, "text without NUL and without lone surrogates")
    return value
