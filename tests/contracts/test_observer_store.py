"""Contract of `ObserverStore`: the fake, SQLite and PostgreSQL refuse and remember alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fleet.agents import Activity, Placement, StatePut
from fleet.errors import InvalidInputError, LeaseLostError
from fleet.inventory import AgentPhase, NodePhase
from fleet.leases import LEADER_LEASE, Lease, node_lease_name
from fleet.moments import microseconds
from fleet.ports.control_store import ControlStore
from fleet.probe_reports import Probe, ProbeOutcome, ProbeReport, RosterMember
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from tests.contracts.store_harness import StoreHarness

AT = datetime(2026, 3, 1, 11, 59, 58, 123457, tzinfo=UTC)
LATENT = Probe("node-2", ProbeOutcome.ANSWERED, "boot-of-2", 0, 1.25, "")
SILENT = Probe("node-3", ProbeOutcome.SILENT, "", 4, None, 'no answer: "timed out" é')


def node(node_id: str, zone: str = "eu-a") -> NodeDeclaration:
    """A declared node."""
    return NodeDeclaration(node_id, "eu", zone, 1000, 1 << 30)


def said(
    observer_id: str = "node-1",
    round_number: int = 1,
    probes: tuple[Probe, ...] = (LATENT, SILENT),
    boot_id: str = "boot-1",
) -> ProbeReport:
    """What an observer reports."""
    return ProbeReport(observer_id, boot_id, round_number, AT, probes)


def lease_of(store: ControlStore, node_id: str = "node-1", ttl_s: float = 60.0) -> Lease:
    """The lease of an observer's first boot."""
    return store.acquire_lease(node_lease_name(node_id), "boot-1", ttl_s)


def report_of(node_id: str, agents: tuple[AgentReport, ...] = ()) -> NodeReport:
    """What a supervisor reports of its node."""
    return NodeReport(node_id, "boot-1", 1, f"h:{node_id}", AT, AT, None, None, None, agents, ())


def placement(agent_id: str, node_id: str, epoch: int = 0, term: int = 0) -> Placement:
    """A placement planned on `epoch`."""
    return Placement(agent_id, "net", "work", node_id, "eu", epoch, term, "running", "why", AT)


def declare_agents(store: ControlStore, *agent_ids: str) -> None:
    """Agents without any placement."""
    store.declare_agents([AgentDeclaration(one, "net", "work", "eu", 1, 1) for one in agent_ids])


class TestProbeReports:
    """One row per observer, replaced as a whole, under the observer's live lease."""

    def test_a_report_is_read_back_as_it_was_sent(self, store: ControlStore) -> None:
        """Every field of every probe, None included, and when the store took it."""
        lease = lease_of(store)
        store.report_probes(said())
        (found,) = store.probe_reports()
        assert found._replace(received_at=None) == said()
        assert found.received_at is not None
        assert found.received_at >= lease.renewed_at

    def test_a_later_round_replaces_the_report_whole_and_an_earlier_one_nothing(
        self, store: ControlStore
    ) -> None:
        """A write that was overtaken on its way does not bring old news back."""
        lease_of(store)
        store.report_probes(said(round_number=5))
        store.report_probes(said(round_number=6, probes=(LATENT,)))
        store.report_probes(said(round_number=5))
        (found,) = store.probe_reports()
        assert (found.round, found.probes) == (6, (LATENT,))

    def test_the_next_boot_begins_its_rounds_anew(self, harness: StoreHarness) -> None:
        """Rounds are compared within one boot only."""
        harness.clear()
        store = harness.store
        lease_of(store, ttl_s=5.0)
        store.report_probes(said(round_number=9))
        harness.advance(6.0)
        store.acquire_lease(node_lease_name("node-1"), "boot-2", 5.0)
        store.report_probes(said(boot_id="boot-2"))
        assert [(one.boot_id, one.round) for one in store.probe_reports()] == [("boot-2", 1)]
        with pytest.raises(LeaseLostError, match="boot-1"):
            store.report_probes(said(round_number=10))

    def test_an_observer_without_a_live_lease_is_not_heard(self, harness: StoreHarness) -> None:
        """Never leased, expired, released: what a sleeper saw is worth nothing."""
        harness.clear()
        store = harness.store
        with pytest.raises(LeaseLostError, match="node-1"):
            store.report_probes(said())
        lease = lease_of(store, ttl_s=5.0)
        harness.advance(6.0)
        with pytest.raises(LeaseLostError, match="node-1"):
            store.report_probes(said())
        lease = store.renew_lease(lease)
        store.report_probes(said())
        store.release_lease(lease)
        with pytest.raises(LeaseLostError, match="node-1"):
            store.report_probes(said(round_number=2))
        assert [one.round for one in store.probe_reports()] == [1]

    def test_a_refused_report_of_a_batch_stops_no_other(self, store: ControlStore) -> None:
        """Results come in the order of the reports; the higher round of one observer stays."""
        for node_id in ("node-1", "node-3"):
            lease_of(store, node_id)
        results = store.report_probes_of_many(
            [said("node-3", 2), said("node-2"), said("node-1"), said("node-3", 1, ())]
        )
        assert [(one.observer_id, one.error is None) for one in results] == [
            ("node-3", True),
            ("node-2", False),
            ("node-1", True),
            ("node-3", True),
        ]
        found = store.probe_reports()
        assert [(one.observer_id, one.round) for one in found] == [("node-1", 1), ("node-3", 2)]
        assert store.report_probes_of_many([]) == []

    def test_only_what_is_new_since_a_moment_is_read(self, harness: StoreHarness) -> None:
        """The moment of the newest report known leaves no later one out."""
        harness.clear()
        store = harness.store
        for node_id in ("node-1", "node-2"):
            lease_of(store, node_id)
        store.report_probes(said("node-1"))
        harness.advance(1.0)
        store.report_probes(said("node-2"))
        first, second = store.probe_reports()
        assert second.received_at is not None
        assert store.probe_reports(second.received_at) == [second]
        assert store.probe_reports(first.received_at) == [first, second]
        assert store.probe_reports(second.received_at + timedelta(seconds=1)) == []

    def test_the_report_of_a_retired_node_is_gone(self, store: ControlStore) -> None:
        """It is no observer any more."""
        store.declare_nodes([node("node-1")])
        lease_of(store)
        store.report_probes(said())
        store.retire_nodes(["node-1"])
        assert store.probe_reports() == []

    def test_a_text_that_no_store_can_hold_is_refused_whole(self, store: ControlStore) -> None:
        """Nothing of the batch is stored."""
        lease_of(store)
        bad = SILENT._replace(detail="a\x00b")
        with pytest.raises(InvalidInputError, match=r"probe\.detail"):
            store.report_probes_of_many([said(), said(round_number=2, probes=(bad,))])
        assert store.probe_reports() == []


class TestNodeBeats:
    """The light look at every node."""

    def test_beats_agree_with_the_full_look(self, harness: StoreHarness) -> None:
        """Pending, running, expired, released: what `nodes` shows with its reports."""
        harness.clear()
        store = harness.store
        ids = ["node-1", "node-2", "node-3", "node-4"]
        store.declare_nodes([node(one) for one in ids])
        heard = AgentReport("a", 1, AgentPhase.RUNNING, 7, AT, AT, 0, None, None, "")
        for node_id, ttl_s in (("node-2", 60.0), ("node-3", 5.0), ("node-4", 60.0)):
            lease = store.report_node(report_of(node_id, (heard,)), lease_of(store, node_id, ttl_s))
            if node_id == "node-4":
                store.release_lease(lease)
        harness.advance(6.0)
        full, beats = store.nodes(), store.node_beats()
        assert [beat.node_id for beat in beats] == [one.node_id for one in full] == ids
        assert [one.phase for one in full] == [
            NodePhase.PENDING,
            NodePhase.RUNNING,
            NodePhase.UNKNOWN,
            NodePhase.STOPPED,
        ]
        for beat, one in zip(beats, full, strict=True):
            beat_us = 0 if one.heartbeat_at is None else microseconds(one.heartbeat_at)
            lease = store.lease(node_lease_name(one.node_id))
            assert beat.boot_id == (one.boot_id or "")
            assert harness.exact_times is False or beat.heartbeat_us == beat_us
            assert (beat.heartbeat_us == 0) == (beat_us == 0)
            assert beat.agents_us == (microseconds(AT) if beat_us else 0)
            assert beat.released == (one.phase == NodePhase.STOPPED)
            if lease is None:
                assert beat[4:] == ("", 0, 0, 0, 0.0)
            else:
                assert (beat.holder, beat.term, beat.ttl_s) == (
                    lease.holder,
                    lease.term,
                    lease.ttl_s,
                )
                assert beat.renewed_us == microseconds(lease.renewed_at)
                assert beat.expires_us == microseconds(lease.expires_at)

    def test_each_heartbeat_changes_a_number(self, harness: StoreHarness) -> None:
        """That is all that a controller needs to see."""
        harness.clear()
        store = harness.store
        store.declare_nodes([node("node-1")])
        lease = store.report_node(report_of("node-1"), lease_of(store))
        (before,) = store.node_beats()
        if harness.exact_times:
            harness.clock.advance(0.001)
        store.report_node(report_of("node-1"), lease)
        (after,) = store.node_beats()
        assert after.heartbeat_us > before.heartbeat_us
        assert after.renewed_us > before.renewed_us


class TestWorkSeen:
    """Work that reaches the store without the heartbeat."""

    def test_states_count_for_the_node_of_their_epoch(self, store: ControlStore) -> None:
        """What the copy before the move stored says nothing of the node after it."""
        declare_agents(store, "a", "b")
        store.place_agents([placement("a", "node-1"), placement("b", "node-2")])
        store.put_states([StatePut("a", 1, 0, b"x"), StatePut("b", 1, 0, b"y")])
        first = store.work_seen()
        assert [work.node_id for work in first.nodes] == ["node-1", "node-2"]
        assert store.work_seen(first.cursor) == (first.cursor, ())
        store.place_agents([placement("a", "node-3", epoch=1)])
        assert [work.node_id for work in store.work_seen().nodes] == ["node-2"]
        store.put_states([StatePut("a", 2, 1, b"z")])
        later = store.work_seen(first.cursor)
        assert [work.node_id for work in later.nodes] == ["node-3"]
        stored = store.state("a")
        assert stored is not None
        assert later.nodes[0].worked_us == microseconds(stored.updated_at)

    def test_activities_count_while_their_clock_can_be_believed(
        self, harness: StoreHarness
    ) -> None:
        """The newest within a minute of now; never one from next week."""
        harness.clear()
        store = harness.store
        now = harness.clock.now() if harness.exact_times else datetime.now(UTC)
        declare_agents(store, "a", "b", "c", "nowhere")
        store.place_agents([placement(one, f"node-of-{one}") for one in ("a", "b", "c")])
        ages_s = {"a": (50.0, 20.0), "b": (120.0,), "c": (-86_400.0,), "nowhere": (1.0,)}
        store.append_activities(
            [
                Activity(
                    f"{agent}-{age}",
                    agent,
                    "net",
                    "act",
                    now - timedelta(seconds=age),
                    None,
                    True,
                    "",
                )
                for agent, ages in ages_s.items()
                for age in ages
            ]
        )
        seen = store.work_seen()
        assert [(one.node_id, one.worked_us) for one in seen.nodes] == [
            ("node-of-a", microseconds(now - timedelta(seconds=20)))
        ]

    def test_a_retired_agents_work_is_nobodys(self, store: ControlStore) -> None:
        """Its placement counts no more."""
        declare_agents(store, "a")
        store.place_agents([placement("a", "node-1")])
        store.put_states([StatePut("a", 1, 0, b"x")])
        store.retire_agents(["a"])
        assert store.work_seen().nodes == ()


class TestRoster:
    """Who is declared, and when that has changed."""

    def test_the_version_rises_with_every_change_of_the_declared_nodes(
        self, store: ControlStore
    ) -> None:
        """Also when only a zone changed; agents and leases leave it alone."""
        assert store.roster() == (store.roster_version(), ())
        store.declare_nodes([node("node-2"), node("node-1")])
        first = store.roster()
        assert first.members == (
            RosterMember("node-1", "eu", "eu-a"),
            RosterMember("node-2", "eu", "eu-a"),
        )
        declare_agents(store, "a")
        store.report_node(report_of("node-1"), lease_of(store))
        assert store.roster() == first
        store.declare_nodes([node("node-1", "eu-b")])
        second = store.roster()
        assert second.version > first.version
        assert second.members[0].zone == "eu-b"
        store.retire_nodes(["node-2"])
        assert store.roster_version() > second.version
        assert [one.node_id for one in store.roster().members] == ["node-1"]

    def test_contacts_are_those_of_declared_nodes_that_have_reported(
        self, store: ControlStore
    ) -> None:
        """Address and boot as last reported, in the order of their names."""
        store.declare_nodes([node(one) for one in ("node-1", "node-2", "node-3")])
        for node_id in ("node-2", "node-1"):
            store.report_node(report_of(node_id), lease_of(store, node_id))
        wanted = ["node-2", "node-3", "node-1", "node-9"]
        assert store.node_contacts(wanted) == [
            ("node-1", "h:node-1", "boot-1"),
            ("node-2", "h:node-2", "boot-1"),
        ]
        store.retire_nodes(["node-2"])
        assert [one.node_id for one in store.node_contacts(wanted)] == ["node-1"]
        assert store.node_contacts([]) == []

    def test_copies_that_belong_elsewhere_are_counted_by_node(self, store: ControlStore) -> None:
        """Of the last report, against the placements of now; without a report no count."""
        store.declare_nodes([node(one) for one in ("node-1", "node-2", "node-3")])
        declare_agents(store, "a", "b", "c")
        store.place_agents([placement(one, "node-1") for one in ("a", "b", "c")])
        copies = tuple(
            AgentReport(one, 1, AgentPhase.RUNNING, 1, None, None, 0, None, None, "")
            for one in ("a", "b", "c")
        )
        store.report_node(report_of("node-1")._replace(agents=copies), lease_of(store, "node-1"))
        store.report_node(report_of("node-2"), lease_of(store, "node-2"))
        wanted = ["node-3", "node-2", "node-1"]
        assert store.stale_copies(wanted) == {"node-1": 0, "node-2": 0}
        store.place_agents([placement("a", "node-2")._replace(epoch=1)])
        store.retire_agents(["b"])
        assert store.stale_copies(wanted) == {"node-1": 2, "node-2": 0}
        assert store.stale_copies([]) == {}


class TestLeader:
    """Orders are judged by the term that leads at the moment of acting."""

    def test_the_leaders_placements_are_stored_and_a_followed_terms_are_not(
        self, harness: StoreHarness
    ) -> None:
        """Whatever term the placement itself was stored under: the lease decides."""
        harness.clear()
        store = harness.store
        declare_agents(store, "a", "b")
        store.place_agents([placement("a", "node-1"), placement("b", "node-1")])
        first = store.acquire_lease(LEADER_LEASE, "one", 15.0)
        moved = [placement("a", "node-2", 1, first.term)]
        assert [p.epoch for p in store.place_agents(moved, leader_term=first.term)] == [2]
        harness.advance(16.0)
        second = store.acquire_lease(LEADER_LEASE, "two", 15.0)
        late = [placement("b", "node-2", 1, first.term)]
        with pytest.raises(LeaseLostError, match=f"leader term {first.term}"):
            store.place_agents(late, leader_term=first.term)
        assert [p.epoch for p in store.placements("node-1")] == [1]
        store.demand_leader_term(second.term)
        with pytest.raises(LeaseLostError):
            store.demand_leader_term(first.term)

    def test_a_leader_past_its_time_is_refused_before_anybody_follows(
        self, harness: StoreHarness
    ) -> None:
        """The store's clock decides, not the taking over; a renewal brings the right back."""
        harness.clear()
        store = harness.store
        declare_agents(store, "a")
        lease = store.acquire_lease(LEADER_LEASE, "one", 15.0)
        order = [placement("a", "node-1", 0, lease.term)]
        harness.advance(16.0)
        for refused in (
            lambda: store.place_agents(order, leader_term=lease.term),
            lambda: store.demand_leader_term(lease.term),
            lambda: store.fence_nodes(["node-1"], lease.term),
        ):
            with pytest.raises(LeaseLostError, match=f"leader term {lease.term}"):
                refused()
        assert store.placements() == []
        store.renew_lease(lease)
        assert len(store.place_agents(order, leader_term=lease.term)) == 1

    def test_a_released_or_never_held_lease_leads_nowhere(self, store: ControlStore) -> None:
        """Term 0, term 1 without a lease, and the term of somebody who gave up."""
        declare_agents(store, "a")
        for term in (0, 1):
            with pytest.raises(LeaseLostError):
                store.place_agents([placement("a", "node-1", 0, term)], leader_term=term)
        lease = store.acquire_lease(LEADER_LEASE, "one", 15.0)
        store.release_lease(lease)
        with pytest.raises(LeaseLostError):
            store.demand_leader_term(lease.term)

    def test_a_placement_of_another_term_than_the_leaders_is_refused_whole(
        self, store: ControlStore
    ) -> None:
        """A plan made under an earlier term must be made again."""
        declare_agents(store, "a", "b")
        lease = store.acquire_lease(LEADER_LEASE, "one", 15.0)
        orders = [placement("a", "n", 0, lease.term), placement("b", "n", 0, lease.term - 1)]
        with pytest.raises(InvalidInputError, match=r"placement\.term"):
            store.place_agents(orders, leader_term=lease.term)
        assert store.placements() == []


class TestFencing:
    """The lease of a node that has run out is ended, so that its old holder is refused."""

    def test_a_fenced_boot_is_refused_at_its_next_write_and_starts_anew(
        self, harness: StoreHarness
    ) -> None:
        """Its report stores nothing; the lease that it then takes has a higher term."""
        harness.clear()
        store = harness.store
        store.declare_nodes([node("node-1")])
        lease = store.report_node(report_of("node-1"), lease_of(store, ttl_s=5.0))
        harness.advance(6.0)
        leader = store.acquire_lease(LEADER_LEASE, "one", 15.0)
        assert store.fence_nodes(["node-1"], leader.term) == ["node-1"]
        assert store.fence_nodes(["node-1"], leader.term) == ["node-1"]
        assert store.nodes()[0].phase == NodePhase.UNKNOWN
        (beat,) = store.node_beats()
        assert (beat.term, beat.released) == (lease.term + 1, False)
        with pytest.raises(LeaseLostError, match=f"leader term {leader.term}"):
            store.report_node(report_of("node-1"), lease)
        with pytest.raises(LeaseLostError):
            store.report_probes(said())
        again = lease_of(store)
        assert again.term == lease.term + 2
        store.report_node(report_of("node-1"), again)

    def test_a_node_whose_lease_runs_or_never_was_is_left_alone(self, store: ControlStore) -> None:
        """Only the store's clock can take a lease away; a released one needs no fence."""
        leader = store.acquire_lease(LEADER_LEASE, "one", 15.0)
        running = lease_of(store, "node-1")
        store.release_lease(lease_of(store, "node-2"))
        assert store.fence_nodes(["node-1", "node-2", "node-3"], leader.term) == ["node-2"]
        assert store.lease(running.name) == running
        with pytest.raises(LeaseLostError):
            store.fence_nodes(["node-1"], leader.term + 1)
