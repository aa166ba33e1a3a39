"""What must not be shown of the settings: passwords in URLs, and values of keys that name secrets.

Masking works on the value itself, so that an error message that repeats a wrong value does not
leak it either.
"""

from __future__ import annotations

import re
from typing import Any

MASK = "********"

_NAMES_SECRET = r"[\w-]*(?:secret|token|password|passwd|key)[\w-]*"  # noqa: S105 - a pattern
_SECRET_NAME = re.compile(_NAMES_SECRET, re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<keep>[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:)[^/\s]*(?=@)")
_QUERY = re.compile(rf"(?P<keep>[?&]{_NAMES_SECRET}=)[^&\s]+", re.IGNORECASE)
_OPTION = re.compile(rf"(?P<keep>-{{1,2}}{_NAMES_SECRET}=).+", re.IGNORECASE)
_BARE_OPTION = re.compile(rf"-{{1,2}}{_NAMES_SECRET}", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Tell whether a key's or argument's name says that its value is a secret."""
    return _SECRET_NAME.fullmatch(name) is not None


def mask(name: str, value: Any) -> Any:
    """The value as it may be shown.

    Args:
        name: last part of the key, such as `url` or `api_token`.
        value: a text, number, list or table of them.

    Returns:
        The same shape with secrets replaced by eight asterisks.
    """
    if isinstance(value, dict):
        return {inner: mask(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return _mask_words(name, list(value))
    if not isinstance(value, str) or not value:
        return value
    if is_secret_name(name):
        return MASK
    for pattern in (_URL_PASSWORD, _QUERY, _OPTION):
        value = pattern.sub(rf"\g<keep>{MASK}", value)
    return value


def _mask_words(name: str, values: list[Any]) -> list[Any]:
    shown = [mask(name, value) for value in values]
    for index, value in enumerate(values[:-1]):
        if isinstance(value, str) and _BARE_OPTION.fullmatch(value):
            shown[index + 1] = MASK
    return shown
