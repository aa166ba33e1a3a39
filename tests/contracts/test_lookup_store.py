"""Contract of `LookupStore`: the SQL adapter and the fake answer alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.agents import Note, Placement
from fleet.inventory import AgentPhase
from fleet.journal import JournalEntry
from fleet.leases import node_lease_name
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from resources.control_store.opening import open_control_store
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.servers.empty_stores import sqlite_url

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    """The store's clock."""
    return ManualClock(NOW)


@pytest.fixture(params=["sqlite", "memory"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> Iterator[ControlStore]:
    """An empty store of each kind."""
    opened: ControlStore
    if request.param == "memory":
        opened = InMemoryControlStore(clock)
    else:
        opened = open_control_store(sqlite_url(tmp_path), clock=clock)
    yield opened
    opened.close()


def fill(store: ControlStore) -> None:
    """Two agents, one of them placed on a node that has reported it."""
    store.declare_nodes([NodeDeclaration("n1", "west", "a", 1000, 2**30)])
    store.declare_agents(
        [AgentDeclaration(name, "net", "cpu", "west", 10, 2**20) for name in ("a1", "a2")]
    )
    placement = Placement("a1", "net", "cpu", "n1", "west", 0, 0, "running", "dealt", NOW)
    store.place_agents([placement])
    lease = store.acquire_lease(node_lease_name("n1"), "boot", 5.0)
    report = AgentReport("a1", 1, AgentPhase.RUNNING, 7, NOW, NOW, 2, 0.5, 1024, "works")
    store.report_node(
        NodeReport("n1", "boot", 1, "h:1", NOW, NOW, None, None, None, (report,), ()), lease
    )


def test_one_agent_is_what_the_list_of_agents_shows(
    store: ControlStore, clock: ManualClock
) -> None:
    """Placed and reported, never placed, on a silent node: each as in `agents()`."""
    fill(store)
    for _ in range(2):
        for listed in store.agents():
            assert store.agent(listed.agent_id) == listed
        clock.advance(60)
    placed = store.agent("a1")
    assert placed is not None
    assert placed.phase is AgentPhase.UNKNOWN


def test_an_agent_that_is_not_declared_is_none(store: ControlStore) -> None:
    """Also one that was retired."""
    fill(store)
    store.retire_agents(["a1"])
    assert store.agent("a1") is None
    assert store.agent("other") is None


def test_notes_of_one_agent_come_newest_first(store: ControlStore) -> None:
    """Other agents' notes stay out; the limit keeps the newest."""
    fill(store)
    store.append_notes(
        [
            Note(f"n{index}", agent, "net", NOW + timedelta(seconds=index), f"text {index}")
            for index, agent in enumerate(["a1", "a2", "a1", "a1"])
        ]
    )
    assert [note.note_id for note in store.agent_notes("a1", 2)] == ["n3", "n2"]
    assert store.agent_notes("nobody", 2) == []


def entry(action: str, step: str, status: str) -> JournalEntry:
    """A step of an action."""
    return JournalEntry(action, step, status, "node n1", "because", NOW, 1.5)


def test_an_action_is_open_until_every_started_step_is_done(store: ControlStore) -> None:
    """The first unfinished step stands for its action; a failed step is unfinished."""
    store.append_journal(
        [
            entry("x", "fence", "started"),
            entry("x", "fence", "done"),
            entry("y", "fence", "started"),
            entry("x", "place", "started"),
            entry("x", "start", "started"),
            entry("y", "fence", "failed"),
            entry("z", "fence", "started"),
        ]
    )
    assert [(found.action_id, found.step) for found in store.open_actions()] == [
        ("y", "fence"),
        ("x", "place"),
        ("z", "fence"),
    ]
    store.append_journal([entry("y", "fence", "done"), entry("x", "place", "done")])
    assert store.open_actions(1) == [entry("x", "start", "started")]
