"""A process that writes states until it is killed, and says what was acknowledged.

Run as `python -m tests.resources.state_writer URL SEED`; one line on standard output after each
call that returned: `put <agent> <version>` or `placed <agent> <epoch>`.
"""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime

from fleet.agents import Placement, StatePut
from fleet.reports import AgentDeclaration
from resources.control_store.opening import open_control_store
from tests.fakes.clock import ManualClock

AGENTS = [f"agent-{number}" for number in range(8)]


def body_of(agent_id: str, version: int) -> bytes:
    """The one body that this version of an agent's state may have: up to 20 KB."""
    chooser = random.Random(f"{agent_id} {version}")
    return chooser.randbytes(chooser.randrange(20_000))


def placement(agent_id: str, epoch: int) -> Placement:
    """A placement planned on `epoch`."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    return Placement(agent_id, "net", "w", "node", "eu", epoch, 1, "running", "", at)


def main(url: str, seed: str) -> None:
    """Go on from what is stored."""
    chooser = random.Random(seed)
    store = open_control_store(url, clock=ManualClock())
    store.declare_agents([AgentDeclaration(name, "net", "w", "eu", 1, 1) for name in AGENTS])
    epochs = dict.fromkeys(AGENTS, 0) | {p.agent_id: p.epoch for p in store.placements()}
    versions = dict.fromkeys(AGENTS, 0) | {i.agent_id: i.version for i in store.state_infos()}
    while True:
        moved = store.place_agents(
            [placement(a, epochs[a]) for a in AGENTS if epochs[a] == 0 or chooser.random() < 0.2]
        )
        lines = [f"placed {placed.agent_id} {placed.epoch}" for placed in moved]
        epochs.update((placed.agent_id, placed.epoch) for placed in moved)
        puts = []
        for agent_id in chooser.choices(AGENTS, k=chooser.randrange(1, 40)):
            version = versions[agent_id]
            puts.append(
                StatePut(agent_id, epochs[agent_id], version, body_of(agent_id, version + 1))
            )
            versions[agent_id] = version + 1
        results = store.put_states(puts)
        assert all(result.error is None for result in results)
        lines += [f"put {result.agent_id} {result.version}" for result in results]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
