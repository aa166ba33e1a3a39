"""A fleet in a real store, with real vaults in folders: made once, copied for each test."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fleet.agents import Placement, StatePut
from fleet.backup import ArtefactDeclaration
from fleet.reports import AgentDeclaration
from platform_defs.command.vault_access import Backups, open_backups
from platform_defs.settings import Settings, load_settings
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.control_store.store import SqlControlStore
from resources.vault.journal.journal import append_segment
from resources.vault.replicas.replicate import replicate
from resources.vault.snapshots.backup import back_up

HOME, AWAY = "us-west-2", "eu"
NETWORK = "watch"
AGENTS = ("cpu-1", "cpu-2", "cpu-3")
SETTINGS = """\
[fleet]
name = "test"
[regions.us-west-2]
nodes = 1
[regions.eu]
nodes = 1
[networks.watch]
[networks.staging]
[workloads.cpu]
network = "watch"
function = "agents.cpu:observe"
[artefacts.notebook]
path = "notebook.txt"
network = "watch"
"""


def make_backed_up(folder: Path) -> datetime:
    """Two snapshots, a journal, and a copy in the other region; the moment between the two.

    At that moment every agent had version 1; since then cpu-1 has 3 and cpu-2 has 2.
    """
    (folder / "stateroom.toml").write_text(SETTINGS, encoding="utf-8")
    (folder / "notebook.txt").write_text("first page\n", encoding="utf-8")
    settings = load_settings(folder / "stateroom.toml", {})
    settings.fleet.state_dir.mkdir()
    with opened_store(settings) as store:
        _declare(store)
        for agent_id in AGENTS:
            write_state(store, agent_id, f"{agent_id} one".encode())
        backups = open_backups(settings)
        backups.vaults.prepare()
        notebook = ArtefactDeclaration(
            name="notebook", path=str(folder / "notebook.txt"), network_id=NETWORK
        )
        _snapshot(backups, store, notebook)
        time.sleep(0.01)
        between = datetime.now(UTC)
        time.sleep(0.01)
        write_state(store, "cpu-1", b"cpu-1 two")
        (folder / "notebook.txt").write_text("second page\n", encoding="utf-8")
        _snapshot(backups, store, notebook)
        for agent_id in ("cpu-1", "cpu-2"):
            write_state(store, agent_id, f"{agent_id} newest".encode())
        append_segment(backups.open(NETWORK), store)
        replicate(backups.open(NETWORK), backups.vaults.replica(AWAY, NETWORK))
    return between


def _snapshot(backups: Backups, store: SqlControlStore, notebook: ArtefactDeclaration) -> None:
    notes = {"reason": "test", "run_id": "run-1", "scheduled": True}
    back_up(backups.open(NETWORK), store, artefacts=[notebook], notes=notes)
    append_segment(backups.open(NETWORK), store)


def _declare(store: SqlControlStore) -> None:
    """The agents, and one in another network, under the name that a restore there gives."""
    homes = {**dict.fromkeys(AGENTS, NETWORK), "staging-cpu-1": "staging"}
    store.declare_agents(
        [AgentDeclaration(one, net, "cpu", HOME, 10, 2**24) for one, net in homes.items()]
    )
    now = datetime.now(UTC)
    store.place_agents(
        [
            Placement(one, net, "cpu", "us-west-2-1", HOME, 0, 1, "running", "dealt", now)
            for one, net in homes.items()
        ]
    )


@contextmanager
def opened_store(settings: Settings) -> Iterator[SqlControlStore]:
    """The control store of these settings."""
    store = open_control_store(settings.control_store.url, clock=SystemClock())
    try:
        yield store
    finally:
        store.close()


def write_state(store: SqlControlStore, agent_id: str, body: bytes) -> None:
    """The next version of an agent's state."""
    found = store.state(agent_id)
    put = StatePut(agent_id, 1, found.version if found else 0, body)
    (result,) = store.put_states([put])
    assert result.error is None, result.error


def bodies(settings: Settings) -> dict[str, bytes]:
    """What every agent has stored."""
    with opened_store(settings) as store:
        states = store.states([*AGENTS, "staging-cpu-1"])
    return {one.agent_id: one.body for one in states}


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file of the vaults with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "state" / "vaults").rglob("*"))
        if path.is_file()
    }


def copy_fleet(template: Path, folder: Path) -> None:
    """A private copy of a fleet's folder; the times of the vaults' objects are kept."""
    shutil.copytree(template, folder, dirs_exist_ok=True)


def objects(folder: Path, region: str, prefix: str) -> list[Path]:
    """Files of a region's vault below a prefix."""
    root = folder / "state" / "vaults" / region / prefix
    return sorted(path for path in root.rglob("*") if path.is_file())


def damage(path: Path) -> None:
    """Flip a bit of every byte of a file; its length stays."""
    path.chmod(0o600)
    path.write_bytes(bytes(one ^ 1 for one in path.read_bytes()))
