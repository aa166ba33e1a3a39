"""Takes a text of YAML or JSON apart into plain values, strictly, and without surprises.

A key that stands twice is refused, where YAML and JSON would take the last; a date stays a text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.errors import InvalidInputError

_SHOWN_CHARS = 120


def parsed_documents(text: str, name: str) -> list[Any]:
    """The documents of a text that are not empty, in their order.

    Args:
        text: JSON, or YAML of one or several documents.
        name: what errors call the text.

    Raises:
        InvalidInputError: neither, a key that stands twice, or nested too deeply to be meant.
    """
    import yaml

    try:
        if text.lstrip().startswith(("{", "[")):
            try:
                return [json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)]
            except json.JSONDecodeError:
                pass  # YAML of one line looks like JSON
        documents = list(yaml.load_all(text, _loader()))  # of PyYAML's safe kind
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInputError(name, str(error), "YAML or JSON") from error
    return [parsed for parsed in documents if parsed is not None]


def shown(value: object) -> str:
    """A value as an error shows it: short, and never what a document repeats a million times."""
    if isinstance(value, Mapping):
        return "{...}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[...]"
    return str(value)[:_SHOWN_CHARS]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of JSON whose keys stand once."""
    _refuse_twice([key for key, _ in pairs])
    return dict(pairs)


def _refuse_twice(keys: Sequence[str]) -> None:
    twice = [key for key, times in Counter(keys).items() if times > 1]
    if twice:
        raise ValueError(f"the key {twice[0]} stands twice")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _loader() -> Any:
    """PyYAML's safe loader with our rules."""
    import yaml

    class _StrictLoader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            _refuse_twice([key.value for key, _ in node.value if isinstance(key.value, str)])
            return super().construct_mapping(node, deep=deep)

    _StrictLoader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in found if not tag.endswith(":timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return _StrictLoader
