"""Many states into packs: worker threads hash, compress, check, seal and store.

Memory is bounded by the batches in flight, one open pack and those being stored, whatever the size
of the network. A pack is committed by its creation, and means nothing before a log record names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore, Lock
from types import TracebackType
from typing import Any, NamedTuple, Self

from fleet.agents import AgentState
from fleet.errors import StoreUnavailableError
from fleet.moments import microseconds
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import pack_key
from fleet.vault_pack import (
    PACK_MAX_BYTES,
    PACK_TARGET_BYTES,
    SALT_BYTES,
    FrameCompressor,
    PackBuilder,
    PackRow,
)
from resources.vault.packs.arrow_columns import empty, flags, same_text
from resources.vault.packs.blob_places import BlobPlaces, StoredBlob
from resources.vault.packs.item_columns import ItemColumns
from resources.vault.packs.manifest import STATE, PackInfo, arrow, manifest_schema
from resources.vault.packs.process_memory import map_large_buffers, release_unused

CHUNK_BYTES = 16 * 1024 * 1024
"""Longest piece of a state in one frame."""
_BATCHES_WAITING = 1


class _Item(NamedTuple):
    agent_id: str
    version: int
    chunk: int
    blob_id: bytes
    digest: bytes
    updated_us: int


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
        map_large_buffers()
        self._store = store
        self._keys = keys
        self._owner = owner
        self._known = known
        self._kind = kind
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="vault-pack")
        self._room = BoundedSemaphore(count + _BATCHES_WAITING)
        self._lock = Lock()
        self._futures: list[Future[Any]] = []
        self._open: PackBuilder | None = None
        """What all workers append to: compressing is the work, sealing takes microseconds."""
        self._items = ItemColumns()
        self._places = BlobPlaces()
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
        release_unused(self.bytes_logical)

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
        return self._places.find(blob_id)

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
        if self._open is not None:
            self._close(self._open)
        self._futures, self._open = [], None
        items, self._items = self._items, ItemColumns()
        return _rows(items, self._places)

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
        self._pack([(item.blob_id, plain, item.agent_id, item.version) for item, plain in pieces])
        with self._lock:
            for item, _ in pieces:
                number = self._places.number(item.blob_id)
                self._items.add(
                    item.agent_id, item.version, item.chunk, item.updated_us, item.digest, number
                )

    def _store_blobs(self, blobs: Sequence[tuple[str, bytes]]) -> list[bytes]:
        pieces = [(self._keys.blob_id(plain), plain, item_id, 0) for item_id, plain in blobs]
        self._pack(pieces)
        return [one[0] for one in pieces]

    def _pack(self, pieces: Sequence[tuple[bytes, bytes, str, int]]) -> None:
        """Store what is not known of blob id, bytes, item id and version."""
        known = self._known([one[0] for one in pieces])
        with self._lock:
            for blob_id, place in known.items():
                self._places.put(blob_id, place)
            self.bytes_logical += sum(len(one[1]) for one in pieces)
        frames = FrameCompressor()
        for blob_id, plain, item_id, version in pieces:
            with self._lock:
                if not self._places.claim(blob_id):
                    continue
            body = frames.body(plain, item_id)
            row = PackRow(blob_id, 0, 0, 0, len(plain), self._kind, item_id, version)
            with self._lock:
                full = self._append(row, body)
            for builder in full:
                self._close(builder)

    def _append(self, row: PackRow, body: bytes) -> list[PackBuilder]:
        """Seal a frame into the open pack; the packs that are full now, which nobody else has."""
        full = []
        if self._open and self._open.size_bytes + len(body) > PACK_MAX_BYTES - CHUNK_BYTES // 16:
            full.append(self._open)
            self._open = None
        if self._open is None:
            self._open = PackBuilder(self._keys, os.urandom(SALT_BYTES))
        self._open.adopt(row, body)
        if self._open.size_bytes >= PACK_TARGET_BYTES:
            full.append(self._open)
            self._open = None
        return full

    def _cut(self, state: AgentState) -> list[tuple[_Item, bytes]]:
        digest, updated_us = bytes.fromhex(state.digest), microseconds(state.updated_at)
        pieces = []
        for chunk, start in enumerate(range(0, max(1, len(state.body)), CHUNK_BYTES)):
            plain = state.body[start : start + CHUNK_BYTES]
            blob_id = self._keys.blob_id(plain)
            item = _Item(state.agent_id, state.version, chunk, blob_id, digest, updated_us)
            pieces.append((item, plain))
        return pieces

    def _close(self, builder: PackBuilder) -> None:
        pack = builder.finish()
        key = pack_key(self._keys.network_id, self._owner, pack.sha256)
        create_object(self._store, key, pack.data)
        with self._lock:
            self.packs[pack.sha256] = PackInfo(self._owner, pack.salt, len(pack.data), pack.dek_id)
            for row in pack.rows:
                place = (row.frame, row.offset, row.length, row.plain_length)
                self._places.put(row.blob_id, StoredBlob(pack.sha256, *place))


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


def _rows(items: ItemColumns, places: BlobPlaces) -> Any:
    pa = arrow()
    schema = manifest_schema()
    count = len(items)
    if not count:
        return empty(schema)
    known, blobs = items.columns()
    columns = {
        "kind": same_text(STATE, count),
        "removed": flags(False, count),
        "attributes": pa.nulls(count, pa.string()),
        **known,
        **places.columns(blobs),
    }
    del known
    return pa.table([columns.pop(one.name).cast(one.type) for one in schema], schema=schema)
