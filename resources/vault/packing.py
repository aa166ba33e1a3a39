"""Many states into packs: worker threads hash, compress, check, seal and store.

Memory is bounded by the batches in flight and one open pack per worker, whatever the size of the
network. A pack is committed by its creation, and means nothing before a log record names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from threading import BoundedSemaphore, Lock
from types import TracebackType
from typing import Any, NamedTuple, Self

from fleet.agents import AgentState
from fleet.errors import StoreUnavailableError
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import pack_key
from fleet.vault_pack import (
    PACK_MAX_BYTES,
    PACK_TARGET_BYTES,
    SALT_BYTES,
    PackBuilder,
    PackKeys,
)
from resources.vault.manifest import STATE, PackInfo, arrow, manifest_schema

CHUNK_BYTES = 16 * 1024 * 1024
"""Longest piece of a state in one frame."""
_BATCHES_WAITING = 2


class StoredBlob(NamedTuple):
    """Where a blob lies."""

    pack: str
    frame: int
    offset: int
    length: int
    plain_length: int


class _Item(NamedTuple):
    agent_id: str
    version: int
    chunk: int
    blob_id: bytes
    digest: bytes
    updated_at: datetime


KnownBlobs = Callable[[Sequence[bytes]], dict[bytes, StoredBlob]]
"""Which of these blobs the base holds, and where."""


class PackWriter:
    """Stores states under one snapshot id; use as a context, so that its threads end.

    Args:
        store: where packs go.
        keys: of the network.
        owner: snapshot id that owns the packs.
        known: finds blobs that need not be stored again.
        workers: threads; None for one per core, at most 8.
        kind: of the rows; a frame is bound to it, so blobs are shared within a kind only.
    """

    def __init__(
        self,
        store: ObjectStore,
        keys: PackKeys,
        owner: str,
        known: KnownBlobs,
        workers: int | None = None,
        kind: str = STATE,
    ) -> None:
        """Start no thread before the first batch."""
        count = workers or min(8, os.cpu_count() or 1)
        self._store = store
        self._keys = keys
        self._owner = owner
        self._known = known
        self._kind = kind
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="vault-pack")
        self._room = BoundedSemaphore(count + _BATCHES_WAITING)
        self._lock = Lock()
        self._futures: list[Future[Any]] = []
        self._builders: list[PackBuilder] = []
        self._items: list[_Item] = []
        self._blobs: dict[bytes, StoredBlob] = {}
        self._claimed: set[bytes] = set()
        self.packs: dict[str, PackInfo] = {}
        """Packs stored so far."""
        self.bytes_logical = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def bytes_stored(self) -> int:
        """Size of all packs stored so far."""
        return sum(one.size_bytes for one in self.packs.values())

    def add(self, states: Sequence[AgentState]) -> None:
        """Hand a batch to a worker; waits while too many are in flight.

        Raises:
            StoreUnavailableError: an earlier batch could not be stored.
        """
        self._submit(self._store_batch, states)

    def add_blobs(self, blobs: Sequence[tuple[str, bytes]]) -> Future[list[bytes]]:
        """Hand blobs with the ids of their items to a worker; their blob ids, in order.

        Their rows are the caller's: `place` says after `finish` where each blob lies.

        Raises:
            StoreUnavailableError: an earlier batch could not be stored.
        """
        return self._submit(self._store_blobs, blobs)

    def place(self, blob_id: bytes) -> StoredBlob:
        """Where a blob lies that was added before `finish`."""
        return self._blobs[blob_id]

    def _submit(self, work: Callable[[Any], Any], batch: Sequence[Any]) -> Future[Any]:
        self._raise_failures()
        self._room.acquire()
        future = self._pool.submit(work, batch)
        future.add_done_callback(lambda _: self._room.release())
        self._futures.append(future)
        return future

    def finish(self) -> Any:
        """Store what is still open; the rows of everything added, as an Arrow table."""
        for future in self._futures:
            future.result()
        open_builders = [one for one in self._builders if not one.is_empty]
        for closing in [self._pool.submit(self._close, one) for one in open_builders]:
            closing.result()
        self._futures, self._builders = [], []
        items, self._items = self._items, []
        return _rows(items, self._blobs)

    def _raise_failures(self) -> None:
        waiting = []
        for future in self._futures:
            if future.done():
                future.result()
            else:
                waiting.append(future)
        self._futures = waiting

    def _store_batch(self, states: Sequence[AgentState]) -> None:
        pieces = [piece for state in states for piece in self._cut(state)]
        with self._lock:
            self._items += [item for item, _ in pieces]
        self._pack([(item.blob_id, plain, item.agent_id, item.version) for item, plain in pieces])

    def _store_blobs(self, blobs: Sequence[tuple[str, bytes]]) -> list[bytes]:
        pieces = [(self._keys.blob_id(plain), plain, item_id, 0) for item_id, plain in blobs]
        self._pack(pieces)
        return [one[0] for one in pieces]

    def _pack(self, pieces: Sequence[tuple[bytes, bytes, str, int]]) -> None:
        """Store what is not known of blob id, bytes, item id and version."""
        known = self._known([one[0] for one in pieces])
        with self._lock:
            builder = self._builders.pop() if self._builders else self._new_builder()
            self._blobs.update(known)
            self.bytes_logical += sum(len(one[1]) for one in pieces)
        for blob_id, plain, item_id, version in pieces:
            with self._lock:
                if blob_id in self._blobs or blob_id in self._claimed:
                    continue
                self._claimed.add(blob_id)
            if builder.size_bytes + len(plain) > PACK_MAX_BYTES - CHUNK_BYTES // 16:
                self._close(builder)
                builder = self._new_builder()
            builder.add(blob_id, plain, self._kind, item_id, version)
            if builder.size_bytes >= PACK_TARGET_BYTES:
                self._close(builder)
                builder = self._new_builder()
        with self._lock:
            self._builders.append(builder)

    def _cut(self, state: AgentState) -> list[tuple[_Item, bytes]]:
        digest = bytes.fromhex(state.digest)
        pieces = []
        for chunk, start in enumerate(range(0, max(1, len(state.body)), CHUNK_BYTES)):
            plain = state.body[start : start + CHUNK_BYTES]
            blob_id = self._keys.blob_id(plain)
            item = _Item(state.agent_id, state.version, chunk, blob_id, digest, state.updated_at)
            pieces.append((item, plain))
        return pieces

    def _new_builder(self) -> PackBuilder:
        return PackBuilder(self._keys, os.urandom(SALT_BYTES))

    def _close(self, builder: PackBuilder) -> None:
        pack = builder.finish()
        key = pack_key(self._keys.network_id, self._owner, pack.sha256)
        create_object(self._store, key, pack.data)
        placed = {
            row.blob_id: StoredBlob(
                pack.sha256, row.frame, row.offset, row.length, row.plain_length
            )
            for row in pack.rows
        }
        with self._lock:
            self.packs[pack.sha256] = PackInfo(self._owner, pack.salt, len(pack.data), pack.dek_id)
            self._blobs.update(placed)


def create_object(store: ObjectStore, key: str, data: bytes, tries: int = 4) -> None:
    """Create an object whose name is its hash; when the answer is lost, ask again.

    An object of that key can only be the same one, so "exists already" is success; V0 and V2 look
    at its size and bytes.
    """
    for remaining in reversed(range(tries)):
        try:
            store.create(key, data)
        except StoreUnavailableError:
            if not remaining:
                raise
        else:
            return


def _rows(items: Sequence[_Item], blobs: dict[bytes, StoredBlob]) -> Any:
    pa = arrow()
    places = [blobs[item.blob_id] for item in items]
    values = {
        "kind": [STATE] * len(items),
        "removed": [False] * len(items),
        "attributes": [None] * len(items),
        **{
            name: [getattr(item, name) for item in items]
            for name in _Item._fields
            if name != "agent_id"
        },
        "item_id": [item.agent_id for item in items],
        **{name: [getattr(place, name) for place in places] for name in StoredBlob._fields},
    }
    schema = manifest_schema()
    return pa.table([pa.array(values[one.name], one.type) for one in schema], schema=schema)
