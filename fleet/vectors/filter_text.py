"""The language of `--where`: comparisons of a note's columns, joined by and, or, not.

Deliberately not SQL: what a stranger types reaches no database, can name no file and no function,
and has a bounded depth. `region = 'us-west-2' and created_at > '2026-11-01'` is the whole of it.

::

    either     = both {"or" both}
    both       = single {"and" single}
    single     = "not" single | "(" either ")" | column compare
    compare    = ("=" | "!=" | "<" | "<=" | ">" | ">=") text | ["not"] "in" "(" text {"," text} ")"
               | ["not"] "like" text | "is" ["not"] "null"
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError

COLUMNS = ("note_id", "agent_id", "region", "created_at", "text")
"""What a filter may name."""

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
TEXT_MAX_CHARS = 8192
DEPTH_MAX = 50

_TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(<=|>=|!=|<>|[=<>(),])|([A-Za-z_]\w*))", re.ASCII)
_ALLOWED = "column =|!=|<|<=|>|>= 'text', in (...), like 'a%', is null; joined by and, or, not"


class Comparison(NamedTuple):
    """One column against values."""

    column: str
    operator: str
    """One of `OPERATORS`, `in`, `like`, `null`."""
    values: tuple[str | datetime, ...]


class Negation(NamedTuple):
    """What does not hold."""

    part: Filter


class Junction(NamedTuple):
    """What holds together, or at least one."""

    word: str
    """`and` or `or`."""
    parts: tuple[Filter, ...]


Filter = Comparison | Negation | Junction


def parse_filter(text: str) -> Filter:
    """Read a filter.

    Args:
        text: as typed; times are ISO 8601, of UTC where they name no zone.

    Raises:
        InvalidInputError: it is none; the message names the place.
    """
    if len(text) > TEXT_MAX_CHARS:
        raise InvalidInputError("where", text[:40] + "...", f"{TEXT_MAX_CHARS} characters at most")
    reader = _Reader(text)
    found = reader.either(0)
    reader.demand_end()
    return found


class _Reader:
    """Tokens of one text, read once from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, int]] = []
        place = 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                raise self._wrong(place)
            self._tokens.append((match.group().strip(), place))
            place = match.end()
        self._next = 0

    def either(self, depth: int) -> Filter:
        return self._joined("or", depth)

    def demand_end(self) -> None:
        if self._next < len(self._tokens):
            raise self._wrong(self._tokens[self._next][1])

    def _joined(self, word: str, depth: int) -> Filter:
        parts = [self._joined("and", depth) if word == "or" else self._single(depth)]
        while self._take(word):
            parts.append(self._joined("and", depth) if word == "or" else self._single(depth))
        return parts[0] if len(parts) == 1 else Junction(word, tuple(parts))

    def _single(self, depth: int) -> Filter:
        if depth > DEPTH_MAX:
            raise InvalidInputError("where", self._text, f"at most {DEPTH_MAX} levels of brackets")
        if self._take("not"):
            return Negation(self._single(depth + 1))
        if self._take("("):
            inside = self.either(depth + 1)
            self._demand(")")
            return inside
        return self._comparison()

    def _comparison(self) -> Filter:
        column = self._word().lower()
        if column not in COLUMNS:
            raise InvalidInputError("where", column, f"a column: {', '.join(COLUMNS)}")
        if self._take("is"):
            negated = self._take("not")
            self._demand("null")
            found = Comparison(column, "null", ())
            return Negation(found) if negated else found
        negated = self._take("not")
        if self._take("in"):
            found = Comparison(column, "in", self._list(column))
        elif self._take("like"):
            if column == "created_at":
                raise InvalidInputError("where", "created_at like", "like on a column of text")
            found = Comparison(column, "like", (self._literal(),))
        elif negated:
            raise self._wrong_here()
        else:
            operator = self._word()
            operator = "!=" if operator == "<>" else operator
            if operator not in OPERATORS:
                raise self._wrong(self._tokens[self._next - 1][1])
            found = Comparison(column, operator, (self._value(column),))
        return Negation(found) if negated else found

    def _list(self, column: str) -> tuple[str | datetime, ...]:
        self._demand("(")
        values = [self._value(column)]
        while self._take(","):
            values.append(self._value(column))
        self._demand(")")
        return tuple(values)

    def _value(self, column: str) -> str | datetime:
        text = self._literal()
        if column != "created_at":
            return text
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise InvalidInputError("created_at", text, "a time such as '2026-11-21'") from error

    def _literal(self) -> str:
        token = self._word()
        if not token.startswith("'"):
            raise self._wrong(self._tokens[self._next - 1][1])
        return token[1:-1].replace("''", "'")

    def _word(self) -> str:
        if self._next >= len(self._tokens):
            raise self._wrong_here()
        self._next += 1
        return self._tokens[self._next - 1][0]

    def _take(self, word: str) -> bool:
        held = self._next < len(self._tokens) and self._tokens[self._next][0].lower() == word
        self._next += held
        return held

    def _demand(self, word: str) -> None:
        if not self._take(word):
            raise self._wrong_here()

    def _wrong_here(self) -> InvalidInputError:
        done = self._next >= len(self._tokens)
        return self._wrong(len(self._text) if done else self._tokens[self._next][1])

    def _wrong(self, place: int) -> InvalidInputError:
        rest = self._text[place : place + 40].strip() or "end of the filter"
        behind = self._text[place:]
        where = f"character {place + len(behind) - len(behind.lstrip()) + 1}: {rest}"
        return InvalidInputError("where", self._text, f"{_ALLOWED}; not understood at {where}")
