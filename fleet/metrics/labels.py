"""Labels of a series, the identity computed from them, and how queries choose series.

A series is its labels and nothing else, so any writer computes the same identity without asking
another. Metrics are kept together: the upper bits of an identity come from the metric's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

from fleet.errors import InvalidInputError

Labels = tuple[tuple[str, str], ...]
"""Name and value of each label, ordered by name, without empty values; `__name__` among them."""

METRIC_NAME = "__name__"
LABELS_MAX_BYTES = 16 * 1024
"""Names and values of one series together; larger ones are refused, never cut."""
LABELS_MAX = 64
"""Labels of one series."""
NAME_BITS, REST_BITS = 16, 47
"""How a series identity is divided: metric name, then all labels. Two series of a metric of a
million meet with a chance of 0.4 %; the store then refuses the second (`SeriesCatalogue`)."""

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


class MatchKind(StrEnum):
    """How a matcher compares, as PromQL writes it."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


class Matcher(NamedTuple):
    """One condition on a label; a label that a series lacks has the value ''."""

    name: str
    kind: MatchKind
    value: str

    def matches(self, value: str) -> bool:
        """Tell whether a label's value satisfies the condition; regular expressions are anchored.

        Raises:
            InvalidInputError: the regular expression does not parse.
        """
        if self.kind in {MatchKind.EQUAL, MatchKind.NOT_EQUAL}:
            return (value == self.value) == (self.kind == MatchKind.EQUAL)
        found = compiled(self.name, self.value).fullmatch(value) is not None
        return found == (self.kind == MatchKind.REGEX)


@lru_cache(maxsize=1024)
def compiled(name: str, pattern: str) -> re.Pattern[str]:
    """The regular expression of a matcher on the label `name`.

    Raises:
        InvalidInputError: it does not parse.
    """
    try:
        return re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise InvalidInputError(
            name, pattern, f"a regular expression; this one fails: {error}"
        ) from error


def labels_of(metric: str, labels: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> Labels:
    """The labels of a series in their one order.

    Args:
        metric: the metric's name.
        labels: all others; empty values mean the label is absent and are left out.

    Raises:
        InvalidInputError: a name breaks Prometheus' rules, one stands twice, text is not UTF-8, or
            the whole is over `LABELS_MAX` or `LABELS_MAX_BYTES`.
    """
    pairs = list(labels.items() if isinstance(labels, Mapping) else labels)
    if _METRIC.fullmatch(metric) is None:
        raise InvalidInputError("metric", metric[:80], "letters, digits, '_' and ':'")
    kept = [(METRIC_NAME, metric)]
    for name, value in pairs:
        if _LABEL.fullmatch(name) is None or name == METRIC_NAME:
            raise InvalidInputError(
                "label", name[:80], "letters, digits and '_', not a digit first"
            )
        if value:
            kept.append((name, value))
    kept.sort()
    if len({name for name, _ in pairs}) != len(pairs):
        names = sorted(name for name, _ in pairs)
        twice = next(name for name, other in pairwise(names) if name == other)
        raise InvalidInputError("label", twice[:80], "a name that occurs once in a series")
    size = 0
    for name, value in kept:
        try:
            size += len(name) + len(value.encode())
        except UnicodeEncodeError as error:
            raise InvalidInputError(name, ascii(value)[:80], "text that UTF-8 can hold") from error
    if len(kept) > LABELS_MAX or size > LABELS_MAX_BYTES:
        raise InvalidInputError(
            "labels",
            f"{len(kept)} labels of {size} bytes on {metric[:80]}",
            f"at most {LABELS_MAX} labels and {LABELS_MAX_BYTES} bytes",
        )
    return tuple(kept)


def metric_of(labels: Labels) -> str:
    """The metric's name; '' when there is none (the result of an operator has none)."""
    return next((value for name, value in labels if name == METRIC_NAME), "")


def series_id(labels: Labels) -> int:
    """Identity of a series: 63 bits, not negative, the same in every process.

    The upper 16 bits are those of the metric's name, so that a metric's series lie together in
    whatever is ordered by identity.
    """
    text = b"\xff".join([part.encode() for pair in labels for part in pair])
    rest = int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
    return _name_part(metric_of(labels)) | rest >> (64 - REST_BITS)


@lru_cache(maxsize=16_384)
def _name_part(metric: str) -> int:
    name = int.from_bytes(blake2b(metric.encode(), digest_size=8).digest(), "big")
    return (name >> (64 - NAME_BITS)) << REST_BITS


def labels_text(labels: Labels) -> str:
    """The labels as PromQL writes a series: `up{job="node"}`."""
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels if name != METRIC_NAME)
    return f"{metric_of(labels)}{{{inner}}}" if inner else metric_of(labels) or "{}"


def matchers_text(matchers: Iterable[Matcher]) -> str:
    """Conditions as PromQL writes a selector: `{job="node",region=~"us.*"}`."""
    inner = ",".join(f'{one.name}{one.kind}"{_escaped(one.value)}"' for one in matchers)
    return f"{{{inner}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
