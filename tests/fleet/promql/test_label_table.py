"""Coded labels do what the same operations on dictionaries do."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fleet.metrics.labels import Labels
from fleet.promql.label_table import LabelTable, column_of, group_rows, joined, table_of

names = st.sampled_from(["a", "b", "c", "__name__"])
rows = st.lists(
    st.dictionaries(names, st.sampled_from(["x", "y", "z"])).map(
        lambda one: tuple(sorted(one.items()))
    ),
    max_size=12,
)


def table(labels: list[Labels]) -> LabelTable:
    """A table of given rows."""
    return table_of(len(labels), lambda: labels)


@given(labels=rows, gone=st.sets(names), data=st.data())
def test_taking_dropping_keeping_and_replacing_are_those_of_dictionaries(
    labels: list[Labels], gone: set[str], data: st.DataObject
) -> None:
    """In any order, one after the other."""
    found, plain = table(labels), [dict(one) for one in labels]
    for step in data.draw(st.lists(st.sampled_from(["take", "without", "keep", "set", "join"]))):
        if step == "take":
            chosen = data.draw(st.lists(st.integers(0, max(len(plain) - 1, 0)), max_size=12))
            chosen = chosen if plain else []
            found, plain = found.take(np.array(chosen, np.int64)), [plain[n] for n in chosen]
        elif step == "without":
            found = found.without(gone)
            plain = [{k: v for k, v in one.items() if k not in gone} for one in plain]
        elif step == "keep":
            found = found.keep(gone)
            plain = [{k: v for k, v in one.items() if k in gone} for one in plain]
        elif step == "set":
            values = data.draw(
                st.lists(st.sampled_from(["", "x", "w"]), min_size=len(plain), max_size=len(plain))
            )
            found = found.replace("b", column_of(values))
            plain = [{**one, "b": value} for one, value in zip(plain, values, strict=True)]
        elif len(plain) < 50:
            found = joined(found, table(labels))
            plain = [*plain, *(dict(one) for one in labels)]
    expected = [tuple(sorted((k, v) for k, v in one.items() if v)) for one in plain]
    assert found.all_labels() == expected
    assert len(found) == len(expected)
    for name in ("a", "b", "nope"):
        column = found.column(name)
        assert [column.text(n) for n in range(len(plain))] == [one.get(name, "") for one in plain]


@given(labels=rows, by=st.sets(names))
def test_groups_are_rows_that_agree_numbered_by_first_occurrence(
    labels: list[Labels], by: set[str]
) -> None:
    """As a dictionary of tuples numbers them."""
    groups = table(labels).groups(sorted(by))
    known: dict[tuple[str, ...], int] = {}
    keys = [tuple(dict(one).get(name, "") for name in sorted(by)) for one in labels]
    assert groups.codes.tolist() == [known.setdefault(key, len(known)) for key in keys]
    assert [keys[row] for row in groups.firsts] == list(known)
    assert groups.count == len(known)


def test_many_columns_of_many_values_are_still_told_apart() -> None:
    """The product of their sizes is beyond 64 bits; numbers are made small on the way."""
    count = 3000
    columns = [column_of(str(n * k % count) for n in range(count)) for k in (1, 7, 11, 13, 17, 19)]
    assert group_rows(columns, count).count == count


def test_labels_that_a_matcher_demands_are_known_without_reading_a_row() -> None:
    """A sum over all series of a metric never looks at their labels."""

    def read() -> list[Labels]:
        raise AssertionError

    found = table_of(3, read, {"__name__": "m"})
    assert found.column("__name__").text(2) == "m"
    assert found.groups(()).count == 1
