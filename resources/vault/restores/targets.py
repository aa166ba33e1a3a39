"""Where a restore goes besides the live control store: a folder to look into, or another network.

Agent ids are unique in the whole control store, so agents of one network can come back in another
one only under other ids. Those must be declared and placed there before: a restore never creates
an agent.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Protocol

from fleet.agents import Placement, StateRestore
from fleet.errors import InvalidInputError, NotFoundError, PermanentError, StateroomError
from fleet.moments import moment_of
from fleet.names import validate_name
from fleet.ports.control_store import AgentStateStore
from resources.synced_files import FileSystemFlush, sync_file, sync_folder, write_new
from resources.vault.journal.found_moment import listed_names
from resources.vault.network import NetworkVault
from resources.vault.packs.reading import ReadItem
from resources.vault.restores.restore import ControlStoreTarget, LiveHead, RestoreResult, restore

_SYNCED_EACH_MAX = 100
"""So many files are synced one by one; more by one flush of the file system."""
_SUFFIX = ".state"
"""Of a state's file, behind the agent's id."""
_EARLY_FLUSH_BYTES = 256 * 1024 * 1024
"""After so many more bytes the disk begins to write, beside the reading that goes on."""
Rename = Callable[[str], str]
"""Gives an agent its id in the other network."""


class PlacedStates(AgentStateStore, Protocol):
    """What a restore under other ids needs of the control store."""

    def placements(self, node_id: str | None = None, region: str | None = None) -> list[Placement]:
        """Placements, ordered by agent_id."""
        ...


def prefixed(prefix: str) -> Rename:
    """A rename that puts a prefix before each id: `staging-` makes `staging-agent-1`."""
    return lambda agent_id: f"{prefix}{agent_id}"


class RenamedTarget:
    """Restores agents under other ids into another network of the control store.

    Args:
        store: the control store.
        network_id: network that the new ids must be placed in.
        rename: the id of each agent there; two agents must not meet in one.
    """

    def __init__(self, store: PlacedStates, network_id: str, rename: Rename) -> None:
        """Nothing is read before the restore."""
        self._store = store
        self._live = ControlStoreTarget(store)
        self._network_id = validate_name("network_id", network_id)
        self._rename = rename

    def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
        """The live versions under the new ids; called before anything is written.

        Raises:
            InvalidInputError: a new id is no name, or two agents would get the same.
            NotFoundError: a new id is not placed in the network.
        """
        old: dict[str, str] = {}
        for agent_id in agent_ids:
            renamed = validate_name("renamed agent_id", self._rename(agent_id))
            if renamed in old:
                both = f"{old[renamed]}, {agent_id} -> {renamed}"
                raise InvalidInputError("rename", both, "a new id of its own for each agent")
            old[renamed] = agent_id
        placed = {
            one.agent_id for one in self._store.placements() if one.network_id == self._network_id
        }
        absent = sorted(old.keys() - placed)
        if absent:
            raise NotFoundError(
                f"network {self._network_id} has no placed agent {listed_names(absent)}",
                hint="Declare these agents in that network first; nothing was written.",
            )
        return {old[one]: head for one, head in self._live.heads(list(old)).items()}

    def write(
        self, items: Sequence[tuple[ReadItem, int]], *, more: bool
    ) -> list[StateroomError | None]:
        """One transaction a batch, under the new ids."""
        restores = [
            StateRestore(
                self._rename(item.agent_id), expected, item.version, item.body, item.digest
            )
            for item, expected in items
        ]
        return [one.error for one in self._store.restore_states(restores, more=more)]


class _WrittenStates:
    """What a folder's manifest says of the states in it, in few bytes each; for one thread."""

    def __init__(self) -> None:
        self.agent_ids: list[str] = []
        self._numbers = array("q")
        """For each state version, moment in microseconds since 1970, and size."""
        self._digests = bytearray()

    def add(self, item: ReadItem) -> None:
        self.agent_ids.append(item.agent_id)
        self._numbers.extend((item.version, item.updated_us, len(item.body)))
        self._digests += bytes.fromhex(item.digest)

    def lines(self) -> Iterator[str]:
        """Each as JSON, ordered by agent; agent ids are names and need no quoting."""
        for at in sorted(range(len(self.agent_ids)), key=self.agent_ids.__getitem__):
            agent_id = self.agent_ids[at]
            version, updated_us, size_bytes = self._numbers[3 * at : 3 * at + 3]
            yield (
                f'{{"agent_id": "{agent_id}", "version": {version}, '
                f'"updated_at": "{moment_of(updated_us).isoformat()}", '
                f'"sha256": "{self._digests[32 * at : 32 * at + 32].hex()}", '
                f'"size_bytes": {size_bytes}, "file": "{agent_id}{_SUFFIX}"}}'
            )


class DirectoryTarget:
    """States as files in a folder that does not exist yet: `{agent_id}.state`, `manifest.json`.

    Everything is written beside the folder; `commit` makes it durable, all at once, and then gives
    it its name. Killed before that, only a folder `.{name}.partial-*` is left; it may be deleted.

    Args:
        folder: where the states shall be.

    Raises:
        InvalidInputError: there is something already.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder beside it."""
        if folder.exists():
            raise InvalidInputError("folder", str(folder), "one that does not exist yet")
        self._folder = folder
        self._partial = folder.parent / f".{folder.name}.partial-{uuid.uuid4().hex}"
        self._states = _WrittenStates()
        self._lock = Lock()
        """Of what is known of the states; the files themselves need none."""
        self._waiting_bytes = 0
        self._handle = -1
        """Of the folder beside it: files are created relative to it."""
        with _written(folder):
            self._partial.mkdir(parents=True)
            self._flush = FileSystemFlush(self._partial)
            self._open()

    def _open(self) -> None:
        self._handle = os.open(self._partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
        """Nothing is there yet."""
        del agent_ids
        return {}

    def add_states(self, items: Sequence[ReadItem]) -> None:
        """One file for each agent; durable with the others, by `commit`. Any thread may call it."""
        with _written(self._folder):
            for item in items:
                write_new(_file_name(item.agent_id), item.body, folder=self._handle)
        with self._lock:
            for item in items:
                self._states.add(item)
                self._waiting_bytes += len(item.body)
            if self._waiting_bytes > _EARLY_FLUSH_BYTES:
                self._flush.start()
                self._waiting_bytes = 0

    def begin_anew(self) -> None:
        """Remove the files written so far; nobody has seen them."""
        if self._states.agent_ids:
            self._close()
            with _written(self._folder):
                shutil.rmtree(self._partial)
                self._partial.mkdir()
                self._open()
            self._states = _WrittenStates()

    def commit(self, network_id: str, result: RestoreResult) -> None:
        """Write the manifest, and give the folder its name: from here on it is there, whole."""
        fields = {
            "network_id": network_id,
            "snapshot_id": result.snapshot_id,
            "moment": _text(result.achieved),
            "substitutions": [
                one._asdict() | {"updated_at": _text(one.updated_at)}
                for one in result.substitutions
            ],
            "missing": dict(result.missing),
            "notes": list(result.notes),
        }
        with _written(self._folder):
            if self._is_large():
                self._flush.start()  # the disk writes the states while the list of them is made
            with (self._partial / "manifest.json").open("x", encoding="utf-8") as file:
                file.write(json.dumps(fields, indent=1).removesuffix("\n}"))
                file.write(',\n "agents": [')
                for number, line in enumerate(self._states.lines()):
                    file.write(f"{',' if number else ''}\n  {line}")
                file.write("\n ]\n}\n")
            self._make_durable()
            sync_folder(self._partial)
            self._partial.rename(self._folder)
            sync_folder(self._folder.parent)
        self._flush.close()
        self._close()

    def _make_durable(self) -> None:
        """By one flush of the file system where that pays: it waits for what others write, too."""
        if self._is_large() and self._flush.flush():
            return
        for name in (*map(_file_name, self._states.agent_ids), "manifest.json"):
            sync_file(self._partial / name)

    def _is_large(self) -> bool:
        return len(self._states.agent_ids) >= _SYNCED_EACH_MAX

    def discard(self) -> None:
        """Remove what was not committed."""
        self._flush.close()
        self._close()
        shutil.rmtree(self._partial, ignore_errors=True)


def _file_name(agent_id: str) -> str:
    return f"{validate_name('agent_id', agent_id)}{_SUFFIX}"


def restore_into_directory(
    vault: NetworkVault,
    folder: Path,
    *,
    at: datetime | None = None,
    snapshot_id: str | None = None,
    agent_ids: Sequence[str] | None = None,
    best_effort: bool = False,
) -> RestoreResult:
    """Restore into a new folder, to look at old states without touching live ones.

    Committed by one rename; on any error nothing is left.

    Raises:
        InvalidInputError: the folder exists.
        NotFoundError: as `restore`.
        CorruptObjectError: as `restore`.
    """
    target = DirectoryTarget(folder)
    try:
        result = restore(
            vault,
            target,
            at=at,
            snapshot_id=snapshot_id,
            agent_ids=agent_ids,
            best_effort=best_effort,
        )
        target.commit(vault.network_id, result)
    except BaseException:
        target.discard()
        raise
    return result


class _written:  # noqa: N801 - reads as a word in `with`
    """Translates what the file system says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise PermanentError(
                f"folder {self._folder}: {error.strerror or error}",
                hint="Check free space and the owner of the folder; nothing was left behind.",
            ) from error


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
