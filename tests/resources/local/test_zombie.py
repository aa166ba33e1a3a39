"""A supervisor that was frozen, and whose agents were moved meanwhile, writes nothing any more."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from fleet.agents import StatePut
from fleet.errors import StaleEpochError
from fleet.inventory import AgentPhase
from fleet.leases import LEADER_LEASE, node_lease_name
from resources.clock import SystemClock
from resources.local.linux_processes import ProcessIdentity, identify, is_alive
from tests.resources.local.fleets import Fleet, agents_of, eventually, function, node

ACKNOWLEDGED = re.compile(r"^acknowledged (\d+) version (\d+)$", re.MULTILINE)


def is_locked(fleet: Fleet) -> bool:
    """Whether somebody who does not go on holds SQLite's one write lock."""
    with closing(sqlite3.connect(fleet.state_dir / "control.db", timeout=0.2)) as look:
        look.isolation_level = None
        try:
            look.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        look.execute("ROLLBACK")
        return False


def freeze(fleet: Fleet, node_id: str) -> None:
    """Stop a node's whole process group, between two of its transactions.

    Inside of one it would keep SQLite's write lock, and nobody could write until it is killed
    (docs/guarantees.md, "Failover"; tests/resources/test_frozen_writers.py).
    """
    group = fleet.run(node_id).process.pid
    for _ in range(50):
        os.killpg(group, signal.SIGSTOP)
        if not is_locked(fleet):
            return
        os.killpg(group, signal.SIGCONT)
        time.sleep(0.5)  # it beats, so its lease does not run out between the attempts
    raise AssertionError("it was in a transaction each time")


@contextmanager
def frozen(fleet: Fleet, node_id: str) -> Iterator[None]:
    """A node that stands still, until its lease has run out and longer."""
    freeze(fleet, node_id)
    try:
        lease = fleet.store.lease(node_lease_name(node_id))
        assert lease is not None
        eventually(lambda: SystemClock().now() > lease.expires_at, "its lease runs out")
        yield
    finally:
        os.killpg(fleet.run(node_id).process.pid, signal.SIGCONT)


def start_counting(fleet: Fleet, agents: int) -> dict[str, ProcessIdentity]:
    """Agents that count in durable state, dealt over n1 and n2; the processes of those on n1."""
    counter = function("counter", "count")
    fleet.start([node("n1"), node("n2")], [counter], agents_of(counter, agents))
    processes = {}
    for placed in fleet.store.placements("n1"):
        name = placed.agent_id
        eventually(lambda n=name: "acknowledged 3 " in fleet.log(n), f"{name} counts", 60.0)  # type: ignore[misc]
        pid = eventually(lambda n=name: fleet.agent(n).pid, f"{name} is reported")  # type: ignore[misc]
        process = identify(pid)
        assert process is not None
        processes[name] = process
    assert len(processes) == agents // 2
    return processes


def move_all(fleet: Fleet, node_id: str) -> dict[str, int]:
    """What a failover does: the leader moves every agent by compare-and-swap; the new epochs."""
    leader = fleet.store.acquire_lease(LEADER_LEASE, "test", 60.0)
    orders = [
        placed._replace(node_id=node_id, term=leader.term, reason="n1 is silent")
        for placed in fleet.store.placements("n1")
    ]
    moved = fleet.store.place_agents(orders, leader_term=leader.term)
    fleet.cluster._nudge()
    return {placed.agent_id: placed.epoch for placed in moved}


def test_a_zombies_agents_are_refused_at_their_first_write_and_stopped(fleet: Fleet) -> None:
    """Not one version after the move is the zombie's, and nothing of it runs on."""
    zombies = start_counting(fleet, 6)
    with frozen(fleet, "n1"):
        assert all(is_alive(process) for process in zombies.values())
        moved_at = {name: fleet.store.state(name) for name in zombies}
        assert set(move_all(fleet, "n2").values()) == {2}
        for name in zombies:
            eventually(
                lambda n=name: "acknowledged" in fleet.log(n, "n2"),
                f"{name} counts on n2",
                60.0,  # type: ignore[misc]
            )
        taken_over = {name: fleet.store.state(name) for name in zombies}
    for name, process in zombies.items():
        eventually(lambda p=process: not is_alive(p), f"the zombie {name} is gone")  # type: ignore[misc]
        before, after = moved_at[name], taken_over[name]
        assert before is not None
        assert after is not None
        assert (before.epoch, after.epoch) == (1, 2)
        # Whatever it managed to send on waking was refused: it never heard of a later version.
        versions = [int(version) for _, version in ACKNOWLEDGED.findall(fleet.log(name, "n1"))]
        assert max(versions) <= before.version
    epochs = {}
    for change in fleet.store.state_changes(0, 100_000):
        assert change.epoch >= epochs.get(change.agent_id, 1), "a lower epoch after a higher one"
        epochs[change.agent_id] = change.epoch
    zombie = next(iter(zombies))
    (refused,) = fleet.store.put_states([StatePut(zombie, 1, 10**6, b"{}")])
    assert isinstance(refused.error, StaleEpochError)
    eventually(
        lambda: all(
            (a.node_id, a.phase, a.epoch)
            == ("n2", AgentPhase.RUNNING, 2 if a.agent_id in zombies else 1)
            for a in fleet.store.agents()
        ),
        "each agent runs once, on n2",
    )
    eventually(lambda: fleet.cluster.nodes("here")[0].agents_running == 0, "n1 has none")


def test_a_fenced_supervisor_is_refused_at_its_first_write_and_comes_back_empty(
    fleet: Fleet,
) -> None:
    """Its renewal fails though nobody took the lease; the lease that it then gets is a new one."""
    zombies = start_counting(fleet, 4)
    before = fleet.store.lease(node_lease_name("n1"))
    assert before is not None
    with frozen(fleet, "n1"):
        move_all(fleet, "n2")
        leader = fleet.store.lease(LEADER_LEASE)
        assert leader is not None
        assert fleet.store.fence_nodes(["n1", "n2"], leader.term) == ["n1"]
        fenced = fleet.store.lease(before.name)
        assert fenced is not None
        assert fenced.term == before.term + 1
    for name, process in zombies.items():
        eventually(lambda p=process: not is_alive(p), f"the zombie {name} is gone")  # type: ignore[misc]
    log = fleet.state_dir / "logs" / "nodes" / "n1.log"
    refused = f"is held by {fenced.holder}, term {fenced.term}"
    eventually(lambda: refused in log.read_text(), "its first heartbeat was refused")
    after = eventually(
        lambda: (now := fleet.store.lease(before.name)) and now.holder == before.holder and now,
        "it takes a new lease",
    )
    assert after.term == fenced.term + 1
    eventually(lambda: fleet.cluster.nodes("here")[0].agents_running == 0, "n1 has no agents")
    assert {placed.node_id for placed in fleet.store.placements()} == {"n2"}
