"""Reading items back: few ranged requests, each frame opened and compared before it is handed on.

Frames that lie near each other are fetched by one request. Nothing leaves this module that does not
match its blob id and, as a whole, the digest in the manifest.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import pack_key
from fleet.vault_pack import HEADER_MAX_BYTES, PackKeys, PackRow, open_frame, read_salt
from resources.vault.packs.manifest import STATE, Manifest, PackInfo, arrow, kernels, of_kinds
from resources.vault.packs.pack_maps import resolve_moves
from resources.vault.packs.process_memory import map_large_buffers, release_unused

_GAP_BYTES = 256 * 1024
"""Frames closer than this are fetched by one request."""
_RANGE_BYTES = 2 * 1024 * 1024
"""Longest range, so that memory stays bounded."""
_PLAIN_BYTES = 16 * 1024 * 1024
"""Most plain bytes of a range: blobs may compress a thousandfold."""


class ReadItem(NamedTuple):
    """A state as it was backed up, proven by its digest."""

    agent_id: str
    version: int
    digest: str
    updated_at: datetime
    body: bytes


class StoredRow(NamedTuple):
    """A row of a manifest, as far as reading its blob needs it."""

    kind: str
    item_id: str
    version: int
    chunk: int
    blob_id: bytes
    pack: str
    frame: int
    offset: int
    length: int
    plain_length: int
    digest: bytes
    updated_at: datetime


Damaged = Callable[[str, Sequence[str], CorruptObjectError], None]
"""Called with pack, agent ids and error in place of raising."""


def read_items(
    store: ObjectStore,
    keys: PackKeys,
    manifest: Manifest,
    *,
    workers: int | None = None,
    on_damage: Damaged | None = None,
) -> Iterator[ReadItem]:
    """Read every agent state of a manifest, in the order of the packs.

    Args:
        store: where the vault lies.
        keys: of the network.
        manifest: the rows wanted, and their packs.
        workers: threads; None for one per core, at most 8.
        on_damage: told of what cannot be read; None raises instead.

    Raises:
        CorruptObjectError: a pack is damaged or missing, or an item differs from its digest.
    """
    manifest = where_to_read(store, keys, of_kinds(manifest, states=True), on_damage)
    partial: dict[str, dict[int, bytes]] = {}
    chunks = _chunks_expected(manifest.table)
    ranges = _plan_ranges(manifest.table, ("pack", "offset"))
    for results in _fetch_ranges(store, keys, manifest, ranges, workers):
        yield from _whole(results, partial, chunks, on_damage)


def read_in_order(
    store: ObjectStore, keys: PackKeys, manifest: Manifest, *, workers: int | None = None
) -> Iterator[tuple[StoredRow, bytes | CorruptObjectError]]:
    """Read the blobs of all rows, item by item and each from its first blob to its last.

    Memory is a few ranges of 2 MiB, whatever the size of an item. What cannot be read is yielded
    as the error; whole items are compared with their digest by the caller, who sees all of them.
    """
    manifest = resolve_moves(store, keys, manifest)
    ranges = _plan_ranges(manifest.table, ("kind", "item_id", "chunk"))
    for results in _fetch_ranges(store, keys, manifest, ranges, workers):
        yield from results


Fetched = list[tuple[StoredRow, bytes | CorruptObjectError]]


def _fetch_ranges(
    store: ObjectStore,
    keys: PackKeys,
    manifest: Manifest,
    ranges: Iterator[list[StoredRow]],
    workers: int | None,
) -> Iterator[Fetched]:
    """Ranges read by threads, handed on in their order."""
    count = workers or min(8, os.cpu_count() or 1)

    def fetch(rows: Sequence[StoredRow]) -> Fetched:
        return _fetch_range(store, keys, manifest, rows)

    map_large_buffers()
    handled_bytes = 0
    pool = ThreadPoolExecutor(count, thread_name_prefix="vault-read")
    try:
        waiting: deque[Future[Fetched]] = deque()
        for rows in ranges:
            handled_bytes += sum(row.plain_length for row in rows)
            waiting.append(pool.submit(fetch, rows))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        release_unused(handled_bytes)


def where_to_read(
    store: ObjectStore, keys: PackKeys, manifest: Manifest, on_damage: Damaged | None
) -> Manifest:
    """Rows translated through repacks; what cannot be translated is told and left out."""
    if on_damage is None:
        return resolve_moves(store, keys, manifest)
    pc = kernels()
    targets = sorted({info.moved.sha256 for info in manifest.packs.values() if info.moved})
    for target in targets:
        olds = [
            sha256
            for sha256, info in manifest.packs.items()
            if info.moved and info.moved.sha256 == target
        ]
        column = manifest.table["pack"]
        chosen = pc.is_in(column, value_set=arrow().array(olds, arrow().string()))
        part = manifest.table.filter(chosen)
        rest = manifest.table.filter(pc.invert(chosen))
        packs = {one: info for one, info in manifest.packs.items() if one not in olds}
        try:
            moved = resolve_moves(
                store, keys, Manifest(part, {one: manifest.packs[one] for one in olds})
            )
        except CorruptObjectError as error:
            on_damage(target, part["item_id"].unique().to_pylist(), error)
            manifest = Manifest(rest, packs)
        else:
            table = arrow().concat_tables([rest, moved.table]).combine_chunks()
            manifest = Manifest(table, {**packs, **moved.packs})
    return manifest


def _plan_ranges(table: Any, order: Sequence[str]) -> Iterator[list[StoredRow]]:
    """Rows in an order, grouped into ranges of one pack each, small gaps included."""
    ordered = table.sort_by([(name, "ascending") for name in order])
    ordered = ordered.select(list(StoredRow._fields))
    group: list[StoredRow] = []
    plain_bytes = 0
    for batch in ordered.to_batches(max_chunksize=10_000):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            row = StoredRow(*values)
            plain_bytes += row.plain_length
            if group and (plain_bytes > _PLAIN_BYTES or not _joins(group, row)):
                yield group
                group, plain_bytes = [], row.plain_length
            group.append(row)
    if group:
        yield group


def _joins(group: Sequence[StoredRow], row: StoredRow) -> bool:
    first, last = group[0], group[-1]
    return (
        row.pack == first.pack
        and row.offset >= last.offset
        and row.offset - (last.offset + last.length) <= _GAP_BYTES
        and row.offset + row.length - first.offset <= _RANGE_BYTES
    )


def _fetch_range(
    store: ObjectStore, keys: PackKeys, manifest: Manifest, rows: Sequence[StoredRow]
) -> Fetched:
    first, last = rows[0], rows[-1]
    info = manifest.packs[first.pack]
    key = info.key or pack_key(keys.network_id, info.owner, first.pack)
    try:
        data = store.get(key, first.offset, last.offset + last.length - first.offset)
    except NotFoundError as error:
        missing = CorruptObjectError(
            f"pack {first.pack} is missing",
            hint="Copy it back from another region, or choose another snapshot.",
        )
        missing.__cause__ = error
        return [(row, missing) for row in rows]
    results = _open_rows(keys, info, rows, data)
    silent = not info.dek_id and keys.later
    if silent and any(isinstance(plain, CorruptObjectError) for _, plain in results):
        # The manifest does not name the data key: perhaps the pack's header names a later one.
        dek_id, salt = read_salt(store.get(key, 0, HEADER_MAX_BYTES), first.pack)
        if salt == info.salt and dek_id in {one.dek_id for one in keys.later}:
            return _open_rows(keys, info._replace(dek_id=dek_id), rows, data)
    return results


def _open_rows(keys: PackKeys, info: PackInfo, rows: Sequence[StoredRow], data: bytes) -> Fetched:
    first = rows[0]
    results: Fetched = []
    for row in rows:
        if row.kind != STATE and results and results[-1][0].blob_id == row.blob_id:
            results.append((row, results[-1][1]))  # one blob many times over: a sparse file
            continue
        sealed = data[row.offset - first.offset : row.offset - first.offset + row.length]
        packed = PackRow(
            row.blob_id,
            row.frame,
            row.offset,
            row.length,
            row.plain_length,
            row.kind,
            row.item_id,
            row.version,
        )
        try:
            plain = open_frame(keys, info.salt, packed, sealed, row.pack, info.dek_id)
            if row.kind == STATE:
                _compare_whole(row, plain)
            results.append((row, plain))
        except CorruptObjectError as error:
            results.append((row, error))
    return results


def _compare_whole(row: StoredRow, plain: bytes) -> None:
    """Compare a blob that is a whole item; pieces are compared when they are put together."""
    if row.chunk == 0 and hashlib.sha256(plain).digest() == row.digest:
        return
    if row.chunk == 0 and row.plain_length < _CHUNKED_FROM_BYTES:
        raise CorruptObjectError(f"pack {row.pack}: {row.item_id} differs from its digest")


_CHUNKED_FROM_BYTES = 16 * 1024 * 1024
"""A first piece of this length may be followed by others."""


def _chunks_expected(table: Any) -> dict[str, int]:
    """How many pieces the items have that have more than one."""
    pc = kernels()
    later = table.filter(pc.greater(table["chunk"], 0))
    expected: dict[str, int] = {}
    for item_id, chunk in zip(
        later["item_id"].to_pylist(), later["chunk"].to_pylist(), strict=True
    ):
        expected[item_id] = max(expected.get(item_id, 0), chunk + 1)
    return expected


def _whole(
    results: Fetched,
    partial: dict[str, dict[int, bytes]],
    chunks: dict[str, int],
    on_damage: Damaged | None,
) -> Iterator[ReadItem]:
    """Items that are complete; pieces wait for the others."""
    for row, plain in results:
        if isinstance(plain, CorruptObjectError):
            if on_damage is None:
                raise plain
            on_damage(row.pack, [row.item_id], plain)
            continue
        body = plain
        if row.item_id in chunks:
            pieces = partial.setdefault(row.item_id, {})
            pieces[row.chunk] = plain
            if len(pieces) < chunks[row.item_id]:
                continue
            body = b"".join(pieces[number] for number in sorted(pieces))
            del partial[row.item_id]
        digest = row.digest.hex()
        if row.item_id in chunks and hashlib.sha256(body).hexdigest() != digest:
            differs = CorruptObjectError(f"{row.item_id}: its pieces differ from its digest")
            if on_damage is None:
                raise differs
            on_damage(row.pack, [row.item_id], differs)
            continue
        yield ReadItem(row.item_id, row.version, digest, row.updated_at, body)
