"""Durations as Prometheus writes them: `1h30m`, `15d`, `500ms`, `0`."""

from __future__ import annotations

import re

from fleet.errors import InvalidInputError

ALLOWED = "numbers with y, w, d, h, m, s, ms, largest first, such as 1h30m; or 0"
_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_DURATION = re.compile("".join(rf"(?:(\d+){unit})?" for unit in _UNITS_MS), re.ASCII)
_MAX_MS = 2**63 // 1_000_000
"""Go counts nanoseconds in 63 bits."""


def parse_duration_ms(field: str, text: str) -> int:
    """Milliseconds of a duration.

    Source: Prometheus, common/model/time.go (`ParseDuration`): a year has 365 days.

    Raises:
        InvalidInputError: it is none, or over 292 years; names `field`.
    """
    if text == "0":
        return 0
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise InvalidInputError(field, text, ALLOWED)
    total_ms = sum(
        int(part) * size_ms
        for part, size_ms in zip(found.groups(), _UNITS_MS.values(), strict=True)
        if part is not None
    )
    if total_ms > _MAX_MS:
        raise InvalidInputError(field, text, "at most 292 years")
    return total_ms


def duration_text(duration_ms: int) -> str:
    """The shortest way to write a duration: `1h30m`, `0s`."""
    if duration_ms == 0:
        return "0s"
    parts, rest = [], duration_ms
    for unit, size_ms in _UNITS_MS.items():
        if unit in {"y", "w"} and rest % size_ms:
            continue  # as Prometheus: 10d stays 10d and does not become 1w3d
        count, rest = divmod(rest, size_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
