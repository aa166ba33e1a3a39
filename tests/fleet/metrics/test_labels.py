"""Identity of series, and which of them a query chooses."""

from __future__ import annotations

import random
import subprocess
import sys

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.metrics.labels import (
    REST_BITS,
    Matcher,
    MatchKind,
    labels_of,
    labels_text,
    matchers_text,
    metric_of,
    series_id,
)

NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name != "__name__"
)
LABELS = st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=8))


@given(LABELS, st.randoms(use_true_random=False))
def test_the_order_in_which_labels_come_does_not_change_a_series(
    labels: dict[str, str], order: random.Random
) -> None:
    """Labels are sorted, so that any writer finds the same identity."""
    shuffled = list(labels.items())
    order.shuffle(shuffled)
    assert series_id(labels_of("up", shuffled)) == series_id(labels_of("up", labels))


@given(LABELS)
def test_an_empty_value_means_that_the_label_is_absent(labels: dict[str, str]) -> None:
    """As in Prometheus: `x=""` is the series without `x`."""
    assert labels_of("up", labels) == labels_of("up", {k: v for k, v in labels.items() if v})


@given(LABELS, LABELS)
def test_two_series_share_an_identity_only_when_they_are_one(
    one: dict[str, str], other: dict[str, str]
) -> None:
    """Nothing in the text that is hashed can be read in two ways."""
    a, b = labels_of("up", one), labels_of("up", other)
    assert (series_id(a) == series_id(b)) == (a == b)


def test_series_of_one_metric_lie_together() -> None:
    """The upper bits come from the name alone, and the identity fits a signed 64-bit integer."""
    ids = [series_id(labels_of("up", {"node": str(i)})) for i in range(1000)]
    assert len({one >> REST_BITS for one in ids}) == 1
    assert len(set(ids)) == 1000
    assert all(0 <= one < 2**63 for one in ids)


def test_another_process_finds_the_same_identity() -> None:
    """No seed of the interpreter takes part."""
    code = (
        "from fleet.metrics.labels import *; print(series_id(labels_of('up', {'node': 'köln-1'})))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) == series_id(labels_of("up", {"node": "köln-1"}))


@pytest.mark.parametrize(
    ("metric", "labels", "field"),
    [
        ("9up", {}, "metric"),
        ("", {}, "metric"),
        ("up", {"a-b": "1"}, "label"),
        ("up", {"__name__": "down"}, "label"),
        ("up", [("a", "1"), ("b", "2"), ("a", "3")], "label"),
        ("up", {"a": "\ud800"}, "a"),
        ("up", {"a": "x" * 20_000}, "labels"),
        ("up", {f"l{i}": "x" for i in range(80)}, "labels"),
    ],
)
def test_labels_that_break_a_rule_are_refused_by_name(
    metric: str, labels: dict[str, str] | list[tuple[str, str]], field: str
) -> None:
    """One error that names what is wrong; nothing is cut or renamed."""
    with pytest.raises(InvalidInputError) as caught:
        labels_of(metric, labels)
    assert caught.value.field == field


def test_matchers_compare_like_prometheus() -> None:
    """Regular expressions are anchored, and a missing label is the empty text."""
    assert Matcher("a", MatchKind.REGEX, "us.*").matches("us-west")
    assert not Matcher("a", MatchKind.REGEX, "us").matches("us-west")
    assert Matcher("a", MatchKind.NOT_REGEX, "us").matches("us-west")
    assert Matcher("a", MatchKind.EQUAL, "").matches("")
    assert not Matcher("a", MatchKind.NOT_EQUAL, "").matches("")
    with pytest.raises(InvalidInputError, match="regular expression"):
        Matcher("a", MatchKind.REGEX, "(").matches("x")


def test_a_series_is_written_as_promql_writes_it() -> None:
    """Quotes, backslashes and line ends are escaped."""
    labels = labels_of("up", {"b": 'say "x"\n', "a": "c:\\"})
    assert labels_text(labels) == 'up{a="c:\\\\",b="say \\"x\\"\\n"}'
    assert metric_of(labels) == "up"
    assert labels_text(()) == "{}"


def test_conditions_are_written_as_promql_reads_them() -> None:
    """Any text of a value survives the way through the grammar."""
    values = ['a"b', "c\\d", "e\nf", "tab\tand köln", ""]
    asked = [Matcher(f"l{i}", MatchKind.NOT_EQUAL, value) for i, value in enumerate(values)]
    asked.append(Matcher("node", MatchKind.REGEX, "us-.*"))
    read = promql_parser.parse(f"up{matchers_text(asked)}").matchers.matchers
    assert [(one.name, one.value) for one in read] == [(one.name, one.value) for one in asked]
