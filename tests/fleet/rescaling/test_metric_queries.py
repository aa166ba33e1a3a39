"""What is asked for a metric, and what an answer means: never 0 for what is not known."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.metrics.labels import labels_of
from fleet.metrics.vectors import InstantVector
from fleet.promql.parsing import parse
from fleet.rescaling.metric_queries import (
    expression_of,
    matchers_of,
    milli_of,
    samples_by_agent,
    samples_of,
    values_of,
)
from fleet.rescaling.observation import MetricFault, PodSample
from fleet.rescaling.spec import MetricKind, MetricSpec, TargetType

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def metric(kind: MetricKind, name: str, selector: str = "") -> MetricSpec:
    """A metric with a target of one each."""
    return MetricSpec(kind, name, TargetType.AVERAGE_VALUE, 1000, selector=selector)


def answer(*values: float, **labels: str) -> InstantVector:
    """Series of one metric, told apart by `n`."""
    found = [labels_of("m", {"n": str(n), **labels}) for n in range(len(values))]
    return InstantVector(found, np.array(values, np.float64), 0)


@pytest.mark.parametrize(
    ("asked", "expression"),
    [
        (metric(MetricKind.PODS, "queue"), 'agent_reported_value{name="queue"}'),
        (metric(MetricKind.PODS, "agent_active_sessions"), "agent_active_sessions"),
        (
            metric(MetricKind.PODS, "queue", "kind=in"),
            'agent_reported_value{name="queue",kind="in"}',
        ),
        (metric(MetricKind.EXTERNAL, "depth", "q=in,tier!=test"), 'depth{q="in",tier!="test"}'),
        (metric(MetricKind.EXTERNAL, "depth"), "depth"),
        (
            metric(MetricKind.OBJECT, 'sum(depth{r="$region",w="$workload"})'),
            'sum(depth{r="eu",w="chat"})',
        ),
        (
            metric(MetricKind.EXTERNAL, "depth", "q in (a.b, c),r notin (d),s,!t,u==v"),
            'depth{q=~"a\\\\.b|c",r!~"d",s!="",t="",u="v"}',
        ),
    ],
)
def test_a_metric_becomes_promql(asked: MetricSpec, expression: str) -> None:
    """Which parses."""
    assert expression_of(asked, "chat", "eu") == expression
    parse(expression)


@pytest.mark.parametrize("selector", ["a-b=c", "=x", "a in x", "1=2"])
def test_a_selector_that_is_none_is_refused(selector: str) -> None:
    """It names a label that PromQL cannot, or none."""
    with pytest.raises(InvalidInputError):
        matchers_of(selector)


def test_a_selector_beside_an_expression_is_refused() -> None:
    """It would say nothing."""
    with pytest.raises(InvalidInputError):
        expression_of(metric(MetricKind.EXTERNAL, "sum(depth)", "q=in"), "chat", "eu")


def test_values_are_thousandths_and_what_is_not_known_is_a_fault() -> None:
    """No series, several of one object, and what is no number."""
    external, thing = metric(MetricKind.EXTERNAL, "m"), metric(MetricKind.OBJECT, "m")
    assert values_of(external, answer(1.5, 0)) == [1500, 0]
    assert values_of(thing, answer(2)) == [2000]
    for asked, found, said in (
        (external, answer(), "no series"),
        (thing, answer(1, 2), "2 series"),
        (external, answer(1, math.nan), "1 of 2"),
        (external, answer(math.inf), "not a number"),
    ):
        fault = values_of(asked, found)
        assert isinstance(fault, MetricFault)
        assert said in fault.message


def test_samples_are_dealt_to_the_agents_that_they_are_about() -> None:
    """Two series of one agent add up; a value that is no number is no sample."""
    vector = InstantVector(
        [labels_of("m", {"agent": name, "n": str(n)}) for n, name in enumerate("aab")]
        + [labels_of("m", {})],
        np.array([1.0, 2.0, math.nan, 9.0]),
        0,
    )
    found = samples_by_agent(vector, NOW)
    assert found == {"a": PodSample(3000, NOW)}
    asked = metric(MetricKind.PODS, "queue")
    assert samples_of(asked, found, ["a", "b"]) == found
    fault = samples_of(asked, found, ["b"])
    assert isinstance(fault, MetricFault)
    assert "no agent reports queue" in fault.message


@given(st.integers(-(10**12), 10**12))
def test_thousandths_that_a_double_holds_come_back_exactly(milli: int) -> None:
    """0.1 is 100 thousandths, not 101; what lies between is rounded up."""
    assert milli_of(milli / 1000) == milli
    assert milli_of((milli + 0.5) / 1000) == milli + 1
