"""A simulated day of a whole fleet under the failover decision, at small size."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from fleet.failover.policy import FailBackMode, RegionMode
from fleet.failover.profiles import PRODUCTION
from fleet.failover.records import NodeState
from fleet.failover.rules import Rule
from fleet.fault_script import parse_fault_script
from fleet.faults import Fault, random_fault_script
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.synthetic import synthetic_fleet
from tests.simulated.fleet_day import FleetDay

POLICY = replace(PRODUCTION, region_mode=RegionMode.AUTO, fail_back_mode=FailBackMode.OFF)
REGIONS = ("ap", "eu", "sa", "us")
KINDS = ("crash", "partition", "flapping", "pause", "slow")


def _cluster(
    seed: int,
    faults: tuple[Fault, ...] = (),
    nodes: int = 80,
    seconds: float = 1800.0,
    lease_ttl_s: float = POLICY.lease_ttl_s,
) -> SimulatedCluster:
    """A fault for every second node and hour, and what is given."""
    fleet = synthetic_fleet(nodes, 5 * nodes, regions=REGIONS)
    drawn = random_fault_script(
        Random(seed), node_ids=[one.node_id for one in fleet.nodes], duration_s=seconds,
        faults=int(nodes * seconds / 7200), kinds=KINDS,
    )  # fmt: skip
    return SimulatedCluster(
        *fleet, faults=(*drawn, *faults), seed=seed, agent_crashes_per_day=10.0,
        lease_ttl_s=lease_ttl_s,
    )  # fmt: skip


def _come_to_rest(seed: int, seconds: float) -> FleetDay:
    day = FleetDay(_cluster(seed, seconds=seconds), POLICY)
    day.run(seconds)
    assert day.ticks == seconds / POLICY.tick_interval_s
    assert day.done["move_node"] > 3
    assert day.moves.agents_moved > 20
    day.run(2 * 3600.0)
    assert day.violations == []
    assert day.incidents == {}
    return day


def test_a_day_breaks_no_promise_and_comes_to_rest() -> None:
    """Checker and truth look at every tick; after the last fault all incidents end."""
    day = _come_to_rest(1, 1800.0)
    states = {mark.state for mark in day.state.nodes.values()}
    assert states <= {NodeState.HEALTHY, NodeState.QUARANTINE, NodeState.MOVED}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 20))
def test_many_days_break_no_promise(seed: int) -> None:
    """The same for six hours of faults."""
    _come_to_rest(seed, 6 * 3600.0)


def test_a_lost_region_is_evacuated_and_its_zombies_never_write() -> None:
    """All of its agents run elsewhere; nodes that were only cut off find their agents gone."""
    cut = parse_fault_script("at 600 for 1200 partition region/eu peer=all")
    cluster = _cluster(1, cut, seconds=60.0)
    day = FleetDay(cluster, POLICY)
    day.run(1500.0)
    assert day.done["evacuate_region"] >= 1
    assert not [one for one in cluster.placements() if one.region == "eu"]
    assert len(cluster.truth.doubled_agents()) > 50
    day.run(900.0)
    assert cluster.truth.doubled_agents() == []
    assert day.violations == []
    assert day.incidents == {}


def test_a_crash_loop_is_parked() -> None:
    """Three restarts within the window."""
    lines = [f"at {600 + 60 * number} crash agent/agent-01" for number in range(4)]
    cluster = _cluster(1, parse_fault_script("\n".join(lines)), nodes=20, seconds=1.0)
    day = FleetDay(cluster, POLICY)
    day.run(1800.0)
    assert day.done["park_agent"] >= 1
    placed = {one.agent_id: one for one in cluster.placements()}
    assert placed["agent-01"].desired == "parked"


def _broken_without(rule: Rule, script: str, lease_ttl_s: float) -> FleetDay:
    cluster = _cluster(1, parse_fault_script(script), seconds=1.0, lease_ttl_s=lease_ttl_s)
    day = FleetDay(cluster, POLICY, without=frozenset({rule}))
    day.run(400.0)
    return day


def test_a_day_without_fences_is_noticed_by_checker_and_truth() -> None:
    """The nodes of a region work on under long leases while their agents are started elsewhere."""
    day = _broken_without(Rule.FENCING, "at 60 for 600 partition region/eu peer=all", 300.0)
    assert day.checker is not None
    assert "fenced_before_move" in {one.invariant for one in day.checker.violations}
    assert {"fenced_before_move", "one_writer"} <= {one.invariant for one in day.moves.violations}


def test_a_day_without_its_rate_is_noticed_by_the_checker() -> None:
    """Ten nodes freeze at once; the truth has nothing against their moves."""
    lines = [f"at 60 for 600 pause node/node-{number:02}" for number in range(10)]
    day = _broken_without(Rule.MOVE_RATE, "\n".join(lines), POLICY.lease_ttl_s)
    assert {one.invariant for one in day.violations} == {"move_rate"}


def test_the_same_day_is_the_same_again() -> None:
    """Else no figure and no failure could be looked at again."""
    first, second = (FleetDay(_cluster(7), POLICY, checked=False) for _ in range(2))
    first.run(1200.0)
    second.run(1200.0)
    assert first.cluster.truth.digest() == second.cluster.truth.digest()
    assert (first.done, first.refused) == (second.done, second.refused)
