"""A writer that slept while its base was collected commits a whole snapshot, or says why not.

The writer is a process of its own, stopped by SIGSTOP at a store operation: what a suspended
virtual machine is. Meanwhile everything that it has read is forgotten, condemned and deleted, with
no grace. restic loses data this way (#2715, #2452): its lock goes stale while it sleeps.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from fleet.agents import Placement, StatePut
from fleet.reports import AgentDeclaration
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.keys.key_store import create_vault
from resources.vault.network import NetworkVault
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_content, verify_structure
from tests.fakes.vault_fleet import AT, KEYS, VaultFleet, body_of
from tests.servers.empty_stores import sqlite_url

ROOT = Path(__file__).resolve().parents[3]
NOW = timedelta(0)
AGENTS = [f"agent-{number:04d}" for number in range(6)]


class SleepersVault:
    """Two snapshots of six agents whose states lie in a SQLite control store; one has moved on."""

    def __init__(self, folder: Path) -> None:
        """Back up twice; then one more agent changes, so that the sleeper has something to do."""
        self.url = sqlite_url(folder)
        self.folder = folder / "vault"
        self.store = DirectoryObjectStore(self.folder)
        self.clock = SystemClock()
        create_vault(self.store, self.clock.now())
        self.control = open_control_store(self.url, clock=self.clock)
        self.control.declare_agents(
            [AgentDeclaration(one, "net", "w", "eu", 1, 1) for one in AGENTS]
        )
        self.control.place_agents(
            [Placement(one, "net", "w", "n", "eu", 0, 1, "running", "", AT) for one in AGENTS]
        )
        self.versions = dict.fromkeys(AGENTS, 0)
        self.bodies: dict[str, dict[str, bytes]] = {}
        self.change(*AGENTS)
        self.back_up()
        self.change(AGENTS[0])
        self.back_up()
        self.change(AGENTS[1])

    def change(self, *agent_ids: str) -> None:
        """Write the next version."""
        for one in agent_ids:
            body = body_of(one, self.versions[one] + 1)
            (done,) = self.control.put_states([StatePut(one, 1, self.versions[one], body)])
            assert done.error is None
            self.versions[one] += 1

    def vault(self) -> NetworkVault:
        """As a fresh process opens it."""
        return NetworkVault(self.store, KEYS, self.clock)

    def states(self) -> dict[str, bytes]:
        """All live states."""
        return {one.agent_id: one.body for one in self.control.states(AGENTS)}

    def back_up(self) -> None:
        """Shares no pack with what was there before: the base of a sleeper can go away."""
        vault = self.vault()
        packs = [one.key.rpartition("/")[2].partition(".")[0] for one in vault.list_packs()]
        result = back_up(vault, self.control, full=True, distrusted=frozenset(packs))
        self.bodies[result.snapshot_id] = self.states()

    def replace_all(self) -> None:
        """What happens during the sleep: a new snapshot, and all others go at once."""
        self.back_up()
        vault = self.vault()
        gone = [one for one in vault.log.refresh().live if one != list(self.bodies)[-1]]
        forget(vault, gone)
        collect_garbage(vault, NOW)
        sweep(vault, NOW)
        left = {one.key.split("/")[2] for one in self.vault().list_packs()}
        assert not left & set(gone)

    def check(self) -> None:
        """Everything live restores byte for byte, and is whole in structure and content."""
        vault = self.vault()
        live = list(vault.log.refresh().live)
        assert live
        assert verify_structure(vault).findings == ()
        assert verify_content(vault, live).findings == ()
        reader = VaultFleet(len(AGENTS))
        for snapshot_id in live:
            assert reader.restored(self.store, snapshot_id) == self.bodies[snapshot_id]


class Writer:
    """The process that writes; killed at the end, whatever has become of it."""

    def __init__(self, world: SleepersVault, *place: str) -> None:
        """Start it; it stops itself at `place` (verb, prefix, when, number)."""
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}"}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.resources.vault.writing_process"),
                *(world.url, str(world.folder), *place),
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill works on a stopped process as well."""
        self.process.kill()
        self.process.communicate()

    def is_stopped(self) -> bool:
        """Wait until it has stopped itself (True) or ended."""
        flags = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        found = os.waitid(os.P_PID, self.process.pid, flags)
        assert found is not None
        return found.si_code == os.CLD_STOPPED

    def go_on(self) -> Any:
        """Wake it up; what it says at its end."""
        self.process.send_signal(signal.SIGCONT)
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return json.loads(out)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SleepersVault]:
    """Closed at the end."""
    made = SleepersVault(tmp_path)
    yield made
    made.control.close()


def sleep_through(world: SleepersVault, *place: str) -> Any:
    """Stop a writer, replace everything meanwhile, wake it; what it said, or None if it ended."""
    with Writer(world, *place) as writer:
        if not writer.is_stopped():
            return None
        world.replace_all()
        said = writer.go_on()
    if "snapshot_id" in said and said["snapshot_id"] in world.vault().log.refresh().live:
        world.bodies[said["snapshot_id"]] = world.states()
    world.check()
    return said


@pytest.mark.parametrize(
    ("place", "ending"),
    [
        (("list", "log/", "before", "1"), "committed"),
        (("get", "manifests/", "after", "1"), "rescued"),
        (("create", "packs/", "before", "1"), "rescued"),
        (("create", "packs/", "after", "1"), "FencedError"),
        (("create", "manifests/", "after", "1"), "FencedError"),
        (("create", "log/", "before", "1"), "FencedError"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value,
)
def test_a_stopped_writer_rescues_or_gives_up(
    world: SleepersVault, place: tuple[str, ...], ending: str
) -> None:
    """Nothing of its own stored: it stores again what has gone. Else the gc has given it up."""
    said = sleep_through(world, *place)
    assert said is not None
    if ending == "FencedError":
        assert (said["error"], said["hint"]) == (ending, "Run the backup again.")
    else:
        assert (said["rescued"] > 0) == (ending == "rescued")
        assert said["snapshot_id"] in world.vault().log.refresh().live


@pytest.mark.long
def test_a_writer_stopped_anywhere_leaves_only_whole_snapshots(tmp_path: Path) -> None:
    """Before each operation of a backup, and after the last one that matters."""
    ends = []
    for number in range(1, 100):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = SleepersVault(folder)
        try:
            said = sleep_through(made, "any", "", "before", str(number))
        finally:
            made.control.close()
        if said is None:
            break
        ends.append(said.get("error") or ("rescued" if said["rescued"] else "committed"))
    assert number > 8
    assert {"rescued", "FencedError", "committed"} == set(ends)
