"""Files become samples whole or not at all, and the same samples however often they are read."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidDocumentError, InvalidInputError, NotFoundError
from fleet.metrics.csv_layout import GENTD26, CsvLayout, layouts_of_document
from fleet.metrics.labels import METRIC_NAME, labels_text
from fleet.metrics.samples import MetricType
from fleet.ports.metric_source import SourcePiece
from resources.metrics.csv_file import CsvFile
from resources.metrics.csv_import import CsvSource, csv_source, gentd26_source

EVER = (0, 2**53)
LAYOUT = CsvLayout("a.csv", "load", label_columns=(("host", "node"),), labels=(("job", "x"),))


def rows(pieces: list[SourcePiece]) -> list[tuple[str, int, float]]:
    """All samples in order."""
    return [
        (labels_text(piece.batch.series[one].labels), ts_ms, value)
        for piece in pieces
        for one, ts_ms, value in zip(
            piece.batch.series_ids.tolist(),
            piece.batch.ts_ms.tolist(),
            piece.batch.values.tolist(),
            strict=True,
        )
    ]


def read(
    folder: Path, text: str | bytes, layout: CsvLayout = LAYOUT, **more: int
) -> list[SourcePiece]:
    """The pieces of one file."""
    (folder / "a.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return list(CsvSource(folder, [layout], **more).read(*EVER))


def test_columns_become_times_values_and_labels(tmp_path: Path) -> None:
    """In any order, with others between; an empty cell leaves its label out."""
    text = (
        'value,more,host,timestamp\r\n1.5,x,n1,10.0\r\n\r\nNaN,y,,11.0005\r\n-1e3,,"n,""2",12\r\n'
    )
    (piece,) = read(tmp_path, text)
    found = rows([piece])
    assert found[0] == ('load{job="x",node="n1"}', 10_000, 1.5)
    assert found[1][:2] == ('load{job="x"}', 11_000)
    assert found[2] == ('load{job="x",node="n,\\"2"}', 12_000, -1000.0)
    assert piece.problems == ()


LINES = st.lists(
    st.sampled_from(
        [b"1,a,1", b'2,"b\nc",2', b"3,\xc3\xa9,3", b"4,\xff,4", b"5,\0,5", b"", b"6,a"]
    ),
    max_size=12,
)


@given(lines=LINES, block=st.integers(1, 40), end=st.sampled_from([b"", b"\n", b"\r\n"]))
def test_what_a_file_holds_does_not_depend_on_the_blocks_it_is_read_in(
    lines: list[bytes], block: int, end: bytes
) -> None:
    """The same rows, the same faults at the same lines, the same hash."""

    def found(block_bytes: int) -> tuple[object, ...]:
        with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
            patch.setattr("resources.metrics.csv_file._BLOCK_BYTES", block_bytes)
            path = Path(folder) / "a.csv"
            path.write_bytes(b"\n".join([b"\xef\xbb\xbfvalue,host,timestamp", *lines]) + end)
            file = CsvFile(path, LAYOUT)
            rows = [
                row
                for one in file.chunks(3)
                for row in zip(one.lines.tolist(), one.ts_ms.tolist(), one.cells, strict=True)
            ]
            whole = file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            return rows, file.problems, file.count, whole or file.count > 0

    assert found(block) == found(1 << 20)
    assert found(block)[3]


BAD = [
    ("host,timestamp\n", 1, "header", "one column value"),
    ("", 1, "header", "timestamp,value,host"),
    ("value,value,host,timestamp\n", 1, "header", "one column value"),
    ("value,host,timestamp\n1,a,1\n1,a\n", 3, "row", "3 cells"),
    ("value,host,timestamp\none,a,1\n", 2, "value", "a number"),
    ("value,host,timestamp\n1_0,a,1\n", 2, "value", "a number"),
    ("value,host,timestamp\n,a,1\n", 2, "value", "a number"),
    ("value,host,timestamp\n1,a,yesterday\n", 2, "timestamp", "after 1970 in s"),
    ("value,host,timestamp\n1,a,-1\n", 2, "timestamp", "after 1970 in s"),
    ("value,host,timestamp\n1,a,NaN\n", 2, "timestamp", "after 1970 in s"),
    ("value,host,timestamp\n1,a,1e300\n", 2, "timestamp", "after 1970 in s"),
    ('value,host,timestamp\n1,"a,1\n2,b,2\n', 2, "row", "well-formed CSV"),
    ("value,host,timestamp\n\n1,a\0b,1\n", 3, "encoding", "UTF-8"),
    (f"value,host,timestamp\n1,a,1\n1,{'a' * 20_000},2\n", 3, "host", "16384 bytes"),
    (b"value,host,timestamp\n1,\xff,1\n", 2, "encoding", "UTF-8"),
]


@pytest.mark.parametrize(("text", "line", "field", "allowed"), BAD)
def test_a_bad_row_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, line: int, field: str, allowed: str
) -> None:
    """File, line, column, value, and what is allowed; nothing is handed on."""
    with pytest.raises(InvalidDocumentError) as caught:
        read(tmp_path, text)
    problem = caught.value.problems[0]
    assert (problem.source, problem.field) == (f"a.csv line {line}", field)
    assert allowed in problem.allowed


def test_bad_rows_of_all_files_are_told_at_once_and_counted(tmp_path: Path) -> None:
    """Good files are not read in part either."""
    (tmp_path / "a.csv").write_text("value,host,timestamp\n" + "x,a,1\n" * 30)
    (tmp_path / "b.csv").write_text("value,timestamp\n1,1\n2,two\n")
    (tmp_path / "c.csv").write_text("value,timestamp\n1,1\n")
    layouts = [LAYOUT, CsvLayout("b.csv", "b"), CsvLayout("c.csv", "c")]
    with pytest.raises(InvalidDocumentError, match=r"31 problems; nothing was loaded") as caught:
        list(CsvSource(tmp_path, layouts).read(*EVER))
    assert "... and 11 more" in str(caught.value)


def test_a_packed_file_that_is_cut_or_broken_is_refused(tmp_path: Path) -> None:
    """At any byte that matters."""
    packed = gzip.compress(b"value,host,timestamp\n" + b"1,a,1\n" * 500)
    for data in (packed[:-1], packed[: len(packed) // 2], b"no gzip", packed[:-8] + b"x" * 8):
        (tmp_path / "a.csv.gz").write_bytes(data)
        with pytest.raises(InvalidInputError, match="path"):
            list(CsvSource(tmp_path, [LAYOUT]).read(*EVER))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With both of its possible names."""
    with pytest.raises(NotFoundError, match=r"a\.csv.*a\.csv\.gz"):
        list(CsvSource(tmp_path, [LAYOUT]).read(*EVER))


def body(count: int) -> str:
    """So many rows."""
    return "value,host,timestamp\n" + "".join(f"{n},h{n % 3},{n + 1}\n" for n in range(count))


def test_pieces_are_cut_by_row_and_taken_up_again(tmp_path: Path) -> None:
    """All rows once; behind any piece the same pieces follow, with the same names."""
    whole = read(tmp_path, body(100), piece_rows=30)
    assert [len(piece.batch) for piece in whole] == [30, 30, 30, 10]
    assert [row[1] for row in rows(whole)] == [1000 * (n + 1) for n in range(100)]
    for number, piece in enumerate(whole):
        source = CsvSource(tmp_path, [LAYOUT], piece_rows=30)
        rest = list(source.read(*EVER, piece.resume))
        assert [one.batch_id for one in rest] == [one.batch_id for one in whole[number + 1 :]]
        assert rows(rest) == rows(whole[number + 1 :])


def test_names_of_pieces_come_from_the_content_and_the_range_that_cuts_it(tmp_path: Path) -> None:
    """Packed or not, the same; another range of time makes another piece only where it cuts."""
    whole = read(tmp_path, body(100), piece_rows=30)
    source = CsvSource(tmp_path, [LAYOUT], piece_rows=30)
    cut = list(source.read(30_000, 75_000))
    assert [row[1] for row in rows(cut)] == list(range(31_000, 75_001, 1000))
    assert cut[0].batch_id == whole[1].batch_id
    assert cut[1].batch_id not in {piece.batch_id for piece in whole}
    (tmp_path / "a.csv").rename(tmp_path / "plain")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    packed = list(CsvSource(tmp_path, [LAYOUT], piece_rows=30).read(*EVER))
    assert [piece.batch_id for piece in packed] == [piece.batch_id for piece in whole]
    other = read(tmp_path, body(101), piece_rows=30)
    assert {piece.batch_id for piece in other}.isdisjoint(piece.batch_id for piece in whole)


@pytest.mark.parametrize("resume", ["x", "1:0", "0", "0:x", ":", "-1:0"])
def test_a_resume_that_is_none_is_refused(tmp_path: Path, resume: str) -> None:
    """There is one file."""
    with pytest.raises(InvalidInputError, match="resume"):
        list(CsvSource(tmp_path, [LAYOUT]).read(*EVER, resume))


def test_of_several_values_at_one_time_the_first_counts(tmp_path: Path) -> None:
    """Others are named by line; the same value again is no news."""
    text = "value,host,timestamp\n1,a,1\n1,a,1\n2,b,1\n3,a,1\n4,b,1\n5,b,2\n"
    (piece,) = read(tmp_path, text)
    assert [(row[1], row[2]) for row in rows([piece])] == [(1000, 1.0), (1000, 2.0), (2000, 5.0)]
    assert len(piece.problems) == 1
    assert piece.problems[0].endswith("line 5, 6")


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """What was checked is what is handed on, or the import fails."""
    path = tmp_path / "a.csv"
    path.write_text(body(40_000))
    pieces = CsvSource(tmp_path, [LAYOUT], piece_rows=1000).read(*EVER)
    next(pieces)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(InvalidInputError, match="not written while it is read"):
        list(pieces)


DOCUMENT = """\
[[layout]]
file = "a.csv"
metric = "load"
type = "gauge"
time_column = "at"
time_unit = "ms"
value_column = "x"
interval_ms = 60000
label_columns = {host = "node"}
labels = {job = "mine"}
help = "Load."
unit = "percent"
"""


def test_layouts_are_declared_in_a_document_beside_the_files(tmp_path: Path) -> None:
    """Every field of the record."""
    (tmp_path / "layout.toml").write_text(DOCUMENT)
    (tmp_path / "a.csv").write_text("at,x,host\n1500,2,n1\n")
    (piece,) = csv_source(tmp_path / "layout.toml").read(*EVER)
    assert rows([piece]) == [('load{job="mine",node="n1"}', 1500, 2.0)]
    (info,) = piece.batch.series.values()
    assert info[1:5] == (MetricType.GAUGE, "percent", "Load.", 60_000)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("load", "lo-ad"), "metric"),
        (('"gauge"', '"gauges"'), "type"),
        (('"ms"', '"us"'), "time_unit"),
        (("60000", "0"), "interval_ms"),
        (("60000", '"1"'), "interval_ms"),
        (('value_column = "x"', 'value_column = "at"'), "columns"),
        (('{host = "node"}', '{host = "job"}'), "label"),
        (('{host = "node"}', '"host"'), "label_columns"),
        (('"Load."', "1"), "help"),
        (('file = "a.csv"', 'file = "../a.csv"'), "file"),
        (('file = "a.csv"\n', ""), "file"),
        (("help", "text"), "layout"),
        (("[[layout]]", "[[layouts]]"), "layout"),
        (("[[layout]]", "[[layout"), "path"),
        ((DOCUMENT, DOCUMENT + DOCUMENT), "file"),
    ],
)
def test_a_wrong_layout_is_refused(tmp_path: Path, change: tuple[str, str], field: str) -> None:
    """The error names what is wrong."""
    (tmp_path / "layout.toml").write_text(DOCUMENT.replace(*change))
    with pytest.raises(InvalidInputError) as caught:
        csv_source(tmp_path / "layout.toml")
    assert caught.value.field == field


def test_a_document_must_be_there_and_declare_something(tmp_path: Path) -> None:
    """Two clear errors."""
    with pytest.raises(NotFoundError):
        csv_source(tmp_path / "layout.toml")
    with pytest.raises(InvalidInputError, match="at least one"):
        layouts_of_document([])


def test_a_published_file_is_read(metric_traces: Path) -> None:
    """The smallest two: rows as published."""
    pieces = list(CsvSource(metric_traces, [GENTD26[4], GENTD26[6]]).read(*EVER))
    assert [len(piece.batch) for piece in pieces] == [1_434, 6_254]
    assert [len(piece.batch.series) for piece in pieces] == [1, 130]


@pytest.mark.long
def test_the_published_day_is_read_whole(metric_traces: Path) -> None:
    """All eight files: rows as published, one known double value left out, real times."""
    source = gentd26_source(metric_traces)
    pieces = list(source.read(*EVER))
    counts: dict[str, int] = {}
    for piece in pieces:
        name = dict(next(iter(piece.batch.series.values())).labels)[METRIC_NAME]
        counts[name] = counts.get(name, 0) + len(piece.batch)
        assert int(piece.batch.ts_ms.min()) >= 1_662_858_000_000
        assert int(piece.batch.ts_ms.max()) <= 1_662_858_000_000 + 86_400_000
    assert counts == {
        "pod_gpu_duty_cycle_percent": 157_417,
        "pod_gpu_memory_used_bytes": 161_413,
        "pod_memory_utilization_ratio": 214_888,
        "serving_requests_per_second": 24_627,
        "serving_queue_requests": 1_434,
        "serving_queue_milliseconds": 23_478,
        "model_predict_milliseconds": 6_254,
        "pipeline_inference_milliseconds": 34_421,
    }
    assert len(GENTD26) == len(counts) == len(pieces)
    problems = [problem for piece in pieces for problem in piece.problems]
    assert len(problems) == 1
    assert problems[0].startswith("pod_memory_util_anon.csv.gz: left out, another value")
