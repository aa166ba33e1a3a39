"""Runs tests of rules in promtool's own format, with this evaluator in Prometheus' place.

The same file is read by `promtool test rules`; both must say the same of every case. Groups are
evaluated at each `evaluation_interval`, not at their own, as promtool does.

Source: Prometheus, cmd/promtool/unittest.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from fleet.alerts.durations import duration_text, parse_duration_ms
from fleet.alerts.groups import GroupProgram, GroupState, compile_group, evaluate_group, fresh_state
from fleet.alerts.rules import ALERT_NAME, RuleGroup
from fleet.alerts.series_notation import parse_series, parse_values
from fleet.alerts.states import AlertState
from fleet.alerts.templates import Outside
from fleet.alerts.yaml_nodes import Mapped, Problems, mapped, read_yaml
from fleet.errors import StateroomError
from fleet.metrics.labels import Labels, labels_text
from fleet.metrics.memory_series import MemorySeries
from fleet.ports.query_engine import QueryEngine

T = TypeVar("T")
MINUTE_MS = 60_000
EngineMaker = Callable[[MemorySeries], QueryEngine]
"""Makes an engine over samples; it must see samples that are added later."""

_FILE_KEYS = ("rule_files", "evaluation_interval", "group_eval_order", "tests")
_TEST_KEYS = (
    "name",
    "interval",
    "input_series",
    "alert_rule_test",
    "promql_expr_test",
    "external_labels",
    "external_url",
)


class ExpectedAlert(NamedTuple):
    """An alert that must fire; without `alertname`."""

    labels: Labels
    annotations: Labels


class AlertCase(NamedTuple):
    """At `at_ms` exactly these alerts of one name fire."""

    at_ms: int
    alert: str
    expected: tuple[ExpectedAlert, ...]
    line: int


class ExprCase(NamedTuple):
    """At `at_ms` an expression has exactly these elements."""

    at_ms: int
    expr: str
    expected: tuple[tuple[Labels, float], ...]
    line: int


class RuleTest(NamedTuple):
    """One world of samples, and what rules must make of it."""

    name: str
    interval_ms: int
    series: tuple[tuple[Labels, tuple[float | None, ...]], ...]
    alerts: tuple[AlertCase, ...]
    exprs: tuple[ExprCase, ...]
    outside: Outside


class RuleTestFile(NamedTuple):
    """A file of tests."""

    file: str
    rule_files: tuple[str, ...]
    """Names or patterns, relative to the file."""
    interval_ms: int
    order: tuple[str, ...]
    tests: tuple[RuleTest, ...]


class CaseResult(NamedTuple):
    """How one case went."""

    test: str
    case: str
    passed: bool
    text: str = ""
    """What was expected and what was found, where it failed."""
    line: int = 0


def load_rule_tests(file: str, text: str) -> RuleTestFile:
    """Read a file of tests.

    Raises:
        InvalidDocumentError: lists what is wrong, with lines.
    """
    problems = Problems(file)
    document = read_yaml(text, problems)
    if document is None:
        problems.raise_any()
        raise AssertionError("a document that is refused has a problem")
    files = tuple(str(node.value) for _, node in document.items("rule_files"))
    interval_ms = _duration(document, "evaluation_interval") or MINUTE_MS
    order = tuple(str(node.value) for _, node in document.items("group_eval_order"))
    tests = tuple(
        _test(table, number, interval_ms)
        for number, node in document.items("tests")
        if (table := mapped(node, problems, f"tests[{number}]")) is not None
    )
    document.close(_FILE_KEYS)
    problems.raise_any("https://prometheus.io/docs has the format: 'Unit testing for rules'.")
    return RuleTestFile(file, files, interval_ms, order, tests)


def _test(table: Mapped, number: int, default_ms: int) -> RuleTest:
    name = table.text("name") or f"test {number}"
    interval_ms = _duration(table, "interval") or default_ms
    series = []
    for _, node in table.items("input_series"):
        entry = mapped(node, table.problems, f"{table.path}.input_series")
        if entry is not None:
            series.append(_series(entry))
    alerts = tuple(_cases(table, "alert_rule_test", _alert_case))
    exprs = tuple(_cases(table, "promql_expr_test", _expr_case))
    external = {key: text for key, text, _ in table.texts("external_labels")}
    outside = Outside(external, table.text("external_url"))
    table.close(_TEST_KEYS)
    return RuleTest(name, interval_ms, tuple(series), alerts, exprs, outside)


def _cases(table: Mapped, key: str, read: Callable[[Mapped], T]) -> Sequence[T]:
    found = []
    for number, node in table.items(key):
        entry = mapped(node, table.problems, f"{table.path}.{key}[{number}]")
        if entry is not None:
            found.append(read(entry))
    return found


def _series(entry: Mapped) -> tuple[Labels, tuple[float | None, ...]]:
    problems, line = entry.problems, entry.line
    series, values = entry.text("series"), entry.text("values")
    labels: Labels = problems.attempt(line, entry.at("series"), lambda: parse_series(series), ())
    none: list[float | None] = []
    found = problems.attempt(line, entry.at("values"), lambda: parse_values(values), none)
    entry.close(("series", "values"))
    return labels, tuple(found)


def _alert_case(entry: Mapped) -> AlertCase:
    at_ms = _duration(entry, "eval_time")
    line, name = entry.line_of("alertname"), entry.text("alertname")
    if not name:
        entry.problems.add(line, entry.at("alertname"), name, "the name of an alert")
    expected = []
    for number, node in entry.items("exp_alerts"):
        table = mapped(node, entry.problems, f"{entry.path}.exp_alerts[{number}]")
        if table is not None:
            labels = {key: text for key, text, _ in table.texts("exp_labels")}
            words = {key: text for key, text, _ in table.texts("exp_annotations")}
            table.close(("exp_labels", "exp_annotations"))
            labels[ALERT_NAME] = name
            expected.append(ExpectedAlert(_labels(labels), _labels(words)))
    entry.close(("eval_time", "alertname", "exp_alerts"))
    return AlertCase(at_ms, name, tuple(sorted(expected)), line)


def _expr_case(entry: Mapped) -> ExprCase:
    at_ms = _duration(entry, "eval_time")
    line, expr = entry.line_of("expr"), entry.text("expr")
    expected = []
    for number, node in entry.items("exp_samples"):
        table = mapped(node, entry.problems, f"{entry.path}.exp_samples[{number}]")
        if table is not None:
            series, value = table.text("labels"), table.number("value")
            labels: Labels = entry.problems.attempt(
                table.line, table.at("labels"), partial(parse_series, series), ()
            )
            table.close(("labels", "value"))
            expected.append((labels, 0.0 if value is None else value))
    entry.close(("expr", "eval_time", "exp_samples"))
    return ExprCase(at_ms, expr, tuple(sorted(expected)), line)


def _labels(named: Mapping[str, str]) -> Labels:
    return tuple(sorted(named.items()))


def _duration(table: Mapped, key: str) -> int:
    line, text = table.line_of(key), table.text(key)
    if not text:
        return 0
    field = table.at(key)
    return table.problems.attempt(line, field, lambda: parse_duration_ms(field, text), 0)


def run_rule_tests(
    tests: RuleTestFile, groups: Sequence[RuleGroup], make_engine: EngineMaker
) -> list[CaseResult]:
    """Run every test of a file.

    Args:
        tests: the file.
        groups: of the rule files that it names.
        make_engine: called once for each test.

    Returns:
        One result per case; and one, failed, for each evaluation that went wrong.
    """
    places = {name: place for place, name in enumerate(tests.order)}
    ordered = sorted(groups, key=lambda group: places.get(group.name, 0))
    return [
        result
        for test in tests.tests
        for result in _run(test, tests.interval_ms, ordered, make_engine)
    ]


def _run(
    test: RuleTest, interval_ms: int, groups: Sequence[RuleGroup], make_engine: EngineMaker
) -> list[CaseResult]:
    memory = MemorySeries()
    for labels, values in test.series:
        for number, value in enumerate(values):
            if value is not None:
                memory.put(labels, number * test.interval_ms, value)
    engine = make_engine(memory)
    programs = [compile_group(group, test.outside) for group in groups]
    states = [fresh_state(group, restored=True) for group in groups]
    moments = [case.at_ms for case in test.alerts] + [case.at_ms for case in test.exprs]
    last_ms = max(moments, default=0)
    results: list[CaseResult] = []
    for at_ms in range(0, last_ms + 1, interval_ms):
        states = [
            evaluate_group(program, state, engine, memory, at_ms)
            for program, state in zip(programs, states, strict=True)
        ]
        failures = _failures(test, programs, states, at_ms)
        if failures:
            return [*results, *failures]
        results += [
            _judge_alerts(test, case, programs, states)
            for case in test.alerts
            if at_ms <= case.at_ms < at_ms + interval_ms
        ]
    return results + [_judge_expr(test, case, engine) for case in test.exprs]


def _failures(
    test: RuleTest, programs: Sequence[GroupProgram], states: Sequence[GroupState], at_ms: int
) -> list[CaseResult]:
    """Rules that could not be evaluated: promtool ends the test there."""
    return [
        CaseResult(test.name, f"rule {rule.name} at {duration_text(at_ms)}", False, str(one.error))
        for program, state in zip(programs, states, strict=True)
        for rule, one in zip(program.group.rules, state.rules, strict=True)
        if one.error is not None
    ]


def _judge_alerts(
    test: RuleTest,
    case: AlertCase,
    programs: Sequence[GroupProgram],
    states: Sequence[GroupState],
) -> CaseResult:
    found = sorted(
        ExpectedAlert(alert.labels, program.tell(alert))
        for group, state in zip(programs, states, strict=True)
        for program, rule in zip(group.programs, state.rules, strict=True)
        if program is not None and program.rule.name == case.alert
        for alert in rule.state.live()
        if alert.state is AlertState.FIRING
    )
    what = f"alert {case.alert} at {duration_text(case.at_ms)}"
    if found == list(case.expected):
        return CaseResult(test.name, what, True, line=case.line)
    text = f"expected {_alerts_text(case.expected)}, found {_alerts_text(found)}"
    return CaseResult(test.name, what, False, text, case.line)


def _judge_expr(test: RuleTest, case: ExprCase, engine: QueryEngine) -> CaseResult:
    what = f"{case.expr} at {duration_text(case.at_ms)}"
    try:
        vector = engine.instant(case.expr, case.at_ms)
    except StateroomError as error:
        return CaseResult(test.name, what, False, str(error), case.line)
    found = sorted(zip(vector.labels, vector.values.tolist(), strict=True))
    if _equal(found, case.expected):
        return CaseResult(test.name, what, True, line=case.line)
    text = f"expected {_samples_text(case.expected)}, found {_samples_text(found)}"
    return CaseResult(test.name, what, False, text, case.line)


def _equal(found: Sequence[tuple[Labels, float]], expected: Sequence[tuple[Labels, float]]) -> bool:
    """Whether elements are the same, to the bit; promtool never finds NaN equal, nor does this."""
    return list(found) == list(expected)


def _alerts_text(alerts: Sequence[ExpectedAlert]) -> str:
    shown = [f"{labels_text(one.labels)} {labels_text(one.annotations)}" for one in alerts]
    return "; ".join(shown) or "nothing"


def _samples_text(samples: Sequence[tuple[Labels, float]]) -> str:
    return "; ".join(f"{labels_text(labels)} {value!r}" for labels, value in samples) or "nothing"
