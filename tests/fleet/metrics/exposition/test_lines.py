"""Every rule of the grammar, by a table; a real Prometheus is held to the same table elsewhere."""

from __future__ import annotations

import math

import pytest

from fleet.errors import InvalidInputError
from fleet.metrics.exposition import parser as parser_module
from fleet.metrics.exposition.parser import ExpositionParser
from tests.fleet.metrics.exposition.cases import CASES, Case
from tests.fleet.metrics.exposition.reading import OPENMETRICS, TEXT, parsed, rows


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_body_is_taken_or_its_wrong_line_is_named(case: Case) -> None:
    """Each case; the error quotes the line."""
    if case.line is None:
        assert len(parsed(case.body, case.form).values) <= case.body.count("\n") + 1
        return
    with pytest.raises(InvalidInputError) as caught:
        parsed(case.body, case.form)
    assert caught.value.field == f"line {case.line}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_wrong_line_is_found_also_by_a_parser_that_knows_its_series(case: Case) -> None:
    """What is remembered never makes a wrong line right, or a right one wrong."""
    kept = ExpositionParser(case.form)
    known = ["a 1", 'a{b="c"} 1', 'a{x="1"} 2', "b 1"]
    end = "\n# EOF\n" if case.form is OPENMETRICS else "\n"
    for _ in range(2):
        kept.parse(("\n".join(known) + end).encode())
    if case.line is None:
        found = kept.parse(case.body.encode())
        assert rows(found) == rows(parsed(case.body, case.form))
        return
    with pytest.raises(InvalidInputError) as caught:
        kept.parse(case.body.encode())
    assert caught.value.field == f"line {case.line}"
    assert len(kept.parse(("\n".join(known) + end).encode()).values) == 4


def test_spellings_mean_what_they_say() -> None:
    """Escapes, special numbers and times."""
    body = (
        'a{b="x\\\\y\\"z\\nw\\qv",c="",d="ü"} -.5e1 1600000000123\n'
        "n NaN\ni +Inf\nj -inf\nt\t 7 \t\n"
    )
    assert rows(parsed(body)) == [
        ("a", (("b", 'x\\y"z\nw\\qv'), ("d", "ü")), -5.0, 1_600_000_000_123),
        ("n", (), "NaN", None),
        ("i", (), math.inf, None),
        ("j", (), -math.inf, None),
        ("t", (), 7.0, None),
    ]


def test_seconds_of_openmetrics_are_cut_to_milliseconds() -> None:
    """As Prometheus does it, which also cuts what a double rounds down."""
    body = "a 1 1600000000.1239\nb 1 0.29\nc 1 1.6e9\n# EOF\n"
    times = [row[3] for row in rows(parsed(body, OPENMETRICS))]
    assert times == [1_600_000_000_123, int(0.29 * 1000), 1_600_000_000_000]


@pytest.mark.parametrize("value", [b"NaN", b"nan"])
def test_every_nan_becomes_the_one_that_is_no_stale_marker(value: bytes) -> None:
    """Its bits are Prometheus' normal NaN."""
    import numpy as np

    found = parsed(b"a " + value + b"\n")
    assert found.values.view(np.uint64).tolist() == [0x7FF8000000000001]


def test_a_value_of_a_label_that_is_no_utf8_is_refused() -> None:
    """The line is named, its bytes are shown escaped."""
    with pytest.raises(InvalidInputError, match=r"line 2.*xff"):
        parsed(b'a 1\na{b="\xff"} 1\n')
    with pytest.raises(InvalidInputError, match="line 1"):
        parsed(b"# HELP a \xff\n")


def test_an_exemplar_that_is_no_utf8_is_refused() -> None:
    """Although it is dropped."""
    with pytest.raises(InvalidInputError, match=r"line 1.*UTF-8 in the exemplar"):
        parsed(b'a_total 1 # {x="\xff"} 1\n# EOF\n', OPENMETRICS)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "1e300", "1_0", "x", "1e", "-"])
def test_a_beginning_that_is_no_time_is_refused_with_its_line(value: str) -> None:
    """By a parser that knows the series, too."""
    body = "# TYPE c counter\nc_total 1\nc_created {}\n# EOF\n"
    kept = ExpositionParser(OPENMETRICS)
    assert len(kept.parse(body.format("5").encode()).created_ms) == 1
    for parser in (kept, ExpositionParser(OPENMETRICS)):
        with pytest.raises(InvalidInputError, match="line 3"):
            parser.parse(body.format(value).encode())


@pytest.mark.parametrize("value", ["1e", "", "1-2", "e", "."])
def test_a_wrong_number_is_found_also_where_only_numbers_are_read(value: str) -> None:
    """In a body that is otherwise as the last one."""
    kept = ExpositionParser(TEXT)
    kept.parse(b"a 1\nb 2\n")
    with pytest.raises(InvalidInputError, match="line 2"):
        kept.parse(f"a 1\nb {value}\n".encode())


def test_two_series_of_one_identity_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance makes it once in a metric of millions; nobody shall mistake one for the other."""
    monkeypatch.setattr(parser_module, "series_id", lambda _: 7)
    with pytest.raises(InvalidInputError, match=r"line 2.*identity"):
        parsed("a 1\nb 1\n")


def test_a_series_with_too_large_labels_is_refused_with_its_line() -> None:
    """The limit of the store holds for targets too."""
    with pytest.raises(InvalidInputError, match=r"line 2.*16384 bytes"):
        parsed('a 1\nb{x="' + "v" * 20_000 + '"} 1\n')
    many = ",".join(f'l{number}="1"' for number in range(70))
    with pytest.raises(InvalidInputError, match=r"line 1.*at most 64 labels"):
        parsed(f"a{{{many}}} 1\n")
