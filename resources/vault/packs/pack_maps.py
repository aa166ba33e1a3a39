"""Reading snapshots whose packs were repacked: rows keep the old pack's name, maps lead to the new.

A map record applies to the snapshots before it. Its authenticated fields say where the new pack's
table lies, so one ranged request per new pack translates all rows that went there. Tables are kept
for one translation only: a verification must see what is stored now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ReadableStore
from fleet.vault_keyspace import pack_key
from fleet.vault_log import MapRecord
from fleet.vault_pack import TRAILER_BYTES, PackRow, open_table
from fleet.vault_records import StoredRecord
from resources.vault.packs.arrow_columns import column, strings
from resources.vault.packs.manifest import Manifest, PackInfo, PackMove, arrow, kernels

_PLACE = ("frame", "offset", "length")


def encode_move(move: PackMove) -> dict[str, Any]:
    """What a map record carries beside the names."""
    return {
        "salt": move.salt.hex(),
        "size_bytes": move.size_bytes,
        "table_length": move.table_length,
        "dek_id": move.dek_id,
    }


def moves_after(records: Iterable[StoredRecord], seq: int) -> dict[str, PackMove]:
    """By old pack, where the snapshot of number `seq` finds its blobs now.

    Raises:
        CorruptObjectError: a map record lacks what reading needs.
    """
    moves: dict[str, PackMove] = {}
    for stored in records:
        record = stored.record
        if stored.position.seq <= seq or not isinstance(record, MapRecord):
            continue
        move = _decode_move(stored, record)
        for old, known in moves.items():
            if known.sha256 == record.old:
                moves[old] = move
        moves.setdefault(record.old, move)
    return moves


def with_moves(manifest: Manifest, moves: Mapping[str, PackMove]) -> Manifest:
    """The same rows, their packs marked with where they are to be read."""
    if not moves:
        return manifest
    packs = {
        sha256: info._replace(moved=moves.get(sha256)) for sha256, info in manifest.packs.items()
    }
    return Manifest(manifest.table, packs)


def resolve_moves(store: ReadableStore, keys: PackKeys, manifest: Manifest) -> Manifest:
    """Rows that name the packs which are there; unchanged when none was moved.

    Raises:
        CorruptObjectError: a new pack is missing, its table damaged, or lacks a blob.
    """
    pc = kernels()
    moved = {sha256: info.moved for sha256, info in manifest.packs.items() if info.moved}
    if not moved:
        return manifest
    chosen = pc.is_in(manifest.table["pack"], value_set=strings(sorted(moved)))
    rows = manifest.table.filter(chosen).combine_chunks()
    named = rows["pack"].to_pylist()
    tables: dict[str, dict[bytes, PackRow]] = {}
    for old in sorted(set(named)):
        move = moved[old]
        if move.sha256 not in tables:
            tables[move.sha256] = _read_table(store, keys, move)
    places: list[PackRow] = []
    for old, blob_id in zip(named, rows["blob_id"].to_pylist(), strict=True):
        found = tables[moved[old].sha256].get(blob_id)
        if found is None:
            raise CorruptObjectError(
                f"pack {moved[old].sha256} lacks a blob that pack {old} held",
                hint="Choose another snapshot, and report this.",
            )
        places.append(found)
    values: dict[str, list[Any]] = {name: [getattr(p, name) for p in places] for name in _PLACE}
    values["pack"] = [moved[old].sha256 for old in named]
    for number, field in enumerate(rows.schema):
        if field.name in values:
            rows = rows.set_column(number, field, column(values[field.name], field.type))
    table = arrow().concat_tables([manifest.table.filter(pc.invert(chosen)), rows]).combine_chunks()
    packs = {sha256: info for sha256, info in manifest.packs.items() if sha256 not in moved}
    for move in moved.values():
        packs[move.sha256] = PackInfo(move.owner, move.salt, move.size_bytes, move.dek_id)
    return Manifest(table, packs)


def packs_to_read(packs: Mapping[str, PackInfo]) -> dict[str, PackInfo]:
    """The packs that a restore reads, moved ones under their new name."""
    found: dict[str, PackInfo] = {}
    for sha256, info in packs.items():
        if info.moved is None:
            found[sha256] = info
        else:
            move = info.moved
            found[move.sha256] = PackInfo(move.owner, move.salt, move.size_bytes, move.dek_id)
    return found


def _read_table(store: ReadableStore, keys: PackKeys, move: PackMove) -> dict[bytes, PackRow]:
    key = pack_key(keys.network_id, move.owner, move.sha256)
    start = move.size_bytes - TRAILER_BYTES - move.table_length
    try:
        sealed = store.get(key, start, move.table_length)
    except NotFoundError as error:
        raise CorruptObjectError(
            f"pack {move.sha256} is missing",
            hint="Heal this region, or restore from another one.",
        ) from error
    opening = keys.opening(move.dek_id)
    return {row.blob_id: row for row in open_table(opening, move.salt, sealed, move.sha256)}


def _decode_move(stored: StoredRecord, record: MapRecord) -> PackMove:
    extra = stored.extra
    try:
        salt = bytes.fromhex(extra["salt"])
        return PackMove(
            record.new,
            record.owner,
            salt,
            int(extra["size_bytes"]),
            int(extra["table_length"]),
            str(extra["dek_id"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObjectError(
            f"log record {stored.position.seq} maps a pack and does not say where to"
        ) from error
