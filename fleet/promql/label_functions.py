"""label_replace and label_join: labels made of labels. Each distinct value is looked at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fleet.errors import InvalidInputError
from fleet.metrics.labels import compiled
from fleet.promql.label_table import LabelColumn, column_of, group_rows
from fleet.promql.values import Vector, merged

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_REFERENCE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))", re.ASCII)


def label_replace(
    vector: Vector, target: str, replacement: str, source: str, pattern: str
) -> Vector:
    """Set a label from another one where a regular expression matches it whole.

    Args:
        vector: its rows.
        target: label to set; set to '' it is gone.
        replacement: may name groups of the expression: `$1`, `${name}`.
        source: label that is matched; '' where a row lacks it.
        pattern: the regular expression.

    Raises:
        InvalidInputError: the expression or the target is not valid, or rows have become equal.
    """
    _check(target)
    expression = compiled("label_replace", pattern)
    read, kept = vector.labels.column(source), vector.labels.column(target)
    matches = [expression.fullmatch(text) for text in read.texts]
    made = ["" if found is None else _expanded(replacement, found) for found in matches]
    hit = np.array([found is not None for found in matches], np.bool_)[read.codes]
    known = {text: code for code, text in enumerate(kept.texts)}
    moved = np.array([known.setdefault(text, len(known)) for text in made], np.int64)
    column = LabelColumn(np.where(hit, moved[read.codes], kept.codes), tuple(known))
    return merged(replace(vector, labels=vector.labels.replace(target, column)))


def _expanded(replacement: str, found: re.Match[str]) -> str:
    """A replacement with the groups it names, as Go's `Expand`; a group that is not there is ''."""

    def value(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        key: int | str = int(name) if name.isdigit() else name
        try:
            return found[key] or ""
        except IndexError:
            return ""

    return _REFERENCE.sub(value, replacement)


def label_join(vector: Vector, target: str, separator: str, sources: Sequence[str]) -> Vector:
    """Set a label to the values of others, joined.

    Raises:
        InvalidInputError: a label's name is not valid, or rows have become equal.
    """
    for name in (target, *sources):
        _check(name)
    columns = [vector.labels.column(name) for name in sources]
    groups = group_rows(columns, len(vector))
    texts = [separator.join(column.text(int(row)) for column in columns) for row in groups.firsts]
    distinct = column_of(texts)
    codes = distinct.codes[groups.codes] if texts else groups.codes
    labels = vector.labels.replace(target, LabelColumn(codes, distinct.texts or ("",)))
    return merged(replace(vector, labels=labels))


def _check(name: str) -> None:
    if _LABEL.fullmatch(name) is None:
        raise InvalidInputError("label", name[:80], "letters, digits and '_', not a digit first")
