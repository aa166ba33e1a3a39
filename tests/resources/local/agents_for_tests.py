"""Functions that agents of the tests run; imported by the zygote of a real node."""

from __future__ import annotations

import json
import time

from stateroom_agent.agent import Agent


def count(agent: Agent) -> None:
    """Count in durable state as fast as the store acknowledges; say each acknowledged number."""
    agent.register()
    body = agent.load_state()
    number = 0 if body is None else json.loads(body)["number"]
    print(f"loaded {number}", flush=True)  # noqa: T201 - the log is the ledger
    while not agent.heartbeat():
        number += 1
        version = agent.save_state(json.dumps({"number": number}).encode())
        print(f"acknowledged {number} version {version}", flush=True)  # noqa: T201
        time.sleep(0.01)


def idle(agent: Agent) -> None:
    """Register and wait to be told to stop."""
    agent.run(lambda: None, interval_s=60.0)


def fail(agent: Agent) -> None:
    """Raise at once."""
    raise RuntimeError("this agent cannot work")


def end(agent: Agent) -> None:
    """Be done at once."""


def arguments(agent: Agent) -> None:
    """Write the declared arguments and wait."""
    print(json.dumps(agent.arguments), flush=True)  # noqa: T201
    idle(agent)


def search(agent: Agent) -> None:
    """Search until something is found; say it, and what was said instead."""
    agent.register()
    while not agent.heartbeat():
        answer = agent.search("the disk was busy", k=1)
        found = answer.hits[0].text if answer.hits else f"nothing: {answer.reason}"
        print(f"{answer.generation} {found}", flush=True)  # noqa: T201
        time.sleep(0.1)
