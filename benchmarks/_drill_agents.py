"""Agents that `benchmarks/drill.py` brings back: each saves what it has loaded, and goes on."""

from __future__ import annotations

from stateroom_agent.agent import Agent


def advance(agent: Agent) -> None:
    """Load the restored state, then store it again as a new version once a second."""
    body = agent.load_state() or b""
    agent.run(lambda: None, 1.0, lambda: body)
