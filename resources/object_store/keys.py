"""Which keys an object may have, so that one key works in a directory and in a bucket."""

from __future__ import annotations

import re

from fleet.errors import InvalidInputError

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]{0,199}", re.ASCII)


def validate_key(key: str) -> str:
    """Return the key unchanged when each of its segments is a harmless file name.

    Raises:
        InvalidInputError: empty segment, '..', a leading dot (kept for temporary files), or a
            character outside the alphabet.
    """
    segments = key.split("/")
    if not all(_SEGMENT.fullmatch(one) and ".." not in one for one in segments):
        raise InvalidInputError(
            "object key", key, "segments of letters, digits, '.', '_', '=', '-', split by '/'"
        )
    return key


def validate_folder(prefix: str) -> str:
    """Return the prefix of a whole folder unchanged.

    Raises:
        InvalidInputError: it does not end in '/', or is no key otherwise.
    """
    if not prefix.endswith("/"):
        raise InvalidInputError("folder", prefix, "a key that ends in '/'")
    validate_key(prefix.removesuffix("/"))
    return prefix
