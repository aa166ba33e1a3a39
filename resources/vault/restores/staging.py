"""Between proving and switching: what was read from the vault, kept as sealed as it was there.

The first pass over a restore's rows reads every range from the vault, keeps its bytes here, and
opens and compares each state; the second pass reads the same ranges from here, opens them once
more, and hands the states to the target. Disks fail as well: there the frame's tag proves that it
is the very frame that was opened and compared with its digest before. So nothing reaches the
target before everything wanted has been proven, the vault is asked once, no state lies in the
clear in a temporary file, and the file is as small as the packs are: a third or a fourth of the
states. Opening twice costs less than writing the plain bytes and reading them again.

A target that counts for nothing before its own commit, as a new folder does, is its own staging:
one pass proves and writes, each thread what it has opened itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from types import TracebackType
from typing import NamedTuple, NoReturn, Protocol, Self, runtime_checkable

from fleet.errors import CorruptObjectError, StateroomError, StoreUnavailableError
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ReadableStore
from resources.vault.packs.manifest import Manifest
from resources.vault.packs.reading import Damaged, Proven, ReadItem, hand_items, read_items

_BATCH_BYTES = 8 * 1024 * 1024
_BATCH_AGENTS = 500
_IN_MEMORY_BYTES = 4 * 1024 * 1024
"""Restores of less make no file."""
_WRITERS_MAX = 4
"""Threads that write into one target: more would wait for each other at its folder."""


class LiveHead(NamedTuple):
    """What the target holds of an agent now."""

    version: int
    digest: str


class RestoreTarget(Protocol):
    """Where restored states go."""

    def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
        """The live versions of these agents; those without a state are left out."""
        ...

    def write(
        self, items: Sequence[tuple[ReadItem, int]], *, more: bool
    ) -> list[StateroomError | None]:
        """Write items, each only if the live version is still the given one.

        Durable when this returns, unless `more` follows: then with that.
        """
        ...


@runtime_checkable
class UncommittedTarget(Protocol):
    """A target of which nothing counts before its own commit: it needs no other staging."""

    def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
        """As `RestoreTarget.heads`."""
        ...

    def begin_anew(self) -> None:
        """Drop what was written so far."""
        ...

    def add_states(self, items: Sequence[ReadItem]) -> None:
        """Write items, those of several threads at once; they count with the commit.

        Raises:
            StateroomError: one of them was not taken; the target must not commit.
        """
        ...


class SealedStaging:
    """The ranges that a restore has read, in a file without a name; use as a context.

    It stands where the store stands: the first `get` of a range asks the vault and keeps the
    bytes, every later one is answered from the file. Any number of threads may call it.

    Args:
        store: the vault.
        folder: where the file lies; None for the system's. Killed at any moment, nothing is left.
    """

    def __init__(self, store: ReadableStore, folder: str | None) -> None:
        """The file is made when there is more than memory should hold."""
        self._store = store
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - `__exit__` closes it
            _IN_MEMORY_BYTES, dir=folder
        )
        self._ranges: dict[tuple[str, int, int | None], tuple[int, int]] = {}
        """Place in the file and length, by key, offset and length asked for."""
        self._end = 0
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """A range, as `ReadableStore.get`.

        Raises:
            NotFoundError: the vault has no such object.
            StoreUnavailableError: the vault, or the disk of the staging folder.
        """
        wanted = (key, offset, length)
        with self._lock:
            place = self._ranges.get(wanted)
            if place is not None:
                return self._read(*place)
        data = self._store.get(key, offset, length)
        with self._lock:
            self._ranges[wanted] = (self._end, len(data))
            self._append(data)
        return data

    def forget(self) -> None:
        """Begin anew: the vault may have been healed since."""
        with self._lock:
            self._ranges.clear()
            self._end = 0
            self._file.seek(0)
            self._file.truncate()

    def _append(self, data: bytes) -> None:
        try:
            self._file.seek(self._end)
            self._file.write(data)
        except OSError as error:
            raise StoreUnavailableError(
                f"staging of a restore: {error.strerror or error}",
                hint="Free space where temporary files go (TMPDIR); nothing was written.",
            ) from error
        self._end += len(data)

    def _read(self, start: int, length: int) -> bytes:
        try:
            self._file.seek(start)
            return self._file.read(length)
        except OSError as error:
            raise CorruptObjectError(
                f"the staged copy cannot be read: {error.strerror or error}",
                hint="Check the disk where temporary files go, and restore again.",
            ) from error


def switch_items(
    target: RestoreTarget,
    staging: SealedStaging,
    keys: PackKeys,
    manifest: Manifest,
    versions: Mapping[str, int],
) -> list[tuple[str, str]]:
    """Second pass: hand the proven states to the target, while threads open the next ones.

    Committed batch by batch by the target, durable with the last one; what a killed switch has
    written already is found to be unchanged by the next restore.

    Args:
        target: where they go.
        staging: holds every range of these rows, proven by `prove_items`.
        keys: of the network.
        manifest: the same rows.
        versions: live versions that were seen, by agent; none for those without a state.

    Returns:
        Agents that the target refused, with the reason.

    Raises:
        CorruptObjectError: a staged state was damaged since; the batches before it are written.
    """
    refused: list[tuple[str, str]] = []
    items = read_items(
        staging,
        keys,
        manifest,
        workers=_opening_threads(),
        on_damage=_damaged_on_disk,
        compare_digests=False,
    )
    for batch, more in _batches(items):
        wanted = [(one, versions.get(one.agent_id, 0)) for one in batch]
        for item, error in zip(batch, target.write(wanted, more=more), strict=True):
            if error is not None:
                refused.append((item.agent_id, str(error)))
        del batch, wanted  # else they are held while the next ones fill
    return refused


def write_proven(
    target: UncommittedTarget,
    store: ReadableStore,
    keys: PackKeys,
    manifest: Manifest,
    on_damage: Damaged,
) -> Proven:
    """Only pass over the rows of an uncommitted target: each state is proven, then written.

    The caller lets the target commit only if nothing was damaged.

    Args:
        target: where they go; what it held is dropped.
        store: the vault.
        keys: of the network.
        manifest: the rows wanted.
        on_damage: told of what cannot be read.

    Raises:
        StateroomError: the target's own, for the first states that it did not take.
    """
    target.begin_anew()
    workers = min(_WRITERS_MAX, os.cpu_count() or 1)
    return hand_items(
        store, keys, manifest, target.add_states, workers=workers, on_damage=on_damage
    )


def _opening_threads() -> int:
    """One core is the target's; more threads than are needed only hold more opened states."""
    return max(1, min(4, (os.cpu_count() or 1) - 1))


def _damaged_on_disk(_: str, agent_ids: Sequence[str], error: CorruptObjectError) -> NoReturn:
    raise CorruptObjectError(
        f"{agent_ids[0]}: the staged copy was damaged on disk",
        hint="Check the disk where temporary files go, and restore again: what is there is kept.",
    ) from error


def _batches(items: Iterable[ReadItem]) -> Iterator[tuple[list[ReadItem], bool]]:
    """Bounded in bytes, and in agents: each is one transaction of the target; if more follow."""
    batch: list[ReadItem] = []
    size_bytes = 0
    for item in items:
        if batch and (size_bytes + len(item.body) > _BATCH_BYTES or len(batch) == _BATCH_AGENTS):
            yield batch, True
            batch, size_bytes = [], 0
        batch.append(item)
        size_bytes += len(item.body)
    if batch:
        yield batch, False
