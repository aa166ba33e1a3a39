"""Whom every control store lets go ahead of a fence: nobody who holds anything."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fleet.agents import Placement, StatePut, Workload
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration

AT = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = ("free-1", "free-2", "kept-1")


@pytest.fixture
def placed(store: ControlStore) -> ControlStore:
    """Two agents of a workload that is declared stateless and one of another, on node n1."""
    store.declare_workloads(
        [
            Workload("free", "net", function="m:f", stateless=True),
            Workload("kept", "net", function="m:f", arguments={"stateless": "true"}),
        ]
    )
    workloads = {name: name.partition("-")[0] for name in NAMES}
    store.declare_agents(
        [AgentDeclaration(name, "net", workloads[name], "eu", 10, 10) for name in NAMES]
    )
    store.place_agents(
        [Placement(name, "net", workloads[name], "n1", "eu", 0, 1, "running", "", AT)
         for name in NAMES]
    )  # fmt: skip
    return store


def test_agents_of_a_stateless_workload_that_hold_nothing_may_go(placed: ControlStore) -> None:
    """By name and by count, of the nodes that were asked for."""
    assert placed.stateless_agents(["n1", "n2"]) == ["free-1", "free-2"]
    assert placed.stateless_counts(["n1", "n2"]) == {"n1": 2}
    assert placed.stateless_counts(["n2"]) == {}
    assert placed.stateless_agents([]) == []
    assert placed.stateless_counts([]) == {}


def test_where_no_workload_is_declared_so_nobody_may(placed: ControlStore) -> None:
    """The declaration can be taken back."""
    placed.declare_workloads([Workload("free", "net", function="m:f")])
    assert placed.stateless_agents(["n1"]) == []
    assert placed.stateless_counts(["n1"]) == {}


def test_an_agent_that_has_stored_a_state_waits(placed: ControlStore) -> None:
    """Whatever its workload says."""
    placed.put_states([StatePut("free-2", 1, 0, b"mine")])
    assert placed.stateless_agents(["n1"]) == ["free-1"]
    assert placed.stateless_counts(["n1"]) == {"n1": 1}


def test_an_agent_that_holds_a_lease_waits(placed: ControlStore) -> None:
    """On anything, and also when it has run out: nobody may have noticed."""
    placed.acquire_lease("printer", "free-1", 60.0)
    assert placed.stateless_agents(["n1"]) == ["free-2"]
    assert placed.stateless_counts(["n1"]) == {"n1": 1}


@pytest.mark.parametrize("desired", ["stopped", "parked"])
def test_an_agent_that_should_not_run_is_not_counted(placed: ControlStore, desired: str) -> None:
    """There is nothing to move."""
    before = placed.placements("n1")[0]
    placed.place_agents([before._replace(desired=desired)])
    assert placed.stateless_agents(["n1"]) == ["free-2"]


def test_a_retired_agent_is_not_counted(placed: ControlStore) -> None:
    """Its placement stays stored, for its epoch's sake."""
    placed.retire_agents(["free-1"])
    assert placed.stateless_agents(["n1"]) == ["free-2"]
    assert placed.stateless_counts(["n1"]) == {"n1": 1}
