"""Who probes whom: enough observers, scattered, none with too much to do, little ever changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.probe_reports import RosterMember
from fleet.probing import (
    EMBEDDED_PROBING,
    PRODUCTION_PROBING,
    ProbePolicy,
    choose_helpers,
    plan_probes,
)

ROSTERS = st.lists(
    st.builds(
        lambda number, region, zone: RosterMember(f"n{number}", region, f"{region}-{zone}"),
        st.integers(0, 200),
        st.sampled_from(["eu", "us", "ap"]),
        st.sampled_from("abc"),
    ),
    max_size=40,
    unique_by=lambda member: member.node_id,
)
POLICIES = st.builds(
    lambda observers, more: ProbePolicy(observers=observers, targets_max=observers + more),
    st.integers(1, 7),
    st.integers(0, 8),
)


def even_fleet(size: int, regions: int = 3, zones: int = 3) -> list[RosterMember]:
    """Nodes dealt over regions and zones."""
    return [
        RosterMember(f"node-{n:05d}", f"r{n % regions}", f"r{n % regions}-{n // regions % zones}")
        for n in range(size)
    ]


@given(ROSTERS, POLICIES)
def test_every_plan_is_bounded_complete_and_its_own_inverse(
    roster: list[RosterMember], policy: ProbePolicy
) -> None:
    """Nobody observes itself or twice; no observer has more than its bound."""
    plan = plan_probes(roster, policy)
    names = {member.node_id for member in roster}
    assert plan.observers.keys() == plan.targets.keys() == names
    for node_id, observers in plan.observers.items():
        assert len(set(observers)) == len(observers) <= policy.observers
        assert node_id not in observers
        assert set(observers) <= names
    pairs = {(one, node) for node, observers in plan.observers.items() for one in observers}
    assert pairs == {(one, node) for one, nodes in plan.targets.items() for node in nodes}
    for nodes in plan.targets.values():
        assert len(nodes) <= policy.targets_max
        assert list(nodes) == sorted(nodes)


@given(ROSTERS, POLICIES, st.randoms())
def test_the_plan_depends_on_the_roster_alone(
    roster: list[RosterMember], policy: ProbePolicy, chance: Any
) -> None:
    """Whoever makes it, in whatever order the roster came."""
    shuffled = list(roster)
    chance.shuffle(shuffled)
    assert plan_probes(shuffled, policy) == plan_probes(roster, policy)


@given(ROSTERS, POLICIES)
def test_gaps_name_exactly_the_nodes_that_lack_something(
    roster: list[RosterMember], policy: ProbePolicy
) -> None:
    """Too few observers, fewer than two failure domains, or none outside of the region."""
    plan = plan_probes(roster, policy)
    members = {member.node_id: member for member in roster}
    lacking = {}
    for node_id, observers in plan.observers.items():
        domains = {members[one][1:] for one in observers}
        outside = [one for one in observers if members[one].region != members[node_id].region]
        if len(observers) < policy.observers or len(domains) < 2 or not outside:
            lacking[node_id] = (len(observers), len(domains), len(outside))
    assert {gap.node_id: gap[1:4] for gap in plan.gaps} == lacking
    assert all(gap.reason for gap in plan.gaps)


@given(st.integers(12, 60), st.integers(2, 4), st.integers(2, 3))
def test_an_even_fleet_has_no_gaps(size: int, regions: int, zones: int) -> None:
    """Five observers each, of which at least one stands outside, in at least three domains."""
    roster = even_fleet(size * regions, regions, zones)
    plan = plan_probes(roster, PRODUCTION_PROBING)
    assert plan.gaps == ()
    members = {member.node_id: member for member in roster}
    for node_id, observers in plan.observers.items():
        own = members[node_id]
        assert len({members[one][1:] for one in observers} - {own[1:]}) >= 3
        assert sum(members[one].region == own.region for one in observers) >= 2


def test_few_observers_outside_are_shared_before_anyone_gets_two() -> None:
    """Ten nodes abroad can watch 100 targets: each of 100 nodes at home gets one of them."""
    home = [RosterMember(f"home-{n}", "home", f"home-{n % 3}") for n in range(100)]
    abroad = [RosterMember(f"abroad-{n}", "abroad", f"abroad-{n % 2}") for n in range(10)]
    plan = plan_probes(home + abroad, PRODUCTION_PROBING)
    watched = [
        sum(one.startswith("abroad") for one in plan.observers[member.node_id]) for member in home
    ]
    assert max(watched) == 1
    assert sum(watched) >= 80  # the rest of their room goes to nodes abroad
    without = {gap.node_id for gap in plan.gaps}
    assert without == {m.node_id for m, count in zip(home, watched, strict=True) if not count}


def test_one_node_more_changes_the_observers_of_few() -> None:
    """Of 1,000, at most a sixth get another observer."""
    roster = even_fleet(1000)
    before = plan_probes(roster, PRODUCTION_PROBING)
    after = plan_probes([*roster, RosterMember("new", "r0", "r0-0")], PRODUCTION_PROBING)
    changed = [node for node in before.observers if before.observers[node] != after.observers[node]]
    assert 0 < len(changed) <= 166
    assert after.observers["new"]


def test_a_lonely_node_has_no_observers_and_says_so() -> None:
    """Nothing to plan, nothing invented."""
    plan = plan_probes([RosterMember("only", "eu", "a")], EMBEDDED_PROBING)
    assert plan.observers == {"only": ()}
    (gap,) = plan.gaps
    assert gap[:4] == ("only", 0, 0, 0)
    assert "no observer outside of eu" in gap.reason
    assert plan_probes([], EMBEDDED_PROBING).observers == {}


@given(ROSTERS, st.integers(0, 5), st.integers(0, 50))
def test_helpers_are_others_of_as_many_zones_as_are_at_hand(
    roster: list[RosterMember], count: int, round_number: int
) -> None:
    """Neither who asks nor who is silent; the same for the same round."""
    members = sorted(roster)
    names = [member.node_id for member in members]
    chosen = choose_helpers("n1", "n2", members, count=count, round_number=round_number)
    assert len(set(chosen)) == len(chosen) <= count
    assert set(chosen) <= set(names) - {"n1", "n2"}
    assert len(chosen) == min(count, len(set(names) - {"n1", "n2"}))
    again = choose_helpers("n1", "n2", members, count=count, round_number=round_number)
    assert chosen == again


def test_helpers_change_with_the_round_and_come_from_several_zones() -> None:
    """A helper with the asker's own broken switch would be asked once, not for ever."""
    roster = even_fleet(60)
    by_id = {member.node_id: member for member in roster}
    rounds = [
        choose_helpers("node-00001", "node-00002", roster, count=3, round_number=number)
        for number in range(20)
    ]
    assert len(set(rounds)) > 10
    assert all(len({by_id[one][1:] for one in chosen}) == 3 for chosen in rounds)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interval_s", 0.01),
        ("timeout_s", 2.6),
        ("observers", 0),
        ("targets_max", 4),
        ("helpers", 11),
        ("failures_min", 0),
        ("refresh_s", 1.0),
        ("fresh_s", 20.0),
        ("jitter", 0.9),
    ],
)
def test_a_policy_that_cannot_work_is_refused_by_its_field(field: str, value: float) -> None:
    """Each number on its own."""
    with pytest.raises(InvalidInputError, match=rf"probing\.{field}: {value}"):
        ProbePolicy(**{field: value})  # type: ignore[arg-type]
