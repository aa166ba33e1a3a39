"""Groups: one rule after another, what they leave behind, and rules that fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.alerts.groups import compile_group, evaluate_group, fresh_state
from fleet.alerts.rules import AlertingRule, RecordingRule, Rule, RuleGroup
from fleet.errors import InvalidInputError, LakeUnavailableError, TooLargeError
from fleet.metrics.labels import labels_of
from fleet.metrics.memory_series import MemorySeries, OverlaidReader
from fleet.metrics.vectors import InstantVector, empty_vector
from fleet.promql.engine import PromqlEngine
from tests.fleet.alerts.alerts import MINUTE_MS, vector


class Refusing:
    """A sink that keeps nothing."""

    def write(self, samples: InstantVector) -> None:
        """See the port."""
        raise LakeUnavailableError(f"{len(samples)} samples were not kept")


def world(*rules: Rule, limit: int = 0) -> tuple[RuleGroup, MemorySeries, PromqlEngine]:
    """Two jobs, x of each is 1 for an hour."""
    series = MemorySeries()
    for minute in range(60):
        series.write(vector(minute * MINUTE_MS, {"a": 1.0, "b": 1.0}))
    return RuleGroup("g", rules, limit=limit), series, PromqlEngine(series)


def test_a_rule_sees_what_the_one_before_it_has_recorded() -> None:
    """At the same moment."""
    group, series, engine = world(
        RecordingRule("x:sum", "sum(x)"), RecordingRule("x:double", "2 * x:sum")
    )
    program = compile_group(group)
    state = evaluate_group(program, fresh_state(group), engine, series, MINUTE_MS)
    assert all(one.error is None for one in state.rules)
    assert engine.instant("x:double", MINUTE_MS).values.tolist() == [4.0]


@pytest.mark.parametrize(
    ("rule", "limit", "kind", "says"),
    [
        (RecordingRule("r", "x", (("job", "same"),)), 0, InvalidInputError, "one element for each"),
        (RecordingRule("r", "x"), 1, TooLargeError, "limit of 1 with 2 series"),
        (RecordingRule("r", "x +"), 0, InvalidInputError, "x +"),
        (AlertingRule("A", "x > 0"), 1, TooLargeError, "limit of 1 with 2 alerts"),
    ],
)
def test_a_rule_that_fails_says_why_and_leaves_the_next_alone(
    rule: Rule, limit: int, kind: type[Exception], says: str
) -> None:
    """And writes nothing."""
    group, series, engine = world(rule, RecordingRule("fine", "sum(x)"), limit=limit)
    before = len(series)
    state = evaluate_group(compile_group(group), fresh_state(group), engine, series, MINUTE_MS)
    assert isinstance(state.rules[0].error, kind)
    assert says in str(state.rules[0].error)
    assert state.rules[1].error is None
    assert len(series) == before + 1


def test_what_cannot_be_kept_is_an_error_of_the_rule_and_loses_no_alert() -> None:
    """The state goes on; the next evaluation writes its series."""
    group, series, engine = world(AlertingRule("A", "x > 0"))
    program = compile_group(group)
    state = evaluate_group(program, fresh_state(group, restored=True), engine, Refusing(), 0)
    assert "4 samples were not kept" in str(state.rules[0].error)
    assert len(state.rules[0].state.alerts) == 2
    state = evaluate_group(program, state, engine, series, MINUTE_MS)
    assert state.rules[0].error is None


def test_templates_that_do_not_parse_are_refused_before_anything_is_asked() -> None:
    """By the name of what is missing."""
    with pytest.raises(InvalidInputError, match="nosuch"):
        compile_group(RuleGroup("g", (AlertingRule("A", "x", annotations=(("a", "{{nosuch}}"),)),)))


@given(
    interval_ms=st.sampled_from([1000, 15_000, 30_000, 60_000, 300_000, 3_600_000]),
    name=st.text("abc", min_size=1, max_size=5),
    now_ms=st.integers(1_700_000_000_000, 1_800_000_000_000),
)
def test_a_slot_is_the_newest_of_its_places_and_on_a_grain_of_time(
    interval_ms: int, name: str, now_ms: int
) -> None:
    """Intervals of whole minutes are evaluated on full minutes, where rollups end."""
    program = compile_group(RuleGroup(name, (), "f", interval_ms))
    slot_ms = program.slot_ms(now_ms)
    assert slot_ms <= now_ms < slot_ms + interval_ms
    assert program.slot_ms(slot_ms + interval_ms) == slot_ms + interval_ms
    assert slot_ms % (MINUTE_MS if interval_ms % MINUTE_MS == 0 else 1000) == 0


def test_samples_laid_over_a_reader_count_and_nothing_is_lost() -> None:
    """Series of both; at one time the upper one; what is recorded is never taken for rolled up."""
    lower, upper = MemorySeries(), MemorySeries()
    one, two = labels_of("x", {"job": "a"}), labels_of("y")
    for at_ms in (1, 2, 3):
        lower.put(one, at_ms, 1.0)
    both = OverlaidReader(lower, upper)
    assert both.samples(lower.select((), 0, 9).ids, 0, 9).values.tolist() == [1.0, 1.0, 1.0]
    upper.put(one, 2, 5.0)
    upper.put(two, 4, 7.0)
    found = both.select((), 0, 9)
    assert {info.labels for info in found.infos} == {one, two}
    values = {
        (int(identity), int(at)): value
        for identity, at, value in zip(
            *(getattr(both.samples(found.ids, 0, 9), name).tolist() for name in
              ("series_ids", "ts_ms", "values")), strict=True)
    }  # fmt: skip
    assert sorted(values.values()) == [1.0, 1.0, 5.0, 7.0]
    assert both.keeps_raw(0, 9)
    upper.clear()
    assert len(upper) == 0
    assert len(empty_vector(5)) == 0
