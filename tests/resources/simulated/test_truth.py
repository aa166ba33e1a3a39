"""The laws of the simulated world, attacked with random scripts."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError, NotFoundError
from fleet.fault_script import parse_fault_script
from fleet.faults import Fault, random_fault_script
from fleet.inventory import AgentPhase
from resources.simulated.cluster import SimulatedCluster
from tests.examples import examples
from tests.resources.simulated.fleets import HOMES, REGION_OF, dealt_fleet, four_nodes, placed

NO_ZOMBIES = ["crash", "skew", "slow", "capacity-loss"]
"""Kinds of faults under which a node always knows at once what is placed on it, or runs nothing."""


def script_for_four(seed: int, kinds: list[str], faults: int = 20) -> tuple[Fault, ...]:
    """A random script for the four-node fleet."""
    return random_fault_script(
        Random(seed), node_ids=sorted(REGION_OF), regions=["eu", "us"], duration_s=1800,
        faults=faults, kinds=kinds, region_probability=0.2,
    )  # fmt: skip


def wander(cluster: SimulatedCluster, seed: int, steps: int = 40) -> list[str]:
    """Place agents anew at random moments; returns those ever found doubled."""
    random = Random(seed)
    epochs = dict.fromkeys(HOMES, 1)
    doubled: list[str] = []
    for _ in range(steps):
        cluster.advance(random.uniform(0.0, 90.0))
        agent_id = random.choice(sorted(HOMES))
        epochs[agent_id] += 1
        node_id = random.choice(sorted(REGION_OF))
        cluster.apply_placements([placed(agent_id, node_id, epochs[agent_id])])
        doubled += cluster.truth.doubled_agents()
    return doubled


@settings(max_examples=examples(30))
@given(st.integers(0, 2**32))
def test_no_agent_runs_on_two_nodes_unless_its_old_node_could_not_know(seed: int) -> None:
    """Without partitions, pauses and flapping there are no zombies, whatever is placed where."""
    cluster = four_nodes()
    cluster.play(script_for_four(seed, NO_ZOMBIES))
    assert wander(cluster, seed) == []


def test_partitions_do_make_zombies() -> None:
    """The property above is not empty: with partitions the same walk finds doubled agents."""
    found = 0
    for seed in range(5):
        cluster = four_nodes()
        cluster.play(script_for_four(seed, ["partition", "pause"], faults=60))
        found += len(wander(cluster, seed))
    assert found > 0


@settings(max_examples=examples(30))
@given(st.integers(0, 2**32))
def test_after_the_last_fault_every_agent_runs_exactly_where_it_is_placed(seed: int) -> None:
    """Any script heals: once all is repaired, truth equals placements, epochs included."""
    cluster = four_nodes()
    kinds = ["crash", "partition", "slow", "skew", "capacity-loss", "flapping", "pause"]
    cluster.play(script_for_four(seed, kinds))
    wander(cluster, seed)
    cluster.advance(10_000)
    for placement in cluster.placements():
        held = [
            (copy.node_id, copy.epoch, copy.works)
            for copy in cluster.truth.copies(placement.agent_id)
        ]
        assert held == [(placement.node_id, placement.epoch, True)]


@settings(max_examples=examples(30))
@given(st.floats(1.0, 3000.0), st.sampled_from(["store", "controller", "regions", "all"]))
def test_a_partition_hides_a_node_but_does_not_stop_it(duration_s: float, peer: str) -> None:
    """The cut-off node works for as long as its neighbour does; only heartbeats are missing."""
    cluster = four_nodes(f"at 10 for {duration_s:.3f} partition node/n1 peer={peer}")
    cluster.advance(10 + duration_s * 0.9)
    truth = cluster.truth
    assert truth.node("n1").worked_s == truth.node("n2").worked_s
    assert truth.copies("a1")[0].worked_s == truth.copies("a2")[0].worked_s
    hidden, seen = cluster.nodes("eu")
    assert seen.heartbeat_at is not None
    assert hidden.heartbeat_at is not None
    age_s = (cluster.clock.now() - hidden.heartbeat_at).total_seconds()
    if peer in {"store", "all"}:
        assert age_s >= duration_s * 0.9 - 1e-3
    else:
        assert age_s <= 1.0


@settings(max_examples=examples(30))
@given(st.integers(0, 2**32), st.floats(-1e6, 1e6), st.integers(0, 2000))
def test_skew_never_changes_when_something_is_received(seed: int, skew_s: float, at_s: int) -> None:
    """With and without skew, the same heartbeats are heard at the same moments."""
    script = script_for_four(seed, ["crash", "partition", "slow", "pause", "flapping"])
    skew = f"at 0 skew region/eu skew_s={skew_s:.3f}"
    plain, skewed = four_nodes(), four_nodes(skew)
    for cluster in (plain, skewed):
        cluster.play(script)
        cluster.advance(at_s)
    heard = [[(n.node_id, n.phase, n.heartbeat_at) for n in c.nodes()] for c in (plain, skewed)]
    assert heard[0] == heard[1]


def test_skew_shows_in_what_the_node_reports() -> None:
    """Reported times are off by the skew, to the microsecond."""
    plain, skewed = four_nodes(), four_nodes("at 0 skew node/n1 skew_s=-30")
    for cluster in (plain, skewed):
        cluster.advance(10)
    off = [
        (skewed_report.reported_at - report.reported_at).total_seconds()
        for report, skewed_report in zip(plain.reports(), skewed.reports(), strict=True)
    ]
    assert off == [-30.0, 0.0, 0.0, 0.0]


def test_lost_capacity_is_visible_and_comes_back() -> None:
    """CPU, memory and GPUs shrink in the node's row, and the lost GPU is named."""
    cluster = four_nodes(
        "at 5 for 60 capacity-loss node/n3 cpu_fraction=0.25 memory_fraction=0.5 gpus=1\n"
        "at 5 for 60 capacity-loss node/n3 cpu_fraction=0.25"
    )
    before = cluster.snapshot("us")
    cluster.advance(10)
    during = cluster.snapshot("us")
    cluster.advance(60)
    after = cluster.snapshot("us")
    assert (during.nodes[0].cpu_milli, during.nodes[0].memory_bytes) == (2000, 4 << 30)
    assert (during.nodes[0].gpu_count, during.nodes[0].gpu_memory_bytes) == (1, 16 << 30)
    assert [(gpu.lost, gpu.memory_total_bytes) for gpu in during.gpus] == [
        (False, 16 << 30),
        (True, 16 << 30),
    ]
    assert during.gpus[1].utilization_percent is None
    for calm in (before, after):
        assert calm.nodes[0].cpu_milli == 4000
        assert [gpu.lost for gpu in calm.gpus] == [False, False]


def test_regions_are_cut_from_each_other_as_the_script_says() -> None:
    """A partition works in both directions and spares the rest; one's own region is reachable."""
    cluster = four_nodes("at 0 for 60 partition region/eu peer=region/us")
    cluster.advance(1)
    truth = cluster.truth
    assert not truth.reaches_region("n1", "us")
    assert not truth.reaches_region("n3", "eu")
    assert truth.reaches_region("n1", "eu")
    assert truth.node("n1").reaches_store
    cluster.advance(60)
    assert cluster.truth.reaches_region("n1", "us")
    cluster.kill_node("n1")
    assert not cluster.truth.reaches_region("n1", "eu")


def test_a_region_that_is_cut_off_loses_the_services_that_live_elsewhere() -> None:
    """Where controller and store live decides who is hidden when regions part."""
    options = {"controller_region": "us", "store_region": "eu"}
    cluster = four_nodes("at 0 partition region/eu peer=regions", **options)
    cluster.advance(60)
    truth = cluster.truth
    assert (truth.node("n1").reaches_store, truth.node("n1").reaches_controller) == (True, False)
    assert truth.node("n3").reaches_controller


def test_a_crash_while_hidden_is_seen_only_when_something_is_heard_again() -> None:
    """The last report stands until a newer one arrives, whatever has happened since."""
    cluster = four_nodes("at 5 for 60 partition node/n1 peer=store\nat 10 crash agent/a1")
    cluster.advance(12)
    (seen,) = (a for a in cluster.agents("eu") if a.agent_id == "a1")
    assert (seen.phase, seen.restarts) == (AgentPhase.RUNNING, 0)
    cluster.advance(60)
    (seen,) = (a for a in cluster.agents("eu") if a.agent_id == "a1")
    assert (seen.phase, seen.restarts) == (AgentPhase.RUNNING, 1)


def test_an_agent_that_backs_off_on_a_frozen_node_starts_when_the_node_goes_on() -> None:
    """Nothing happens on a frozen node, and nothing is forgotten."""
    cluster = four_nodes("at 10 crash agent/a1\nat 10.01 for 60 pause node/n1")
    cluster.advance(60)
    assert cluster.truth.copies("a1")[0].phase is AgentPhase.BACKING_OFF
    cluster.advance(11)
    assert cluster.truth.copies("a1")[0].phase is AgentPhase.RUNNING


def test_overlapping_faults_end_one_by_one() -> None:
    """A node is down until the last crash is over; a pause within it does not matter."""
    cluster = four_nodes(
        "at 0 for 100 crash node/n1\nat 50 for 100 crash node/n1\nat 60 for 10 pause node/n1"
    )
    ups = []
    for _ in range(4):
        cluster.advance(45)
        ups.append(cluster.truth.node("n1").up)
    assert ups == [False, False, False, True]
    assert cluster.truth.node("n1").boot_id == "n1.2"


def test_agents_crash_about_as_often_as_asked() -> None:
    """The rate is that of each agent; Poisson, so five standard deviations are allowed."""
    cluster = dealt_fleet(10, 200, agent_crashes_per_day=10.0)
    cluster.advance(86_400)
    assert cluster.truth.count() == len(cluster.truth.events())
    crashes = sum(event.kind == "agent_crashed" for event in cluster.truth.events())
    assert abs(crashes - 2000) < 5 * 2000**0.5


def test_the_truth_of_an_unknown_node_is_an_error() -> None:
    """Not a silent None."""
    with pytest.raises(NotFoundError, match="n9"):
        four_nodes().truth.node("n9")


@pytest.mark.parametrize(
    "line",
    [
        "at 0 crash node/n9",
        "at 0 crash agent/a9",
        "at 0 pause zone/mars-a",
        "at 0 pause region/mars",
        "at 0 partition node/n1 peer=region/mars",
    ],
)
def test_a_fault_for_what_the_cluster_lacks_is_refused_before_any_is_planned(line: str) -> None:
    """A script is played as a whole or not at all."""
    cluster = four_nodes()
    with pytest.raises(InvalidInputError, match="of this cluster"):
        cluster.play(parse_fault_script(f"at 0 crash node/n1\n{line}"))
    cluster.advance(5)
    assert cluster.truth.node("n1").up
