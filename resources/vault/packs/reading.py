"""Reading items back: few ranged requests, each frame opened and compared before it is handed on.

Frames that lie near each other are fetched by one request. What proves what, from the outside in:

* The log record (HMAC) names its manifests by SHA-256, and a manifest is sealed as a whole: its row
  is what the writer put there, so that version, digest, blob id and place belong together.
* The tag of a frame (AES-GCM, under the pack's own key, bound to network, pack, number and kind)
  proves that the body is the one that was sealed as this very frame.
* The SHA-256 of the whole item equals the digest in the row, which is the one that the control
  store computed when the state was put: the bytes are that state, whatever wrote the pack.

For a state that is one blob the last of these includes what its blob id (keyed BLAKE3) could say of
the bytes, so a restore does not compute it. The id itself may still be wrong in the manifest, and
the next backup would trust it to find equal blobs: verification compares both. Pieces and artefacts
are compared by blob id one by one, and by digest when they are together.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.moments import moment_of
from fleet.ports.object_store import ReadableStore
from fleet.vault_keyspace import pack_key
from fleet.vault_pack import HEADER_MAX_BYTES, FrameOpener, PackKeys, PackRow, read_salt
from resources.vault.packs.manifest import STATE, Manifest, PackInfo, arrow, kernels, of_kinds
from resources.vault.packs.pack_maps import resolve_moves
from resources.vault.packs.process_memory import map_large_buffers, release_unused

_GAP_BYTES = 256 * 1024
"""Frames closer than this are fetched by one request."""
_RANGE_BYTES = 2 * 1024 * 1024
"""Longest range, so that memory stays bounded."""
_PLAIN_BYTES = 6 * 1024 * 1024
"""Most plain bytes of a range of several blobs: they may compress a thousandfold."""
_ROWS_AT_ONCE = 4096
"""Rows of the manifest that are Python objects at one time."""


class ReadItem(NamedTuple):
    """A state as it was backed up, proven by its digest."""

    agent_id: str
    version: int
    digest: str
    updated_us: int
    """When it was stored, in microseconds since 1970."""
    body: bytes

    @property
    def updated_at(self) -> datetime:
        """When it was stored."""
        return moment_of(self.updated_us)


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
    updated_at: int
    """Microseconds since 1970: few readers want a date, and Arrow takes longer to make one than
    the state's hash takes."""


Damaged = Callable[[str, Sequence[str], CorruptObjectError], None]
"""Called with pack, agent ids and error in place of raising."""


def read_items(
    store: ReadableStore,
    keys: PackKeys,
    manifest: Manifest,
    *,
    workers: int | None = None,
    on_damage: Damaged | None = None,
) -> Iterator[ReadItem]:
    """Read every agent state of a manifest, in the order of the packs.

    At most `workers` + 2 ranges of 6 MiB are in memory, and the pieces of states that are cut.

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
    chunks = _chunks_expected(manifest.table)
    read = _RangeReader(store, keys, manifest, chunks.keys())
    for row, body in _whole_items(read, manifest, chunks, workers, on_damage):
        yield ReadItem(row.item_id, row.version, row.digest.hex(), row.updated_at, body)


class Proven(NamedTuple):
    """What was found to be whole."""

    items: int
    size_bytes: int


def prove_items(
    store: ReadableStore,
    keys: PackKeys,
    manifest: Manifest,
    *,
    workers: int | None = None,
    on_damage: Damaged,
    compare_ids: bool = False,
) -> Proven:
    """Read every agent state as `read_items` does, and keep none.

    At most `workers` ranges of 2 MiB, with one state of each, are in memory.

    Args:
        store: where the vault lies.
        keys: of the network.
        manifest: the rows wanted, and their packs.
        workers: threads; None for one per core, at most 8.
        on_damage: told of what cannot be read.
        compare_ids: demand that every blob has the id that the manifest gives it.
    """
    manifest = where_to_read(store, keys, of_kinds(manifest, states=True), on_damage)
    chunks = _chunks_expected(manifest.table)
    read = _RangeReader(
        store, keys, manifest, chunks.keys(), compare_ids=compare_ids, keep_whole=False
    )
    items = size_bytes = 0
    for row, body in _whole_items(read, manifest, chunks, workers, on_damage):
        items += 1
        size_bytes += len(body) or row.plain_length
    return Proven(items, size_bytes)


def read_in_order(
    store: ReadableStore, keys: PackKeys, manifest: Manifest, *, workers: int | None = None
) -> Iterator[tuple[StoredRow, bytes | CorruptObjectError]]:
    """Read the blobs of artefacts, item by item and each from its first blob to its last.

    Memory is a few ranges of 2 MiB, whatever the size of an item. What cannot be read is yielded
    as the error; whole items are compared with their digest by the caller, who sees all of them.
    """
    manifest = resolve_moves(store, keys, manifest)
    ranges = _plan_ranges(manifest.table, ("kind", "item_id", "chunk"))
    read = _RangeReader(store, keys, manifest, frozenset())
    for results in _fetch_ranges(read, ranges, workers):
        yield from results


Fetched = list[tuple[StoredRow, bytes | CorruptObjectError]]


def _fetch_ranges(
    read: Callable[[Sequence[StoredRow]], Fetched],
    ranges: Iterator[list[StoredRow]],
    workers: int | None,
) -> Iterator[Fetched]:
    """Ranges read by threads, handed on in their order."""
    count = workers or min(8, os.cpu_count() or 1)
    map_large_buffers()
    handled_bytes = 0
    pool = ThreadPoolExecutor(count, thread_name_prefix="vault-read")
    try:
        waiting: deque[Future[Fetched]] = deque()
        for rows in ranges:
            handled_bytes += sum(row.plain_length for row in rows)
            waiting.append(pool.submit(read, rows))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        release_unused(handled_bytes)


def where_to_read(
    store: ReadableStore, keys: PackKeys, manifest: Manifest, on_damage: Damaged | None
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
    table = table.select(list(StoredRow._fields))
    moments = table["updated_at"].cast(arrow().int64())
    table = table.set_column(table.column_names.index("updated_at"), "updated_at", moments)
    ordered = kernels().sort_indices(table, [(name, "ascending") for name in order])
    group: list[StoredRow] = []
    plain_bytes = 0
    for start in range(0, len(ordered), _ROWS_AT_ONCE):
        batch = table.take(ordered.slice(start, _ROWS_AT_ONCE))
        columns = [column.to_pylist() for column in batch.columns]
        for row in map(StoredRow._make, zip(*columns, strict=True)):
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


class _RangeReader:
    """Fetches one range and opens its frames; any number of threads may call it.

    Args:
        store: where the vault lies.
        keys: of the network.
        manifest: rows that name the packs which are there.
        in_pieces: states that are cut; their pieces are compared by blob id.
        compare_ids: compare the ids of whole states as well.
        keep_whole: hand on the bytes of whole states; else nothing is handed on in their place.
    """

    def __init__(
        self,
        store: ReadableStore,
        keys: PackKeys,
        manifest: Manifest,
        in_pieces: AbstractSet[str],
        *,
        compare_ids: bool = False,
        keep_whole: bool = True,
    ) -> None:
        self._store = store
        self._keys = keys
        self._packs = manifest.packs
        self._in_pieces = in_pieces
        self._compare_ids = compare_ids
        self._keep_whole = keep_whole

    def __call__(self, rows: Sequence[StoredRow]) -> Fetched:
        """Each row with its blob, or with the error in its place."""
        first, last = rows[0], rows[-1]
        info = self._packs[first.pack]
        key = info.key or pack_key(self._keys.network_id, info.owner, first.pack)
        try:
            data = self._store.get(key, first.offset, last.offset + last.length - first.offset)
        except NotFoundError as error:
            missing = CorruptObjectError(
                f"pack {first.pack} is missing",
                hint="Copy it back from another region, or choose another snapshot.",
            )
            missing.__cause__ = error
            return [(row, missing) for row in rows]
        results = self._open_rows(info, rows, data)
        silent = not info.dek_id and self._keys.later
        if silent and any(isinstance(plain, CorruptObjectError) for _, plain in results):
            # The manifest does not name the data key: perhaps the pack's header names a later one.
            header = self._store.get(key, 0, HEADER_MAX_BYTES)
            dek_id, salt = read_salt(header, first.pack)
            if salt == info.salt and dek_id in {one.dek_id for one in self._keys.later}:
                return self._open_rows(info._replace(dek_id=dek_id), rows, data)
        return results

    def _open_rows(self, info: PackInfo, rows: Sequence[StoredRow], data: bytes) -> Fetched:
        first = rows[0]
        opener = FrameOpener(self._keys, info.salt, first.pack, info.dek_id)
        view = memoryview(data)
        results: Fetched = []
        for row in rows:
            if row.kind != STATE and results and results[-1][0].blob_id == row.blob_id:
                results.append((row, results[-1][1]))  # one blob many times over: a sparse file
                continue
            start = row.offset - first.offset
            try:
                results.append((row, self._prove(opener, row, view[start : start + row.length])))
            except CorruptObjectError as error:
                results.append((row, error))
        return results

    def _prove(self, opener: FrameOpener, row: StoredRow, sealed: memoryview) -> bytes:
        """The blob of a row, compared with all that is known of it alone."""
        is_whole = row.kind == STATE and row.item_id not in self._in_pieces
        if self._compare_ids or not is_whole:
            plain = opener.body_of(_packed(row), sealed)[1]
        else:
            plain = opener.open(row.frame, row.kind, sealed)[1]
        if not is_whole:
            return plain
        if len(plain) != row.plain_length or hashlib.sha256(plain).digest() != row.digest:
            raise CorruptObjectError(f"pack {row.pack}: {row.item_id} differs from its digest")
        return plain if self._keep_whole else b""


def _packed(row: StoredRow) -> PackRow:
    return PackRow(
        row.blob_id,
        row.frame,
        row.offset,
        row.length,
        row.plain_length,
        row.kind,
        row.item_id,
        row.version,
    )


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


def _whole_items(
    read: _RangeReader,
    manifest: Manifest,
    chunks: Mapping[str, int],
    workers: int | None,
    on_damage: Damaged | None,
) -> Iterator[tuple[StoredRow, bytes]]:
    """Items that are complete, with their last row; pieces wait for the others."""

    def report(row: StoredRow, error: CorruptObjectError) -> None:
        if on_damage is None:
            raise error
        on_damage(row.pack, [row.item_id], error)

    partial: dict[str, dict[int, bytes]] = {}
    ranges = _plan_ranges(manifest.table, ("pack", "offset"))
    for results in _fetch_ranges(read, ranges, workers):
        results.reverse()
        while results:
            row, plain = results.pop()  # held here no longer than by whoever takes it
            if isinstance(plain, CorruptObjectError):
                report(row, plain)
            elif row.item_id not in chunks:
                yield row, plain
            else:
                pieces = partial.setdefault(row.item_id, {})
                pieces[row.chunk] = plain
                if len(pieces) < chunks[row.item_id]:
                    continue
                body = b"".join(pieces[number] for number in sorted(pieces))
                del partial[row.item_id]
                if hashlib.sha256(body).digest() == row.digest:
                    yield row, body
                else:
                    text = f"{row.item_id}: its pieces differ from its digest"
                    report(row, CorruptObjectError(text))
