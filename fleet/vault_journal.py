"""Journal segments as bytes: a pack whose last frame says what it covers, and a trailer.

A segment holds the states that changed since the segment before it, and names the versions that
came and went in between (`mentions`), so that a reader knows what it does not hold. It is sealed
like a pack, and bound to its place twice: the sealed header names network, epoch, number and the
hash of the trailer before it; the clear trailer repeats what a copy needs to be checked without
keys. `docs/formats/backup.md` has the fields.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fleet.agents import AgentState, StateChange
from fleet.errors import CorruptObjectError, SchemaMismatchError
from fleet.moments import microseconds, moment_of
from fleet.pack_keys import PackKeys
from fleet.vault_keyspace import SegmentPlace
from fleet.vault_pack import PackBuilder, PackRow, open_frame, open_tail, read_salt

PIECE_BYTES = 16 * 1024 * 1024
"""Longest piece of a state in one frame."""
PART_BYTES = 16 * 1024 * 1024
"""Plain bytes of states in one segment: with its header it stays below a pack's 32 MiB."""
PART_ROWS = 20_000
"""Versions named in one segment; an agent that changed more often is not split."""
NO_PREVIOUS = "0" * 64
"""`previous` of a network's first segment."""
_FORMAT = 1
_KIND = "segment"
_STATE = "state"
_MAGIC = b"1JRS"
_TRAILER = struct.Struct("<32s32s32sIQIB4s")
"""Salt, previous link, SHA-256 of the pack, epoch, number, tail length, length of the data key's
id (which stands before), magic."""


class Gap(NamedTuple):
    """A stretch of time that the change log no longer told anything about.

    What was live at its end is held, as far as it differs from the snapshot.
    """

    since: datetime
    reason: str
    snapshot_id: str
    """Snapshot that the live states were compared with."""


class SegmentHeader(NamedTuple):
    """What a segment covers."""

    network_id: str
    place: SegmentPlace
    previous: str
    """Link of the segment before: the SHA-256 of its trailer."""
    written_at: datetime
    cursor: int
    """Change log entries up to this id are covered."""
    mark: str
    """`change_mark` of the entry at the cursor; empty where the log was empty."""
    covered_at: datetime | None
    """Every state stored by this moment is held or mentioned; None before the first listing is
    complete."""
    final: bool
    """Last segment of one pass over the change log; the others repeat the cursor before them."""
    gap: Gap | None
    high_at: datetime | None
    """Latest `covered_at` so far; differs from it after the clock was set back."""
    late: tuple[tuple[int, int], ...]
    """Number and oldest change (µs) of segments that hold changes from before the `high_at` before
    them: a reader of an earlier moment must look into them as well."""


class SegmentRow(NamedTuple):
    """A version: a piece of it that is held, or only its mention."""

    agent_id: str
    version: int
    updated_us: int
    """Microseconds since 1970, UTC."""
    chunk: int
    chunks: int
    """Pieces of the whole state; 0 for a mention."""
    frame: int
    digest: str
    """SHA-256 of the whole state; empty for a mention."""

    @property
    def identity(self) -> tuple[int, int]:
        """What tells two versions of one agent apart, also after it was created anew."""
        return self.version, self.updated_us


class Piece(NamedTuple):
    """A row with its bytes, as it is handed to the writer; a mention has none."""

    row: SegmentRow
    plain: bytes


class SegmentTrailer(NamedTuple):
    """The clear end of a segment: what it can be checked by without keys."""

    salt: bytes
    previous: str
    sha256: str
    """Of everything before the trailer."""
    place: SegmentPlace
    tail_bytes: int
    """From the header's frame to the end of the object."""
    dek_id: str
    link: str
    """SHA-256 of the trailer; the next segment names it."""


class Segment(NamedTuple):
    """A segment that has been opened and proven to stand where it belongs."""

    key: str
    header: SegmentHeader
    rows: Sequence[SegmentRow]
    frames: Sequence[PackRow]
    trailer: SegmentTrailer
    size_bytes: int


def change_mark(change: StateChange) -> str:
    """Recognises a change log entry again, without naming a foreign network's agent."""
    text = f"{change.change_id}\x00{change.agent_id}\x00{change.version}\x00{change.digest}"
    return hashlib.sha256(text.encode()).hexdigest()


def pieces_of(
    agent_id: str, changes: Sequence[StateChange], state: AgentState | None
) -> list[Piece]:
    """What a segment says of one agent: the versions it does not hold, then the one it does.

    Args:
        agent_id: whose changes.
        changes: its entries of the change log, in order.
        state: as it is now; None when it is damaged or gone.
    """
    held = (state.version, microseconds(state.updated_at)) if state else None
    mentions = (
        SegmentRow(agent_id, one.version, microseconds(one.changed_at), 0, 0, -1, "")
        for one in changes
    )
    pieces = [Piece(row, b"") for row in mentions if row.identity != held]
    if state is None:
        return pieces
    starts = range(0, max(1, len(state.body)), PIECE_BYTES)
    whole = SegmentRow(
        agent_id,
        state.version,
        microseconds(state.updated_at),
        0,
        len(starts),
        -1,
        state.digest,
    )
    return pieces + [
        Piece(whole._replace(chunk=chunk), state.body[start : start + PIECE_BYTES])
        for chunk, start in enumerate(starts)
    ]


def group_pieces(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces in segments of bounded size; at least one, which may be empty."""
    groups: list[list[Piece]] = [[]]
    size = 0
    for piece in pieces:
        if groups[-1] and size + len(piece.plain) > PART_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(piece)
        size += len(piece.plain)
    return groups


def late_segments(
    before: SegmentHeader | None, pieces: Sequence[Piece], place: SegmentPlace, first_seq: int
) -> tuple[tuple[int, int], ...]:
    """The late segments up to and with this one.

    Args:
        before: header of the segment before; None for the first.
        pieces: of this segment.
        place: of this segment.
        first_seq: oldest segment that is still there.
    """
    if before is None:
        return ()
    kept = tuple(one for one in before.late if one[0] >= first_seq)
    oldest = min((piece.row.updated_us for piece in pieces), default=None)
    if oldest is None or before.high_at is None or oldest > microseconds(before.high_at):
        return kept
    return (*kept, (place.seq, oldest))


def seal_segment(
    keys: PackKeys, header: SegmentHeader, pieces: Sequence[Piece], salt: bytes
) -> bytes:
    """The bytes of a segment.

    Args:
        keys: of the network.
        header: what it covers.
        pieces: versions in the order in which they came to be.
        salt: 32 fresh random bytes; never use one twice, also not for another try.
    """
    builder = PackBuilder(keys, salt)
    frames: dict[bytes, int] = {}
    rows = []
    for row, plain in pieces:
        frame = -1
        if row.chunks:
            blob_id = keys.blob_id(plain)
            if blob_id not in frames:
                added = builder.add(blob_id, plain, _STATE, row.agent_id, row.version)
                frames[blob_id] = added.frame
            frame = frames[blob_id]
        rows.append(row._replace(frame=frame))
    start = builder.size_bytes
    encoded = _encode_header(header, rows)
    builder.add(keys.blob_id(encoded), encoded, _KIND, _KIND, header.place.seq)
    pack = builder.finish()
    dek_id, _ = read_salt(pack.data, "segment")
    named = dek_id.encode()
    tail_bytes = len(pack.data) - start + len(named) + _TRAILER.size
    trailer = named + _TRAILER.pack(
        salt,
        bytes.fromhex(header.previous),
        bytes.fromhex(pack.sha256),
        header.place.epoch,
        header.place.seq,
        tail_bytes,
        len(named),
        _MAGIC,
    )
    return pack.data + trailer


def read_trailer(tail: bytes, key: str) -> SegmentTrailer:
    """The clear trailer from the last bytes of a segment.

    Raises:
        CorruptObjectError: this is no segment, or it is cut off.
    """
    if len(tail) < _TRAILER.size or tail[-len(_MAGIC) :] != _MAGIC:
        raise CorruptObjectError(
            f"segment {key} has no trailer: damaged, or cut off",
            hint="Copy it back from another region.",
        )
    salt, previous, sha256, epoch, seq, tail_bytes, named, _ = _TRAILER.unpack(
        tail[-_TRAILER.size :]
    )
    start = len(tail) - _TRAILER.size - named
    if start < 0 or tail_bytes < _TRAILER.size + named:
        raise CorruptObjectError(f"segment {key}: its trailer is damaged")
    return SegmentTrailer(
        salt,
        previous.hex(),
        sha256.hex(),
        SegmentPlace(epoch, seq),
        tail_bytes,
        tail[start : -_TRAILER.size].decode(errors="replace"),
        hashlib.sha256(tail[start:]).hexdigest(),
    )


def check_segment(data: bytes, key: str, place: SegmentPlace) -> SegmentTrailer:
    """Check a whole segment without keys: it is undamaged, and stands where it says.

    Raises:
        CorruptObjectError: it does not.
    """
    trailer = read_trailer(data, key)
    body = data[: -(_TRAILER.size + len(trailer.dek_id.encode()))]
    if hashlib.sha256(body).hexdigest() != trailer.sha256:
        raise CorruptObjectError(
            f"segment {key}: its bytes do not match its trailer",
            hint="Copy it back from another region.",
        )
    if trailer.place != place:
        raise CorruptObjectError(f"segment {key} belongs elsewhere: it is {trailer.place}")
    dek_id, salt = read_salt(data, key)
    if (dek_id, salt) != (trailer.dek_id, trailer.salt):
        raise CorruptObjectError(f"segment {key}: header and trailer differ")
    return trailer


def open_segment(
    keys: PackKeys, tail: bytes, key: str, place: SegmentPlace, size_bytes: int
) -> Segment:
    """Open a segment by its last bytes.

    Args:
        keys: of the network.
        tail: at least `tail_bytes` of its trailer.
        key: of the object, for the error.
        place: where it was found.
        size_bytes: of the object.

    Raises:
        CorruptObjectError: damaged, exchanged, of another network or key, or of another place.
        SchemaMismatchError: it is authentic, but a newer version wrote it.
    """
    trailer = read_trailer(tail, key)
    named = len(trailer.dek_id.encode())
    if trailer.tail_bytes > min(len(tail), size_bytes):
        raise CorruptObjectError(f"segment {key}: its trailer is damaged, or it is cut off")
    sealed = tail[-trailer.tail_bytes : -(_TRAILER.size + named)]
    frames = open_tail(keys.opening(trailer.dek_id), trailer.salt, sealed, key)
    last = frames[-1] if frames else None
    if last is None or last.kind != _KIND or last.length > len(sealed):
        raise CorruptObjectError(f"segment {key} is a pack, but no segment")
    encoded = open_frame(keys, trailer.salt, last, sealed[: last.length], key, trailer.dek_id)
    header, rows = _decode_header(encoded, key)
    found = (header.network_id, header.place, header.previous)
    wanted = (keys.network_id, place, trailer.previous)
    if found != wanted or trailer.place != place:
        raise CorruptObjectError(f"segment {key} belongs elsewhere: it is {found}")
    return Segment(key, header, rows, frames, trailer, size_bytes)


def open_frame_of(keys: PackKeys, segment: Segment, row: SegmentRow, data: bytes) -> bytes:
    """The bytes of one piece from a whole segment.

    Raises:
        CorruptObjectError: it does not open, or the segment has no such frame.
    """
    if not 0 <= row.frame < len(segment.frames):
        raise CorruptObjectError(f"segment {segment.key} has no frame {row.frame}")
    frame = segment.frames[row.frame]
    sealed = data[frame.offset : frame.offset + frame.length]
    trailer = segment.trailer
    return open_frame(keys, trailer.salt, frame, sealed, segment.key, trailer.dek_id)


def _encode_header(header: SegmentHeader, rows: Sequence[SegmentRow]) -> bytes:
    gap = header.gap
    fields = {
        "format": _FORMAT,
        "network_id": header.network_id,
        "epoch": header.place.epoch,
        "seq": header.place.seq,
        "previous": header.previous,
        "written_at": header.written_at.astimezone(UTC).isoformat(),
        "cursor": header.cursor,
        "mark": header.mark,
        "covered_us": None if header.covered_at is None else microseconds(header.covered_at),
        "final": header.final,
        "gap": None if gap is None else [microseconds(gap.since), gap.reason, gap.snapshot_id],
        "high_us": None if header.high_at is None else microseconds(header.high_at),
        "late": header.late,
        "rows": list(zip(*rows, strict=True)),
    }
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def _decode_header(encoded: bytes, key: str) -> tuple[SegmentHeader, Sequence[SegmentRow]]:
    fields: Mapping[str, Any] = json.loads(encoded)
    if fields["format"] != _FORMAT:
        raise SchemaMismatchError(
            f"segment {key} is of format {fields['format']}",
            hint="A newer Stateroom wrote it; use that version or a newer one.",
        )
    gap = fields["gap"]
    header = SegmentHeader(
        fields["network_id"],
        SegmentPlace(fields["epoch"], fields["seq"]),
        fields["previous"],
        datetime.fromisoformat(fields["written_at"]),
        fields["cursor"],
        fields["mark"],
        _optional_moment(fields["covered_us"]),
        fields["final"],
        None if gap is None else Gap(moment_of(gap[0]), gap[1], gap[2]),
        _optional_moment(fields["high_us"]),
        tuple((seq, oldest) for seq, oldest in fields["late"]),
    )
    return header, [SegmentRow(*one) for one in zip(*fields["rows"], strict=True)]


def _optional_moment(number: int | None) -> datetime | None:
    return None if number is None else moment_of(number)
