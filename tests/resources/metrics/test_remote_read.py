"""The codec of remote read against messages that are put together here, field by field."""

from __future__ import annotations

import struct
from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.metrics.labels import Matcher, MatchKind
from resources.metrics.remote_read import (
    BrokenAnswerError,
    decode_labels,
    decode_response,
    encode_request,
    unpack,
)
from tests.fleet.metrics.plain_histograms import NativeHistogram, one_by_one
from tests.fleet.metrics.test_native_histograms import observe
from tests.servers.remote_write import _field, _varint, histogram_message


def sample(ts_ms: int, value: float) -> bytes:
    """A sample as Go writes it: zeros are left out."""
    bits = struct.pack("<d", value)
    body = b"" if value == 0 else b"\x09" + bits
    return _field(2, body + (b"\x10" + _varint(ts_ms % 2**64) if ts_ms else b""))


_TIMES = st.integers(1_600_000_000_000, 1_900_000_000_000) | st.sampled_from(
    [0, 1, 127, 128, -1, -(2**62), 2**35 - 1, 2**35, 2**42 - 1, 2**42, 2**62]
)
_VALUES = st.floats(allow_nan=False) | st.just(0.0) | st.integers(0, 3).map(float)
_SERIES = st.tuples(
    st.dictionaries(st.text(max_size=200), st.text(max_size=200), max_size=4),
    st.lists(st.tuples(_TIMES, _VALUES), max_size=12),
    st.lists(
        st.builds(
            observe,
            st.lists(st.floats(-50, 50), max_size=5),
            st.integers(-4, 8),
            st.sampled_from([0.0, 2.0**-128, 0.25]),
        ),
        max_size=2,
    ),
)


@given(st.lists(_SERIES, max_size=6))
def test_every_sample_is_read_with_its_series(
    made: list[tuple[dict[str, str], list[tuple[int, float]], list[NativeHistogram]]],
) -> None:
    """Values of any size, times of any length, zeros left out, native histograms, in any mix."""
    message = b""
    for labels, samples, histograms in made:
        series = b"".join(
            _field(1, _field(1, name.encode()) + _field(2, value.encode()))
            for name, value in labels.items()
        )
        series += b"".join(sample(*one) for one in samples)
        series += b"".join(
            _field(4, histogram_message(ts_ms, one)) for ts_ms, one in enumerate(histograms)
        )
        message += _field(1, series)
    found = decode_response(_field(1, message))
    assert [dict(decode_labels(one)) for one in found.labels] == [one[0] for one in made]
    at = zip(found.histograms.series_ids.tolist(), found.histograms.ts_ms.tolist(), strict=True)
    assert dict(zip(at, one_by_one(found.histograms.histograms), strict=True)) == {
        (place, ts_ms): one
        for place, (*_, several) in enumerate(made)
        for ts_ms, one in enumerate(several)
    }
    assert len(found.histograms) == sum(len(several) for *_, several in made)
    read: dict[int, list[tuple[int, bytes]]] = {number: [] for number in range(len(made))}
    columns = (found.place.tolist(), found.ts_ms.tolist(), found.values)
    for place, ts_ms, value in zip(*columns, strict=True):
        read[place].append((ts_ms, struct.pack("<d", value)))
    for number, (_, samples, _) in enumerate(made):
        wanted = [(ts, struct.pack("<d", 0.0 if value == 0 else value)) for ts, value in samples]
        assert sorted(read[number]) == sorted(wanted)


GOOD = _field(
    1,
    _field(
        1,
        _field(1, _field(1, b"__name__") + _field(2, b"a"))
        + b"".join(sample(1_700_000_000_000 + n, n * 1.5) for n in range(20))
        + _field(4, histogram_message(1_700_000_000_000, observe([1.0, -3.0, 0.0], 2))),
    ),
)


def test_histograms_that_cannot_be_read_are_counted_or_break_the_answer() -> None:
    """Custom bounds have no schema here; more or fewer counts than spans are no histogram."""
    sound = histogram_message(5, observe([1.0], 0))
    custom = histogram_message(5, observe([1.0], 0)._replace(schema=-53))

    def answer(message: bytes) -> bytes:
        return _field(1, _field(1, _field(1, _field(1, b"__name__")) + _field(4, message)))

    found = decode_response(answer(custom))
    assert (found.custom, len(found.histograms)) == (1, 0)
    for wrong in (sound + _field(12, b"\x02"), sound + _field(11, b"\x10\x09"), b"\x0d1234"):
        with pytest.raises(BrokenAnswerError):
            decode_response(answer(wrong))


def test_an_answer_that_is_cut_anywhere_is_broken() -> None:
    """Or it is whole; never another error."""
    for length in range(1, len(GOOD)):
        with pytest.raises(BrokenAnswerError):
            decode_response(GOOD[:length])
    assert len(decode_response(b"").labels) == 0


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_an_answer_with_a_wrong_byte_is_broken_or_another_answer(place: int, byte: int) -> None:
    """No other error comes out of it, also from its labels."""
    wrong = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    with suppress(BrokenAnswerError):
        found = decode_response(wrong)
        assert len(found.place) == len(found.ts_ms) == len(found.values) <= 21
        for labels in found.labels:
            decode_labels(labels)


def test_a_block_is_unpacked_up_to_a_limit() -> None:
    """What would be longer is not unpacked; what is no block is broken."""
    block = pa.compress(b"x" * 1000, codec="snappy", asbytes=True)
    assert unpack(block, 1000) == b"x" * 1000
    with pytest.raises(OverflowError):
        unpack(block, 999)
    for wrong in (b"", b"\xff", block[:-1], block[:5], b"\x05abc"):
        with pytest.raises(BrokenAnswerError):
            unpack(wrong, 10**6)


def test_a_request_says_range_and_matchers() -> None:
    """As the protocol's file has them."""
    packed = encode_request(
        [Matcher("a", MatchKind.EQUAL, "x"), Matcher("b", MatchKind.NOT_REGEX, "y")], 1000, -1
    )
    minus_one = b"\xff" * 9 + b"\x01"
    query = b"\x08" + _varint(1000) + b"\x10" + minus_one
    query += _field(3, _field(2, b"a") + _field(3, b"x"))
    query += _field(3, b"\x08\x03" + _field(2, b"b") + _field(3, b"y"))
    assert unpack(packed, 1000) == _field(1, query)
