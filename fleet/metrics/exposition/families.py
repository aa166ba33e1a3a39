"""What HELP, TYPE and UNIT say of a family of series, and which family a series belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fleet.metrics.exposition.lines import NAME, unescape, wrong_line
from fleet.metrics.exposition.numbers import ExpositionFormat
from fleet.metrics.samples import MetricType

HELP_MAX_CHARS = 1024
"""What is kept of a HELP: each series of the family bears it, so a longer one is cut."""

_TYPES = {
    ExpositionFormat.TEXT: {
        "counter": MetricType.COUNTER,
        "gauge": MetricType.GAUGE,
        "histogram": MetricType.HISTOGRAM,
        "summary": MetricType.SUMMARY,
        "untyped": MetricType.UNKNOWN,
    },
    ExpositionFormat.OPENMETRICS: {
        "counter": MetricType.COUNTER,
        "gauge": MetricType.GAUGE,
        "histogram": MetricType.HISTOGRAM,
        "gaugehistogram": MetricType.GAUGE,
        "summary": MetricType.SUMMARY,
        "info": MetricType.GAUGE,
        "stateset": MetricType.GAUGE,
        "unknown": MetricType.UNKNOWN,
    },
}
"""Words of each format. Buckets of a gauge histogram go up and down, so they are gauges."""

_SUFFIXES = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "summary": ("_sum", "_count", "_created"),
    "info": ("_info",),
}
"""What a series' name may have behind that of its family."""

COUNTING = frozenset({"counter", "histogram", "summary"})
"""Words of the types whose `_created` series says since when they count."""
_COMMENT = {
    ExpositionFormat.TEXT: re.compile(
        rb"[ \t]*#[ \t]+(HELP|TYPE)[ \t]+(?:(%s)(?:[ \t](.*))?)?" % NAME
    ),
    ExpositionFormat.OPENMETRICS: re.compile(rb"# (HELP|TYPE|UNIT) (%s) (.*)" % NAME),
}


class Family(NamedTuple):
    """Metadata of one family."""

    word: str = ""
    """Its type in the words of the format; '' where none is declared."""
    type: MetricType = MetricType.UNKNOWN
    unit: str = ""
    help: str = ""


Families = Mapping[str, Family]


def parse_families(
    comments: Iterable[tuple[int, bytes]], form: ExpositionFormat
) -> dict[str, Family]:
    """Families of all comment lines.

    Args:
        comments: number and text of each line that begins with '#', in order.
        form: whose rules hold. Text has comments that say nothing; OpenMetrics has none.

    Raises:
        InvalidInputError: a line breaks the grammar, names an unknown type, or a unit that the
            name does not end with.
    """
    families: dict[str, Family] = {}
    for number, line in comments:
        found = _COMMENT[form].match(line)
        if found is None and form is ExpositionFormat.TEXT:
            continue
        if found is None or found[2] is None or found.end() != len(line):
            raise wrong_line(number, line, "# HELP, # TYPE or # UNIT, then a metric's name")
        name, text = found[2].decode(), found[3] or b""
        family = families.get(name, Family())
        families[name] = _with(family, found[1], name, text, (number, line, form))
    return families


def family_of(name: str, families: Families) -> tuple[str, Family] | None:
    """Name and metadata of the family of a series; None where none is declared.

    The series' own name is looked up first: text names counters with their `_total`.
    """
    own = families.get(name)
    if own is not None:
        return name, own
    at = name.rfind("_")
    if at > 0:
        base, suffix = name[:at], name[at:]
        family = families.get(base)
        if family is not None and suffix in _SUFFIXES.get(family.word, ()):
            return base, family
    return None


def _with(
    family: Family,
    kind: bytes,
    name: str,
    text: bytes,
    where: tuple[int, bytes, ExpositionFormat],
) -> Family:
    number, line, form = where
    try:
        words = text.decode()
    except UnicodeDecodeError as error:
        raise wrong_line(number, line, "UTF-8") from error
    if kind == b"TYPE":
        words = words.strip(" \t") if form is ExpositionFormat.TEXT else words
        if words not in _TYPES[form]:
            raise wrong_line(number, line, "a type: " + ", ".join(_TYPES[form]))
        return family._replace(word=words, type=_TYPES[form][words])
    if kind == b"UNIT":
        if words and not name.endswith("_" + words):
            raise wrong_line(number, line, f"a unit that the name {name} ends with")
        return family._replace(unit=words)
    quotes = form is ExpositionFormat.OPENMETRICS
    return family._replace(help=unescape(text, quotes=quotes).decode()[:HELP_MAX_CHARS])
