"""A vault of the platform's network in a folder, and artefacts to back up into it."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleet.backup import PLATFORM_NETWORK, ArtefactDeclaration, ArtefactOutcome
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import VAULT_KEY
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.network import NetworkVault
from resources.vault.restores.restore_files import restore_artefact
from resources.vault.snapshots.backup import BackupResult, back_up
from tests.fakes.clock import ManualClock

KEYS = PackKeys(b"p" * 32, "platform.0001", PLATFORM_NETWORK)


class ArtefactVault:
    """Backs artefacts up and restores them; its clock is an hour ahead of every file's times."""

    def __init__(self, root: Path) -> None:
        """An empty vault in `root/vault`."""
        self.root = root
        self.clock = ManualClock(datetime.now(UTC) + timedelta(hours=1))
        self.store: ObjectStore = DirectoryObjectStore(root / "vault")
        self.store.create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
        self.artefacts: dict[str, ArtefactDeclaration] = {}
        self.staging = root / "staging"
        self.staging.mkdir()
        self._restored = 0

    def declare(self, name: str, path: Path | str, kind: str = "auto", **more: Any) -> None:
        """Declare an artefact, or declare it anew."""
        self.artefacts[name] = ArtefactDeclaration(name=name, path=str(path), kind=kind, **more)

    def vault(self, store: ObjectStore | None = None) -> NetworkVault:
        """As a fresh process opens it."""
        return NetworkVault(store or self.store, KEYS, self.clock)

    def back_up(self, store: ObjectStore | None = None, **more: Any) -> BackupResult:
        """Everything that is declared, a minute later."""
        self.clock.advance(60)
        artefacts = list(self.artefacts.values())
        return back_up(
            self.vault(store), None, artefacts=artefacts, staging=self.staging, workers=1, **more
        )

    def restore(self, name: str, snapshot_id: str | None = None, **more: Any) -> Path:
        """An artefact into a path of its own."""
        self._restored += 1
        into = self.root / f"restored-{self._restored}"
        store = more.pop("store", None)
        restore_artefact(self.vault(store), name, into, snapshot_id=snapshot_id, **more)
        return into

    def restore_over(self, name: str, into: Path, store: ObjectStore | None = None) -> None:
        """The newest copy in the place of what is there."""
        restore_artefact(self.vault(store), name, into, overwrite=True)


def outcome(result: BackupResult, name: str) -> ArtefactOutcome:
    """What a backup did with an artefact."""
    (found,) = [one for one in result.artefacts if one.name == name]
    return found


def tree(path: Path) -> dict[str, tuple[Any, ...]]:
    """Everything about a file or folder that a restore promises, by relative path."""
    found = {".": _entry(path)}
    if path.is_dir() and not path.is_symlink():
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                one = Path(folder) / name
                found[str(one.relative_to(path))] = _entry(one)
    return found


def _entry(path: Path) -> tuple[Any, ...]:
    info = path.lstat()
    mode = stat.S_IMODE(info.st_mode)
    if stat.S_ISLNK(info.st_mode):
        return ("link", str(path.readlink()))
    if stat.S_ISDIR(info.st_mode):
        return ("folder", mode)
    return ("file", mode, info.st_mtime_ns, path.read_bytes())
