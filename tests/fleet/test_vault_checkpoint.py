"""Checkpoints as bytes: sealed to their place, the same for every writer, continued by hash."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import CorruptObjectError
from fleet.vault_checkpoint import (
    CheckpointPlace,
    Spacing,
    covering,
    encode_checkpoint,
    epoch_at,
    line_of,
    newest_place,
    open_checkpoint,
    wanted_blocks,
)
from fleet.vault_epochs import Slot
from fleet.vault_log import EvidenceRecord, LogRecord, SnapshotRecord
from fleet.vault_records import (
    FIRST_PREVIOUS,
    LogPosition,
    StoredRecord,
    decode_record,
    encode_record,
    read_record,
)

KEY = b"k" * 32
AT = datetime(2026, 11, 21, tzinfo=UTC)
GOLDEN = Path(__file__).parents[1] / "golden" / "log_checkpoint_v1.ckpt"
NAME = "checkpoints/log/net/0001/0000000001-0000000004.ckpt"


def chain(epochs: list[int], network_id: str = "net") -> tuple[list[StoredRecord], list[bytes]]:
    """Records of these epochs, one after the other, and their bytes."""
    records: list[StoredRecord] = []
    contents: list[bytes] = []
    for seq, epoch in enumerate(epochs, 1):
        before = records[-1].sha256 if records else FIRST_PREVIOUS
        place = LogPosition(network_id, epoch, seq, before)
        record: LogRecord = EvidenceRecord("note", f"line\nbreak {seq}")
        if seq % 2:
            record = SnapshotRecord(f"s{seq}", AT, frozenset({f"p{seq}", "q"}))
        contents.append(encode_record(record, place, AT, KEY, {"n": seq, "text": "a\u2028b"}))
        records.append(decode_record(contents[-1], place, KEY, str(seq)))
    return records, contents


def sealed(first: int = 1, last: int = 4, key: str = NAME) -> bytes:
    """A checkpoint of a log whose epoch 1 begins with record 3."""
    records, contents = chain([0, 0, 1, 1, 1, 1])
    chosen = slice(first - 1, last)
    line = line_of(records[:last])
    return encode_checkpoint(line, records[chosen], contents[chosen], KEY, key)


@pytest.mark.parametrize(("first", "last"), [(1, 4), (3, 4), (2, 2), (5, 6)])
def test_a_checkpoint_gives_the_records_back_as_they_were_verified(first: int, last: int) -> None:
    """With the line of epochs that leads to its last one."""
    place = CheckpointPlace(1 if last > 2 else 0, first, last)
    opened = open_checkpoint(sealed(first, last), place, "net", KEY, NAME)
    records, _ = chain([0, 0, 1, 1, 1, 1])
    assert list(opened.records) == records[first - 1 : last]
    assert opened.prev_sha256 == (records[first - 2].sha256 if first > 1 else FIRST_PREVIOUS)
    assert opened.line == ((Slot(0, 1), Slot(1, 3)) if last > 2 else (Slot(0, 1),))


def test_two_writers_seal_the_same_records_as_the_same_bytes() -> None:
    """And another stretch, key or log under another salt, so that no key seals two contents."""
    assert sealed() == sealed()
    others = [sealed(), sealed(1, 3), sealed(key=NAME + "x")]
    assert len({one[4:36] for one in others}) == len(others)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(at: int, bit: int) -> None:
    """Magic, salt, sealed bytes, tag."""
    data = bytearray(sealed())
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(CorruptObjectError, match="0000000001-0000000004"):
        open_checkpoint(bytes(data), CheckpointPlace(1, 1, 4), "net", KEY, NAME)


@given(length=st.integers(0, 10_000))
def test_a_cut_checkpoint_is_found(length: int) -> None:
    """At any length."""
    data = sealed()
    cut = data[: length % len(data)]
    with pytest.raises(CorruptObjectError, match="0000000001-0000000004"):
        open_checkpoint(cut, CheckpointPlace(1, 1, 4), "net", KEY, NAME)


@pytest.mark.parametrize(
    ("place", "network", "key", "name"),
    [
        (CheckpointPlace(1, 1, 4), "net", b"w" * 32, NAME),
        (CheckpointPlace(1, 1, 4), "net-2", KEY, NAME),
        (CheckpointPlace(1, 1, 4), "net", KEY, NAME.replace("0001/", "0002/")),
        (CheckpointPlace(1, 1, 5), "net", KEY, NAME),
        (CheckpointPlace(2, 1, 4), "net", KEY, NAME),
    ],
)
def test_a_checkpoint_opens_at_its_own_place_only(
    place: CheckpointPlace, network: str, key: bytes, name: str
) -> None:
    """Another key, network, object key, range or epoch is refused."""
    with pytest.raises(CorruptObjectError):
        open_checkpoint(sealed(), place, network, key, name)


@pytest.mark.parametrize("fault", ["swapped", "left out", "other chain", "other network"])
def test_records_that_do_not_continue_one_another_are_refused(fault: str) -> None:
    """Also when a holder of the key has sealed them."""
    records, contents = chain([0, 0, 0, 0])
    if fault == "swapped":
        contents[1], contents[2] = contents[2], contents[1]
    elif fault == "left out":
        del contents[2]
    elif fault == "other network":
        contents = chain([0, 0, 0, 0], "other")[1]
    else:
        place = LogPosition("net", 0, 3, "f" * 64)
        contents[2] = encode_record(EvidenceRecord("note", "forged"), place, AT, KEY)
    data = encode_checkpoint(line_of(records), records, contents, KEY, NAME)
    with pytest.raises(CorruptObjectError):
        open_checkpoint(data, CheckpointPlace(0, 1, 4), "net", KEY, NAME)


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"\xff", b'{"epoch":0}'])
def test_bytes_that_are_no_record_are_refused_by_name(text: bytes) -> None:
    """As they would be in the log."""
    with pytest.raises(CorruptObjectError, match="log record x cannot be read"):
        read_record(text, LogPosition("net", 0, 1, FIRST_PREVIOUS), "x")


def naive_blocks(sizes: list[int], spacing: Spacing) -> list[tuple[int, int]]:
    """The twin: try every length at every place."""
    lengths = [spacing.every * spacing.fan_out**level for level in range(12)]
    blocks, done = [], 0
    while True:
        fitting = [
            one
            for one in lengths
            if done % one == 0
            and done + one <= len(sizes)
            and (one == spacing.every or sum(sizes[done : done + one]) <= spacing.max_bytes)
        ]
        if not fitting:
            return blocks
        blocks.append((done + 1, done + max(fitting)))
        done += max(fitting)


@given(
    sizes=st.lists(st.integers(1, 9), max_size=120),
    every=st.integers(1, 5),
    fan_out=st.integers(2, 4),
    max_bytes=st.integers(1, 400),
)
def test_the_blocks_that_are_wanted_cover_the_log_without_gap_or_overlap(
    sizes: list[int], every: int, fan_out: int, max_bytes: int
) -> None:
    """With fewer records behind them than the smallest block has; equal to the naive twin."""
    spacing = Spacing(every, fan_out, max_bytes)
    blocks = wanted_blocks(sizes, spacing)
    assert blocks == naive_blocks(sizes, spacing)
    held = [seq for first, last in blocks for seq in range(first, last + 1)]
    assert held == list(range(1, len(held) + 1))
    assert len(sizes) - len(held) < every


def test_a_year_of_records_is_covered_by_few_checkpoints() -> None:
    """As shipped: 20,000 records in ten; no length of log wants more than 15 of each length."""
    assert len(wanted_blocks([900] * 20_000, Spacing())) == 10
    assert max(len(wanted_blocks([1] * n, Spacing())) for n in range(0, 20_000, 997)) <= 45


@given(head=st.integers(1, 200), lost=st.sets(st.integers(0, 400), max_size=30))
def test_a_reader_finds_a_covering_or_names_the_gap(head: int, lost: set[int]) -> None:
    """Of all that a growing log has been given, whatever has been lost since."""
    spacing = Spacing(2, 3)
    given_places = sorted(
        {
            CheckpointPlace(0, first, last)
            for n in range(head + 1)
            for first, last in wanted_blocks([1] * n, spacing)
        }
    )
    places = [one for number, one in enumerate(given_places) if number not in lost]
    newest = newest_place(places)
    if newest is None:
        return
    reached = {0}
    for one in sorted(places, key=lambda one: one.last):
        reached |= {one.last} if one.first - 1 in reached else set()
    if newest.last not in reached:
        with pytest.raises(CorruptObjectError, match="no checkpoint holds"):
            covering(places, newest, (Slot(0, 1),))
        return
    chosen = covering(places, newest, (Slot(0, 1),))
    assert (chosen[0].first, chosen[-1]) == (1, newest)
    for one, two in itertools.pairwise(chosen):
        assert two.first == one.last + 1


def test_a_covering_follows_the_line_of_epochs() -> None:
    """A branch's checkpoint of the same numbers is passed by."""
    branch, trunk = CheckpointPlace(0, 3, 4), CheckpointPlace(2, 3, 4)
    places = [CheckpointPlace(0, 1, 2), branch, trunk, CheckpointPlace(2, 5, 6)]
    line = (Slot(0, 1), Slot(2, 4))
    newest = newest_place(places)
    assert newest == CheckpointPlace(2, 5, 6)
    assert covering(places, newest, line) == [places[0], trunk, newest]
    assert [epoch_at(line, seq) for seq in (0, 1, 3, 4, 9)] == [0, 0, 0, 2, 2]


def test_a_checkpoint_of_the_first_version_opens_for_ever() -> None:
    """Its bytes are kept; what they hold is known."""
    opened = open_checkpoint(GOLDEN.read_bytes(), CheckpointPlace(1, 1, 4), "net", KEY, NAME)
    assert list(opened.records) == chain([0, 0, 1, 1])[0]
