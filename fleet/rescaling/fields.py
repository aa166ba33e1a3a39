"""Takes the fields of a parsed document one by one, and gathers all that is wrong with them.

What is left over at the end is unknown and refused, as Kubernetes does by default for whatever
`kubectl` sends: a misspelled field would otherwise be a default without a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fleet.errors import InvalidDocumentError, InvalidInputError, Problem
from fleet.rescaling.documents import shown
from fleet.rescaling.go_integers import INT32_MAX, INT32_MIN

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class Problems:
    """What is wrong with one document."""

    def __init__(self, document: str) -> None:
        """Begin with nothing."""
        self.document = document
        self.found: list[Problem] = []

    def add(self, path: str, value: object, allowed: str) -> None:
        """Note one problem; `path` as in `spec.metrics[1].resource.target`."""
        self.found.append(Problem(self.document, path, shown(value), allowed))

    def raise_any(self) -> None:
        """Refuse the document if anything was noted.

        Raises:
            InvalidDocumentError: lists the problems in the order in which they were found.
        """
        if self.found:
            hint = "docs/rescaling.md describes an autoscaler; nothing of the document is used."
            raise InvalidDocumentError(self.document, self.found, hint=hint)


class Fields:
    """The fields of one mapping."""

    def __init__(self, problems: Problems, path: str, values: Mapping[str, Any]) -> None:
        """Begin with all of them left."""
        self.problems = problems
        self.path = path
        self._left = {str(key): value for key, value in values.items() if value is not None}

    def __contains__(self, name: str) -> bool:
        """Whether a field is there and was not taken yet; a null counts as absent."""
        return name in self._left

    def at(self, name: str) -> str:
        """Path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def refuse(self, name: str, value: object, allowed: str) -> None:
        """Note a problem with a field."""
        self.problems.add(self.at(name), value, allowed)

    def drop(self, *names: str) -> None:
        """Pass over fields that are allowed and mean nothing here."""
        for name in names:
            self._left.pop(name, None)

    def end(self) -> None:
        """Refuse what is left."""
        for name, value in self._left.items():
            self.refuse(name, value, "no such field; is it misspelled, or in the wrong place?")
        self._left.clear()

    def fields(self, name: str) -> Fields | None:
        """A mapping inside; None when there is none."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.refuse(name, value, "fields")
            return None
        return Fields(self.problems, self.at(name), value)

    def rows(self, name: str) -> list[Fields] | None:
        """A list of mappings inside, each with its index in the path; None when there is none."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str):
            self.refuse(name, value, "a list")
            return []
        rows = []
        for index, row in enumerate(value):
            if isinstance(row, Mapping):
                rows.append(Fields(self.problems, self.at(f"{name}[{index}]"), row))
            else:
                self.refuse(f"{name}[{index}]", row, "fields")
        return rows

    def text(self, name: str, default: str = "") -> str:
        """A text; `default` when there is none."""
        value = self._left.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, str):
            self.refuse(name, value, "a text; set it in quotes")
            return default
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts; empty when there is none."""
        value = self._left.pop(name, None)
        if value is None:
            return []
        if isinstance(value, str) or not isinstance(value, Sequence):
            self.refuse(name, value, "a list of texts")
            return []
        for index, text in enumerate(value):
            if not isinstance(text, str):
                self.refuse(f"{name}[{index}]", text, "a text; set it in quotes")
        return [text for text in value if isinstance(text, str)]

    def mapping(self, name: str) -> dict[str, str]:
        """Texts by name; empty when there are none."""
        value = self._left.pop(name, None)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.refuse(name, value, "texts by name")
            return {}
        for key, text in value.items():
            if not isinstance(text, str):
                self.refuse(f"{name}.{key}", text, "a text; set it in quotes")
        return {str(key): text for key, text in value.items() if isinstance(text, str)}

    def integer(self, name: str) -> int | None:
        """A whole number of 32 bits; None when there is none."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not INT32_MIN <= value <= INT32_MAX:
            self.refuse(name, value, "a whole number of 32 bits")
            return None
        return value

    def quantity(self, name: str) -> str | None:
        """A quantity as text, its form unchecked; None when there is none."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.refuse(name, value, "a quantity: 500m, 2, 64Mi")
            return None
        return value.strip() if isinstance(value, str) else repr(value)

    def checked(self, name: str, value: str, check: Callable[[str], Any], default: Any) -> Any:
        """What a check makes of a text; a refusal is noted, and answered with `default`."""
        try:
            return check(value)
        except InvalidInputError as error:
            self.refuse(name, error.value, error.allowed)
            return default


def is_subdomain(text: str) -> bool:
    """Whether a text may name an object of Kubernetes."""
    return len(text) <= 253 and all(_LABEL.fullmatch(part) for part in text.split("."))


def is_label(text: str) -> bool:
    """Whether a text may name a namespace or a container."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_path_segment(text: str) -> bool:
    """Whether a text may stand in an address of the API."""
    return text not in {".", ".."} and "/" not in text and "%" not in text
