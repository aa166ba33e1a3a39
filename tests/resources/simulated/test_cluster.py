"""The simulated cluster as an adapter of `Cluster` and `FaultInjector`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleet.agents import Placement, RestartMode, RestartPolicy
from fleet.errors import (
    InvalidInputError,
    NodeUnavailableError,
    NotFoundError,
    StaleEpochError,
    StateroomError,
)
from fleet.inventory import AgentPhase, NodePhase
from fleet.placement.initial import plan_initial_placements
from fleet.ports.cluster import Cluster, FaultInjector
from fleet.reports import NodeDeclaration
from resources.simulated.cluster import SimulatedCluster
from tests.contracts.cluster_contract import ClusterContract
from tests.resources.simulated.fleets import NODES, agent, dealt_fleet, four_nodes, placed


class SimulatedWorld:
    """The contract's world in virtual time."""

    def __init__(self) -> None:
        """Two nodes in `eu`, one agent on the first."""
        self.simulated = SimulatedCluster(NODES[:2], [agent("a1")], [placed("a1", "n1", 1)])
        self.cluster: Cluster = self.simulated
        self.injector: FaultInjector = self.simulated
        self.region = "eu"
        self.placement = placed("a1", "n1", 1)
        self.other_node_id = "n2"

    def settle(self) -> None:
        """Five heartbeats."""
        self.simulated.advance(5)


class TestSimulatedClusterContract(ClusterContract):
    """The suite that every cluster passes."""

    @pytest.fixture
    def world(self) -> SimulatedWorld:
        """Two nodes, one agent."""
        return SimulatedWorld()


def phases(cluster: SimulatedCluster, region: str = "eu") -> dict[str, AgentPhase]:
    """What is visible of a region's agents."""
    return {a.agent_id: a.phase for a in cluster.snapshot(region).agents}


BAD_PLACEMENTS: list[tuple[Placement, type[StateroomError], str]] = [
    (placed("a9", "n1", 2), NotFoundError, "agent a9"),
    (placed("a1", "n9", 2), NotFoundError, "n9"),
    (placed("a1", "", 2), NotFoundError, "node ''"),
    (placed("a1", "n1", 0), InvalidInputError, "epoch"),
    (placed("a1", "n1", 2, desired="dancing"), InvalidInputError, "desired"),
    (placed("a1", "n1", 2)._replace(region="us"), InvalidInputError, "region"),
    (placed("a1", "n2", 1), StaleEpochError, "epoch 1"),
    (placed("a1", "n2", 2, term=-1), StaleEpochError, "term -1"),
]


@pytest.mark.parametrize(("bad", "error", "text"), BAD_PLACEMENTS)
def test_one_bad_placement_refuses_the_whole_batch(
    bad: Placement, error: type[StateroomError], text: str
) -> None:
    """Nothing is half applied: the good placement before it has no effect either."""
    cluster = four_nodes()
    before = cluster.placements()
    with pytest.raises(error, match=text):
        cluster.apply_placements([placed("a2", "n1", 2), bad])
    cluster.advance(5)
    assert cluster.placements() == before
    assert [copy.node_id for copy in cluster.truth.copies("a2")] == ["n2"]


def test_a_batch_is_judged_in_its_own_order() -> None:
    """A batch that goes back in epochs within itself is refused."""
    cluster = four_nodes()
    with pytest.raises(StaleEpochError):
        cluster.apply_placements([placed("a1", "n2", 3), placed("a1", "n1", 2)])
    cluster.apply_placements([placed("a1", "n2", 2), placed("a1", "n1", 3)])
    cluster.advance(5)
    assert [copy.node_id for copy in cluster.truth.copies("a1")] == ["n1"]


def test_a_parked_agent_needs_no_node_and_runs_nowhere() -> None:
    """Parked is a wish like any other, with its reason on show."""
    cluster = four_nodes()
    cluster.apply_placements([placed("a1", "", 2, desired="parked")])
    cluster.advance(5)
    assert cluster.truth.copies("a1") == []
    assert phases(cluster)["a1"] is AgentPhase.STOPPED


def test_an_unplaced_agent_is_pending_with_its_reason() -> None:
    """Declared is not placed; the reason says why."""
    cluster = four_nodes()
    cluster.declare_agents([agent("b1"), agent("b2")], {"b1": "no node fits"})
    seen = {a.agent_id: (a.phase, a.reason, a.epoch) for a in cluster.agents("eu")}
    assert seen["b1"] == (AgentPhase.PENDING, "no node fits", 0)
    assert seen["b2"] == (AgentPhase.PENDING, "not placed yet", 0)


def test_a_new_node_beats_and_takes_agents() -> None:
    """Nodes may be declared while time passes; a known one takes its new capacity."""
    cluster = four_nodes()
    cluster.advance(100)
    cluster.declare_nodes([NodeDeclaration("n5", "eu", "eu-a", 1000, 1 << 30)])
    cluster.declare_nodes([NODES[0]._replace(cpu_milli=9000)])
    cluster.advance(2)
    rows = {node.node_id: node for node in cluster.nodes("eu")}
    assert rows["n5"].heartbeat_at is not None
    assert rows["n1"].cpu_milli == 9000


def test_a_node_that_was_never_heard_of_shows_its_declaration_only() -> None:
    """No heartbeat: no boot, no readings, no report, no GPU, pending agents."""
    cluster = four_nodes()
    cluster.declare_nodes([NODES[2]._replace(node_id="n5")])
    cluster.declare_agents([agent("b1", "us")])
    cluster.apply_placements([placed("b1", "n5", 1)._replace(region="us")])
    snapshot = cluster.snapshot("us")
    row = next(node for node in snapshot.nodes if node.node_id == "n5")
    assert (row.phase, row.gpu_count, row.cpu_milli) == (NodePhase.RUNNING, 2, 4000)
    assert (row.heartbeat_at, row.boot_id, row.cpu_percent) == (None, None, None)
    assert cluster.report("n5") is None
    assert {gpu.node_id for gpu in snapshot.gpus} == {"n3"}
    assert phases(cluster, "us")["b1"] is AgentPhase.PENDING
    cluster.advance(1)
    assert phases(cluster, "us")["b1"] is AgentPhase.RUNNING


def test_evictions_need_a_placed_agent_a_live_node_and_the_right_epoch() -> None:
    """Each refusal is its own error; a second eviction changes nothing."""
    cluster = four_nodes()
    cluster.declare_agents([agent("b1")])
    with pytest.raises(NotFoundError):
        cluster.evict("b1", 1, 1.0)
    with pytest.raises(InvalidInputError, match="grace_s"):
        cluster.evict("a1", 1, -1.0)
    cluster.evict("a1", 1, 1.0)
    cluster.evict("a1", 1, 1.0)
    assert [event.kind for event in cluster.watch("0", 0.0)] == ["agent_evicted"]
    cluster.kill_node("n2")
    with pytest.raises(NodeUnavailableError):
        cluster.evict("a2", 1, 1.0)


def test_an_evicted_agent_runs_again_only_under_a_new_epoch() -> None:
    """As on a real node: it stays down under its epoch, also across placements of others."""
    cluster = four_nodes()
    cluster.evict("a1", 1, 1.0)
    cluster.apply_placements([placed("a1", "n1", 1), placed("a2", "n1", 2)])
    cluster.advance(5)
    assert phases(cluster)["a1"] is AgentPhase.STOPPED
    cluster.apply_placements([placed("a1", "n1", 2)])
    cluster.advance(5)
    assert phases(cluster)["a1"] is AgentPhase.RUNNING


def test_scaling_down_stops_the_last_and_up_revives_them_then_declares_more() -> None:
    """Both directions; new agents are pending until somebody places them."""
    cluster = four_nodes()
    cluster.declare_agents([agent("b1"), agent("b2")])
    cluster.scale("w", "eu", 1)
    cluster.advance(5)
    assert phases(cluster) == {
        "a1": AgentPhase.RUNNING,
        "a2": AgentPhase.STOPPED,
        "b1": AgentPhase.STOPPED,
        "b2": AgentPhase.STOPPED,
    }
    cluster.scale("w", "eu", 3)
    cluster.advance(5)
    assert phases(cluster) == {
        "a1": AgentPhase.RUNNING,
        "a2": AgentPhase.RUNNING,
        "b1": AgentPhase.PENDING,
        "b2": AgentPhase.STOPPED,
    }
    cluster.scale("w", "eu", 5)
    cluster.advance(5)
    assert phases(cluster)["w-eu-scaled-0"] is AgentPhase.PENDING
    planned = plan_initial_placements(
        cluster.agent_declarations(), cluster.node_declarations(), cluster.placements(),
        now=cluster.clock.now(),
    )  # fmt: skip
    (fresh,) = [p for p in planned if p.agent_id == "w-eu-scaled-0"]
    cluster.apply_placements([fresh._replace(epoch=1)])
    cluster.advance(5)
    assert phases(cluster)["w-eu-scaled-0"] is AgentPhase.RUNNING
    assert phases(cluster, "us") == {"a3": AgentPhase.RUNNING, "a4": AgentPhase.RUNNING}


BAD_CALLS: list[tuple[Callable[[SimulatedCluster], Any], type[StateroomError]]] = [
    (lambda c: c.scale("w", "eu", -1), InvalidInputError),
    (lambda c: c.scale("w", "eu", 10**9), InvalidInputError),
    (lambda c: c.scale("nothing", "eu", 1), NotFoundError),
    (lambda c: c.scale("w", "mars", 1), NotFoundError),
    (lambda c: c.snapshot("mars"), NotFoundError),
    (lambda c: c.kill_node("n9"), NotFoundError),
    (lambda c: c.start_node("n9"), NotFoundError),
    (lambda c: c.pause_node("n1", 0.0), InvalidInputError),
    (lambda c: c.slow_node("n1", -1.0, 5.0), InvalidInputError),
    (lambda c: c.watch("later", 0.0), InvalidInputError),
    (lambda c: c.watch("99", 0.0), InvalidInputError),
    (lambda c: c.watch("", -1.0), InvalidInputError),
    (lambda c: c.advance(-1.0), InvalidInputError),
    (lambda _: four_nodes(heartbeat_interval_s=0.0), InvalidInputError),
    (lambda _: four_nodes(agent_crashes_per_day=-1.0), InvalidInputError),
    (lambda _: SimulatedCluster([NODES[0], NODES[0]]), InvalidInputError),
    (lambda _: SimulatedCluster(NODES, [agent("a"), agent("a")]), InvalidInputError),
    (lambda _: dealt_fleet(0, 1), InvalidInputError),
    (lambda _: dealt_fleet(1, -1), InvalidInputError),
]


@pytest.mark.parametrize(("call", "error"), BAD_CALLS)
def test_a_bad_call_is_refused_and_nothing_happens(
    call: Callable[[SimulatedCluster], Any], error: type[StateroomError]
) -> None:
    """One clear error of the tree; the history stays empty."""
    cluster = four_nodes()
    empty = cluster.truth.digest()
    with pytest.raises(error):
        call(cluster)
    assert cluster.truth.digest() == empty


def test_watching_waits_in_virtual_time_for_the_first_event() -> None:
    """The wait ends at the event, not at the time limit."""
    cluster = four_nodes("at 20 for 30 crash node/n1")
    first = cluster.watch("", 60.0)
    assert [(e.kind, e.subject) for e in first] == [("node_terminated", "n1")]
    assert cluster.clock.monotonic_s() == 20.0
    second = cluster.watch(first[-1].cursor, 60.0)
    assert [e.kind for e in second] == ["node_started"]
    assert cluster.clock.monotonic_s() == 50.0
    assert cluster.watch(second[-1].cursor, 60.0) == []
    assert cluster.clock.monotonic_s() == 110.0


def test_a_watcher_that_comes_too_late_is_told_so() -> None:
    """Dropped events are an error with the way out, never a silent gap."""
    cluster = four_nodes("at 0 flapping node/n1 down_s=1 up_s=1 mode=crash", events_kept=5)
    cluster.advance(100)
    with pytest.raises(NotFoundError, match="dropped") as caught:
        cluster.watch("1", 0.0)
    assert "snapshot" in caught.value.hint
    newest = cluster.watch("", 5.0)[-1]
    assert cluster.watch(str(int(newest.cursor) - 3), 0.0)[-1] == newest


def test_what_an_injected_fault_did_is_said_in_words() -> None:
    """And start_node repairs a node, whatever took it down."""
    cluster = four_nodes("at 0 for 1000 crash node/n1")
    cluster.advance(5)
    assert "down" in cluster.kill_node("n1")
    assert "up, boot 2" in cluster.start_node("n1")
    assert "up already" in cluster.start_node("n1")
    assert "frozen for 5 s" in cluster.pause_node("n2", 5.0)
    assert "3 s late for 60 s" in cluster.slow_node("n3", 3.0, 60.0)
    cluster.advance(1100)
    assert all(cluster.truth.node(n).works for n in ("n1", "n2", "n3"))
    assert cluster.truth.node("n1").boot_id == "n1.2"


@pytest.mark.parametrize(
    ("policy", "phase"),
    [
        (RestartPolicy(mode=RestartMode.NEVER), AgentPhase.FAILED),
        (RestartPolicy(delay_s=30.0), AgentPhase.BACKING_OFF),
        (RestartPolicy(delay_s=0.01), AgentPhase.RUNNING),
    ],
)
def test_the_workloads_restart_policy_decides_after_a_crash(
    policy: RestartPolicy, phase: AgentPhase
) -> None:
    """The same decision as on a real node, `decide_restart`."""
    cluster = four_nodes("at 5 crash agent/a1", restart_policies={"w": policy})
    cluster.advance(10)
    assert phases(cluster)["a1"] is phase


def test_simulated_process_ids_are_beyond_every_real_one() -> None:
    """A signal to one of them can hit no process of this machine."""
    cluster = dealt_fleet(50, 0)
    pids = [node.pid for node in cluster.nodes()]
    assert min(pids) >= 4_194_304
    assert len(set(pids)) == 50


def test_redeclared_agents_change_the_load_that_is_seen() -> None:
    """Looking in between must not freeze an old sum."""
    cluster = four_nodes()
    cluster.advance(5)
    small = cluster.nodes("eu")[0].memory_used_bytes
    cluster.declare_agents([agent("a1")._replace(memory_bytes=4 << 30)])
    big = cluster.nodes("eu")[0].memory_used_bytes
    assert small is not None
    assert big is not None
    assert big > 3 * small
