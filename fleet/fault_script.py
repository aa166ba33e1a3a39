"""The text form of fault scripts: one fault a line, readable in a test and in a review.

::

    # at <time> [for <time>] <kind> <subject> [<key>=<value> ...]
    at 10m for 2m  partition      region/eu-central-1  peer=store
    at 600.5       crash          node/n-17            silent=yes
    at 1h for 90s  slow           zone/us-west-2a      delay_s=4
    at 0 for 1d    flapping       node/n-3             down_s=5 up_s=20 mode=crash
    at 3h          crash          agent/cpu-n-3-0

A time is seconds (`90`, `0.5`) or parts with units (`1d2h30m5.5s`). `#` starts a comment. Keys are
the fields of the records in `fleet.faults`. A text is parsed as a whole or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from decimal import Decimal
from typing import Any

from fleet.errors import InvalidDocumentError, InvalidInputError, Problem
from fleet.faults import FAULT_KINDS, Fault, Subject, SubjectKind

FORM = "at <time> [for <time>] <kind> <subject> [<key>=<value> ...]"

_TIME = re.compile(
    r"(?=[0-9])(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+(?:\.[0-9]+)?)s)?", re.ASCII
)
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_TIME_ALLOWED = "seconds like 90 or 0.5, or parts like 1d2h30m5.5s"
_COMMON = frozenset({"start_s", "subject", "duration_s"})


def parse_fault_script(text: str, name: str = "fault script") -> tuple[Fault, ...]:
    """Read a script; the result has the order of the text.

    Args:
        text: the script, see the module.
        name: what errors call it, for example the file name.

    Raises:
        InvalidDocumentError: names line, key, value and what is allowed of every problem.
    """
    faults: list[Fault] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            faults.append(_parse_line(words))
        except InvalidInputError as error:
            source = f"{name} line {number}"
            problems.append(Problem(source, error.field, str(error.value), error.allowed))
    if problems:
        raise InvalidDocumentError(name, problems, hint="docs/simulator.md describes the form.")
    return tuple(faults)


def format_fault_script(faults: Iterable[Fault]) -> str:
    """Write a script that `parse_fault_script` reads back as equal records."""
    return "".join(f"{_format_fault(fault)}\n" for fault in faults)


def _parse_line(words: list[str]) -> Fault:
    """Read one line, split at blanks, into a fault."""
    if len(words) < 4 or words[0] != "at":
        raise InvalidInputError("line", " ".join(words), FORM)
    values: dict[str, Any] = {"start_s": _parse_time("at", words[1])}
    rest = words[2:]
    if rest[0] == "for":
        values["duration_s"] = _parse_time("for", rest[1])
        rest = rest[2:]
    if len(rest) < 2:
        raise InvalidInputError("line", " ".join(words), FORM)
    cls = FAULT_KINDS.get(rest[0])
    if cls is None:
        raise InvalidInputError("kind", rest[0], ", ".join(FAULT_KINDS))
    values["subject"] = _parse_subject(rest[1])
    values.update(_parse_options(cls, rest[2:]))
    return cls(**values)


def _parse_options(cls: type[Fault], words: list[str]) -> dict[str, Any]:
    """Read `key=value` words against the fields of a kind; each at most once, none missing."""
    options = {field.name: field for field in fields(cls) if field.name not in _COMMON}
    allowed = ", ".join(options) or f"no keys for {cls.kind}"
    values: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in options:
            raise InvalidInputError(key, value if equals else word, f"keys: {allowed}")
        if key in values:
            raise InvalidInputError(key, value, "each key once")
        values[key] = _CONVERTERS[str(options[key].type)](key, value)
    for key, field in options.items():
        if field.default is MISSING and key not in values:
            raise InvalidInputError(key, "", f"a value; {cls.kind} needs {key}")
    return values


def _parse_time(field: str, word: str) -> float:
    """Seconds of `90`, `0.5` or `1d2h30m5.5s`."""
    if _SECONDS.fullmatch(word):
        return float(word)
    match = _TIME.fullmatch(word)
    if match is None:
        raise InvalidInputError(field, word, _TIME_ALLOWED)
    parts = (Decimal(part or 0) for part in match.groups())
    scales = (86_400, 3_600, 60, 1)
    return float(sum(part * scale for part, scale in zip(parts, scales, strict=True)))


def _parse_subject(word: str) -> Subject:
    """Read `kind/name`; the record judges the name."""
    kind, slash, name = word.partition("/")
    if not slash or kind not in set(SubjectKind):
        forms = ", ".join(f"{kind}/<name>" for kind in SubjectKind)
        raise InvalidInputError("subject", word, forms)
    return Subject(SubjectKind(kind), name)


def _convert_float(key: str, value: str) -> float:
    if not _NUMBER.fullmatch(value):
        raise InvalidInputError(key, value, "a decimal number")
    return float(value)


def _convert_int(key: str, value: str) -> int:
    if not _NUMBER.fullmatch(value) or "." in value or len(value) > 18:
        raise InvalidInputError(key, value, "a whole number")
    return int(value)


def _convert_bool(key: str, value: str) -> bool:
    if value not in {"yes", "no"}:
        raise InvalidInputError(key, value, "yes or no")
    return value == "yes"


_CONVERTERS: dict[str, Callable[[str, str], Any]] = {
    "float": _convert_float,
    "int": _convert_int,
    "bool": _convert_bool,
    "str": lambda _key, value: value,
}


def _format_fault(fault: Fault) -> str:
    """One line; options that have their default value are left out."""
    words = [f"at {_format_value(fault.start_s)}"]
    if fault.duration_s is not None:
        words.append(f"for {_format_value(fault.duration_s)}")
    words += [fault.kind, str(fault.subject)]
    for field in fields(fault):
        value = getattr(fault, field.name)
        if field.name not in _COMMON and value != field.default:
            words.append(f"{field.name}={_format_value(value)}")
    return " ".join(words)


def _format_value(value: float | str) -> str:
    """Plain decimals without exponent, so that the text reads back to the same number."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}".removesuffix(".0")
    return str(value)
