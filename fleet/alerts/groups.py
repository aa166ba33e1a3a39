"""Evaluates a group: its rules one after another, each seeing what those before it have recorded.

Every rule leaves series behind: a recording rule its own, an alerting rule ALERTS and
ALERTS_FOR_STATE. A series that an evaluation no longer yields gets a stale marker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from fleet.alerts.rules import AlertingRule, RecordingRule, Rule, RuleGroup
from fleet.alerts.states import (
    ActiveAlert,
    AlertProgram,
    AlertState,
    RuleOutcome,
    RuleState,
    compile_rule,
    evaluate_rule,
)
from fleet.alerts.templates import Outside
from fleet.errors import InvalidInputError, StateroomError, TooLargeError
from fleet.metrics.labels import METRIC_NAME, Labels, labels_text
from fleet.metrics.samples import STALE_BITS
from fleet.metrics.vectors import InstantVector
from fleet.ports.query_engine import QueryEngine, SampleSink

ALERTS, FOR_STATE = "ALERTS", "ALERTS_FOR_STATE"
ALERT_STATE = "alertstate"
SECOND_MS, MINUTE_MS = 1000, 60_000

SeriesKey = tuple[Labels, AlertState | None]
"""Labels of an alert or element, and the state that the series is about."""


@dataclass(frozen=True, slots=True, eq=False)
class GroupProgram:
    """A group with its templates parsed."""

    group: RuleGroup
    programs: tuple[AlertProgram | None, ...]
    """One per rule; None for a recording rule."""

    @property
    def offset_ms(self) -> int:
        """When in its interval the group is evaluated: groups are spread, each keeps its place.

        Intervals of whole minutes are spread by whole minutes, so that rollups, which end there,
        can answer long windows; others by whole seconds.
        """
        interval_ms = self.group.interval_ms
        grain_ms = MINUTE_MS if interval_ms % MINUTE_MS == 0 else SECOND_MS
        digest = blake2b(self.group.key.encode(), digest_size=8).digest()
        places = max(1, interval_ms // grain_ms)
        return int.from_bytes(digest, "big") % places * grain_ms

    def slot_ms(self, now_ms: int) -> int:
        """The moment of the evaluation that is due at `now_ms`: the newest not after it."""
        aligned = (now_ms - self.offset_ms) // self.group.interval_ms * self.group.interval_ms
        return aligned + self.offset_ms


class EvaluatedRule(NamedTuple):
    """A rule after its last evaluation."""

    state: RuleState = RuleState()
    """Empty for a recording rule."""
    series: Mapping[SeriesKey, Labels] | None = None
    """What it wrote last; None before its first success."""
    error: StateroomError | None = None


class GroupState(NamedTuple):
    """A group between two evaluations."""

    rules: tuple[EvaluatedRule, ...]
    evaluated_at_ms: int | None = None
    evaluations: int = 0
    """Since the start."""
    restored: bool = False
    """Whether alerts have their waiting of before the start; ALERTS is written from then on."""


def compile_group(group: RuleGroup, outside: Outside | None = None) -> GroupProgram:
    """Parse every template of a group.

    Raises:
        InvalidInputError: a template does not parse.
    """
    programs = tuple(
        compile_rule(rule, outside) if isinstance(rule, AlertingRule) else None
        for rule in group.rules
    )
    return GroupProgram(group, programs)


def fresh_state(group: RuleGroup, *, restored: bool = False) -> GroupState:
    """The state of a group that was never evaluated.

    Args:
        group: the group.
        restored: whether there is nothing to wait for before ALERTS is written.
    """
    return GroupState(tuple(EvaluatedRule() for _ in group.rules), restored=restored)


def evaluate_group(
    program: GroupProgram, before: GroupState, engine: QueryEngine, sink: SampleSink, at_ms: int
) -> GroupState:
    """Evaluate every rule at one moment; a rule that fails stops no other.

    Args:
        program: the group.
        before: as the last evaluation left it.
        engine: answers the rules' expressions, and sees what `sink` has taken.
        sink: takes the series that the rules leave behind.
        at_ms: the moment, later than the last one.

    Returns:
        The group after it; a rule that failed has its error, and its alerts as they stand then.
    """
    evaluated = tuple(
        _evaluate(rule, compiled, was, program.group.limit, engine, sink, at_ms, before.restored)
        for rule, compiled, was in zip(
            program.group.rules, program.programs, before.rules, strict=True
        )
    )
    return GroupState(evaluated, at_ms, before.evaluations + 1, before.restored)


def _evaluate(
    rule: Rule,
    program: AlertProgram | None,
    before: EvaluatedRule,
    limit: int,
    engine: QueryEngine,
    sink: SampleSink,
    at_ms: int,
    restored: bool,
) -> EvaluatedRule:
    try:
        vector = engine.instant(rule.expr, at_ms)
        if program is None:
            assert isinstance(rule, RecordingRule), "every alerting rule has a program"
            state, series, values = RuleState(), *_recorded(rule, vector, limit)
        else:
            outcome: RuleOutcome = evaluate_rule(program, before.state, vector, limit)
            if outcome.error is not None:
                return EvaluatedRule(outcome.state, before.series, outcome.error)
            state = outcome.state
            series, values = _alert_series(state, before.series) if restored else ({}, [])
    except StateroomError as error:
        return before._replace(error=error)
    after = EvaluatedRule(state, series)
    try:
        _write(series, values, before.series or {}, sink, at_ms)
    except StateroomError as error:
        return after._replace(error=error)
    return after


def _recorded(
    rule: RecordingRule, vector: InstantVector, limit: int
) -> tuple[dict[SeriesKey, Labels], Sequence[float]]:
    """The series of a recording rule, with the rule's name and labels."""
    put = {METRIC_NAME: rule.name, **dict(rule.labels)}
    series: dict[SeriesKey, Labels] = {}
    seen: set[Labels] = set()
    for element in vector.labels:
        merged = {**dict(element), **put}
        labels = tuple(sorted((name, text) for name, text in merged.items() if text))
        if labels in seen:
            raise InvalidInputError(
                f"rule {rule.name}",
                labels_text(labels),
                "one element for each label set after the rule's labels are applied",
            )
        seen.add(labels)
        series[labels, None] = labels
    if 0 < limit < len(series):
        text = f"rule {rule.name}: exceeded limit of {limit} with {len(series)} series"
        raise TooLargeError(text, hint="Narrow the rule's expression.")
    return series, vector.values.tolist()


def _alert_series(
    state: RuleState, known: Mapping[SeriesKey, Labels] | None
) -> tuple[dict[SeriesKey, Labels], Sequence[float]]:
    """ALERTS and ALERTS_FOR_STATE of every alert that is pending or firing."""
    series: dict[SeriesKey, Labels] = {}
    values: list[float] = []
    known = known or {}
    for alert in state.live():
        key = (alert.labels, alert.state)
        series[key] = known.get(key) or _put(
            alert.labels, {METRIC_NAME: ALERTS, ALERT_STATE: alert.state.value}
        )
        values.append(1.0)
        waited = (alert.labels, None)
        series[waited] = known.get(waited) or _put(alert.labels, {METRIC_NAME: FOR_STATE})
        values.append(float(alert.active_at_ms // 1000))
    return series, values


def ended_alerts(alerts: Iterable[ActiveAlert], at_ms: int) -> InstantVector:
    """Stale markers for the series of alerts whose rule is there no more."""
    import numpy as np

    state = RuleState({alert.labels: alert for alert in alerts})
    labels = list(_alert_series(state, None)[0].values())
    return InstantVector(labels, np.full(len(labels), STALE_BITS, np.uint64).view(float), at_ms)


def _put(labels: Labels, more: Mapping[str, str]) -> Labels:
    return tuple(sorted({**dict(labels), **more}.items()))


def _write(
    series: Mapping[SeriesKey, Labels],
    values: Sequence[float],
    previous: Mapping[SeriesKey, Labels],
    sink: SampleSink,
    at_ms: int,
) -> None:
    """Keep the samples of a rule, and end the series that it no longer yields."""
    import numpy as np

    ended = [labels for key, labels in previous.items() if key not in series]
    labels = [*series.values(), *ended]
    if not labels:
        return
    column = np.empty(len(labels), np.float64)
    column[: len(series)] = values
    # Assigned through the bits: float arithmetic may quieten the NaN that marks the end.
    column[len(series) :].view(np.uint64)[:] = STALE_BITS
    sink.write(InstantVector(labels, column, at_ms))
