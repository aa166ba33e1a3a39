"""Manifests as Arrow tables: what a snapshot holds, and which deltas make it up.

All work on rows is vectorised: an unchanged agent costs no Python. The columns are those of
`docs/formats/backup.md`. As bytes they are written and read by `manifest_codec`; what has changed
since one of them is found by `state_diff`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fleet.backup import STATE_KIND
from fleet.errors import CorruptObjectError
from resources.vault.packs.arrow_columns import (
    as_flags,
    empty,
    fixed_bytes,
    flags,
    numbers,
    one_chunk,
    same_text,
    strings,
    text,
)

CHAIN_DELTAS_MAX = 24
"""Deltas on one full manifest."""
FULL_BELOW_ROWS = 20_000
"""A manifest of fewer rows is always written in full."""
STATE = STATE_KIND
ATTRIBUTES = "attributes"
"""The column that manifests of states alone are written without."""
_SLICED_BELOW = 256
"""Slices of fewer rows on average cost more than copying the rows."""


class PackMove(NamedTuple):
    """Where a repack has put what a pack held that was still needed."""

    sha256: str
    """Of the new pack."""
    owner: str
    salt: bytes
    size_bytes: int
    table_length: int
    dek_id: str
    """Data key that sealed the new pack."""


class PackInfo(NamedTuple):
    """What reading a pack needs beside its rows."""

    owner: str
    salt: bytes
    size_bytes: int
    dek_id: str = ""
    """Data key that sealed it; empty for the network's first one, or where the manifest is silent:
    the pack's header says it."""
    moved: PackMove | None = None
    """The pack to read in its place; rows are translated by `resources.vault.packs.pack_maps`."""
    key: str = ""
    """Key of the object where it is no pack but a journal segment; empty for a pack."""


class ManifestRef(NamedTuple):
    """One manifest of a snapshot's chain, as its log record names it."""

    owner: str
    sha256: str
    size_bytes: int
    rows: int


class Manifest(NamedTuple):
    """Rows with the packs that they name."""

    table: Any
    """`pyarrow.Table` of `manifest_schema`."""
    packs: Mapping[str, PackInfo]


def arrow() -> Any:
    """Arrow, imported at the first use, and untyped: its stubs know half of its calls."""
    import pyarrow as pa

    return pa


def kernels() -> Any:
    """Arrow's vectorised functions."""
    import pyarrow.compute

    return pyarrow.compute


def manifest_schema() -> Any:
    """The columns of `docs/formats/backup.md`."""
    pa = arrow()

    return pa.schema(
        [
            ("kind", pa.string()),
            ("item_id", pa.string()),
            ("version", pa.int64()),
            ("chunk", pa.int32()),
            ("blob_id", pa.binary(32)),
            ("pack", pa.string()),
            ("frame", pa.int32()),
            ("offset", pa.int64()),
            ("length", pa.int32()),
            ("plain_length", pa.int32()),
            ("digest", pa.binary(32)),
            ("updated_at", pa.timestamp("us", tz="UTC")),
            ("removed", pa.bool_()),
            (ATTRIBUTES, pa.string()),
        ]
    )


def empty_manifest() -> Manifest:
    """What a first backup is compared with."""
    return Manifest(empty(manifest_schema()), {})


def sort_rows(table: Any) -> Any:
    """Rows in the order in which a manifest holds them.

    Column by column: of a table that the caller does not keep, no two columns are held twice.
    """
    keys = [(name, "ascending") for name in ("kind", "item_id", "chunk")]
    order = kernels().sort_indices(table, sort_keys=keys)
    schema, columns = table.schema, table.columns
    del table
    ordered = []
    for at in range(len(columns)):
        ordered.append(columns[at].take(order))
        columns[at] = None
    return arrow().Table.from_arrays(ordered, schema=schema)


def resolve_chain(chain: list[Manifest]) -> Manifest:
    """The snapshot that a full manifest and its deltas make up together, without tombstones.

    Args:
        chain: full one first; emptied, so that rows nobody else keeps are held once.
    """
    pa, pc = arrow(), kernels()

    if len(chain) == 1 and not pc.any(chain[0].table["removed"]).as_py():
        only = chain.pop()
        return only._replace(packs=packs_of(only.table, only.packs))
    merged: dict[str, PackInfo] = {}
    for manifest in chain:
        merged.update(manifest.packs)
    parts: list[Any] = []
    seen: list[Any] = []
    while chain:
        rows = chain.pop().table
        items = _items(rows)
        wanted = pc.invert(rows["removed"])
        if seen:
            known = pc.is_in(items, value_set=pa.concat_arrays(seen))
            wanted = pc.and_not(wanted, known)
        if chain:
            seen.append(items)
        columns = rows.columns
        del rows, items
        parts.append(_filtered(columns, wanted))
    # Not combined: a network's rows would be held twice for it, and nobody asks for one chunk.
    table = pa.concat_tables(parts) if parts else empty(manifest_schema())
    return Manifest(table, packs_of(table, merged))


def _filtered(columns: list[Any], wanted: Any) -> Any:
    """The wanted rows; takes the columns away one by one."""
    if kernels().all(wanted, min_count=0).as_py():
        return arrow().Table.from_arrays(columns, schema=manifest_schema())
    kept = []
    for at in range(len(columns)):
        kept.append(columns[at].filter(wanted))
        columns[at] = None
    return arrow().Table.from_arrays(kept, schema=manifest_schema())


def packs_of(table: Any, packs: Mapping[str, PackInfo]) -> dict[str, PackInfo]:
    """The packs that rows name.

    Raises:
        CorruptObjectError: a row names a pack that the manifests do not describe.
    """
    named = [one for one in table["pack"].unique().to_pylist() if one]
    missing = [one for one in named if one not in packs]
    if missing:
        raise CorruptObjectError(f"manifest names pack {missing[0]} without owner and salt")
    return {one: packs[one] for one in named}


def select_items(table: Any, item_ids: Iterable[str]) -> Any:
    """The rows of some agents or artefacts."""
    wanted = strings(list(item_ids))
    return table.filter(kernels().is_in(table["item_id"], value_set=wanted))


def of_kinds(manifest: Manifest, *, states: bool) -> Manifest:
    """Only the agent states of a snapshot, or everything else."""
    pc = kernels()

    is_state = pc.equal(manifest.table["kind"], text(STATE))
    chosen = is_state if states else pc.invert(is_state)
    if pc.all(chosen, min_count=0).as_py():
        return manifest
    table = manifest.table.filter(chosen)
    return Manifest(table, packs_of(table, manifest.packs))


def without_items(table: Any, item_ids: Any) -> Any:
    """The rows of all others; `item_ids` is an Arrow array.

    Where few rows go, the others are not copied: the table is what lies between them.
    """
    import numpy as np

    pc = kernels()
    gone = pc.is_in(table["item_id"], value_set=item_ids)
    at = np.flatnonzero(as_flags(gone))
    if not 0 < len(at) * _SLICED_BELOW < len(table):
        return table.filter(pc.invert(gone)) if len(at) else table
    begins = [0, *(at + 1).tolist()]
    ends = [*at.tolist(), len(table)]
    between = zip(begins, ends, strict=True)
    parts = [table.slice(begin, end - begin) for begin, end in between if begin < end]
    return arrow().concat_tables(parts)


def tombstones(item_ids: Any, kind: str = STATE) -> Any:
    """Rows that say that agents, or items of another kind, are gone."""
    pa = arrow()

    count = len(item_ids)
    zeros = fixed_bytes([bytes(32)] * count, 32)
    values: Mapping[str, Any] = {
        "kind": same_text(kind, count),
        "item_id": item_ids,
        "blob_id": zeros,
        "pack": same_text("", count),
        "digest": zeros,
        "updated_at": pa.nulls(count, pa.timestamp("us", tz="UTC")),
        "removed": flags(True, count),
        ATTRIBUTES: pa.nulls(count, pa.string()),
    }
    schema = manifest_schema()
    columns = [
        values[one.name] if one.name in values else numbers([0] * count, one.type) for one in schema
    ]
    return pa.table(columns, schema=schema)


def _items(table: Any) -> Any:
    joined = kernels().binary_join_element_wise(table["kind"], table["item_id"], text("\x00"))
    return one_chunk(joined)
