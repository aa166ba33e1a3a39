"""Versions as snapshots and the journal show them, by agent.

Whole tables are compared in Arrow; only agents that differ are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from fleet.vault_journal import Segment, SegmentRow
from fleet.vault_moment import Identity
from resources.vault.packs.arrow_columns import moments_as_numbers, number, one_chunk
from resources.vault.packs.manifest import STATE, arrow, kernels

Pieces = Mapping[Identity, Mapping[int, tuple[Segment, SegmentRow]]]
"""What the journal holds of one agent: pieces by version and number."""


class Seen(NamedTuple):
    """An agent in one snapshot."""

    identity: Identity
    rows: Sequence[Mapping[str, Any]]
    """Moments in microseconds since 1970."""


def sightings(
    segments: Sequence[Segment], wanted: AbstractSet[str] | None
) -> tuple[
    dict[str, list[Identity]],
    dict[str, dict[Identity, dict[int, tuple[Segment, SegmentRow]]]],
]:
    """Versions by agent in the journal's order, and the pieces that are held of each."""
    sighted: dict[str, list[Identity]] = {}
    pieces: dict[str, dict[Identity, dict[int, tuple[Segment, SegmentRow]]]] = {}
    for segment in segments:
        for row in segment.rows:
            if wanted is not None and row.agent_id not in wanted:
                continue
            if row.chunk == 0:
                sighted.setdefault(row.agent_id, []).append(row.identity)
            if row.chunks:
                mine = pieces.setdefault(row.agent_id, {}).setdefault(row.identity, {})
                mine[row.chunk] = (segment, row)
    return sighted, pieces


def complete(
    pieces: Mapping[Identity, Mapping[int, tuple[Segment, SegmentRow]]],
) -> dict[Identity, list[tuple[Segment, SegmentRow]]]:
    """Versions of which every piece is held."""
    return {
        identity: [parts[number] for number in sorted(parts)]
        for identity, parts in pieces.items()
        if len(parts) == next(iter(parts.values()))[1].chunks
    }


def rows_by_agent(table: Any) -> dict[str, Seen]:
    """Each agent of a manifest's rows."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in moments_as_numbers(table, "updated_at").to_pylist():
        found.setdefault(row["item_id"], []).append(row)
    return {
        agent_id: Seen((rows[0]["version"], rows[0]["updated_at"]), rows)
        for agent_id, rows in found.items()
    }


def differing(ours: Any, theirs: Any) -> list[str]:
    """Agents that the second table shows with another version than the first."""
    pc = kernels()
    found = pc.index_in(theirs["item_id"], value_set=one_chunk(ours["item_id"]))
    there = ours.take(pc.fill_null(found, number(0, arrow().int32()))) if len(ours) else None
    if there is None:
        return list(dict.fromkeys(theirs["item_id"].to_pylist()))
    same = pc.and_(
        pc.and_(
            pc.equal(theirs["version"], there["version"]),
            pc.equal(theirs["updated_at"], there["updated_at"]),
        ),
        pc.is_valid(found),
    )
    return list(dict.fromkeys(theirs.filter(pc.invert(same))["item_id"].to_pylist()))


def stored_by(table: Any, moment_us: int) -> Any:
    """The rows of versions dated by a moment, in microseconds since 1970."""
    latest = number(moment_us, table.schema.field("updated_at").type)
    return table.filter(kernels().less_equal(table["updated_at"], latest))


def manifest_row(segment: Segment, row: SegmentRow) -> dict[str, Any]:
    """A piece in the journal as a row of a manifest; the segment's key stands for the pack.

    Its moment is in microseconds since 1970.
    """
    frame = segment.frames[row.frame]
    return {
        "kind": STATE,
        "item_id": row.agent_id,
        "version": row.version,
        "chunk": row.chunk,
        "blob_id": frame.blob_id,
        "pack": segment.key,
        "frame": frame.frame,
        "offset": frame.offset,
        "length": frame.length,
        "plain_length": frame.plain_length,
        "digest": bytes.fromhex(row.digest),
        "updated_at": row.updated_us,
        "removed": False,
    }
