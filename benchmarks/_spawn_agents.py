"""The function that the agents of spawn.py run."""

from __future__ import annotations

from stateroom_agent.agent import Agent


def idle(agent: Agent) -> None:
    """Register, beat, do nothing else."""
    agent.run(lambda: None, interval_s=3600.0)
