"""V4 restores for real and finds what is damaged; it leaves nothing behind."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fleet.errors import InvalidInputError
from fleet.restore_test_plan import LoadedState
from fleet.verification_status import fold_verifications
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.vault.drills.agent_loading import load_agents
from resources.vault.drills.fresh_store import (
    FreshStore,
    open_fresh_store,
    read_back,
    restore_fresh,
    states_of,
)
from resources.vault.drills.isolated_workspace import isolated_workspace
from resources.vault.drills.restore_test import run_restore_test
from resources.vault.restores.restore import find_manifest
from resources.vault.verification.application_checks import ApplicationCheck
from tests.resources.vault.backed_up import BackedUp, UnreachableStore, damage


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, as unix sockets need."""
    with TemporaryDirectory(prefix="sr-") as name:
        yield Path(name)


@pytest.fixture
def backed_up(folder: Path) -> BackedUp:
    """Three snapshots of six agents."""
    world = BackedUp(folder)
    for number in (100, 101, 102):
        world.count_to(number)
        world.back_up()
    return world


def left_in(workspace: Path) -> list[Path]:
    """What a test has left behind, its gate aside."""
    return [one for one in workspace.iterdir() if not one.name.startswith(".")]


def test_the_newest_and_an_older_snapshot_are_restored_and_loaded(
    backed_up: BackedUp, folder: Path
) -> None:
    """All states, two agents over the API, nothing left, and the seed repeats the choice."""
    done = run_restore_test(
        backed_up.vault(), folder / "w", region="eu", agents_sample=2, code_version="1.2"
    )
    newest, older = done
    live = list(backed_up.vault().log.refresh().live)
    assert newest.snapshot_id == live[-1]
    assert older.snapshot_id in live[:-1]
    for one in done:
        assert (one.failures, one.level, one.region, one.code_version) == ((), "V4", "eu", "1.2")
        assert (one.items, one.bytes_checked) == (6, 6 * len(b'{"number": 102}'))
        checks = {check["name"]: check for check in one.detail["checks"]}
        assert all(check["passed"] for check in checks.values())
        assert checks["agents load their states"]["numbers"] == {"agents": 2}
        assert [phase["name"] for phase in one.detail["phases"]] == [
            "find",
            "open a fresh store",
            "restore",
            "compare",
            "load",
            "artefacts",
        ]
    assert left_in(folder / "w") == []
    assert list(backed_up.vault().log.refresh().holds) == []
    assert backed_up.vault().log.refresh().head == 3
    again = run_restore_test(
        backed_up.vault(), folder / "w", region="eu", seed=newest.detail["seed"]
    )
    assert [one.snapshot_id for one in again] == [one.snapshot_id for one in done]


@pytest.mark.parametrize("suffix", [".pack", ".manifest"])
def test_a_damaged_object_fails_the_snapshots_that_need_it_and_no_other(
    backed_up: BackedUp, folder: Path, suffix: str
) -> None:
    """The newest pack or manifest belongs to the newest snapshot only."""
    damage(backed_up.home, suffix)
    newest, older = run_restore_test(backed_up.vault(), folder / "w", region="eu")
    assert "pack" in newest.failures[0] or "manifest" in newest.failures[0]
    assert older.failures == ()
    found = fold_verifications([newest, older])
    assert found[newest.snapshot_id].failed_level == "V4"
    assert found[older.snapshot_id].level == "V4"
    assert left_in(folder / "w") == []


def test_without_a_readable_vault_the_evidence_says_why(backed_up: BackedUp, folder: Path) -> None:
    """A store that does not answer, and a network without snapshots."""
    vault = backed_up.vault()
    vault.store = UnreachableStore()
    (lost,) = run_restore_test(vault, folder / "w", region="eu")
    assert lost.snapshot_id == ""
    assert "the region is gone" in lost.failures[0]
    with TemporaryDirectory(prefix="sr-") as other:
        (empty,) = run_restore_test(BackedUp(Path(other)).vault(), folder / "w", region="eu")
    assert "there is no backup yet" in empty.failures[0]


def test_wrong_arguments_are_refused(backed_up: BackedUp, folder: Path) -> None:
    """Before anything is made; an unknown snapshot is evidence."""
    with pytest.raises(InvalidInputError, match="region"):
        run_restore_test(backed_up.vault(), folder / "w", region="../eu")
    with pytest.raises(InvalidInputError, match="agents_sample"):
        run_restore_test(backed_up.vault(), folder / "w", region="eu", agents_sample=-1)
    (unknown,) = run_restore_test(
        backed_up.vault(), folder / "w", region="eu", snapshot_ids=["nope"]
    )
    assert "no snapshot nope" in unknown.failures[0]
    assert not (folder / "w").exists()


def test_a_full_disk_is_refused_before_anything_is_written(
    backed_up: BackedUp, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever shares the disk is not hurt; the evidence says what is needed."""
    monkeypatch.setattr("resources.vault.drills.isolated_workspace.RESERVE_BYTES", 2**60)
    newest, _ = run_restore_test(backed_up.vault(), folder / "w", region="eu")
    assert "disk full" in newest.failures[0]
    assert "Free space" in newest.failures[0]
    assert fold_verifications([newest]) == {}
    assert left_in(folder / "w") == []


def test_a_disk_that_fills_up_on_the_way_fails_and_leaves_nothing(
    backed_up: BackedUp, folder: Path
) -> None:
    """The kernel refuses to let files grow; every write path meets it, SQLite's included."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        newest, _ = run_restore_test(backed_up.vault(), folder / "w", region="eu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(newest.failures) == 1
    assert fold_verifications([newest]) == {}
    assert left_in(folder / "w") == []


def restored(world: BackedUp, folder: Path) -> tuple[Path, tuple[LoadedState, ...]]:
    """The database of a finished restore, and what it must hold."""
    vault = world.vault()
    vault.read_only = True
    found, manifest = find_manifest(vault, None, None)
    states = states_of(manifest)
    with open_fresh_store(folder / "store", vault.clock) as fresh:
        assert restore_fresh(vault, fresh, states, found.snapshot_id, {}).restored == len(states)
    return folder / "store" / "control.db", states


DAMAGES = [
    ("update agent_states set body = x'00' where agent_id = 'agent-0002'", "SHA-256 is"),
    ("delete from agent_states where agent_id = 'agent-0002'", "no readable state"),
    ("update agent_states set version = 9 where agent_id = 'agent-0002'", "is version 9"),
    (
        "update agent_states set agent_id = 'agent-9999' where agent_id = 'agent-0002'",
        "no readable state",
    ),
]


@pytest.mark.parametrize(("statement", "said"), DAMAGES)
def test_a_restored_store_that_differs_from_the_manifest_is_found_out(
    backed_up: BackedUp, folder: Path, statement: str, said: str
) -> None:
    """Each kind of difference, in the store and over the agents' API."""
    path, states = restored(backed_up, folder)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    clock = SystemClock()
    with closing(open_control_store(f"sqlite:///{path}", clock=clock)) as store:
        found = read_back(store, states)
        loading = load_agents(store, "net", states, folder / "s", clock)
    assert found.states == 5
    assert any("agent-0002" in one and said in one for one in found.problems)
    assert loading.agents == 6
    if "version = 9" not in statement:
        assert [one for one in loading.problems if "agent-0002" in one]
        assert len(loading.problems) == 1


def test_a_stranger_in_the_restored_store_is_found_out(backed_up: BackedUp, folder: Path) -> None:
    """A state that the snapshot does not hold must not come from anywhere."""
    path, states = restored(backed_up, folder)
    with closing(open_control_store(f"sqlite:///{path}", clock=SystemClock())) as store:
        found = read_back(store, states[:-1])
    assert found.problems == (f"{states[-1].agent_id} was restored and is not in the snapshot",)


def test_what_the_artefact_checks_find_fails_the_test(backed_up: BackedUp, folder: Path) -> None:
    """They run below the same workspace, after the states."""
    folders: list[Path] = []

    def check(_vault: object, _snapshot_id: str, below: Path) -> list[ApplicationCheck]:
        folders.append(below)
        return [
            ApplicationCheck("faiss notes", passed=False, reason="truncated", numbers={}),
            ApplicationCheck("sqlite notes", passed=True, reason="", numbers={"rows.t": 1}),
        ]

    newest, _ = run_restore_test(
        backed_up.vault(), folder / "w", region="eu", check_artefacts=check
    )
    assert newest.failures == ("faiss notes: truncated",)
    assert newest.items == 8
    assert not folders[0].exists()


def test_what_a_killed_test_left_is_removed_by_the_next_one(folder: Path) -> None:
    """SIGKILL inside a workspace; a living one, and what is no workspace, are left alone."""
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from resources.vault.drills.isolated_workspace import isolated_workspace
        with isolated_workspace(Path({str(folder)!r}), "restore-test") as mine:
            (mine / "store").mkdir()
            (mine / "store" / "secret").write_text("state")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = [one for one in folder.iterdir() if not one.name.startswith(".")]
    assert (left / "store" / "secret").exists()
    (folder / "restore-test-half-made").mkdir()
    (folder / "others").mkdir()
    with (
        isolated_workspace(folder, "restore-test") as first,
        isolated_workspace(folder, "restore-test") as second,
    ):
        assert sorted(left_in(folder)) == sorted([first, second, folder / "others"])
    assert left_in(folder) == [folder / "others"]


def test_a_fresh_store_is_fresh(folder: Path) -> None:
    """A second one in the same place is refused, so that nothing old can pass as restored."""
    with open_fresh_store(folder / "s", SystemClock()) as one:
        assert isinstance(one, FreshStore)
        assert one.store.state_infos() == []
    with pytest.raises(FileExistsError), open_fresh_store(folder / "s", SystemClock()):
        raise AssertionError
