"""A supervisor that is frozen inside a commit is ended, and the fleet writes again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from fleet.frozen_writers import hold_limit_s
from fleet.inventory import NodePhase
from resources.clock import SystemClock
from resources.local.event_log import EventLog
from resources.local.file_locks import write_lock_holders
from resources.local.frozen_writer_watch import (
    FENCED,
    LOOK_INTERVAL_S,
    SPARED,
    FrozenWriterWatch,
    is_write_locked,
)
from resources.local.linux_processes import is_alive
from resources.local.local_fencer import LocalFencer
from tests.resources.local.fleets import Fleet, agents_of, eventually, function, node
from tests.resources.local.test_file_locks import WRITER

LEASE_S = 20.0
"""So long that no lease runs out while a slow machine is at it."""


def watch_of(fleet: Fleet, spares: str = "", lease_s: float = 3.0) -> FrozenWriterWatch:
    """As `stateroom up` makes it."""
    return FrozenWriterWatch(
        fleet.state_dir / "control.db",
        fleet.store,
        fleet.cluster.runs,
        LocalFencer(fleet.state_dir, SystemClock()),
        EventLog(fleet.state_dir / "run" / "events.jsonl"),
        SystemClock(),
        hold_limit_s(lease_s),
        lambda _node, _region: spares,
    )


def events(fleet: Fleet, kind: str) -> list[tuple[str, str]]:
    """Subject and detail of all events of a kind."""
    found = EventLog(fleet.state_dir / "run" / "events.jsonl").after("0")
    return [(one.subject, one.detail) for one in found if one.kind == kind]


def freeze_inside_a_commit(fleet: Fleet, node_id: str) -> None:
    """Stop a node's group again and again, until it stands still with the write lock."""
    freeze_group_inside_a_commit(fleet.run(node_id).process.pid, fleet.state_dir / "control.db")


def freeze_group_inside_a_commit(leader: int, database: Path) -> None:
    """Stop a process group until its leader stands still with the write lock of a database.

    A signal takes effect on a busy machine when a thread of the process gets its turn; until then
    another one may commit, so the lock is looked for only once all of them stand still.
    """
    for attempt in range(2000):
        os.killpg(leader, signal.SIGSTOP)
        eventually(lambda: _stands_still(leader), "it stands still")
        if leader in write_lock_holders(database):
            return
        os.killpg(leader, signal.SIGCONT)
        time.sleep(0.003 + attempt % 7 / 1000)  # not in step with its own rhythm
    raise AssertionError("it was never inside a transaction")


def _stands_still(pid: int) -> bool:
    stats = [path.read_text(encoding="ascii") for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(text.rpartition(")")[2].split()[0] == "T" for text in stats)


def start_writing(fleet: Fleet) -> None:
    """Two nodes with agents that store states all the time."""
    counter = function("counter", "count")
    fleet.start([node("n1"), node("n2")], [counter], agents_of(counter, 8), lease_ttl_s=LEASE_S)
    for placed in fleet.store.placements():
        name, at = placed.agent_id, placed.node_id
        eventually(lambda n=name, a=at: "acknowledged 3 " in fleet.log(n, a), f"{name}", 60.0)  # type: ignore[misc]


def look_for(watch: FrozenWriterWatch, seconds: float) -> None:
    """Look as its thread would, for some time."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        watch.look()
        time.sleep(LOOK_INTERVAL_S / 2)


def test_a_supervisor_frozen_inside_a_commit_is_ended_and_the_others_write_on(
    fleet: Fleet,
) -> None:
    """With the evidence in the event log and in the node's incident; the other node lives on."""
    start_writing(fleet)
    n1, n2 = fleet.run("n1"), fleet.run("n2")
    watch = watch_of(fleet)
    freeze_inside_a_commit(fleet, "n1")
    assert is_write_locked(fleet.state_dir / "control.db")
    assert is_alive(n1.process)
    watch.start()
    try:
        eventually(lambda: events(fleet, FENCED), "it is ended", 60.0)
        eventually(fleet.store.incidents, "it is told", 60.0)
    finally:
        watch.close()
    assert not is_alive(n1.process)
    [(subject, detail)] = events(fleet, FENCED)
    assert subject == "n1"
    assert f"process {n1.process.pid} of boot {n1.boot_id} is stopped" in detail
    assert "every write is refused" in detail
    assert "processes killed" in detail
    [incident] = fleet.store.incidents()
    assert (incident.kind, incident.subject, incident.region) == ("node", "n1", "here")
    [entry] = fleet.store.journal(incident.incident_id)
    assert entry.step == f"seen/frozen-writer-{n1.boot_id}"
    assert entry.reason == detail
    fleet.store.ping()
    at_n2 = fleet.store.placements("n2")[0]
    before = fleet.store.state(at_n2.agent_id)
    assert before is not None
    eventually(
        lambda: (now := fleet.store.state(at_n2.agent_id)) and now.version > before.version,
        "agents of n2 store states again",
        60.0,
    )
    assert is_alive(n2.process)
    assert fleet.run("n2").boot_id == n2.boot_id
    (verdict,) = LocalFencer(fleet.state_dir, SystemClock()).fence({"n1": n1.boot_id})
    assert verdict.phase == NodePhase.TERMINATED


def test_a_frozen_node_that_keeps_nobody_from_writing_is_left_alone(fleet: Fleet) -> None:
    """Frozen for much longer than the limit, but between two transactions."""
    fleet.start([node("n1"), node("n2")], lease_ttl_s=LEASE_S)
    process = fleet.run("n1").process
    watch = watch_of(fleet)
    for _ in range(200):
        os.killpg(process.pid, signal.SIGSTOP)
        if process.pid not in write_lock_holders(fleet.state_dir / "control.db"):
            break
        os.killpg(process.pid, signal.SIGCONT)
        time.sleep(0.01)
    look_for(watch, 3 * hold_limit_s(3.0))
    assert is_alive(process)
    assert events(fleet, FENCED) == events(fleet, SPARED) == []
    assert fleet.store.incidents() == []
    os.killpg(process.pid, signal.SIGCONT)


def test_what_people_hold_back_is_told_once_and_not_ended(fleet: Fleet) -> None:
    """A paused automation pauses this as well; killing by hand frees the store."""
    start_writing(fleet)
    run = fleet.run("n1")
    watch = watch_of(fleet, spares="ann has paused the automation: drill")
    freeze_inside_a_commit(fleet, "n1")
    look_for(watch, 3 * hold_limit_s(3.0))
    [(subject, detail)] = events(fleet, SPARED)
    assert subject == "n1"
    assert detail.endswith("it is not ended: ann has paused the automation: drill")
    assert is_alive(run.process)
    assert events(fleet, FENCED) == []
    fleet.cluster.kill_node("n1")
    fleet.store.ping()


def test_a_stranger_that_stands_still_with_the_lock_is_named_and_not_ended(
    fleet: Fleet, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """It may be anybody's: a shell, a job; a person decides."""
    fleet.start([node("n1")], lease_ttl_s=LEASE_S)
    database = Path(fleet.state_dir / "control.db")
    writer = start_python(WRITER, str(database))
    assert writer.stdout is not None
    assert writer.stdout.readline() == "locked\n", writer.communicate()
    os.kill(writer.pid, signal.SIGSTOP)
    watch = watch_of(fleet)
    look_for(watch, 3 * hold_limit_s(3.0))
    [(subject, detail)] = events(fleet, SPARED)
    assert subject == str(writer.pid)
    assert "it is no node of this fleet" in detail
    assert writer.poll() is None
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait(30)
    fleet.store.ping()
