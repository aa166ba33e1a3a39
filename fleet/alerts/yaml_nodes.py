"""Reads YAML with the line of every value, and gathers all that is wrong before it refuses.

Prometheus' files are read strictly: a key that is not known is an error, a key that stands twice
too, and a scalar is the text that was written (`for: 5m`, `severity: 1`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from fleet.errors import InvalidDocumentError, InvalidInputError, Problem

if TYPE_CHECKING:
    from yaml.nodes import Node

T = TypeVar("T")
_SHOWN_CHARS = 120
_DEPTH_MAX = 50
_NULL = "tag:yaml.org,2002:null"


class Problems:
    """What is wrong with one file."""

    def __init__(self, file: str) -> None:
        """Begin with nothing."""
        self.file = file
        self.found: list[Problem] = []

    def add(self, line: int, field: str, value: object, allowed: str) -> None:
        """Note one problem."""
        source = f"{self.file} line {line}" if line else self.file
        self.found.append(Problem(source, field, str(value)[:_SHOWN_CHARS], allowed))

    def attempt(self, line: int, field: str, action: Callable[[], T], default: T) -> T:
        """What an action answers; a refusal is noted, and answered with `default`."""
        try:
            return action()
        except InvalidInputError as error:
            self.add(line, field, error.value, error.allowed)
            return default

    def raise_any(self, hint: str = "") -> None:
        """Refuse the file if anything was noted.

        Raises:
            InvalidDocumentError: lists the problems in the order of their lines.
        """
        if self.found:
            raise InvalidDocumentError(self.file, self.found, hint=hint)


class Mapped:
    """A mapping of YAML: its values by key, taken one by one, so that what is left is unknown."""

    def __init__(self, problems: Problems, line: int, path: str) -> None:
        """Begin empty."""
        self.problems = problems
        self.line = line
        self.path = path
        self.values: dict[str, Node] = {}
        self.lines: dict[str, int] = {}

    def at(self, key: str) -> str:
        """How an error calls the value of a key."""
        return f"{self.path}.{key}" if self.path else key

    def text(self, key: str, default: str = "") -> str:
        """A scalar as it was written; `default` where there is none."""
        node = self.values.pop(key, None)
        if node is None or node.tag == _NULL:
            return default
        found = scalar(node)
        if found is None:
            self.problems.add(line_of(node), self.at(key), kind_of(node), "a text")
            return default
        return found

    def line_of(self, key: str) -> int:
        """Where a key stands; the mapping's own line where it is missing."""
        return self.lines.get(key, self.line)

    def number(self, key: str) -> float | None:
        """A number; None where there is none."""
        line, text = self.line_of(key), self.text(key)
        if not text:
            return None
        try:
            return float(_go_number(text))
        except ValueError:
            self.problems.add(line, self.at(key), text, "a number")
            return None

    def whole(self, key: str) -> int:
        """A whole number of 0 or more; 0 where there is none."""
        line, text = self.line_of(key), self.text(key, "0")
        if not text.isascii() or not text.isdigit():
            self.problems.add(line, self.at(key), text, "a whole number of 0 or more")
            return 0
        return int(text)

    def table(self, key: str) -> Mapped | None:
        """A mapping below a key; None where there is none."""
        node = self.values.pop(key, None)
        if node is None or node.tag == _NULL:
            return None
        return mapped(node, self.problems, self.at(key))

    def texts(self, key: str) -> list[tuple[str, str, int]]:
        """Name, text and line of each entry of a mapping of scalars."""
        table = self.table(key)
        if table is None:
            return []
        lines = dict(table.lines)
        return [(name, table.text(name), lines[name]) for name in list(table.values)]

    def items(self, key: str) -> Iterator[tuple[int, Node]]:
        """Position and node of each item of a list; nothing where there is none."""
        node = self.values.pop(key, None)
        if node is None or node.tag == _NULL:
            return
        if not _is(node, "sequence"):
            self.problems.add(line_of(node), self.at(key), kind_of(node), "a list")
            return
        yield from enumerate(node.value, 1)

    def close(self, known: Iterable[str]) -> None:
        """Note every key that nobody has asked for."""
        for key in self.values:
            allowed = f"one of {', '.join(known)}"
            self.problems.add(self.lines[key], self.at(key), "unknown key", allowed)


def read_yaml(text: str, problems: Problems) -> Mapped | None:
    """The one mapping of a document; None (with a problem) where there is none.

    Args:
        text: the file; empty files are an empty mapping.
        problems: takes what is wrong.
    """
    import yaml

    try:
        if _is_deep(text):
            problems.add(0, "yaml", text[:40], f"at most {_DEPTH_MAX} levels of nesting")
            return None
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problems.add(line, "yaml", error.problem or "", "YAML that parses")
        return None
    except yaml.YAMLError as error:
        problems.add(0, "yaml", str(error), "YAML that parses")
        return None
    if node is None:
        return Mapped(problems, 1, "")
    return mapped(node, problems, "")


def _is_deep(text: str) -> bool:
    """Whether a text nests deeper than files of rules do.

    libyaml composes by recursion: it would overflow its stack and take the process with it.
    """
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEPTH_MAX:
                return True
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return False


def mapped(node: Node, problems: Problems, path: str) -> Mapped | None:
    """A node as a mapping; None (with a problem) when it is none."""
    if not _is(node, "mapping"):
        problems.add(line_of(node), path or "document", kind_of(node), "a mapping of keys")
        return None
    table = Mapped(problems, line_of(node), path)
    for key, value in node.value:
        name = scalar(key)
        if name is None or name in table.values:
            shown = "a key that is no text" if name is None else "stands twice"
            problems.add(line_of(key), table.at(name or "?"), shown, "each key once, as a text")
            continue
        table.values[name] = value
        table.lines[name] = line_of(key)
    return table


def scalar(node: Node) -> str | None:
    """The text of a scalar; None when the node is none."""
    return str(node.value) if _is(node, "scalar") else None


def _is(node: Node, kind: str) -> bool:
    """Whether a node is a `scalar`, `sequence` or `mapping`; the stubs do not know its `id`."""
    return getattr(node, "id", "") == kind


def line_of(node: Node) -> int:
    """Where a node begins, from 1."""
    return int(node.start_mark.line) + 1


def kind_of(node: Node) -> str:
    """What stands there, for an error."""
    return str(node.value) if _is(node, "scalar") else f"a {getattr(node, 'id', 'node')}"


def _go_number(text: str) -> str:
    """YAML writes infinity and NaN with a dot."""
    bare = text.lstrip("+-").lower()
    sign = "-" if text.startswith("-") else ""
    return sign + bare[1:] if bare in {".inf", ".nan"} else text
