"""A pack gives back exactly what went in, or says that it cannot; it never gives anything else."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.pack_keys import PackKeys
from fleet.vault_pack import (
    PACK_MAX_BYTES,
    FrameOpener,
    Pack,
    PackBuilder,
    PackRow,
    open_frame,
    read_salt,
    read_table,
)
from tests.examples import examples

KEYS = PackKeys(b"k" * 32, "2026-11", "net-a")
SALT = b"s" * 32


def packed(blobs: list[bytes], keys: PackKeys = KEYS, salt: bytes = SALT) -> Pack:
    """A pack of these blobs, as versions 1, 2, ... of agents a0, a1, ..."""
    builder = PackBuilder(keys, salt)
    for number, plain in enumerate(blobs):
        builder.add(keys.blob_id(plain), plain, "state", f"a{number}", number + 1)
    return builder.finish()


def opened(pack: Pack, row: PackRow, keys: PackKeys = KEYS) -> bytes:
    """The blob of a row, by a ranged read of the pack's bytes."""
    sealed = pack.data[row.offset : row.offset + row.length]
    return open_frame(keys, pack.salt, row, sealed, pack.sha256)


blob_lists = st.lists(st.binary(max_size=2000), max_size=8)


@given(blob_lists)
def test_every_blob_comes_back_from_its_range(blobs: list[bytes]) -> None:
    """Compressible, incompressible and empty blobs alike."""
    pack = packed(blobs)
    assert [opened(pack, row) for row in pack.rows] == blobs


@given(blob_lists)
def test_the_table_is_rebuilt_from_the_pack_alone(blobs: list[bytes]) -> None:
    """Losing every manifest loses no row."""
    pack = packed(blobs)
    assert tuple(read_table(KEYS, pack.data, pack.sha256)) == pack.rows
    assert read_salt(pack.data, pack.sha256) == ("2026-11", SALT)


def test_a_pack_is_named_by_the_hash_of_its_bytes() -> None:
    """Any region can scrub it without keys."""
    pack = packed([b"x" * 100])
    assert hashlib.sha256(pack.data).hexdigest() == pack.sha256


@settings(max_examples=examples(300))
@given(st.integers(0, 2**32), st.integers(0, 7))
def test_no_flipped_bit_is_ever_returned_as_data(place: int, bit: int) -> None:
    """Whichever bit is flipped, each blob is right or refused, and the scrub sees it."""
    blobs = [random.Random(1).randbytes(300), b"state " * 80, b""]
    pack = packed(blobs)
    damaged = bytearray(pack.data)
    damaged[place % len(damaged)] ^= 1 << bit
    data = bytes(damaged)
    assert hashlib.sha256(data).hexdigest() != pack.sha256
    refused = 0
    for row, blob in zip(pack.rows, blobs, strict=True):
        try:
            sealed = data[row.offset : row.offset + row.length]
            assert open_frame(KEYS, pack.salt, row, sealed, pack.sha256) == blob
        except CorruptObjectError:
            refused += 1
    first, last = pack.rows[0], pack.rows[-1]
    inside = first.offset <= place % len(damaged) < last.offset + last.length
    assert refused == (1 if inside else 0)


@given(st.integers(0, 2000))
def test_a_truncated_pack_is_refused_whole(length: int) -> None:
    """Cut anywhere, the table does not open."""
    pack = packed([b"state " * 80, random.Random(2).randbytes(500)])
    with pytest.raises(CorruptObjectError, match=pack.sha256):
        read_table(KEYS, pack.data[: min(length, len(pack.data) - 1)], pack.sha256)


def test_frames_cannot_change_places_packs_or_networks() -> None:
    """Frame number, salt and network are authenticated with the bytes."""
    pack = packed([b"first", b"other"])
    one, two = pack.rows
    swapped = two._replace(frame=one.frame)
    with pytest.raises(CorruptObjectError, match="does not open"):
        opened(pack, swapped)
    other_salt = packed([b"first"], salt=b"t" * 32)
    with pytest.raises(CorruptObjectError):
        opened(pack._replace(salt=other_salt.salt), one)
    with pytest.raises(CorruptObjectError):
        opened(pack, one, PackKeys(KEYS.data_key, "2026-11", "net-b"))


@given(blob_lists.filter(bool))
@settings(deadline=None)
def test_one_opener_opens_every_frame_of_its_pack_and_none_of_another(blobs: list[bytes]) -> None:
    """Also from a view of many frames; what does not open leaves it fit for the next frame."""
    pack, other = packed(blobs), packed(blobs, salt=b"t" * 32)
    opener, view = FrameOpener(KEYS, pack.salt, pack.sha256), memoryview(pack.data)
    for row, strange, blob in zip(pack.rows, other.rows, blobs, strict=True):
        foreign = other.data[strange.offset : strange.offset + strange.length]
        for kind, sealed in (("state", foreign), ("file", view[row.offset :][: row.length])):
            with pytest.raises(CorruptObjectError, match="does not open"):
                opener.open(row.frame, kind, sealed)
        sealed = view[row.offset : row.offset + row.length]
        assert opener.open(row.frame, row.kind, sealed)[1] == blob
        assert opener.body_of(row, sealed)[1] == blob
        with pytest.raises(CorruptObjectError, match="holds another blob"):
            opener.body_of(row._replace(blob_id=bytes(32)), sealed)


def test_another_key_opens_nothing_and_says_so() -> None:
    """Wrong key, one clear error."""
    pack = packed([b"secret"])
    with pytest.raises(CorruptObjectError, match="another key"):
        opened(pack, pack.rows[0], PackKeys(b"w" * 32, "2026-11", "net-a"))


def test_neither_content_nor_agent_ids_stand_in_a_pack_in_the_clear() -> None:
    """A copy of the bucket tells nobody who was backed up."""
    builder = PackBuilder(KEYS, SALT)
    plain = b"the very secret state of agent seventeen"
    builder.add(KEYS.blob_id(plain), plain, "state", "agent-seventeen", 1)
    data = builder.finish().data
    assert b"seventeen" not in data
    assert b"secret" not in data


def test_equal_blobs_have_equal_ids_only_under_one_key() -> None:
    """Deduplication inside a vault, no confirmation of known files from outside."""
    other = PackKeys(b"w" * 32, "2026-11", "net-a")
    assert KEYS.blob_id(b"x") == KEYS.blob_id(b"x") != other.blob_id(b"x")
    assert KEYS.blob_id(b"x") != KEYS.blob_id(b"y")


def test_what_compresses_is_compressed_and_what_does_not_is_stored_raw() -> None:
    """Random bytes cost their length plus one byte and the tag."""
    noise = random.Random(3).randbytes(1000)
    text, raw = packed([b"state " * 200, noise]).rows
    assert text.length < 100
    assert raw.length == 1000 + 1 + 16


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_and_salts_of_a_wrong_length_are_refused(size: int) -> None:
    """Before anything is sealed."""
    with pytest.raises(InvalidInputError, match="data_key"):
        PackKeys(b"k" * size, "d", "n")
    with pytest.raises(InvalidInputError, match="salt"):
        PackBuilder(KEYS, b"s" * size)


def test_a_blob_that_does_not_fit_is_refused_and_the_pack_stays_usable() -> None:
    """The caller chunks large content; the builder never grows past its limit."""
    builder = PackBuilder(KEYS, SALT)
    with pytest.raises(InvalidInputError, match="blob"):
        builder.add(b"i" * 32, bytes(PACK_MAX_BYTES), "file", "big", 0)
    assert builder.is_empty
    builder.add(KEYS.blob_id(b"x"), b"x", "state", "a", 1)
    assert builder.size_bytes < 200
    assert len(builder.finish().rows) == 1


@pytest.mark.parametrize("data", [b"", b"SRP1", b"SRP1\x02\x01x", b"garbage" * 20, b"SRP1\x01\x05"])
def test_what_is_no_pack_is_refused_by_name(data: bytes) -> None:
    """Header faults are named before any key is used."""
    with pytest.raises(CorruptObjectError, match="pack p"):
        read_table(KEYS, data, "p")
