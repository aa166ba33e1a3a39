"""Segments give back what was sealed, and refuse everything else; versions are chosen by order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import vault_journal
from fleet.agents import AgentState, StateChange
from fleet.errors import CorruptObjectError, PermanentError, SchemaMismatchError
from fleet.moments import microseconds, moment_of
from fleet.pack_keys import PackKeys
from fleet.vault_journal import (
    NO_PREVIOUS,
    Gap,
    Piece,
    Segment,
    SegmentHeader,
    change_mark,
    check_segment,
    group_pieces,
    late_segments,
    open_frame_of,
    open_segment,
    pieces_of,
    seal_segment,
)
from fleet.vault_keyspace import SegmentPlace, parse_segment_key, segment_key
from fleet.vault_moment import choose_version, in_order
from fleet.vault_pack import PackBuilder

KEYS = PackKeys(b"k" * 32, "net.0001", "net")
AT = datetime(2026, 11, 20, 14, tzinfo=UTC)
PLACE = SegmentPlace(0, 7)
HEADER = SegmentHeader(
    "net", PLACE, NO_PREVIOUS, AT, 12, "mark", AT, True, Gap(AT, "why", "S"), AT, ((3, 5),)
)


def change(version: int, at: datetime = AT) -> StateChange:
    """A change log entry of one agent."""
    return StateChange(version, "a", version, 1, 1, "d", at)


def state(version: int, body: bytes = b"body") -> AgentState:
    """A live state."""
    return AgentState("a", version, 1, "00" * 32, body, AT)


def sealed(header: SegmentHeader = HEADER, pieces: list[Piece] | None = None) -> bytes:
    """A segment's bytes."""
    return seal_segment(KEYS, header, pieces or [], b"s" * 32)


def opened(data: bytes, place: SegmentPlace = PLACE) -> Segment:
    """The same, opened."""
    return open_segment(KEYS, data, "key", place, len(data))


@given(st.lists(st.binary(max_size=100), max_size=6), st.integers(0, 10**17))
def test_a_segment_gives_back_what_was_sealed(bodies: list[bytes], updated_us: int) -> None:
    """Header, rows and bytes; equal bytes are stored once."""
    pieces = []
    for number, body in enumerate(bodies):
        one = AgentState(f"agent-{number}", number + 1, 1, "ab" * 32, body, moment_of(updated_us))
        pieces += pieces_of(one.agent_id, [change(9)], one)
    data = sealed(pieces=pieces)
    segment = opened(data)
    assert segment.header == HEADER
    assert [row._replace(frame=-1) for row in segment.rows] == [piece.row for piece in pieces]
    assert len(segment.frames) == len(set(bodies)) + 1
    for row, piece in zip(segment.rows, pieces, strict=True):
        assert not row.chunks or open_frame_of(KEYS, segment, row, data) == piece.plain
    assert check_segment(data, "key", PLACE).link == segment.trailer.link


@given(st.integers(0, 10**4), st.integers(0, 7))
def test_no_bit_of_a_segment_can_change_unnoticed(position: int, bit: int) -> None:
    """By the check without keys, or by opening it: at any place."""
    data = bytearray(sealed(pieces=pieces_of("a", [], state(1))))
    data[position % len(data)] ^= 1 << bit

    def look() -> None:
        check_segment(bytes(data), "key", PLACE)
        # The link before can only be seen to be wrong with the key: the sealed header repeats it.
        opened(bytes(data))

    with pytest.raises(CorruptObjectError):
        look()


def test_what_is_no_segment_of_this_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain pack, another place, another network, a newer format, a frame that is not there."""
    builder = PackBuilder(KEYS, b"p" * 32)
    builder.add(KEYS.blob_id(b"x"), b"x", "state", "a", 1)
    pack = builder.finish().data
    with pytest.raises(CorruptObjectError, match="no trailer"):
        opened(pack)
    trailer = sealed()[-(len(KEYS.dek_id) + vault_journal._TRAILER.size) :]
    with pytest.raises(CorruptObjectError):
        opened(pack + trailer)
    with pytest.raises(CorruptObjectError, match="belongs elsewhere"):
        opened(sealed(), SegmentPlace(1, 7))
    with pytest.raises(CorruptObjectError, match="belongs elsewhere"):
        check_segment(sealed(), "key", SegmentPlace(0, 8))
    with pytest.raises(CorruptObjectError, match="belongs elsewhere"):
        opened(sealed(HEADER._replace(network_id="other")))
    with pytest.raises(PermanentError, match=r"data key net\.0001 is needed"):
        open_segment(PackKeys(b"k" * 32, "net.0002", "net"), sealed(), "key", PLACE, 10**6)
    with pytest.raises(CorruptObjectError, match="cut off"):
        open_segment(KEYS, sealed()[-200:], "key", PLACE, 200)
    whole = opened(sealed(pieces=pieces_of("a", [], state(1))))
    with pytest.raises(CorruptObjectError, match="has no frame 9"):
        open_frame_of(KEYS, whole, whole.rows[0]._replace(frame=9), b"")
    monkeypatch.setattr(vault_journal, "_KIND", "other")
    stranger = sealed()
    monkeypatch.undo()
    with pytest.raises(CorruptObjectError, match="a pack, but no segment"):
        opened(stranger)
    monkeypatch.setattr(vault_journal, "_FORMAT", 2)
    newer = sealed()
    monkeypatch.undo()
    with pytest.raises(SchemaMismatchError, match="format 2"):
        opened(newer)


def test_a_trailer_that_was_put_behind_another_pack_is_refused() -> None:
    """Also when its hash was computed anew."""
    data = sealed()
    end = len(KEYS.dek_id) + vault_journal._TRAILER.size
    other = seal_segment(KEYS, HEADER, pieces_of("a", [], state(2)), b"t" * 32)
    fields = list(vault_journal._TRAILER.unpack(data[-vault_journal._TRAILER.size :]))
    fields[2] = bytes.fromhex(vault_journal.read_trailer(other, "key").sha256)
    forged = other[:-end] + KEYS.dek_id.encode() + vault_journal._TRAILER.pack(*fields)
    with pytest.raises(CorruptObjectError, match="header and trailer differ"):
        check_segment(forged, "key", PLACE)
    fields[6] = 255
    with pytest.raises(CorruptObjectError, match="trailer is damaged"):
        vault_journal.read_trailer(vault_journal._TRAILER.pack(*fields), "key")


def test_versions_that_are_not_held_are_mentioned() -> None:
    """In order, without the one that is held; all of them when the state cannot be had."""
    changes = [change(version, AT + timedelta(seconds=version - 3)) for version in (1, 2, 3)]
    rows = [piece.row for piece in pieces_of("a", changes, state(3))]
    assert [(row.version, row.chunks) for row in rows] == [(1, 0), (2, 0), (3, 1)]
    assert [piece.row.chunks for piece in pieces_of("a", changes, None)] == [0, 0, 0]


def test_large_states_are_cut_and_segments_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No group above the limit; an empty one where there is nothing."""
    monkeypatch.setattr(vault_journal, "PIECE_BYTES", 10)
    monkeypatch.setattr(vault_journal, "PART_BYTES", 15)
    pieces = pieces_of("a", [], state(1, bytes(35)))
    assert [(piece.row.chunk, len(piece.plain)) for piece in pieces] == [
        (0, 10),
        (1, 10),
        (2, 10),
        (3, 5),
    ]
    assert [[len(one.plain) for one in group] for group in group_pieces(pieces)] == [
        [10],
        [10],
        [10, 5],
    ]
    assert group_pieces([]) == [[]]


def test_changes_from_before_the_coverage_are_listed_as_late() -> None:
    """Until the segment is trimmed."""
    pieces = pieces_of("a", [], state(1))
    assert late_segments(None, pieces, PLACE, 1) == ()
    assert late_segments(HEADER, pieces, PLACE, 1) == ((3, 5), (7, microseconds(AT)))
    assert late_segments(HEADER, [], PLACE, 1) == ((3, 5),)
    later = HEADER._replace(high_at=AT - timedelta(seconds=1))
    assert late_segments(later, pieces, PLACE, 4) == ()


def test_entries_and_places_are_recognised() -> None:
    """Any field of an entry counts; keys parse back, and nothing else does."""
    assert change_mark(change(1)) != change_mark(change(2))
    key = segment_key("net", SegmentPlace(3, 12))
    assert key == "journal/net/0003/0000000012.segment"
    assert parse_segment_key(key) == SegmentPlace(3, 12)
    with pytest.raises(CorruptObjectError):
        parse_segment_key("journal/net/3/12.segment")


@pytest.mark.parametrize(
    ("base", "journal", "after", "expected"),
    [
        ((1, 10), [(2, 20)], [], [(1, 10), (2, 20)]),
        ((2, 20), [(1, 10), (3, 30)], [], [(1, 10), (2, 20), (3, 30)]),
        ((5, 50), [(1, 60)], [], [(5, 50), (1, 60)]),
        ((5, 50), [(6, 10)], [], [(5, 50), (6, 10)]),
        ((1, 10), [(2, 20), (4, 40)], [(3, 30)], [(1, 10), (2, 20), (3, 30), (4, 40)]),
        ((1, 10), [(2, 20), (3, 5)], [(2, 20)], [(1, 10), (2, 20), (3, 5)]),
        (None, [], [(1, 1)], [(1, 1)]),
    ],
)
def test_versions_are_put_in_the_order_in_which_they_came_to_be(
    base: tuple[int, int] | None,
    journal: list[tuple[int, int]],
    after: list[tuple[int, int]],
    expected: list[tuple[int, int]],
) -> None:
    """Overlaps, agents created anew, clocks set back, snapshots in the middle of the journal."""
    assert in_order(base, journal, after) == expected


def test_choices_say_why() -> None:
    """Exact, replaced unread, damaged, unrecorded, too new, not there yet."""
    one, two, three = (1, 10), (2, 20), (3, 30)
    exact = choose_version([one, two], {one, two}, 25, proven=True, base=one)
    assert (exact.found, exact.reason) == (two, "")
    unread = choose_version([one, two, three], {one, three}, 25, proven=True, base=one)
    assert (unread.found, unread.wanted) == (one, two)
    assert "before the journal read it" in unread.reason
    damaged = choose_version([one, two], {one, two}, None, proven=True, excluded={two})
    assert damaged.found == one
    assert "damaged in the vault" in damaged.reason
    assert choose_version([one, three], {one}, 25, proven=False).reason != ""
    assert choose_version([one, two], {one}, 15, proven=False).reason == ""
    newer = choose_version([two], {two}, 15, proven=True, base=two)
    assert (newer.found, newer.look_back) == (None, True)
    assert not choose_version([one], {one}, 5, proven=False).existed
    assert choose_version([two], {two}, 5, proven=False).existed
    assert not choose_version([two], {two}, 5, proven=True).existed
