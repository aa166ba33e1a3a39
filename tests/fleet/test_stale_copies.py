"""Which copies of a node's report must not run there any more."""

from __future__ import annotations

import pytest

from fleet.inventory import AgentPhase
from fleet.reports import AgentReport, count_stale


def copy(epoch: int = 2, phase: AgentPhase = AgentPhase.RUNNING) -> AgentReport:
    """One copy of agent a."""
    return AgentReport("a", epoch, phase, 1, None, None, 0, None, None, "")


@pytest.mark.parametrize(
    ("placed", "epoch", "phase", "stale"),
    [
        ({"a": ("n1", 2)}, 2, AgentPhase.RUNNING, 0),
        ({"a": ("n2", 3)}, 2, AgentPhase.RUNNING, 1),
        ({"a": ("n1", 3)}, 2, AgentPhase.RUNNING, 1),
        ({"a": ("n2", 2)}, 2, AgentPhase.BACKING_OFF, 1),
        ({}, 2, AgentPhase.RUNNING, 1),
        ({"a": ("n2", 3)}, 2, AgentPhase.STOPPED, 0),
        ({"a": ("n2", 3)}, 2, AgentPhase.FAILED, 0),
        ({"a": ("", 3)}, 2, AgentPhase.RUNNING, 1),
    ],
    ids=[
        "in force", "moved away", "an earlier epoch here", "will start again elsewhere's",
        "declared no more", "has stopped", "stays down", "parked",
    ],
)  # fmt: skip
def test_a_copy_is_stale_when_it_lives_and_the_placement_says_otherwise(
    placed: dict[str, tuple[str, int]], epoch: int, phase: AgentPhase, stale: int
) -> None:
    """By node and epoch; what is down harms nobody."""
    assert count_stale("n1", [copy(epoch, phase)], placed) == stale
