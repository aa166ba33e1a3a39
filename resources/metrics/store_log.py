"""The log of a metric store on an object store: read as far as it goes, added to by one entry.

Commit point: the create-only write of `log/.../n`. Who creates entry n has applied entries 1 to n-1
and built the entry from that state; when somebody else was first, theirs is applied and the entry
is built anew. So every entry is valid where it stands.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    LakeUnavailableError,
    NotFoundError,
    StoreUnavailableError,
)
from fleet.metrics.store_log import FORMAT, Entry, SamplesEntry, decode_entry, encode_entry
from fleet.metrics.store_state import StoreState
from fleet.ports.object_store import ObjectStore

STORE_KEY = "store.json"
SHARDS_SETTING = "metrics.shards"
"""Field of the error about a store that is divided otherwise."""
SNAPSHOT_EVERY = 500
SNAPSHOTS_KEPT = 2
_READERS = 16
_PAUSE_MAX_S = 0.05
_TRIES_MAX = 1000

Build = Callable[[StoreState], Entry | None]


class Committed(NamedTuple):
    """An entry of the log and its number."""

    entry_number: int
    entry: Entry


class StoreLog:
    """One process' view of the log; safe to use from several threads.

    Args:
        store: where everything lies.
        shards: how a new store is divided; of an existing one it must be the same.
    """

    def __init__(self, store: ObjectStore, shards: int) -> None:
        """Nothing is read yet."""
        if not 1 <= shards <= 9999:
            raise InvalidInputError("shards", shards, "1 to 9999")
        self._store = store
        self._shards = shards
        self._state: StoreState | None = None
        self._lock = threading.RLock()

    @contextmanager
    def reading(self) -> Iterator[StoreState]:
        """The state of all entries there are; nobody applies further ones meanwhile.

        Raises:
            LakeUnavailableError: the store cannot be read now.
            InvalidInputError: the store is divided otherwise.
        """
        with self._lock:
            yield self._refreshed()

    def commit(self, build: Build) -> Committed | None:
        """Add an entry.

        Args:
            build: makes the entry from the state before it, or None when there is nothing to add
                any more; called again for each entry that somebody else added first.

        Returns:
            The entry, or None when `build` had none.

        Raises:
            LakeUnavailableError: it is unknown whether the entry was added: build it again from
                the state and see.
        """
        with self._lock:
            for attempt in range(_TRIES_MAX):
                state = self._refreshed()
                entry = build(state)
                if entry is None:
                    return None
                number = state.entry + 1
                with translated():
                    is_mine = self._store.create(entry_key(number), encode_entry(entry))
                if is_mine:
                    state.apply(entry)
                    if number % SNAPSHOT_EVERY == 0:
                        self.write_snapshot()
                    return Committed(number, entry)
                time.sleep(random.uniform(0, _PAUSE_MAX_S) * min(attempt + 1, 10))
            raise LakeUnavailableError(
                f"metric log: {_TRIES_MAX} others were first",
                hint="Let fewer writers commit, and each less often.",
            )

    def entries(self, after: int, upto: int | None = None) -> Iterator[Committed]:
        """Entries with a greater number, as far as they are kept, in order.

        Args:
            after: number of the entry before the first.
            upto: number of the last, where it is known; else the log is listed.
        """
        numbers = self._listed(after) if upto is None else list(range(after + 1, upto + 1))
        with translated(), ThreadPoolExecutor(_READERS, thread_name_prefix="metric-log") as pool:
            for number, data in zip(numbers, pool.map(self._get, numbers), strict=True):
                if data is not None:
                    yield Committed(number, decode_entry(entry_key(number), data))

    def samples_entry(self, number: int) -> SamplesEntry:
        """The samples that an entry committed.

        Raises:
            NotFoundError: the entry is no longer kept, or is another kind.
        """
        with translated():
            entry = decode_entry(entry_key(number), self._store.get(entry_key(number)))
        if not isinstance(entry, SamplesEntry):
            raise NotFoundError(f"entry {number} of the metric log holds no samples")
        return entry

    def write_snapshot(self) -> str:
        """Store what all entries so far mean; returns its key. Derived: losing it costs time."""
        with self._lock:
            state = self._refreshed()
            data = zlib.compress(json.dumps(state.to_json(), separators=(",", ":")).encode(), 6)
        key = f"snapshots/{state.entry:012d}-{hashlib.sha256(data).hexdigest()}.json.z"
        with translated():
            self._store.create(key, data)
        return key

    def snapshots(self) -> list[str]:
        """Keys of snapshots, oldest first."""
        with translated():
            return [one.key for one in self._store.list_objects("snapshots/")]

    def trim(self, keep_from: int) -> int:
        """Delete old snapshots, and entries below a number that the second newest one covers.

        Args:
            keep_from: number of the first entry that is still wanted.

        Returns:
            How many objects were deleted.
        """
        snapshots = self.snapshots()
        doomed = snapshots[:-SNAPSHOTS_KEPT]
        if len(snapshots) >= SNAPSHOTS_KEPT:
            covered = _snapshot_number(snapshots[-SNAPSHOTS_KEPT])
            below = min(keep_from, covered + 1)
            with translated():
                listed = self._store.list_objects("log/")
            doomed += [one.key for one in listed if _entry_number(one.key) < below]
        with translated():
            self._store.delete(doomed)
        return len(doomed)

    def _refreshed(self) -> StoreState:
        if self._state is None:
            self._demand_shards()
            self._state = self._loaded()
        state = self._state
        while True:
            key = entry_key(state.entry + 1)
            with translated():
                try:
                    data = self._store.get(key)
                except NotFoundError:
                    return state
            state.apply(decode_entry(key, data))

    def _loaded(self) -> StoreState:
        state = StoreState()
        for key in reversed(self.snapshots()):
            found = self._read_snapshot(key)
            if found is not None:
                state = found
                break
        for number, entry in self.entries(state.entry):
            if number != state.entry + 1:
                raise CorruptObjectError(
                    f"metric log: entry {state.entry + 1} is missing, {number} is there",
                    hint="Restore the log from a backup.",
                )
            state.apply(entry)
        return state

    def _read_snapshot(self, key: str) -> StoreState | None:
        """The state of a snapshot; None when it vanished or is damaged: an older one will do."""
        with translated():
            try:
                data = self._store.get(key)
            except NotFoundError:
                return None
        if hashlib.sha256(data).hexdigest() not in key:
            return None
        return StoreState.from_json(json.loads(zlib.decompress(data)))

    def _listed(self, after: int) -> list[int]:
        with translated():
            listed = self._store.list_objects("log/", entry_key(after) if after else "")
        return [_entry_number(one.key) for one in listed]

    def _get(self, number: int) -> bytes | None:
        try:
            return self._store.get(entry_key(number))
        except NotFoundError:
            return None

    def _demand_shards(self) -> None:
        wanted = json.dumps({"format": FORMAT, "shards": self._shards}).encode()
        with translated():
            self._store.create(STORE_KEY, wanted)
            found = json.loads(self._store.get(STORE_KEY))
        if found.get("format") != FORMAT or found.get("shards") != self._shards:
            raise InvalidInputError(
                SHARDS_SETTING,
                self._shards,
                f"{found.get('shards')}, as this store was made (format {found.get('format')})",
                hint="The number of shards is fixed when a store is made; set it back.",
            )


def entry_key(number: int) -> str:
    """Key of an entry of the log."""
    return f"log/{number // 1000:09d}/{number % 1000:03d}.json"


@contextmanager
def translated() -> Iterator[None]:
    """Say in the lake's words that the object store does not answer."""
    try:
        yield
    except StoreUnavailableError as error:
        raise LakeUnavailableError(f"metric store: {error}", hint=error.hint) from error


def _entry_number(key: str) -> int:
    _, thousands, rest = key.split("/")
    return int(thousands) * 1000 + int(rest.removesuffix(".json"))


def _snapshot_number(key: str) -> int:
    return int(key.removeprefix("snapshots/").partition("-")[0])
