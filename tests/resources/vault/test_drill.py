"""V5 brings real agents back from a replica and the recovery key alone, and says what it took."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest

from fleet.backup_evidence import TaintEvidence, VerificationEvidence
from fleet.drill_plan import DrillObjectives
from fleet.errors import InvalidInputError, StoreUnavailableError
from fleet.ports.object_store import ObjectStore
from fleet.vault_keys import KeyEncryptionKey
from fleet.verification_status import fold_verifications
from resources.clock import SystemClock
from resources.local.linux_processes import ProcessIdentity, group_members, send_signal
from resources.local.node_spec import read_run
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.drills.drill import DrillRequest, run_drill
from resources.vault.journal.journal import append_segment
from resources.vault.keys.key_store import read_kek_file
from resources.vault.verification.evidence import read_evidence, record_evidence
from tests.fakes.control_store import InMemoryControlStore
from tests.resources.local.fleets import eventually, function, shell
from tests.resources.vault.backed_up import (
    COUNTING,
    RECOVERY,
    BackedUp,
    UnreachableStore,
    damage,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, as unix sockets need."""
    with TemporaryDirectory(prefix="sr-") as name:
        yield Path(name)


@pytest.fixture
def world(folder: Path) -> BackedUp:
    """Two snapshots of four agents at home."""
    backed_up = BackedUp(folder, agents=4)
    for number in (100, 101):
        backed_up.count_to(number)
        backed_up.back_up()
    return backed_up


def request_of(world: BackedUp, replicas: dict[str, Any], **options: Any) -> DrillRequest:
    """A drill with the recovery key and counting agents."""
    values: dict[str, Any] = {
        "network_id": "net",
        "replicas": replicas,
        "kek_id": "recovery",
        "read_recovery_key": lambda: RECOVERY,
        "workloads": [COUNTING],
        "agents": world.declared(),
        "timeout_s": 30.0,
    }
    return DrillRequest(**(values | options))


def forbid(monkeypatch: pytest.MonkeyPatch, world: BackedUp) -> list[str]:
    """Lose the home region: any access to its vault or control store raises, and is listed."""
    asked: list[str] = []

    def guard(kind: type, name: str, is_home: Any) -> None:
        inner = getattr(kind, name)

        def guarded(self: Any, *args: Any, **options: Any) -> Any:
            if is_home(self):
                asked.append(name)
                raise StoreUnavailableError(f"the home region is gone ({name})")
            return inner(self, *args, **options)

        monkeypatch.setattr(kind, name, guarded)

    for name in ("create", "get", "list_objects", "delete", "check"):
        guard(DirectoryObjectStore, name, lambda one: one._root == world.home._root)
    for name in ("states", "state_infos", "agents", "placements", "workloads"):
        guard(InMemoryControlStore, name, lambda one: one is world.fleet.store)
    with pytest.raises(StoreUnavailableError, match="home region is gone"):
        world.vault()
    asked.clear()
    shutil.rmtree(world.home._root)
    return asked


def nothing_left(folder: Path) -> bool:
    """No workspace below it."""
    return all(one.name.startswith(".") for one in folder.iterdir())


def test_agents_work_again_from_a_replica_and_the_recovery_key_alone(
    world: BackedUp, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home is gone altogether; a lagging replica loses to a fresh one; all is measured."""
    replicas: dict[str, ObjectStore] = {"eu": world.replicate("eu")}
    world.count_to(102)
    world.back_up()
    replicas["us"] = world.replicate("us")
    asked = forbid(monkeypatch, world)
    key = folder / "recovery.key"
    key.write_text(RECOVERY.key.hex())

    done = run_drill(
        request_of(
            world,
            replicas,
            read_recovery_key=lambda: read_kek_file("recovery", key),
            agents_cap=3,
            objectives=DrillObjectives(3600, 120, 120),
            code_version="1.2",
        ),
        folder / "w",
        SystemClock(),
    )
    assert done.failures == ()
    assert (done.level, done.region, done.items, done.code_version) == ("V5", "us", 4, "1.2")
    assert done.bytes_checked == 4 * len(b'{"number": 102}')
    detail = done.detail
    assert (detail["agents"], detail["agents_started"], detail["agents_running"]) == (4, 3, 3)
    assert detail["agents_stepped"] >= 1
    assert (detail["kek_id"], detail["fallbacks"]) == ("recovery", [])
    assert 0 < detail["rpo_s"] < 120
    assert 0 < detail["rto_first_step_s"] < done.seconds
    assert 0 < detail["rto_all_s"] < done.seconds
    chosen = {one["subject"]: one["taken"] for one in detail["choices"]}
    assert chosen == {"eu": False, "us": True}
    assert [one["name"].split(" ")[0] for one in detail["phases"]] == [
        "read", "open", "open", "restore", "start", "agents", "stop",
    ]  # fmt: skip
    assert sum(one["seconds"] for one in detail["phases"]) <= done.seconds
    assert asked == []
    assert nothing_left(folder / "w")
    vault = world.vault(replicas["us"])
    record_evidence(vault, "us", done)
    (stored,) = read_evidence(vault, "us")
    assert stored.detail == detail


def test_the_journal_brings_back_what_came_after_the_newest_snapshot(
    world: BackedUp, folder: Path
) -> None:
    """RPO is counted from the journal's end; a damaged journal costs itself, not the drill."""
    world.count_to(500)
    append_segment(world.vault(), world.fleet.store)
    eu = world.replicate("eu")
    before = world.vault(eu).log.refresh().head
    done = run_drill(request_of(world, {"eu": eu}), folder / "w", SystemClock())
    assert done.failures == ()
    assert done.detail["from_journal"] == 4
    newest = world.vault(eu).find_snapshot(None).record
    assert datetime.fromisoformat(done.detail["covered_until"]) > newest.taken_at  # type: ignore[union-attr]
    assert world.vault(eu).log.refresh().head == before
    assert world.replicate("eu")
    damage(eu, ".segment")
    done = run_drill(request_of(world, {"eu": eu}), folder / "w", SystemClock())
    assert done.failures == ()
    assert done.detail["from_journal"] == 0
    reasons = [one["reason"] for one in done.detail["choices"]] + done.detail["fallbacks"]
    assert any("journal/net" in one for one in reasons)


def test_a_damaged_newest_copy_falls_back_to_the_next_and_says_so(
    world: BackedUp, folder: Path
) -> None:
    """Every object in one region, then the newest pack in the only other one."""
    eu = world.replicate("eu")
    older, newest = world.vault(eu).log.refresh().live
    damage(eu, ".pack")
    done = run_drill(request_of(world, {"eu": eu}), folder / "w", SystemClock())
    assert done.failures == ()
    assert done.snapshot_id == older
    (fallback,) = done.detail["fallbacks"]
    assert fallback.startswith(f"eu/{newest} could not be restored: ")
    assert done.detail["damaged"] == [f"eu/{newest}"]
    assert fold_verifications([done])[older].level == "V5"


def test_only_snapshots_that_are_whole_and_untainted_are_tried(
    world: BackedUp, folder: Path
) -> None:
    """The newest lacks a pack (V1), the older is tainted: nothing is started."""
    eu = world.replicate("eu")
    older, newest = world.vault(eu).log.refresh().live
    damage(eu, ".pack").unlink()
    taint = TaintEvidence("net", "eu", "packs/x", "lost", (older,), (), 0, world.clock.now())
    record_evidence(world.vault(eu), "eu", taint)
    done = run_drill(request_of(world, {"eu": eu}), folder / "w", SystemClock())
    (failure,) = done.failures
    assert f"eu/{newest}: V1 fails: packs/net/{newest}" in failure
    assert f"eu/{older}: it is tainted" in failure
    assert not any(one["name"].startswith("start") for one in done.detail["phases"])


KEYS = [
    (lambda: read_kek_file("recovery", Path("/nonexistent/key")), "No such file"),
    (lambda: KeyEncryptionKey("recovery", b"x" * 32), "wrong key, or the wrap was altered"),
    (lambda: KeyEncryptionKey("other", b"x" * 32), "none of the given keys has a wrap"),
]


@pytest.mark.parametrize(("read", "said"), KEYS, ids=["missing", "wrong", "other"])
def test_without_the_recovery_key_nothing_begins(
    world: BackedUp, folder: Path, read: Any, said: str
) -> None:
    """The evidence has failed and says what to look for."""
    request = request_of(world, {"eu": world.replicate("eu")}, read_recovery_key=read)
    done = run_drill(request, folder / "w", SystemClock())
    (failure,) = done.failures
    assert said in failure
    assert (done.region, done.snapshot_id, done.items) == ("eu", "", 0)
    assert done.detail["rto_all_s"] is None
    assert not any(one["name"].startswith("restore") for one in done.detail["phases"])
    assert nothing_left(folder / "w")


def test_a_region_that_does_not_answer_costs_only_itself(world: BackedUp, folder: Path) -> None:
    """And an objective that was missed fails the drill although agents work."""
    replicas = {"eu": UnreachableStore(), "us": world.replicate("us")}
    objectives = DrillObjectives(rpo_s=0.0)
    done = run_drill(
        request_of(world, replicas, objectives=objectives), folder / "w", SystemClock()
    )
    assert done.region == "us"
    (failure,) = done.failures
    assert failure.startswith("rpo_s is ")
    assert fold_verifications([done]) == {}
    gone = next(one for one in done.detail["choices"] if one["subject"] == "eu")
    assert "the region is gone" in gone["reason"]


def test_agents_that_do_not_come_back_fail_the_drill(world: BackedUp, folder: Path) -> None:
    """One that fails at once ends the wait; nobody waits for what cannot be."""
    failing = function("fail", "fail")
    request = request_of(
        world, {"eu": world.replicate("eu")}, workloads=[failing], agents=world.declared(failing)
    )
    done = run_drill(request, folder / "w", SystemClock())
    assert any("failed: exit code" in one for one in done.failures)
    assert "none of 4 started agents made a step" in done.failures
    assert nothing_left(folder / "w")


def test_a_drill_that_can_start_nothing_has_failed(world: BackedUp, folder: Path) -> None:
    """Restoring alone is V4; agents of another network or an unknown workload do not count."""
    declared = world.declared()
    strangers = [
        declared[0]._replace(network_id="other"),
        declared[1]._replace(workload="unknown"),
        declared[2]._replace(agent_id="agent-9999"),
    ]
    request = request_of(world, {"eu": world.replicate("eu")}, agents=strangers)
    done = run_drill(request, folder / "w", SystemClock())
    assert done.items == 4
    (failure,) = done.failures
    assert "none was started" in failure


def wait_for_node(workspace: Path) -> ProcessIdentity:
    """The supervisor of the drill that runs below a workspace."""

    def look() -> ProcessIdentity | None:
        for path in workspace.glob("drill-*/*/run/nodes/[!.]*.json"):
            run = read_run(path)
            if run is not None:
                return run.process
        return None

    found = eventually(look, "the drill's node runs")
    assert found is not None
    return found


def test_a_supervisor_that_dies_fails_the_drill_and_leaves_nothing(
    world: BackedUp, folder: Path
) -> None:
    """SIGKILL while its agents, which never step, are waited for."""
    idle = function("idle", "idle")
    request = request_of(
        world, {"eu": world.replicate("eu")}, workloads=[idle], agents=world.declared(idle)
    )
    done: list[VerificationEvidence] = []
    phases: list[str] = []

    def drill() -> None:
        told = run_drill(request, folder / "w", SystemClock(), lambda one: phases.append(one.name))
        done.append(told)

    thread = Thread(target=drill)
    thread.start()
    node = wait_for_node(folder / "w")
    eventually(lambda: len(group_members(node.pid)) == 6, "supervisor, zygote and four agents run")
    # Agents may run before the drill has seen its node come up: until then it would say that.
    eventually(lambda: "start the node" in phases, "the drill waits for the agents")
    assert send_signal(node, signal.SIGKILL)
    thread.join()
    (ended,) = [one for one in done[0].failures if "ended" in one]
    assert ended.startswith("the drill's node has ended"), done[0].failures
    assert group_members(node.pid) == []
    assert nothing_left(folder / "w")


def test_a_killed_drill_leaves_no_process_and_the_next_one_removes_its_folder(
    world: BackedUp, folder: Path
) -> None:
    """SIGKILL of the drill's own process while agents run, among them one in a shell."""
    world.replicate("eu")
    script = textwrap.dedent(f"""
        from pathlib import Path
        from resources.clock import SystemClock
        from resources.object_store.directory import DirectoryObjectStore
        from resources.vault.drills.drill import DrillRequest, run_drill
        from fleet.reports import AgentDeclaration
        from tests.resources.local.fleets import function, shell
        from tests.resources.vault.backed_up import RECOVERY
        workloads = [function("idle", "idle"), shell("work", "sleep 1000")]
        agents = [
            AgentDeclaration(f"agent-000{{n}}", "net", workloads[n % 2].workload, "eu", 1, 1)
            for n in range(4)
        ]
        replica = DirectoryObjectStore(Path({str(folder)!r}, "eu"))
        run_drill(
            DrillRequest(
                network_id="net", replicas={{"eu": replica}},
                kek_id="recovery", read_recovery_key=lambda: RECOVERY,
                workloads=workloads, agents=agents,
            ),
            Path({str(folder / "w")!r}), SystemClock(),
        )
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen([sys.executable, "-c", script], env=environment)
    try:
        node = wait_for_node(folder / "w")
        eventually(lambda: len(group_members(node.pid)) >= 6, "all agents run")
    finally:
        child.kill()
        child.wait()
    eventually(lambda: not group_members(node.pid), "everything of the drill has ended")
    assert not nothing_left(folder / "w")
    request = request_of(world, {"eu": world.replicate("eu")}, read_recovery_key=KEYS[0][0])
    run_drill(request, folder / "w", SystemClock())
    assert nothing_left(folder / "w")


def test_a_disk_that_is_full_fails_the_drill_before_anything_starts(
    world: BackedUp, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever shares the workspace's disk is not hurt."""
    monkeypatch.setattr("resources.vault.drills.isolated_workspace.RESERVE_BYTES", 2**60)
    done = run_drill(request_of(world, {"eu": world.replicate("eu")}), folder / "w", SystemClock())
    assert "disk full" in done.failures[0]
    assert done.detail["fallbacks"] == []
    assert nothing_left(folder / "w")


def test_a_disk_that_fills_up_during_the_restore_fails_the_drill(
    world: BackedUp, folder: Path
) -> None:
    """The kernel refuses to let files grow: no copy can be restored, nothing is started or left."""
    request = request_of(world, {"eu": world.replicate("eu")})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        done = run_drill(request, folder / "w", SystemClock())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert done.failures
    assert done.detail["agents_started"] == 0
    assert nothing_left(folder / "w")


def test_a_request_that_cannot_be_a_drill_is_refused(world: BackedUp) -> None:
    """By field, before anything is read."""
    good = request_of(world, {"eu": UnreachableStore()})
    for name, value in [
        ("replicas", {}),
        ("replicas", {"../eu": UnreachableStore()}),
        ("network_id", ""),
        ("agents_cap", 0),
        ("timeout_s", 0.0),
        ("timeout_s", float("nan")),
    ]:
        with pytest.raises(InvalidInputError):
            replace(good, **{name: value})
    assert shell("a", "b").arguments == {}
