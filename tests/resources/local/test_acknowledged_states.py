"""No acknowledged state is ever lost, whoever is killed and when."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable

import pytest

from fleet.agents import RestartPolicy
from resources.local.linux_processes import identify, send_signal
from tests.resources.local.fleets import Fleet, agents_of, eventually, function, node

PATIENT = RestartPolicy(delay_s=0.01, delay_max_s=0.02, attempts_max=10_000)
LINE = re.compile(r"^(loaded|acknowledged) (\d+)(?: version (\d+))?$", re.MULTILINE)


def ledger(fleet: Fleet, agent_id: str) -> list[tuple[str, int, int]]:
    """What the agent was told, over all its lives: (kind, number, version)."""
    found = LINE.findall(fleet.log(agent_id))
    return [(kind, int(number), int(version or 0)) for kind, number, version in found]


def check_ledger(fleet: Fleet, agent_id: str) -> int:
    """Compare an agent's ledger with itself and with the store; returns its lives.

    A number grows by one with each version. A life begins at the last acknowledged number, or one
    above it: the put whose answer the agent did not live to hear.
    """
    last, lives = 0, 0
    for kind, number, version in ledger(fleet, agent_id):
        if kind == "loaded":
            lives += 1
            assert number in {last, last + 1}, f"{agent_id} loaded {number} after {last}"
        else:
            assert number == last + 1
            assert version == number
        last = number
    state = fleet.store.state(agent_id)
    assert state is not None
    stored = json.loads(state.body)["number"]
    assert stored == state.version
    assert stored in {last, last + 1}
    return lives


def kill_for(seconds: float, kill: Callable[[random.Random], None], seed: int) -> None:
    """Kill at random moments for a while."""
    chance = random.Random(seed)
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        time.sleep(chance.uniform(0.0, 0.08))
        kill(chance)


def random_agent_killer(fleet: Fleet, agents: int) -> Callable[[random.Random], None]:
    """Kills one of the agents that the store knows the pid of."""

    def kill(chance: random.Random) -> None:
        pid = fleet.agent(f"counter-{chance.randrange(agents)}").pid
        process = None if pid is None else identify(pid)
        if process is not None:
            send_signal(process, signal.SIGKILL)

    return kill


def run_kills(fleet: Fleet, agents: int, seconds: float) -> None:
    """Agents count while they are killed; nothing that was acknowledged is lost."""
    counter = function("counter", "count", restart=PATIENT)
    declared = agents_of(counter, agents)
    fleet.start([node("n1")], [counter], declared)
    eventually(lambda: all(fleet.log(a.agent_id) for a in declared), "all have begun")
    kill_for(seconds, random_agent_killer(fleet, agents), seed=agents)
    fleet.cluster.stop_nodes()
    lives = [check_ledger(fleet, agent.agent_id) for agent in declared]
    assert sum(lives) > 2 * agents


def test_no_acknowledged_state_is_lost_when_agents_are_killed(fleet: Fleet) -> None:
    """The ledger of each agent agrees with the store after a shower of SIGKILLs."""
    run_kills(fleet, 4, 3.0)


@pytest.mark.long
def test_no_acknowledged_state_is_lost_in_a_long_storm(fleet: Fleet) -> None:
    """The same for longer and for more agents."""
    run_kills(fleet, 20, 30.0)


@pytest.mark.long
def test_no_acknowledged_state_is_lost_when_nodes_are_killed(fleet: Fleet) -> None:
    """Whole nodes die and start again; counts go on from the last acknowledged one."""
    counter = function("counter", "count", restart=PATIENT)
    declared = agents_of(counter, 6)
    cluster = fleet.start([node("n1")], [counter], declared)
    chance = random.Random(7)
    for _ in range(8):
        time.sleep(chance.uniform(0.5, 1.5))
        run = fleet.run("n1")
        victim = chance.choice(["group", "supervisor"])
        if victim == "group":
            cluster.kill_node("n1")
        else:
            os.kill(run.process.pid, signal.SIGKILL)
            time.sleep(0.2)
        cluster.start_node("n1")
    cluster.stop_nodes()
    assert sum(check_ledger(fleet, agent.agent_id) for agent in declared) > 12
