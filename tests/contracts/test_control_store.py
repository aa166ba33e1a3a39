"""What every control store does: the fake, SQLite and PostgreSQL hold the same promises."""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from fleet.agents import (
    Activity,
    Note,
    Placement,
    RestartMode,
    RestartPolicy,
    StatePut,
    StateRestore,
    Workload,
)
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
    StaleEpochError,
    TooLargeError,
    VersionConflictError,
)
from fleet.inventory import AgentPhase, Gpu, NodePhase
from fleet.journal import JournalEntry
from fleet.leases import Lease, node_lease_name
from fleet.ports.control_store import ControlStore, LeaseWish, ReportResult
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from tests.contracts.store_harness import StoreHarness

AT = datetime(2026, 3, 1, 11, 59, 58, 123457, tzinfo=UTC)
NODE = NodeDeclaration("node-1", "eu", "eu-a", 2000, 1 << 30, 10**9, 1, 80 << 30, "H100")


def shape(agent_id: str, region: str = "eu", network_id: str = "net") -> AgentDeclaration:
    """A declared agent."""
    return AgentDeclaration(agent_id, network_id, "work", region, 10, 1 << 24, 5, 250, 7, 3)


def place(agent_id: str, node_id: str = "node-1", epoch: int = 0, term: int = 1) -> Placement:
    """A placement planned on `epoch`."""
    return Placement(agent_id, "net", "work", node_id, "eu", epoch, term, "running", "why", AT)


def placed(store: ControlStore, *agent_ids: str) -> None:
    """Declare agents and place them on node-1, at epoch 1."""
    store.declare_agents([shape(agent_id) for agent_id in agent_ids])
    assert len(store.place_agents([place(agent_id) for agent_id in agent_ids])) == len(agent_ids)


def report(
    node_id: str = "node-1", agents: tuple[AgentReport, ...] = (), gpus: tuple[Gpu, ...] = ()
) -> NodeReport:
    """What a supervisor says."""
    return NodeReport(node_id, "boot-1", 42, "127.0.0.1:9", AT, AT, 12.5, 7, None, agents, gpus)


def running(agent_id: str, epoch: int = 1, phase: AgentPhase = AgentPhase.RUNNING) -> AgentReport:
    """One agent of a report."""
    beat = AT - timedelta(seconds=3)
    return AgentReport(agent_id, epoch, phase, 77, AT, beat, 2, 1.25, 4096, 'words, "quoted" é')


def node_lease(store: ControlStore, node_id: str = "node-1", ttl_s: float = 60.0) -> Lease:
    """The lease under which a node reports."""
    return store.acquire_lease(node_lease_name(node_id), "boot-1", ttl_s)


class TestNodes:
    """Declarations, reports and what is read back of them."""

    def test_a_declared_node_is_pending_until_it_reports(self, store: ControlStore) -> None:
        """Nothing that was not measured has a value."""
        store.declare_nodes([NODE])
        (node,) = store.nodes()
        assert node[:3] == NODE[:3]
        assert node[4:10] == NODE[3:]
        assert node.phase == NodePhase.PENDING
        assert set(node[10:]) == {None}

    def test_a_report_is_read_back_as_it_was_sent(self, store: ControlStore) -> None:
        """Every scalar and every GPU reading survives, None included."""
        store.declare_nodes([NODE])
        gpus = (
            Gpu("gpu-b", "node-1", "eu", 1, power_w=310.5, lost=True, denied=("power", "xid")),
            Gpu("gpu-a", "node-1", "eu", 0, throttle_reasons=("sw",), observed_at=AT),
        )
        agents = (running("a"), running("b", phase=AgentPhase.FAILED))
        renewed = store.report_node(report(agents=agents, gpus=gpus), node_lease(store))
        (node,) = store.nodes("eu")
        assert node.phase == NodePhase.RUNNING
        assert (node.boot_id, node.pid, node.address) == ("boot-1", 42, "127.0.0.1:9")
        assert (node.started_at, node.heartbeat_at) == (AT, renewed.renewed_at)
        assert node.lease_expires_at == renewed.expires_at
        assert (node.cpu_percent, node.memory_used_bytes, node.disk_free_bytes) == (12.5, 7, None)
        assert (node.agents_running, node.agents_failed) == (1, 1)
        assert store.gpus() == store.gpus("eu") == [gpus[1], gpus[0]]
        assert store.gpus("us") == []

    def test_declaring_again_keeps_the_report_and_retiring_removes_it(
        self, store: ControlStore
    ) -> None:
        """A change of settings does not make a running node look new."""
        store.declare_nodes([NODE, NODE._replace(node_id="node-2")])
        lease = store.report_node(report(gpus=(Gpu("g", "node-1", "eu", 0),)), node_lease(store))
        store.declare_nodes([NODE._replace(zone="eu-b")])
        assert [(node.zone, node.pid) for node in store.nodes()] == [("eu-b", 42), ("eu-a", None)]
        store.retire_nodes(["node-1"])
        assert [node.node_id for node in store.nodes()] == ["node-2"]
        assert store.gpus() == []
        assert store.lease(node_lease_name("node-1")) == lease

    def test_a_report_under_a_lost_lease_stores_nothing(self, harness: StoreHarness) -> None:
        """A node that was replaced by its next boot cannot overwrite that boot's report."""
        harness.clear()
        store = harness.store
        store.declare_nodes([NODE])
        old = node_lease(store, ttl_s=5.0)
        harness.advance(6.0)
        new = store.acquire_lease(old.name, "boot-2", 5.0)
        store.report_node(report()._replace(boot_id="boot-2"), new)
        with pytest.raises(LeaseLostError, match="boot-2"):
            store.report_node(report(), old)
        assert store.nodes()[0].boot_id == "boot-2"

    def test_a_report_of_an_undeclared_node_is_refused_whole(self, store: ControlStore) -> None:
        """A retired node does not come back by itself, and its lease is not renewed."""
        lease = node_lease(store)
        with pytest.raises(NotFoundError, match="node-1"):
            store.report_node(report(), lease)
        assert store.lease(lease.name) == lease
        with pytest.raises(InvalidInputError, match="node/node-1"):
            store.report_node(report(), lease._replace(name="leader"))

    def test_reports_of_a_batch_have_the_outcome_they_would_have_alone(
        self, harness: StoreHarness
    ) -> None:
        """Fenced and undeclared nodes are refused one by one, and the others are stored."""
        harness.clear()
        store = harness.store
        store.declare_nodes([NODE._replace(node_id=f"node-{n}") for n in (1, 2, 3)])
        old = node_lease(store, "node-1", ttl_s=5.0)
        harness.advance(6.0)
        store.acquire_lease(old.name, "boot-2", 60.0)
        ghost, second = node_lease(store, "node-9"), node_lease(store, "node-2")
        never = Lease(node_lease_name("node-3"), "boot-1", 1, 5.0, AT, AT)
        agents, gpus = (running("a"),), (Gpu("g", "node-2", "eu", 0),)
        given = [
            (report("node-9"), ghost),
            (report("node-1"), old),
            (report("node-2", agents, gpus), second),
            (report("node-3"), never),
        ]
        results = store.report_nodes(given)
        assert [result.node_id for result in results] == ["node-9", "node-1", "node-2", "node-3"]
        kinds = [type(result.error) for result in results]
        assert kinds == [NotFoundError, LeaseLostError, type(None), LeaseLostError]
        assert "boot-2" in str(results[1].error)
        assert [result.lease is None for result in results] == [True, True, False, True]
        assert store.lease(ghost.name) == ghost
        assert store.lease(second.name) == results[2].lease
        assert [node.boot_id for node in store.nodes()] == [None, "boot-1", None]
        assert store.nodes()[1].heartbeat_at == results[2].lease.renewed_at  # type: ignore[union-attr]
        assert store.gpus() == list(gpus)
        assert store.report_nodes([]) == []

    def test_two_reports_of_one_node_in_a_batch_are_taken_in_order(
        self, store: ControlStore
    ) -> None:
        """The later one is what is seen; both are told the lease that they renewed."""
        store.declare_nodes([NODE])
        lease = node_lease(store)
        first, second = report(), report()._replace(pid=43)
        results = store.report_nodes([(first, lease), (second, lease)])
        assert [result.error for result in results] == [None, None]
        assert store.nodes()[0].pid == 43
        assert store.lease(lease.name) == results[1].lease

    def test_batches_of_the_same_nodes_in_any_order_do_not_wait_for_each_other(
        self, store: ControlStore
    ) -> None:
        """Four callers, each with an order of its own: none is refused, none is a deadlock."""
        node_ids = [f"node-{n}" for n in range(24)]
        store.declare_nodes([NODE._replace(node_id=node_id) for node_id in node_ids])
        leases = {node_id: node_lease(store, node_id) for node_id in node_ids}

        def report_often(seed: int) -> list[ReportResult]:
            order, found = Random(seed), []
            for _ in range(5):
                chosen = order.sample(node_ids, 16)
                store.acquire_leases([LeaseWish(leases[n].name, "boot-1", 60.0) for n in chosen])
                found += store.report_nodes([(report(n), leases[n]) for n in chosen])
            return found

        with ThreadPoolExecutor(4) as threads:
            results = [each for found in threads.map(report_often, range(4)) for each in found]
        assert len(results) == 4 * 5 * 16
        assert [result.error for result in results if result.error] == []

    def test_a_batch_with_a_report_that_means_nothing_stores_nothing(
        self, store: ControlStore
    ) -> None:
        """A lease of another name is a mistake of the caller's, not a state of the fleet."""
        store.declare_nodes([NODE, NODE._replace(node_id="node-2")])
        lease, other = node_lease(store), node_lease(store, "node-2")
        with pytest.raises(InvalidInputError, match="node/node-2"):
            store.report_nodes([(report(), lease), (report("node-2"), lease)])
        assert [node.boot_id for node in store.nodes()] == [None, None]
        assert [store.lease(each.name) for each in (lease, other)] == [lease, other]

    def test_a_node_is_unknown_when_its_lease_ends_and_stopped_when_it_gave_it_up(
        self, harness: StoreHarness
    ) -> None:
        """Silence and a clean stop are told apart."""
        harness.clear()
        store = harness.store
        store.declare_nodes([NODE, NODE._replace(node_id="node-2")])
        store.report_node(report(), node_lease(store, ttl_s=5.0))
        lease = store.report_node(report("node-2"), node_lease(store, "node-2", 60.0))
        harness.advance(10.0)
        store.release_lease(lease)
        assert [node.phase for node in store.nodes()] == [NodePhase.UNKNOWN, NodePhase.STOPPED]

    def test_counts_are_those_of_the_records(self, harness: StoreHarness) -> None:
        """The aggregates say what counting the agents and nodes one by one would."""
        harness.clear()
        store = harness.store
        store.declare_nodes(
            [NODE._replace(node_id=f"node-{n}", region=r) for n, r in ((1, "eu"), (2, "eu"))]
            + [NODE._replace(node_id="node-3", region="us")]
        )
        store.declare_agents([shape("a"), shape("b"), shape("c", "us"), shape("d", "asia")])
        store.place_agents([place("a"), place("b", "node-2"), place("c", "node-2")])
        store.report_node(
            report(agents=(running("a"), running("x", phase=AgentPhase.FAILED))), node_lease(store)
        )
        store.report_node(
            report("node-2", agents=(running("b"),)), node_lease(store, "node-2", 5.0)
        )
        harness.advance(10.0)
        asia, eu, us = store.fleet_counts()
        assert [counts.region for counts in (asia, eu, us)] == ["asia", "eu", "us"]
        assert asia[1:] == (0, 0, 0, 1, 0, 0, 0, 0, None, None)
        assert us[1:] == (1, 0, 0, 1, 0, 0, 0, 0, None, None)
        assert eu[1:9] == (2, 1, 1, 2, 3, 1, 1, 2)
        assert eu.oldest_report_at == min(n.heartbeat_at for n in store.nodes() if n.heartbeat_at)
        assert eu.oldest_heartbeat_at == running("a").heartbeat_at


class TestLeases:
    """One holder at a time; the term tells holders apart."""

    def test_a_held_lease_is_refused_with_holder_and_end(self, store: ControlStore) -> None:
        """The error says whom to wait for."""
        lease = store.acquire_lease("leader", "one", 30.0)
        assert (lease.term, lease.ttl_s) == (1, 30.0)
        assert lease.expires_at - lease.renewed_at == timedelta(seconds=30)
        with pytest.raises(LeaseLostError) as caught:
            store.acquire_lease("leader", "two", 30.0)
        assert "one" in str(caught.value)
        assert lease.expires_at.isoformat() in str(caught.value)
        assert store.lease("leader") == lease
        assert store.lease("nothing") is None

    def test_leases_of_a_batch_are_had_or_refused_one_by_one(self, harness: StoreHarness) -> None:
        """New, expired, one's own, held by another, and twice in one batch."""
        harness.clear()
        store = harness.store
        store.acquire_lease("expired", "one", 5.0)
        harness.advance(6.0)
        own = store.acquire_lease("own", "two", 30.0)
        held = store.acquire_lease("held", "one", 30.0)
        names = ["new", "expired", "own", "held"]
        results = store.acquire_leases(
            [*(LeaseWish(name, "two", 30.0) for name in names), LeaseWish("new", "three", 30.0)]
        )
        assert [result.name for result in results] == [*names, "new"]
        terms = [result.lease and result.lease.term for result in results]
        assert terms == [1, 2, own.term, None, None]
        assert [type(result.error) for result in results[3:]] == [LeaseLostError, LeaseLostError]
        assert "one" in str(results[3].error)
        assert "two" in str(results[4].error)
        assert [store.lease(name) for name in names[:3]] == [each.lease for each in results[:3]]
        assert store.lease("held") == held
        with pytest.raises(InvalidInputError, match="ttl_s"):
            store.acquire_leases([LeaseWish("free", "two", 1.0), LeaseWish("free", "two", 0.0)])
        assert store.lease("free") is None
        assert store.acquire_leases([]) == []

    def test_acquiring_ones_own_live_lease_renews_it(self, harness: StoreHarness) -> None:
        """The term stays: the right to act was never interrupted."""
        harness.clear()
        first = harness.store.acquire_lease("leader", "one", 30.0)
        harness.advance(10.0)
        again = harness.store.acquire_lease("leader", "one", 30.0)
        assert again.term == first.term
        assert again.expires_at >= first.expires_at

    @pytest.mark.parametrize("holder", ["one", "two"])
    def test_an_expired_lease_is_taken_with_the_next_term(
        self, harness: StoreHarness, holder: str
    ) -> None:
        """Also by its former holder, who cannot know what happened in between."""
        harness.clear()
        harness.store.acquire_lease("leader", "one", 5.0)
        harness.advance(5.0)
        assert harness.store.acquire_lease("leader", holder, 5.0).term == 2

    def test_a_late_renewal_holds_unless_somebody_took_the_lease(
        self, harness: StoreHarness
    ) -> None:
        """Nobody was harmed by the gap, so the holder may go on."""
        harness.clear()
        store = harness.store
        lease = store.acquire_lease("leader", "one", 5.0)
        harness.advance(60.0)
        renewed = store.renew_lease(lease)
        assert renewed.term == 1
        assert renewed == store.lease("leader")
        harness.advance(60.0)
        store.acquire_lease("leader", "two", 5.0)
        with pytest.raises(LeaseLostError, match="two"):
            store.renew_lease(renewed)
        with pytest.raises(LeaseLostError):
            store.renew_lease(renewed._replace(name="nothing"))

    def test_a_released_lease_is_free_at_once_and_its_term_goes_on(
        self, store: ControlStore
    ) -> None:
        """A release by somebody who lost the lease changes nothing."""
        first = store.acquire_lease("leader", "one", 60.0)
        store.release_lease(first)
        second = store.acquire_lease("leader", "two", 60.0)
        assert second.term == 2
        store.release_lease(first)
        assert store.lease("leader") == second
        with pytest.raises(LeaseLostError):
            store.renew_lease(first)

    def test_a_clock_set_back_never_shortens_a_lease(self, harness: StoreHarness) -> None:
        """For one holder, `renewed_at` and `expires_at` only rise; nobody else gets in."""
        harness.clear()
        store = harness.store
        lease = store.acquire_lease("leader", "one", 5.0)
        harness.clock.jump(-3600.0)
        renewed = store.renew_lease(lease)
        again = store.acquire_lease("leader", "one", 5.0)
        for later in (renewed, again):
            assert later.renewed_at >= lease.renewed_at
            assert later.expires_at >= lease.expires_at
        with pytest.raises(LeaseLostError):
            store.acquire_lease("leader", "two", 5.0)

    def test_a_clock_set_back_does_not_revive_a_lost_lease(self, harness: StoreHarness) -> None:
        """Taken over or released stays so: the term decides, not the time."""
        harness.clear()
        store = harness.store
        lost = store.acquire_lease("leader", "one", 5.0)
        harness.advance(6.0)
        store.acquire_lease("leader", "two", 5.0)
        given_up = store.acquire_lease("other", "one", 5.0)
        store.release_lease(given_up)
        harness.clock.jump(-3600.0)
        with pytest.raises(LeaseLostError):
            store.renew_lease(lost)
        assert store.acquire_lease("other", "two", 5.0).term == 2

    @pytest.mark.parametrize(
        ("name", "holder", "ttl_s"),
        [
            ("", "h", 1.0),
            ("n", "", 1.0),
            *(("n", "h", ttl_s) for ttl_s in (0.0, -1.0, math.nan, math.inf, 4e7)),
        ],
    )
    def test_a_senseless_lease_is_refused(
        self, store: ControlStore, name: str, holder: str, ttl_s: float
    ) -> None:
        """No name, no holder, no time, or longer than a year."""
        with pytest.raises(InvalidInputError):
            store.acquire_lease(name, holder, ttl_s)


class TestPlacements:
    """Declared agents, and the compare-and-swap of where they are."""

    def test_workloads_are_read_back_as_declared(self, store: ControlStore) -> None:
        """Also the nested restart policy; a second declaration replaces the first."""
        policy = RestartPolicy(RestartMode.ALWAYS, 0.5, 60.0, 3, 120.0)
        one = Workload(
            "b", "net", function="m:f", arguments={"k": "v"}, restart=policy,
            gpu_models=("NVIDIA H100", "A"), spread_zones=True, gang="g", pack=True,
        )  # fmt: skip
        two = Workload("a", "net", command=("sh", "-c", "true"), gpu_milli=250, priority=-1)
        store.declare_workloads([one, Workload("a", "old", function="x:y"), two])
        assert store.workloads() == [two, one]

    def test_a_placement_swaps_only_from_the_epoch_it_was_planned_on(
        self, store: ControlStore
    ) -> None:
        """The winners come back with their new epoch; the losers are left alone."""
        placed(store, "a", "b", "c")
        moved = store.place_agents(
            [place("a", "node-2", 1), place("b", "node-2", 0), place("c", "node-2", 2)]
        )
        assert moved == [place("a", "node-2", 2)]
        assert store.placements() == [
            place("a", "node-2", 2),
            place("b", epoch=1),
            place("c", epoch=1),
        ]
        assert store.placements(node_id="node-1") == [place("b", epoch=1), place("c", epoch=1)]
        assert len(store.placements(region="eu")) == 3
        assert store.placements(region="us") == []

    def test_an_older_controller_cannot_place(self, store: ControlStore) -> None:
        """A lower term is refused, an equal one is the same controller."""
        store.declare_agents([shape("a")])
        store.place_agents([place("a", term=7)])
        assert store.place_agents([place("a", "node-2", 1, term=6)]) == []
        assert store.place_agents([place("a", "node-2", 1, term=7)])[0].epoch == 2

    def test_of_two_placements_in_one_batch_the_second_must_build_on_the_first(
        self, store: ControlStore
    ) -> None:
        """A batch is applied in order."""
        store.declare_agents([shape("a"), shape("b")])
        stored = store.place_agents(
            [place("a", "n1"), place("b", "n1"), place("a", "n2"), place("a", "n3", 1)]
        )
        assert stored == [place("a", "n1", 1), place("b", "n1", 1), place("a", "n3", 2)]
        assert store.place_agents([]) == []

    @pytest.mark.parametrize(
        "odd", ["a\tb", "a\nb", "a\\tb", "\\.", "\\N", "a\rb", '"', "", "ü, '"]
    )
    def test_a_reason_is_stored_as_it_is(self, store: ControlStore, odd: str) -> None:
        """Marks of bulk formats are text like any other, beside a plain reason and by itself."""
        store.declare_agents([shape("a"), shape("b")])
        batch = [place("a")._replace(reason=odd), place("b")._replace(reason="plain")]
        store.place_agents(batch)
        store.place_agents([place("a", "node-2", 1)._replace(reason=odd)])
        assert [one.reason for one in store.placements()] == [odd, "plain"]
        assert {one.reason for one in store.agent_placements("a")} == {odd}

    def test_a_retired_agent_is_not_placed(self, store: ControlStore) -> None:
        """Neither on its last epoch nor anew; others of the batch are."""
        placed(store, "a", "b")
        store.retire_agents(["a"])
        batch = [place("a", "node-2", 1), place("a", "node-2", 0), place("b", "node-2", 1)]
        assert store.place_agents(batch) == [place("b", "node-2", 2)]

    def test_an_undeclared_agent_is_not_placed(self, store: ControlStore) -> None:
        """Neither is a declared one that was planned on an epoch it never had."""
        store.declare_agents([shape("a")])
        assert store.place_agents([place("ghost"), place("a", epoch=4)]) == []
        assert store.placements() == []

    def test_an_agent_declared_again_goes_on_above_its_last_epoch(
        self, store: ControlStore
    ) -> None:
        """Otherwise a process of its first life could write into the second."""
        placed(store, "a")
        store.place_agents([place("a", "node-2", 1)])
        store.put_states([StatePut("a", 2, 0, b"first life")])
        store.retire_agents(["a"])
        assert store.agents() == []
        assert store.placements() == []
        (refused,) = store.put_states([StatePut("a", 2, 1, b"zombie")])
        assert isinstance(refused.error, StaleEpochError)
        assert store.place_agents([place("a")]) == []
        store.declare_agents([shape("a")])
        assert store.place_agents([place("a", epoch=2)]) == []
        assert store.place_agents([place("a", term=0)]) == []
        assert store.place_agents([place("a")]) == [place("a", epoch=3)]
        (refused,) = store.put_states([StatePut("a", 2, 1, b"zombie")])
        assert isinstance(refused.error, StaleEpochError)
        state = store.state("a")
        assert state is not None
        assert (state.version, state.body) == (1, b"first life")

    def test_agents_join_declaration_placement_and_report(self, harness: StoreHarness) -> None:
        """Reported, not reported, unplaced and silent agents are told apart."""
        harness.clear()
        store = harness.store
        store.declare_nodes([NODE, NODE._replace(node_id="node-2")])
        placed(store, "a", "b", "c")
        store.declare_agents([shape("d", "us")])
        store.place_agents([place("c", "node-2", 1)])
        store.report_node(report(agents=(running("a"), running("b", 9))), node_lease(store))
        store.report_node(
            report("node-2", (running("c", 2),)), node_lease(store, "node-2", ttl_s=5.0)
        )
        harness.advance(10.0)
        agents = store.agents()
        assert [(agent.agent_id, agent.phase) for agent in agents] == [
            ("a", AgentPhase.RUNNING),
            ("b", AgentPhase.PENDING),
            ("c", AgentPhase.UNKNOWN),
            ("d", AgentPhase.PENDING),
        ]
        first, *_, last = agents
        assert (first.pid, first.heartbeat_at, first.restarts) == (77, AT - timedelta(seconds=3), 2)
        assert (first.cpu_percent, first.rss_bytes, first.reason) == (
            1.25,
            4096,
            running("").reason,
        )
        assert (first.gpu_milli, first.priority) == (250, 3)
        assert (last.node_id, last.epoch, last.region) == ("", 0, "us")
        assert store.agents("us") == [last]
        assert store.agents("eu") == agents[:3]


class TestStates:
    """Fenced, versioned, durable agent state."""

    def test_a_batch_is_applied_in_order_and_refusals_stop_nobody(
        self, store: ControlStore
    ) -> None:
        """Each put has its own outcome, in the order given."""
        placed(store, "a", "b", "c")
        results = store.put_states(
            [
                StatePut("a", 1, 0, b"one"),
                StatePut("b", 2, 0, b"wrong epoch"),
                StatePut("a", 1, 1, b"two"),
                StatePut("a", 1, 1, b"wrong version"),
                StatePut("ghost", 1, 0, b"nobody"),
                StatePut("c", 1, 0, b""),
                StatePut("a", 1, 2, b"three"),
            ]
        )
        assert [result.agent_id for result in results] == ["a", "b", "a", "a", "ghost", "c", "a"]
        assert [result.version for result in results] == [1, 0, 2, 0, 0, 1, 3]
        kinds = [type(result.error) for result in results]
        none = type(None)
        assert kinds == [
            none,
            StaleEpochError,
            none,
            VersionConflictError,
            StaleEpochError,
            none,
            none,
        ]
        state = store.state("a")
        assert state is not None
        assert (state.version, state.epoch, state.body) == (3, 1, b"three")
        assert state.updated_at == results[-1].updated_at
        assert results[1].updated_at is None
        assert store.state("b") is None
        changes = store.state_changes(0, 100)
        assert [(c.agent_id, c.version, c.size_bytes) for c in changes] == [
            ("a", 1, 3),
            ("a", 2, 3),
            ("c", 1, 0),
            ("a", 3, 5),
        ]
        assert changes[-1].digest == state.digest
        assert store.put_states([]) == []

    def test_the_change_log_is_read_from_a_cursor(self, store: ControlStore) -> None:
        """Numbers rise, pages join without gap or repetition."""
        placed(store, "a")
        for version in range(7):
            store.put_states([StatePut("a", 1, version, b"x")])
        pages, after = [], 0
        while page := store.state_changes(after, 3):
            pages.append([change.version for change in page])
            after = page[-1].change_id
        assert pages == [[1, 2, 3], [4, 5, 6], [7]]
        assert store.state_changes(after, 3) == []

    def test_a_trimmed_change_log_goes_on_with_higher_numbers(
        self, store: ControlStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Readers' cursors stay valid, states stay, and trimming twice removes nothing."""
        monkeypatch.setattr("resources.control_store.database._TRIM_ROWS", 2)
        placed(store, "a")
        store.put_states([StatePut("a", 1, version, b"x") for version in range(7)])
        ids = [change.change_id for change in store.state_changes(0, 100)]
        assert store.trim_state_changes(ids[4]) == 5
        assert [change.change_id for change in store.state_changes(0, 100)] == ids[5:]
        assert store.trim_state_changes(ids[-1]) == 2
        assert store.trim_state_changes(ids[-1]) == 0
        store.put_states([StatePut("a", 1, 7, b"x")])
        (change,) = store.state_changes(ids[-1], 100)
        assert (change.version, change.change_id > ids[-1]) == (8, True)

    def test_a_moved_agent_fences_its_old_copy(self, store: ControlStore) -> None:
        """The old epoch writes nothing more; the new one goes on from the same version."""
        placed(store, "a")
        store.put_states([StatePut("a", 1, 0, b"before")])
        store.place_agents([place("a", "node-2", 1)])
        (zombie,) = store.put_states([StatePut("a", 1, 1, b"zombie")])
        assert isinstance(zombie.error, StaleEpochError)
        assert "node-2" in str(zombie.error)
        (fresh,) = store.put_states([StatePut("a", 2, 1, b"after")])
        assert (fresh.version, fresh.error) == (2, None)

    def test_infos_describe_states_without_their_bytes(self, store: ControlStore) -> None:
        """Ordered by agent, of one region when asked, retired agents included."""
        placed(store, "b", "a")
        store.put_states([StatePut("b", 1, 0, b"bb"), StatePut("a", 1, 0, b"a")])
        store.retire_agents(["b"])
        infos = store.state_infos()
        assert [(i.agent_id, i.network_id, i.region) for i in infos] == [
            ("a", "net", "eu"),
            ("b", "net", "eu"),
        ]
        assert [(i.version, i.epoch, i.size_bytes) for i in infos] == [(1, 1, 1), (1, 1, 2)]
        assert store.state_infos("us") == []

    def test_many_states_are_read_at_once(self, harness: StoreHarness) -> None:
        """Ordered by agent, each once, unknown ones left out; one damaged state is named."""
        harness.clear()
        store = harness.store
        placed(store, "b", "a", "c")
        store.put_states([StatePut(name, 1, 0, name.encode()) for name in "bac"])
        assert store.states([]) == []
        assert store.states(["c", "nobody", "a", "c"]) == [store.state("a"), store.state("c")]
        harness.damage_state("b", b"x")
        assert [one.agent_id for one in store.states(["a", "c"])] == ["a", "c"]
        with pytest.raises(CorruptObjectError, match="agent b"):
            store.states(["a", "b"])

    def test_a_restore_never_replaces_what_the_restorer_has_not_seen(
        self, store: ControlStore
    ) -> None:
        """Accepted on the version seen; the version never falls, and no writer goes on unaware."""
        placed(store, "a", "b")
        store.put_states([StatePut("a", 1, 0, b"1"), StatePut("a", 1, 1, b"2")])
        late, unplaced = store.restore_states(
            [StateRestore("a", 1, 1, b"1"), StateRestore("nobody", 0, 1, b"1")]
        )
        assert isinstance(late.error, VersionConflictError)
        assert isinstance(unplaced.error, StaleEpochError)
        back, lost = store.restore_states(
            [StateRestore("a", 2, 1, b"1"), StateRestore("b", 0, 57, b"b57")]
        )
        assert (back.version, back.error, lost.version, lost.error) == (3, None, 57, None)
        state = store.state("b")
        assert state is not None
        assert (state.version, state.epoch, state.body) == (57, 1, b"b57")
        (unaware,) = store.put_states([StatePut("a", 1, 2, b"3")])
        assert isinstance(unaware.error, VersionConflictError)
        changes = [(one.agent_id, one.version) for one in store.state_changes(0, 10)]
        assert changes == [("a", 1), ("a", 2), ("a", 3), ("b", 57)]
        assert store.restore_states([]) == []

    def test_a_digest_given_with_a_restore_is_kept_and_judged_by_every_read(
        self, store: ControlStore
    ) -> None:
        """The right one is the one the store would have computed; a wrong one hands out nothing."""
        placed(store, "a", "b", "c")
        right = hashlib.sha256(b"1").hexdigest()
        results = store.restore_states(
            [
                StateRestore("a", 0, 1, b"1", right),
                StateRestore("b", 0, 1, b"1"),
                StateRestore("c", 0, 1, b"2", right),
            ]
        )
        assert [one.error for one in results] == [None] * 3
        assert [one.digest for one in store.states(["a", "b"])] == [right] * 2
        assert {one.digest for one in store.state_changes(0, 10)} == {right}
        with pytest.raises(CorruptObjectError, match="agent c"):
            store.state("c")

    def test_damaged_bytes_are_never_handed_out(self, harness: StoreHarness) -> None:
        """Flipped, truncated or swapped bytes raise an error that names the agent."""
        harness.clear()
        placed(harness.store, "a")
        body = bytes(range(256)) * 32
        harness.store.put_states([StatePut("a", 1, 0, body)])
        for damaged in (body[:-1], b"", body[:100] + b"!" + body[101:], body[::-1]):
            harness.damage_state("a", damaged)
            with pytest.raises(CorruptObjectError, match="agent a"):
                harness.store.state("a")
        harness.damage_state("a", body)
        state = harness.store.state("a")
        assert state is not None
        assert state.body == body

    def test_a_state_over_the_limit_is_refused_and_the_rest_is_stored(
        self, store: ControlStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The limit itself passes (lowered here: 64 MiB three times over is a slow test)."""
        monkeypatch.setattr("resources.control_store.states.STATE_MAX_BYTES", 1000)
        monkeypatch.setattr("tests.fakes.control_store.STATE_MAX_BYTES", 1000)
        placed(store, "a", "b")
        large, fits = store.put_states(
            [StatePut("a", 1, 0, b"x" * 1001), StatePut("b", 1, 0, b"x" * 1000)]
        )
        assert isinstance(large.error, TooLargeError)
        assert "1001" in str(large.error)
        assert (fits.version, fits.error) == (1, None)


class TestLogs:
    """Activities, notes and journals are appended once, however often they are delivered."""

    def test_activities_come_newest_first(self, store: ControlStore) -> None:
        """A repeated id is ignored, also inside one batch."""
        items = [
            Activity(
                f"id-{n}",
                f"agent-{n % 2}",
                "net",
                "task",
                AT + timedelta(seconds=n % 3),
                None if n else 0.5,
                bool(n % 2),
                '{"n":1}',
            )
            for n in range(6)
        ]
        store.append_activities([*items, items[0]])
        store.append_activities([items[2]._replace(detail="changed")])
        newest = sorted(items, key=lambda item: (item.at, item.activity_id), reverse=True)
        assert store.activities(None, 100) == newest
        assert store.activities("agent-1", 2) == [i for i in newest if i.agent_id == "agent-1"][:2]

    def test_activities_older_than_a_moment_are_trimmed(self, store: ControlStore) -> None:
        """The moment itself is kept."""
        items = [
            Activity(f"id-{n}", "a", "net", "task", AT + timedelta(seconds=n), None, True, "{}")
            for n in range(5)
        ]
        store.append_activities(items)
        assert store.trim_activities(AT + timedelta(seconds=3)) == 3
        assert store.activities(None, 9) == items[:2:-1]
        assert store.trim_activities(AT) == 0

    def test_notes_are_paged_by_id(self, store: ControlStore) -> None:
        """Ids order by code point on every database, so that cursors agree."""
        ids = ["Z", "a", "a-b", "a.b", "aB", "ab", "é"]
        notes = [Note(note_id, "a", "net", AT, f"text {note_id}") for note_id in reversed(ids)]
        store.append_notes([*notes, Note("other", "a", "net-2", AT, "x"), notes[0]])
        assert [note.note_id for note in store.notes("net", "", 100)] == ids
        assert [note.note_id for note in store.notes("net", "a-b", 2)] == ["a.b", "aB"]

    @pytest.mark.parametrize("text", ["nul \x00", "surrogate \udc80"])
    def test_text_that_no_database_can_hold_is_refused_whole(
        self, store: ControlStore, text: str
    ) -> None:
        """The same texts are refused everywhere, and nothing of the batch is stored."""
        note = Note("n", "a", "net", AT, "fine é \U0001f600")
        activity = Activity("x", "a", "net", "task", AT, None, True, "{}")
        entry = JournalEntry("act", "s", "done", "a", "why", AT)
        with pytest.raises(InvalidInputError, match=r"note\.text"):
            store.append_notes([note, note._replace(note_id="o", text=text)])
        with pytest.raises(InvalidInputError, match=r"activity\.detail"):
            store.append_activities([activity, activity._replace(detail=text)])
        with pytest.raises(InvalidInputError, match=r"journal\.detail"):
            store.append_journal([entry, entry._replace(step="t", detail=text)])
        assert (store.notes("net", "", 9), store.activities(None, 9)) == ([], [])
        assert store.journal("act") == []
        store.append_notes([note])
        assert store.notes("net", "", 9) == [note]

    def test_a_step_is_journalled_once(self, store: ControlStore) -> None:
        """The answer tells whether this call was the first."""
        start = JournalEntry("act", "fence", "started", "a", "why", AT)
        done = start._replace(status="done", duration_s=0.25, detail='{"n": 1}')
        assert store.append_journal([start, done, start]) == [True, True, False]
        again = [done._replace(reason="other"), start._replace(step="place")]
        assert store.append_journal(again) == [False, True]
        assert store.journal("act") == [start, done, start._replace(step="place")]
        assert store.journal("other") == []
        assert store.append_journal([]) == []

    def test_a_long_journal_is_appended_whole(self, store: ControlStore) -> None:
        """More rows than one statement takes."""
        entries = [JournalEntry("act", f"step-{n}", "done", "a", "", AT) for n in range(1203)]
        assert store.append_journal(entries) == [True] * 1203
        assert store.append_journal(entries[::-1]) == [False] * 1203
        assert store.journal("act") == entries


def test_empty_batches_change_nothing(store: ControlStore) -> None:
    """Every batch method takes an empty one."""
    store.declare_nodes([])
    store.retire_nodes([])
    store.declare_agents([])
    store.retire_agents([])
    store.declare_workloads([])
    store.append_activities([])
    store.append_notes([])
    assert (store.nodes(), store.agents(), store.fleet_counts()) == ([], [], [])
    store.ping()
