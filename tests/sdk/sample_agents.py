"""Agents that tests run as processes of their own."""

from __future__ import annotations

import time

from stateroom_agent.agent import Agent


def count(agent: Agent) -> None:
    """Counts steps; the count is its state."""
    number = int(agent.load_state() or b"0")

    def step() -> None:
        nonlocal number
        number += 1
        agent.note(f"step {number}")

    agent.run(step, 0.05, lambda: b"%d" % number)


def work_slowly(agent: Agent) -> None:
    """One step that takes many heartbeat intervals."""

    def step() -> None:
        agent.note("begun")
        deadline_s = time.monotonic() + 20
        while not agent.stop_reason and time.monotonic() < deadline_s:
            time.sleep(0.01)
        agent.note("ended")

    agent.run(step, 0.01)


def crash(agent: Agent) -> None:
    """Fails in its second step."""
    steps = iter([None])

    def step() -> None:
        next(steps, None)
        agent.note("step")
        if len(agent.arguments) == 0:
            raise RuntimeError("as planned")

    agent.run(step, 0.01, lambda: b"must not be saved")


NO_CALLABLE = 5
