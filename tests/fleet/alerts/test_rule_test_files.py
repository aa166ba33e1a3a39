"""Test files and series as promtool writes them: what is wrong is listed with its line."""

from __future__ import annotations

import math

import pytest

from fleet.alerts.rule_tests import load_rule_tests
from fleet.alerts.series_notation import parse_series, parse_values
from fleet.alerts.state_json import decode_states
from fleet.errors import InvalidDocumentError, InvalidInputError
from fleet.metrics.labels import labels_of


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1 2 3", [1, 2, 3]),
        ("1x3", [1, 1, 1, 1]),
        ("0+10x3", [0, 10, 20, 30]),
        ("9-3x2", [9, 6, 3]),
        ("-2+4x2", [-2, 2, 6]),
        ("_ 1 _x2 2", [None, 1, None, None, 2]),
        ("0x2", [0, 0, 0]),
        ("1e2 .5 +3", [100, 0.5, 3]),
        ("Inf -Inf", [math.inf, -math.inf]),
        ("", []),
    ],
)
def test_values_are_read_as_promtool_reads_them(text: str, values: list[float | None]) -> None:
    """`AxN` is A and N times A again."""
    assert parse_values(text) == values
    assert math.isnan(parse_values("stale")[0] or 0)


@pytest.mark.parametrize("text", ["a", "1+", "1+2", "1x", "0x1f", "{{count:1}}", "1x9999999"])
def test_what_is_no_value_is_refused(text: str) -> None:
    """Native histograms among them."""
    with pytest.raises(InvalidInputError, match="values"):
        parse_values(text)


def test_series_are_read_with_quotes_of_every_kind() -> None:
    """Labels in order, empty ones left out."""
    assert parse_series('up{b=\'x\', a="y\\"\\n", c=`z`,}') == labels_of(
        "up", {"a": 'y"\n', "b": "x", "c": "z"}
    )
    assert parse_series('{__name__="up", a="b"}') == labels_of("up", {"a": "b"})
    assert parse_series("{}") == ()
    assert parse_series('{b="", a="1"}') == (("a", "1"),)


@pytest.mark.parametrize("text", ["up{", "up{a}", "up{a=b}", '{a="1",a="2"}', "1up"])
def test_what_is_no_series_is_refused(text: str) -> None:
    """By name."""
    with pytest.raises(InvalidInputError):
        parse_series(text)


def test_every_problem_of_a_test_file_is_listed() -> None:
    """With its line; keys that nobody knows, too."""
    text = """
rule_files: []
evaluation_interval: soon
tests:
  - input_series:
      - series: up{
        values: 1 b
      - text
    interval: 1m
    alert_rule_test:
      - eval_time: 1m
        exp_alerts: [text]
      - text
    promql_expr_test:
      - expr: up
        exp_samples:
          - {labels: 'up{', value: many}
          - text
    unknown: 1
  - text
"""
    with pytest.raises(InvalidDocumentError) as refused:
        load_rule_tests("t.yml", text)
    told = str(refused.value)
    for place in (
        *("line 3, ", "line 6, ", "line 8, ", "line 11, ", "line 12, ", "line 13, "),
        *("line 17, ", "line 18, ", "line 19, ", "line 20, "),
    ):
        assert place in told, (place, told)


@pytest.mark.parametrize("text", ["[1, 2]", "text", "a: [", "? [1]\n: 2"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    """Also YAML that does not parse."""
    with pytest.raises(InvalidDocumentError):
        load_rule_tests("t.yml", text)


def test_states_that_are_not_ours_are_refused() -> None:
    """The evaluator sets them aside."""
    for text in ("", "5", '{"format": 1, "groups": [], "alerts": [[1]]}', '{"format": 1}'):
        with pytest.raises(InvalidInputError, match="states"):
            decode_states(text)
    assert decode_states(None).waited("g", None) == {}  # type: ignore[arg-type]
