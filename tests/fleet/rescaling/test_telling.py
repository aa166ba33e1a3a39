"""Decisions in words, the claims about them, and what holds rescaling back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.controller_view import ControllerView, KeptView, WatchedRegion
from fleet.failover.records import ControllerState, RegionState
from fleet.incidents import IncidentHeader, IncidentKind, IncidentState, Severity
from fleet.operator_orders import UNTOUCHED, Automation
from fleet.placement.quotas import NetworkLimits, ResourceQuota, ResourceUse
from fleet.rescaling.brakes import read_brakes
from fleet.rescaling.decision import AppliedRule, Proposal, ReplicaDecision
from fleet.rescaling.hpa import decide_replicas
from fleet.rescaling.judging import (
    check_flapping,
    check_limits,
    check_placed,
    check_quotas,
    check_sources,
    count_turns,
)
from fleet.rescaling.observation import AutoscalerState, MetricFault, WorkloadObservation
from fleet.rescaling.policy import ScalingMode
from fleet.rescaling.spec import AutoscalerSpec, MetricKind, MetricSpec, TargetType
from fleet.rescaling.standing import LoggedDecision
from fleet.rescaling.tables import decision_row
from fleet.rescaling.telling import (
    Frame,
    explain_decision,
    load_of,
    log_decision,
    log_hold,
    log_order,
    short_name,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FRAME = Frame("chat", "eu", ScalingMode.AUTO, 1, 9, 2)
METRICS = (
    MetricSpec(MetricKind.EXTERNAL, "depth", TargetType.AVERAGE_VALUE, 10_000),
    MetricSpec(MetricKind.RESOURCE, "cpu", TargetType.UTILIZATION, 60),
    MetricSpec(MetricKind.PODS, "queue", TargetType.AVERAGE_VALUE, 1000),
)
SPEC = AutoscalerSpec("chat", METRICS, 1, 9)
PROPOSALS = (
    Proposal("external metric depth(nil)", 5, 22_500, 10_000, 2.25),
    Proposal("cpu resource utilization (percentage of request)", 2, 30, 60, 0.5, note="1 idle"),
    Proposal("pods metric queue", None, fault=MetricFault("FailedGetPodsMetric", "no agent")),
)
RULES = (
    AppliedRule("metrics", 2, 5, "depth asks for 5"),
    AppliedRule("rate-up", 5, 4, "at most 4 in 15 s"),
    AppliedRule("tolerance", 4, 4, "nothing"),
)


def decision(desired: int = 4, error: str = "") -> ReplicaDecision:
    """From two agents."""
    found = (PROPOSALS, RULES) if not error else ((), ())
    return ReplicaDecision(2, desired, *found, (), AutoscalerState(), NOW, error)


def test_a_decision_is_told_with_its_figures_and_what_limited_it() -> None:
    """Golden: the sentence, the row and the explanation."""
    logged = log_decision(FRAME, decision(), SPEC)
    assert (logged.verdict, logged.limited_by, logged.load) == ("scale-up", "rate-up", 2.25)
    assert logged.reason == (
        "2 to 4: depth at 225 % of its target asks for 5; cpu resource utilization (percentage of "
        "request) at 50 % of its target asks for 2 (1 idle); pods metric queue cannot be had "
        "(no agent); rate-up: at most 4 in 15 s; tolerance: nothing"
    )
    assert explain_decision(logged) == [
        f"2026-03-01 12:00:00Z scale-up (auto, 1 look): {logged.reason}",
        "  2 of 2 ready; limits 1 to 9",
        "  depth: measured 22.5, target 10, asks for 5",
        f"  {PROPOSALS[1].metric}: measured 30%, target 60%, asks for 2 (1 idle)",
        "  pods metric queue: cannot be had, FailedGetPodsMetric: no agent",
        "  rate-up: 5 to 4, at most 4 in 15 s",
        "  tolerance: 4 to 4, nothing",
    ]
    assert decision_row(logged).mode == "auto"


@pytest.mark.parametrize(
    ("desired", "error", "verdict"),
    [(1, "", "scale-down"), (2, "", "unchanged"), (2, "no metric", "blind")],
)
def test_every_verdict_has_its_word(desired: int, error: str, verdict: str) -> None:
    """Also where nothing changes."""
    logged = log_decision(FRAME, decision(desired, error), SPEC)
    assert logged.verdict == verdict
    assert logged.reason.startswith("2 to 1" if desired == 1 else "stays at 2")


def test_metrics_that_cannot_be_had_are_told_in_the_words_of_their_source() -> None:
    """The controller says name and namespace four times; that is kept for its conditions."""
    faults = [MetricFault("FailedGetMetric", f"source {n} is down") for n in range(len(METRICS))]
    found = decide_replicas(SPEC, WorkloadObservation(2, 2, (), faults), AutoscalerState(), NOW)
    assert found.error.count("depth") == 3
    assert explain_decision(log_decision(FRAME, found, SPEC)) == [
        (
            "2026-03-01 12:00:00Z blind (auto, 1 look): stays at 2: depth cannot be had (source 0 "
            "is down); cpu resource utilization (percentage of request) cannot be had (source 1 "
            "is down); pods metric queue cannot be had (source 2 is down)"
        ),
        "  2 of 2 ready; limits 1 to 9",
        "  depth: cannot be had, FailedGetExternalMetric: source 0 is down",
        (
            "  cpu resource utilization (percentage of request): cannot be had, "
            "FailedGetResourceMetric: source 1 is down"
        ),
        "  pods metric queue: cannot be had, FailedGetPodsMetric: source 2 is down",
        "  invalid-metrics: 2 to 2, no metric can be trusted",
    ]


def test_what_was_not_decided_by_metrics_is_told_too() -> None:
    """A hold and a person's number have no load."""
    held = log_hold(FRAME, NOW, 3, "held: frozen", "brake")
    ordered = log_order(FRAME, NOW, 3, 7, "ann holds 7")
    assert (held.verdict, held.desired, held.load) == ("held", 3, None)
    assert (ordered.verdict, ordered.desired, ordered.limited_by) == ("ordered", 7, "manual")
    assert len(explain_decision(ordered._replace(times=4))) == 2
    assert load_of([PROPOSALS[2]]) is None


def test_a_metrics_name_is_short() -> None:
    """An expression of a page is cut; what is no name of the controller's stays."""
    assert short_name("external metric depth(nil)") == "depth"
    assert short_name("cpu resource") == "cpu resource"
    assert len(short_name(f"external metric {'x' * 200}(nil)")) == 80


def logged(verdict: str, at_s: float = 0.0, desired: int = 4) -> LoggedDecision:
    """A decision about chat."""
    at = NOW - timedelta(seconds=at_s)
    found = log_decision(FRAME, decision(desired), SPEC)
    return found._replace(verdict=verdict, first_at=at, last_at=at)


def test_claims_hold_or_name_who_breaks_them() -> None:
    """Limits, flapping within the last hour, blindness; agents: `tests/sensors`."""
    assert check_limits([logged("scale-up")]).passed
    assert check_limits([logged("ordered", desired=50)]).passed
    assert not check_limits([logged("scale-up", desired=10)]).passed
    quota = [NetworkLimits("net", ResourceQuota(agents=2, cpu_milli=5)), NetworkLimits("free")]
    assert check_quotas(quota, {"net": ResourceUse(2, 5, 9)}).passed
    over = check_quotas(quota, {"net": ResourceUse(2, 6, 9)})
    assert [(one.subject, one.detail) for one in over.offenders] == [("net", "cpu_milli 6 of 5")]
    assert check_quotas(quota, {}).numbers["checked"] == 1
    waves = [logged(word, 600 * n) for n, word in enumerate(["scale-up", "scale-down"] * 3)]
    assert not check_flapping(waves, NOW).passed
    assert check_flapping(waves[:5], NOW).passed
    assert check_flapping(waves, NOW + timedelta(minutes=50)).passed
    assert check_sources([logged("unchanged")]).passed
    assert not check_sources([logged("blind")]).passed
    assert check_placed([], set()).passed


@given(st.lists(st.sampled_from([1, -1])))
def test_turns_are_counted_as_a_person_counts_them(directions: list[int]) -> None:
    """Twin: the number of runs of equal signs, less one."""
    runs = 0
    before = 0
    for one in directions:
        runs += one != before
        before = one
    assert count_turns(directions) == max(0, runs - 1)


def view(state: ControllerState, *regions: WatchedRegion) -> KeptView:
    """What the controller of failover tells."""
    return KeptView(ControllerView("c", 1, NOW, state, ("mass loss",), regions=regions), NOW)


def incident(kind: IncidentKind, state: IncidentState) -> IncidentHeader:
    """About region eu."""
    return IncidentHeader("i-1", kind, "eu", "eu", Severity.ERROR, state, "why", NOW, 1, 1)


PAUSED = Automation(paused=True, changed_by="ann", reason="a move", changed_at=NOW, revision=1)
LOST = WatchedRegion("eu", RegionState.FULL, NOW, "i-1")
PARTIAL = WatchedRegion("us", RegionState.PARTIAL, NOW, "i-2")


@pytest.mark.parametrize(
    ("kept", "automation", "incidents", "held"),
    [
        (None, UNTOUCHED, [], ("", "", "")),
        (view(ControllerState.ACTIVE), UNTOUCHED, [], ("", "", "")),
        (view(ControllerState.FROZEN), UNTOUCHED, [], ("frozen (mass loss)",) * 3),
        (view(ControllerState.ACTIVE, LOST, PARTIAL), UNTOUCHED, [], ("is lost", "is lost", "")),
        (None, PAUSED, [], ("ann has paused", "", "ann has paused")),
        (None, UNTOUCHED, [incident(IncidentKind.REGION, IncidentState.ACTING)],
         ("moved away (i-1)", "moved away (i-1)", "")),
        (None, UNTOUCHED, [incident(IncidentKind.FAIL_BACK, IncidentState.OPEN)],
         ("way home", "way home", "")),
        (None, UNTOUCHED, [incident(IncidentKind.REGION, IncidentState.ENDED)], ("", "", "")),
        (None, UNTOUCHED, [incident(IncidentKind.NODE, IncidentState.OPEN)], ("", "", "")),
    ],
    ids=["nothing", "active", "frozen", "lost", "paused", "region", "home", "ended", "node"],
)  # fmt: skip
def test_what_holds_rescaling_back_is_told(
    kept: KeptView | None,
    automation: Automation,
    incidents: list[IncidentHeader],
    held: tuple[str, str, str],
) -> None:
    """In eu by itself and by order, and in us by itself; without failover only a pause does."""
    brakes = read_brakes(kept, automation, incidents, failover_enabled=True)
    asked = (("eu", False), ("eu", True), ("us", False))
    for (region, ordered), said in zip(asked, held, strict=True):
        found = brakes.on(region, ordered=ordered)
        assert bool(found) == bool(said)
        assert said in found
    alone = read_brakes(kept, automation, incidents, failover_enabled=False)
    assert bool(alone.on("eu", ordered=False)) == automation.paused
    assert alone.on("eu", ordered=True) == ""
