"""Random histories: the SQL stores answer exactly as the fake does, step by step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.agents import Placement, StatePut
from fleet.errors import StateroomError
from fleet.inventory import AgentPhase
from fleet.leases import Lease, node_lease_name
from fleet.placement_history import (
    PlacementRecord,
    find_double_placements,
    find_missing_epochs,
    find_stale_epochs,
)
from fleet.ports.control_store import ControlStore, LeaseWish
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from tests.contracts.store_harness import MemoryHarness, StoreHarness
from tests.examples import examples

AT = datetime(2026, 3, 1, tzinfo=UTC)
AGENTS = st.sampled_from(["a", "b", "c", "a-b", "a.b"])
NODES = st.sampled_from(["n1", "n2", "n3"])
REGIONS = st.sampled_from(["eu", "us"])
SMALL = st.integers(0, 3)

PLACEMENTS = st.builds(
    lambda agent, node, region, epoch, term, desired: Placement(
        agent, "net", "w", node, region, epoch, term, desired, "why", AT
    ),
    AGENTS,
    NODES,
    REGIONS,
    SMALL,
    SMALL,
    st.sampled_from(["running", "stopped"]),
)
PUTS = st.builds(StatePut, AGENTS, SMALL, SMALL, st.binary(max_size=4))
REPORTS = st.lists(
    st.builds(
        lambda agent, epoch, phase: AgentReport(
            agent, epoch, phase, None, AT, AT, 0, None, None, ""
        ),
        AGENTS,
        SMALL,
        st.sampled_from(AgentPhase),
    ),
    max_size=3,
    unique_by=lambda agent: agent.agent_id,
)
DECLARED = st.lists(
    st.builds(lambda a, r, p: AgentDeclaration(a, "net", "w", r, p, 1), AGENTS, REGIONS, SMALL),
    max_size=4,
)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("declare_agents"), DECLARED),
        st.tuples(st.just("retire_agents"), st.lists(AGENTS, max_size=2)),
        st.tuples(st.just("place_agents"), st.lists(PLACEMENTS, max_size=6)),
        st.tuples(st.just("release_ended")),
        st.tuples(st.just("put_states"), st.lists(PUTS, max_size=6)),
        st.tuples(st.just("declare_node"), NODES, REGIONS),
        st.tuples(st.just("retire_nodes"), st.lists(NODES, max_size=1)),
        st.tuples(
            st.just("acquire"), NODES, st.sampled_from(["h1", "h2"]), st.sampled_from([5, 9])
        ),
        st.tuples(st.just("renew"), NODES),
        st.tuples(st.just("release"), NODES),
        st.tuples(st.just("report"), NODES, REPORTS),
        st.tuples(
            st.just("report_all"), st.lists(st.tuples(NODES, REPORTS), min_size=1, max_size=4)
        ),
        st.tuples(
            st.just("acquire_all"),
            st.lists(
                st.tuples(NODES, st.sampled_from(["h1", "h2"]), st.sampled_from([5, 9])),
                min_size=1,
                max_size=4,
            ),
        ),
        st.tuples(st.just("advance"), st.integers(0, 8)),
    ),
    min_size=4,
    max_size=30,
)


def _said(node_id: str, agents: list[AgentReport]) -> NodeReport:
    return NodeReport(node_id, "b", 1, "h:1", AT, AT, None, None, None, tuple(agents), ())


class History:
    """One store under a history; remembers the last lease it was given for each name."""

    def __init__(self, harness: StoreHarness) -> None:
        """Start with two declared nodes and three declared agents."""
        harness.clear()
        self.harness = harness
        self.store: ControlStore = harness.store
        self.leases: dict[str, Lease] = {}
        self.store.declare_nodes([NodeDeclaration(n, "eu", "z", 1, 1) for n in ("n1", "n2")])
        self.store.declare_agents(
            [AgentDeclaration(a, "net", "w", "eu", 1, 1) for a in ("a", "b", "a-b")]
        )
        self.store.place_agents([Placement("a", "net", "w", "n1", "eu", 0, 0, "running", "", AT)])

    def do(self, step: tuple[Any, ...]) -> Any:
        """Take one step; a refusal is its type."""
        name, *arguments = step
        try:
            return self._steps()[name](*arguments)
        except StateroomError as error:
            return type(error)

    def _steps(self) -> dict[str, Callable[..., Any]]:
        return {
            "declare_agents": self.store.declare_agents,
            "retire_agents": self.store.retire_agents,
            "place_agents": self.store.place_agents,
            "release_ended": lambda: [one[:-1] for one in self.store.release_ended()],
            "put_states": self._put,
            "declare_node": lambda node, region: self.store.declare_nodes(
                [NodeDeclaration(node, region, "z", 1, 1)]
            ),
            "retire_nodes": self.store.retire_nodes,
            "acquire": self._acquire,
            "renew": lambda node: self._keep(self.store.renew_lease(self._lease(node))),
            "release": lambda node: self.store.release_lease(self._lease(node)),
            "report": lambda node, agents: self._keep(
                self.store.report_node(_said(node, agents), self._lease(node))
            ),
            "report_all": self._report_all,
            "acquire_all": self._acquire_all,
            "advance": self.harness.advance,
        }

    def _lease(self, node_id: str) -> Lease:
        name = node_lease_name(node_id)
        return self.leases.get(name) or Lease(name, "nobody", 0, 5.0, AT, AT)

    def _acquire(self, node_id: str, holder: str, ttl_s: int) -> Any:
        return self._keep(
            self.store.acquire_lease(node_lease_name(node_id), holder, float(ttl_s) * 1000)
        )

    def _report_all(self, reports: list[tuple[str, list[AgentReport]]]) -> list[Any]:
        given = [(_said(node, agents), self._lease(node)) for node, agents in reports]
        return [
            (result.node_id, type(result.error), result.lease and self._keep(result.lease))
            for result in self.store.report_nodes(given)
        ]

    def _acquire_all(self, wishes: list[tuple[str, str, int]]) -> list[Any]:
        given = [
            LeaseWish(node_lease_name(node_id), holder, float(ttl_s) * 1000)
            for node_id, holder, ttl_s in wishes
        ]
        return [
            (result.name, type(result.error), result.lease and self._keep(result.lease))
            for result in self.store.acquire_leases(given)
        ]

    def _keep(self, lease: Lease) -> Any:
        self.leases[lease.name] = lease
        return lease if self.harness.exact_times else (lease.holder, lease.term, lease.ttl_s)

    def _put(self, puts: list[StatePut]) -> list[Any]:
        return [
            (result.agent_id, result.version, str(result.error))
            for result in self.store.put_states(puts)
        ]

    def look(self) -> dict[str, Any]:
        """Everything that the port lets one see, without times that are the store's own."""
        store = self.store
        seen: dict[str, Any] = {
            "placements": [placed[:-1] for placed in store.placements()],
            "of n1 in eu": [placed[:-1] for placed in store.placements("n1", "eu")],
            "last nodes": store.last_nodes(["a", "b", "c", "a-b", "a.b"]),
            "agents": store.agents(),
            "agents of us": store.agents("us"),
            "changes": [change[:6] for change in store.state_changes(0, 1000)],
            "infos": [info[:7] for info in store.state_infos()],
            "nodes": [node[:10] for node in store.nodes()],
            "history": sorted(_without_order(row) for row in store.placement_history(0, 1000)),
            "counts": [counts[:9] for counts in store.fleet_counts()],
            "terms": [
                lease and (lease.holder, lease.term)
                for lease in (store.lease(node_lease_name(n)) for n in ("n1", "n2", "n3"))
            ],
        }
        if self.harness.exact_times:
            seen["exact"] = (
                store.placements(),
                store.nodes(),
                store.fleet_counts(),
                store.state_changes(0, 1000),
                [store.state(info.agent_id) for info in store.state_infos()],
                [store.lease(node_lease_name(n)) for n in ("n1", "n2", "n3")],
            )
        return seen


def _without_order(row: PlacementRecord) -> tuple[Any, ...]:
    """A row of the history without its number (batches have no order) and the store's time."""
    return (*row[1:8], row.change_id)


def _advance_long(steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Leases last thousands of seconds, so that no real second of a test matters."""
    return [("advance", step[1] * 1000.0) if step[0] == "advance" else step for step in steps]


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=STEPS.map(_advance_long))
def test_every_history_has_the_same_answers_and_the_same_end(
    harness: StoreHarness, steps: list[tuple[Any, ...]]
) -> None:
    """Puts, placements, leases, reports and retirements in any order, against the twin."""
    if isinstance(harness, MemoryHarness):
        pytest.skip("the twin itself")
    memory = MemoryHarness()
    memory.exact_times = harness.exact_times
    ours, twin = History(harness), History(memory)
    if harness.exact_times:
        harness.clock.jump((memory.clock.now() - harness.clock.now()).total_seconds())
    for step in steps:
        assert ours.do(step) == twin.do(step), step
    assert ours.look() == twin.look()


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=STEPS.map(_advance_long))
def test_epochs_terms_and_versions_only_rise(
    harness: StoreHarness, steps: list[tuple[Any, ...]]
) -> None:
    """Whatever happens: no epoch, lease term, state version or change number ever falls back."""
    history = History(harness)
    epochs: dict[str, int] = {}
    terms: dict[str, int] = {}
    newest: dict[str, tuple[int, str]] = {}
    for step in steps:
        history.do(step)
        for placement in history.store.placements():
            assert placement.epoch >= epochs.get(placement.agent_id, 0)
            epochs[placement.agent_id] = placement.epoch
        for name in ("node/n1", "node/n2", "node/n3"):
            lease = history.store.lease(name)
            if lease is not None:
                assert lease.term >= terms.get(name, 0)
                terms[name] = lease.term
    rows, changes = history.store.placement_history(0, 1000), history.store.state_changes(0, 1000)
    assert find_double_placements(rows) == []
    assert find_stale_epochs(rows, changes) == []
    assert find_missing_epochs(rows, history.store.placements()) == []
    for change in changes:
        assert change.version == newest.get(change.agent_id, (0, ""))[0] + 1
        newest[change.agent_id] = (change.version, change.digest)
    stored = {info.agent_id: (info.version, info.digest) for info in history.store.state_infos()}
    assert stored == newest
