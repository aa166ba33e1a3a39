"""Readers of recorded load: three layouts, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fleet.errors import InvalidInputError, NotFoundError, StateroomError
from resources.load_traces import read_load_trace, seconds_of

GENTD26 = (
    "timestamp_anon,value,container_ip,request_type\n"
    "1662859176.0,0.5,,API Requests\n"
    "1662859176.0,1.5,a1,Generative Requests\n"
    "1662859176.0,2.0,b2,Generative Requests\n"
    "1662859233.0,1.0,a1,Generative Requests\n"
)
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
    "2023-11-16 18:16:01.7,100,5\n"
    "2023-11-16 18:16:20.0000000,1,1"
)


def test_rows_of_a_time_are_added_up_and_columns_choose(tmp_path: Path) -> None:
    """gentd26, plain or gzipped; the layout is seen from columns, the packing from content."""
    plain, packed = tmp_path / "qps.csv", tmp_path / "qps.csv.bin"
    plain.write_text(GENTD26)
    packed.write_bytes(gzip.compress(GENTD26.encode()))

    for path in (plain, packed):
        assert read_load_trace(path).load == [4.0, 4.0, 4.0, 4.0]
        chosen = read_load_trace(path, where={"request_type": "Generative Requests"}, step_s=57)
        assert chosen.load == [3.5, 1.0]
        assert chosen.start.isoformat() == "2022-09-11T01:19:36+00:00"


def test_arrivals_are_requests_or_tokens_by_second(tmp_path: Path) -> None:
    """Azure's times have seven decimals; the last 3 s are no step."""
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)

    assert read_load_trace(path).load == pytest.approx([2 / 15, 1 / 15])
    by_token = read_load_trace(path, count="tokens")
    assert by_token.load == pytest.approx([923 / 15, 105 / 15])


def test_iso_times_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    """Without a zone it is UTC."""
    path = tmp_path / "load.csv"
    path.write_text("\ufefftime,value\n2026-11-21T12:00:00+01:00,1\n2026-11-21 11:00:30,2\n")

    found = read_load_trace(path)

    assert (found.start.isoformat(), found.load) == ("2026-11-21T11:00:00+00:00", [1.0, 1.0, 2.0])
    assert seconds_of("1970-01-01 00:00:01.5") == seconds_of("1.5") == 1.5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("time,value\n1,x\n", "load.csv line 2, value"),
        ("time,value\n1,1\nyesterday,1\n", "load.csv line 3, time"),
        ("time,value\n1\n", "load.csv line 2, value"),
        ("time,value\n1,-3\n", "load load.csv at 1"),
        ("time,value\n1,nan\n", "load load.csv at 1"),
        ("time,value\n", "one row or more"),
        ("", "columns of load.csv"),
        ("when,what\n1,1\n", "columns of load.csv"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-01,1,1\n", "line 2, TIMESTAMP"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, text: str, named: str) -> None:
    """File, line and column stand in the error."""
    path = tmp_path / "load.csv"
    path.write_text(text)

    with pytest.raises(InvalidInputError, match=named):
        read_load_trace(path)


def test_files_that_cannot_be_read_are_one_clear_error(tmp_path: Path) -> None:
    """Missing, a folder, cut off in the middle, or not text; and choices that do not exist."""
    cut, binary = tmp_path / "cut.gz", tmp_path / "binary.csv"
    cut.write_bytes(gzip.compress(GENTD26.encode() * 50)[:-20])
    binary.write_bytes(b"time,value\n1,\xff\xfe\n")
    plain = tmp_path / "qps.csv"
    plain.write_text(GENTD26)

    with pytest.raises(NotFoundError, match="no file"):
        read_load_trace(tmp_path / "none.csv")
    for path in (tmp_path, cut, binary):
        with pytest.raises(StateroomError, match=path.name):
            read_load_trace(path)
    with pytest.raises(InvalidInputError, match="where"):
        read_load_trace(plain, where={"zone": "a"})
    with pytest.raises(InvalidInputError, match="one row"):
        read_load_trace(plain, where={"request_type": "none"})
    with pytest.raises(InvalidInputError, match="count"):
        read_load_trace(plain, count="bytes")
