"""When a rollout is under way: from another revision on, until its agents are ready."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from fleet.agents import Placement, Workload, revision_of
from fleet.errors import InvalidInputError
from fleet.inventory import Agent, AgentPhase
from fleet.rescaling.pods import WorkloadAgents, by_workload, pods_of
from fleet.rescaling.rollout import FREEZE_MAX_S
from fleet.rescaling.rollout_watch import MEMORY, SETTLE_S, Watched, watch_rollout
from fleet.rescaling.standing import ScaledAgent
from tests.fleet.rescaling.workloads import NOW


def agents(*phases: AgentPhase) -> WorkloadAgents:
    """One for each phase, all on a node."""
    wanted = [
        ScaledAgent(
            Agent(f"a{n}", "net", "w", "n1", "eu", 2, phase, 1, 1, 0, 0, 0, heartbeat_at=NOW),
            Placement(f"a{n}", "net", "w", "n1", "eu", 2, 0, "running", "", NOW),
            "eu",
        )
        for n, phase in enumerate(phases)
    ]
    return WorkloadAgents(wanted, 0)


READY, STARTING = agents(AgentPhase.RUNNING), agents(AgentPhase.RUNNING, AgentPhase.PENDING)


def looks(*seen: tuple[float, str, WorkloadAgents]) -> list[Watched]:
    """Looks after each other: seconds, revision, agents."""
    details: Mapping[str, str] = {"panic": "{}"}
    found = []
    for at_s, revision, there in seen:
        watched = watch_rollout(details, revision, there, NOW + timedelta(seconds=at_s))
        details = watched.details
        found.append(watched)
    return found


def under_way(found: list[Watched]) -> list[bool]:
    """Look by look."""
    return [one.rollout is not None for one in found]


def test_a_rollout_lasts_from_another_revision_until_all_its_agents_are_ready() -> None:
    """Not less than nodes may take to begin, and not for ever; what others remember stays."""
    found = looks(
        (0, "a", STARTING),
        (15, "b", READY),
        (30, "b", READY),
        (15 + SETTLE_S, "b", STARTING),
        (100, "b", READY),
        (115, "b", READY),
    )
    assert under_way(found) == [False, True, True, True, False, False]
    begun = found[1].rollout
    assert begun is not None
    assert begun.started_at == NOW + timedelta(seconds=15)
    assert begun.surge == frozenset(), "an agent has one name, and is there once"
    assert found[-1].details["panic"] == "{}"
    assert found[-1].details is found[-2].details
    late = looks((0, "a", READY), (1, "b", STARTING), (2 + FREEZE_MAX_S, "b", STARTING))
    assert under_way(late) == [False, True, False]
    again = looks((0, "a", READY), (15, "b", READY), (30, "a", READY))
    assert again[2].rollout is not None
    assert again[2].rollout.started_at == NOW + timedelta(seconds=30)


def test_without_a_declared_revision_nothing_is_taken_in_and_damage_is_told() -> None:
    """A workload that a person scales need not be declared."""
    details = {MEMORY: "what"}
    assert watch_rollout(details, "", READY, NOW) == Watched(None, details)
    with pytest.raises(InvalidInputError, match="revision"):
        watch_rollout(details, "a", READY, NOW)


def test_an_agent_that_is_exchanged_is_one_pod_whatever_its_node_still_has() -> None:
    """The surge of a rollout cannot happen where a name stands for one agent."""
    (first, second) = (one.wanted[0] for one in (READY, agents(AgentPhase.STOPPED)))
    for one in (first, second):
        (found,) = by_workload([one]).values()
        assert len(pods_of(found.wanted, NOW)) == 1


def test_a_revision_changes_with_what_a_process_is_made_from_alone() -> None:
    """Not with its priority or its number."""
    one = Workload("w", "net", function="m:f", arguments={"a": "1"})
    same = Workload("w", "net", function="m:f", arguments={"a": "1"}, priority=9)
    others = [
        Workload("w", "net", function="m:g", arguments={"a": "1"}),
        Workload("w", "net", command=("m:f",), arguments={"a": "1"}),
        Workload("w", "net", function="m:f"),
    ]
    assert revision_of(one) == revision_of(same)
    assert len({revision_of(each) for each in (one, *others)}) == 4
