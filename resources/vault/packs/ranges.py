"""Ranges of packs: planned from rows, fetched by threads, opened frame by frame.

Frames that lie near each other are fetched by one request. What leaves this module is proven, or
an error in its place; what proves what stands in `resources.vault.packs.reading`.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ReadableStore
from fleet.vault_keyspace import pack_key
from fleet.vault_pack import HEADER_MAX_BYTES, FrameOpener, PackRow, read_salt
from resources.vault.packs.arrow_columns import moments_as_numbers
from resources.vault.packs.manifest import STATE, Manifest, PackInfo, kernels
from resources.vault.packs.process_memory import map_large_buffers, release_unused

_GAP_BYTES = 256 * 1024
"""Frames closer than this are fetched by one request."""
_RANGE_BYTES = 2 * 1024 * 1024
"""Longest range, so that memory stays bounded."""
_PLAIN_BYTES = 6 * 1024 * 1024
"""Most plain bytes of a range of several blobs: they may compress a thousandfold."""
_ROWS_AT_ONCE = 1024
"""Rows of the manifest that are Python objects at one time."""


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
    """Microseconds since 1970: few readers want a date."""


Fetched = list[tuple[StoredRow, bytes | CorruptObjectError]]


def plan_ranges(table: Any, order: Sequence[str]) -> Iterator[list[StoredRow]]:
    """Rows in an order, grouped into ranges of one pack each, small gaps included."""
    table = table.select(list(StoredRow._fields))
    table = moments_as_numbers(table, "updated_at")
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


def fetch_ranges(
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


class RangeReader:
    """Fetches one range and opens its frames; any number of threads may call it.

    Args:
        store: where the vault lies.
        keys: of the network.
        manifest: rows that name the packs which are there.
        in_pieces: states that are cut; their pieces are compared by blob id.
        compare_ids: compare the ids of whole states as well.
        compare_digests: compare the digests of whole states; not needed of frames that have been
            opened and compared before, as their tags prove that they are the same.
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
        compare_digests: bool = True,
        keep_whole: bool = True,
    ) -> None:
        """Nothing is read before the first call."""
        self._store = store
        self._keys = keys
        self._packs = manifest.packs
        self._in_pieces = in_pieces
        self._compare_ids = compare_ids
        self._compare_digests = compare_digests
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
        if len(plain) != row.plain_length or (
            self._compare_digests and hashlib.sha256(plain).digest() != row.digest
        ):
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
