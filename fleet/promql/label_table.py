"""Labels of many rows as integer-coded columns, each made only when somebody asks for it.

A hundred thousand series are grouped by the codes of one column; texts are looked at only for the
rows that remain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.metrics.labels import METRIC_NAME, Labels
from fleet.ports.metric_store import CodedLabels

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array


class LabelColumn(NamedTuple):
    """Values of one label; '' where a row lacks it."""

    codes: Int64Array
    """Per row, into `texts`."""
    texts: Sequence[str]
    """Distinct; not every one need occur."""

    def take(self, rows: Int64Array) -> LabelColumn:
        """The column of some rows."""
        return LabelColumn(self.codes[rows], self.texts)

    def text(self, row: int) -> str:
        """Value of one row."""
        return self.texts[int(self.codes[row])]


def column_of(values: Iterable[str]) -> LabelColumn:
    """A column of given values."""
    known: dict[str, int] = {}
    codes = [known.setdefault(value, len(known)) for value in values]
    return LabelColumn(np.array(codes, np.int64), tuple(known))


def constant_column(value: str, count: int) -> LabelColumn:
    """A column with one value everywhere."""
    return LabelColumn(np.zeros(count, np.int64), (value,))


class _Source:
    """Rows as they were read, with the columns made of them so far."""

    def __init__(
        self, read: Callable[[], Sequence[Labels]], count: int, coded: CodedLabels | None
    ) -> None:
        self._read = read
        self._count = count
        self.coded = coded
        self._columns: dict[str, LabelColumn] = {}
        self._names: tuple[str, ...] | None = None

    @cached_property
    def rows(self) -> Sequence[Labels]:
        """The labels themselves, decoded when first asked for."""
        return self._read()

    def set(self, name: str, value: str) -> None:
        """Say that every row has a label, as a matcher demands of it."""
        self._columns[name] = constant_column(value, self._count)

    def column(self, name: str) -> LabelColumn:
        """Values of one label over all rows."""
        if name not in self._columns:
            self._columns[name] = self._made(name)
        return self._columns[name]

    def _made(self, name: str) -> LabelColumn:
        if self.coded is not None:
            return LabelColumn(*self.coded.label_column(name))
        return column_of(_value(labels, name) for labels in self.rows)

    def names(self) -> tuple[str, ...]:
        """Every label that some row has, in order."""
        if self._names is None:
            if self.coded is not None:
                self._names = tuple(self.coded.label_names())
            else:
                self._names = tuple(sorted({name for labels in self.rows for name, _ in labels}))
        return self._names


def _value(labels: Labels, wanted: str) -> str:
    for name, value in labels:
        if name == wanted:
            return value
    return ""


class LabelTable:
    """Labels of rows: some as they were read, some replaced, some left out. Never changed."""

    def __init__(
        self,
        count: int,
        source: _Source | None = None,
        rows: Int64Array | None = None,
        hidden: frozenset[str] = frozenset(),
        own: Mapping[str, LabelColumn] | None = None,
    ) -> None:
        """Built by the functions and methods below.

        Args:
            count: number of rows.
            source: rows as they were read; None for none.
            rows: which of the source's, in this order; None for all.
            hidden: labels of the source that do not count.
            own: columns that count instead of the source's.
        """
        self.count = count
        self._source = source
        self._rows = rows
        self._hidden = hidden
        self._own = dict(own or {})

    def __len__(self) -> int:
        """Number of rows."""
        return self.count

    def names(self) -> tuple[str, ...]:
        """Every label that some row may have, in order."""
        names = set(self._own)
        if self._source is not None:
            names.update(set(self._source.names()) - self._hidden)
        return tuple(sorted(names))

    def column(self, name: str) -> LabelColumn:
        """Values of one label."""
        if name in self._own:
            return self._own[name]
        if self._source is None or name in self._hidden:
            return constant_column("", self.count)
        column = self._source.column(name)
        return column if self._rows is None else column.take(self._rows)

    def take(self, rows: Int64Array) -> LabelTable:
        """Some rows, in the given order."""
        own = {name: column.take(rows) for name, column in self._own.items()}
        inner = rows if self._rows is None else self._rows[rows]
        return LabelTable(len(rows), self._source, inner, self._hidden, own)

    def without(self, names: Iterable[str]) -> LabelTable:
        """All labels but some."""
        gone = frozenset(names)
        own = {name: column for name, column in self._own.items() if name not in gone}
        return LabelTable(self.count, self._source, self._rows, self._hidden | gone, own)

    def keep(self, names: Iterable[str]) -> LabelTable:
        """Only some labels."""
        return LabelTable(self.count, own={name: self.column(name) for name in set(names)})

    def replace(self, name: str, column: LabelColumn) -> LabelTable:
        """Another column under a name."""
        own = {**self._own, name: column}
        return LabelTable(self.count, self._source, self._rows, self._hidden | {name}, own)

    def labels(self, row: int) -> Labels:
        """The labels of one row, as a series has them."""
        return self.take(np.array([row], np.int64)).all_labels()[0]

    def all_labels(self) -> list[Labels]:
        """The labels of every row."""
        if self._source is not None and not self._own and self._source.coded is None:
            return [self._read_row(row) for row in range(self.count)]
        names = self.names()
        if not names:
            return [()] * self.count
        values = []
        for name in names:
            column = self.column(name)
            values.append([column.texts[code] for code in column.codes.tolist()])
        return [
            tuple([pair for pair in zip(names, row, strict=True) if pair[1]])
            for row in zip(*values, strict=True)
        ]

    def _read_row(self, row: int) -> Labels:
        assert self._source is not None
        read = self._source.rows[row if self._rows is None else int(self._rows[row])]
        if not self._hidden:
            return read
        return tuple(pair for pair in read if pair[0] not in self._hidden)

    def groups(self, names: Iterable[str]) -> Groups:
        """Rows that agree in some labels, numbered."""
        return group_rows([self.column(name) for name in names], self.count)


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """A number for each row, the same for rows that agree."""

    codes: Int64Array
    """From 0, without gaps."""
    firsts: Int64Array
    """One row of each group."""

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.firsts)


def group_rows(columns: Sequence[LabelColumn], count: int) -> Groups:
    """Number rows by their values in some columns, in the order of first occurrence."""
    codes = np.zeros(count, np.int64)
    size = 1
    for column in columns:
        if len(column.texts) <= 1:
            continue
        if size * len(column.texts) > 2**62:
            _, codes = np.unique(codes, return_inverse=True)
            size = count
        codes = codes * len(column.texts) + column.codes
        size *= len(column.texts)
    _, firsts, dense = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(firsts, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return Groups(rank[dense.reshape(count)], firsts[order].astype(np.int64))


def joined(one: LabelTable, other: LabelTable) -> LabelTable:
    """The rows of one table, then those of another."""
    names = set(one.names()) | set(other.names())
    columns = {name: _joined(one.column(name), other.column(name)) for name in names}
    return LabelTable(one.count + other.count, own=columns)


def _joined(one: LabelColumn, other: LabelColumn) -> LabelColumn:
    mine, theirs, texts = shared_codes(one, other)
    return LabelColumn(np.concatenate([mine, theirs]), texts)


def shared_codes(
    one: LabelColumn, other: LabelColumn
) -> tuple[Int64Array, Int64Array, Sequence[str]]:
    """Codes of two columns in one numbering, and its texts."""
    if one.texts is other.texts:
        return one.codes, other.codes, one.texts
    known = {text: code for code, text in enumerate(one.texts)}
    moved = [known.setdefault(text, len(known)) for text in other.texts]
    there = np.array(moved, np.int64)[other.codes] if moved else other.codes
    return one.codes, there, tuple(known)


def table_of(
    count: int,
    read: Callable[[], Sequence[Labels]],
    known: Mapping[str, str] | None = None,
    coded: CodedLabels | None = None,
) -> LabelTable:
    """Rows as they were read.

    Args:
        count: number of rows.
        read: gives their labels; called at most once, and not where no label is asked for.
        known: labels that every row has, with their values.
        coded: gives columns of them without building a row, where the store can.
    """
    source = _Source(read, count, coded)
    for name, value in (known or {}).items():
        source.set(name, value)
    return LabelTable(count, source)


def no_labels(count: int) -> LabelTable:
    """Rows without any label."""
    return LabelTable(count)


NAME = (METRIC_NAME,)
