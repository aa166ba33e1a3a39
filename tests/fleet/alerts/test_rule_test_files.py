"""Test files and series as promtool writes them: what is wrong is listed with its line."""

from __future__ import annotations

import math

import pytest

from fleet.alerts import state_json
from fleet.alerts.groups import compile_group, evaluate_group, fresh_state
from fleet.alerts.loading import load_rules
from fleet.alerts.rule_tests import load_rule_tests, run_rule_tests
from fleet.alerts.rule_yaml import rules_yaml
from fleet.alerts.rules import AlertingRule, RecordingRule, RuleGroup
from fleet.alerts.series_notation import parse_series, parse_values
from fleet.alerts.state_json import decode_states, encode_states
from fleet.errors import InvalidDocumentError, InvalidInputError, TooLargeError
from fleet.metrics.labels import labels_of
from fleet.metrics.memory_series import MemorySeries
from fleet.promql.engine import PromqlEngine


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


def test_texts_that_are_none_and_nesting_without_end_are_refused() -> None:
    """A list where a text belongs; brackets deep enough to overflow the stack of libyaml."""
    for text in ("groups: [text]", "groups: [{name: [a], rules: []}]", "[" * 100_000):
        with pytest.raises(InvalidDocumentError):
            load_rules({"r.yml": text})
    with pytest.raises(InvalidDocumentError, match="YAML that parses"):
        load_rule_tests("t.yml", "tests: [")


def test_an_expression_is_judged_by_every_element() -> None:
    """One that is right, one with another value, one that cannot be evaluated."""
    text = """
tests:
  - input_series: [{series: 'x{a="b"}', values: 1x5}]
    promql_expr_test:
      - {expr: x, eval_time: 1m, exp_samples: [{labels: 'x{a="b"}', value: 1}]}
      - {expr: x, eval_time: 1m, exp_samples: [{labels: 'x{a="b"}', value: 2}]}
      - {expr: x, eval_time: 1m}
      - {expr: 'x +', eval_time: 1m}
"""
    results = run_rule_tests(load_rule_tests("t.yml", text), [], PromqlEngine)
    assert [one.passed for one in results] == [True, False, False, False]
    assert results[1].text == 'expected x{a="b"} 2.0, found x{a="b"} 1.0'
    assert results[2].text == 'expected nothing, found x{a="b"} 1.0'
    assert results[3].line == 8


def test_more_alerts_than_can_be_kept_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluator says so; nothing is cut off in silence."""
    program = compile_group(RuleGroup("g", (AlertingRule("A", "x > 0"),), limit=7))
    series = MemorySeries()
    series.put(labels_of("x"), 0, 1.0)
    state = evaluate_group(program, fresh_state(program.group), PromqlEngine(series), series, 0)
    assert decode_states(encode_states([program], [state])).alerts[0].alert.value == 1.0
    monkeypatch.setattr(state_json, "ALERTS_KEPT_MAX", 0)
    with pytest.raises(TooLargeError, match="1 alerts"):
        encode_states([program], [state])


def test_a_group_with_a_limit_is_written_with_it() -> None:
    """And read back."""
    group = RuleGroup("g", (RecordingRule("r", "x"), AlertingRule("A", "x", 60_000)), "f", limit=7)
    (found,) = load_rules({"f": rules_yaml([group])})
    assert found.limit == 7
    assert [rule._replace(line=0) for rule in found.rules] == list(group.rules)
