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
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError
from fleet.moments import moment_of
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ReadableStore
from resources.vault.packs.arrow_columns import number, strings
from resources.vault.packs.manifest import Manifest, arrow, kernels, of_kinds
from resources.vault.packs.pack_maps import resolve_moves
from resources.vault.packs.process_memory import release_unused
from resources.vault.packs.ranges import (
    Fetched,
    RangeReader,
    StoredRow,
    fetch_ranges,
    plan_ranges,
)


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


Damaged = Callable[[str, Sequence[str], CorruptObjectError], None]
"""Called with pack, agent ids and error in place of raising."""


def read_items(
    store: ReadableStore,
    keys: PackKeys,
    manifest: Manifest,
    *,
    workers: int | None = None,
    on_damage: Damaged | None = None,
    compare_digests: bool = True,
) -> Iterator[ReadItem]:
    """Read every agent state of a manifest, in the order of the packs.

    At most `workers` + 2 ranges of 6 MiB are in memory, and the pieces of states that are cut.

    Args:
        store: where the vault lies.
        keys: of the network.
        manifest: the rows wanted, and their packs.
        workers: threads; None for one per core, at most 8.
        on_damage: told of what cannot be read; None raises instead.
        compare_digests: as `RangeReader`.

    Raises:
        CorruptObjectError: a pack is damaged or missing, or an item differs from its digest.
    """
    manifest = where_to_read(store, keys, of_kinds(manifest, states=True), on_damage)
    chunks = _chunks_expected(manifest.table)
    read = RangeReader(store, keys, manifest, chunks.keys(), compare_digests=compare_digests)
    for row, body in _whole_items(read, manifest, chunks, workers, on_damage):
        yield _item_of(row, body)


def _item_of(row: StoredRow, body: bytes) -> ReadItem:
    return ReadItem(row.item_id, row.version, row.digest.hex(), row.updated_at, body)


def hand_items(
    store: ReadableStore,
    keys: PackKeys,
    manifest: Manifest,
    take: Callable[[Sequence[ReadItem]], None],
    *,
    workers: int,
    on_damage: Damaged,
) -> Proven:
    """Give every agent state to `take`, in the thread that has opened and proven it.

    So what is done with a state runs on as many cores as the opening, and no state waits for
    another thread. The order is nobody's promise. At most `workers` ranges of 6 MiB are in memory,
    and the pieces of states that are cut.

    Args:
        store: where the vault lies.
        keys: of the network.
        manifest: the rows wanted, and their packs.
        take: called by several threads at once, with the states of one range. What it raises ends
            all of it.
        workers: threads.
        on_damage: told of what cannot be read, by the caller's thread.
    """
    manifest = where_to_read(store, keys, of_kinds(manifest, states=True), on_damage)
    chunks = _chunks_expected(manifest.table)
    read = RangeReader(store, keys, manifest, chunks.keys())

    def read_and_take(rows: Sequence[StoredRow]) -> Fetched:
        results = read(rows)
        taken: list[ReadItem] = []
        for number_in_range, (row, plain) in enumerate(results):
            if not isinstance(plain, CorruptObjectError) and row.item_id not in chunks:
                taken.append(_item_of(row, plain))
                results[number_in_range] = (row, b"")
        take(taken)
        return results

    items = size_bytes = 0
    for row, body in _whole_items(read_and_take, manifest, chunks, workers, on_damage):
        items += 1
        if row.item_id in chunks:
            take([_item_of(row, body)])
            size_bytes += len(body)
        else:
            size_bytes += row.plain_length
    return Proven(items, size_bytes)


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
    read = RangeReader(
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
    ranges = plan_ranges(manifest.table, ("kind", "item_id", "chunk"))
    read = RangeReader(store, keys, manifest, frozenset())
    for results in fetch_ranges(read, ranges, workers):
        yield from results


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
        chosen = pc.is_in(column, value_set=strings(olds))
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


def _chunks_expected(table: Any) -> dict[str, int]:
    """How many pieces the items have that have more than one."""
    pc = kernels()
    later = table.filter(pc.greater(table["chunk"], number(0, arrow().int32())))
    expected: dict[str, int] = {}
    for item_id, chunk in zip(
        later["item_id"].to_pylist(), later["chunk"].to_pylist(), strict=True
    ):
        expected[item_id] = max(expected.get(item_id, 0), chunk + 1)
    return expected


def _whole_items(
    read: Callable[[Sequence[StoredRow]], Fetched],
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

    # What other work of this process has freed goes back first: it would count beside ours.
    release_unused(kernels().sum(manifest.table["plain_length"]).as_py() or 0)
    partial: dict[str, dict[int, bytes]] = {}
    ranges = plan_ranges(manifest.table, ("pack", "offset"))
    for results in fetch_ranges(read, ranges, workers):
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
