"""Label selectors of metrics: from the API's form to `kubectl`'s, and as the controller prints one.

Source: Kubernetes v1.36, `staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/`, `helpers.go`,
`generated.pb.go`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

_SET = re.compile(r"(\S+) (in|notin) \(([^)]*)\)")
_OPERATORS = {"In": "in", "NotIn": "notin"}


def selector_text(labels: Mapping[str, str], expressions: Sequence[Mapping[str, Any]]) -> str:
    """A selector as `kubectl` writes it: `queue=inbox,tier notin (test)`.

    Args:
        labels: `matchLabels`.
        expressions: `matchExpressions`, each with `key`, `operator` and `values`.
    """
    parts = [f"{key}={value}" for key, value in sorted(labels.items())]
    for expression in expressions:
        key, operator = expression["key"], expression["operator"]
        if operator in _OPERATORS:
            parts.append(f"{key} {_OPERATORS[operator]} ({','.join(expression['values'])})")
        else:
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(parts)


@lru_cache(maxsize=4096)
def printed_selector(selector: str) -> str:
    """A selector as the controller's messages show it; `nil` when there is none."""
    if not selector:
        return "nil"
    labels = []
    expressions = []
    for part in _requirements(selector):
        if (match := _SET.fullmatch(part)) is not None:
            key, operator, values = match.groups()
            name = "In" if operator == "in" else "NotIn"
            expressions.append(_printed(key, name, values.split(",") if values else []))
        elif "!=" in part:
            key, _, value = part.partition("!=")
            expressions.append(_printed(key, "NotIn", [value]))
        elif "=" in part:
            key, _, value = part.partition("=")
            labels.append((key, value.removeprefix("=")))
        elif part.startswith("!"):
            expressions.append(_printed(part[1:], "DoesNotExist", []))
        else:
            expressions.append(_printed(part, "Exists", []))
    shown = "".join(f"{key}: {value}," for key, value in sorted(labels))
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{shown}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{''.join(expressions)}}},}}"
    )


def _printed(key: str, operator: str, values: Sequence[str]) -> str:
    return (
        f"LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{' '.join(values)}],}},"
    )


def _requirements(selector: str) -> list[str]:
    """The requirements of a selector: split at the commas that stand in no bracket."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector)]
