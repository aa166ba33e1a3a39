"""What the parser remembers, what it counts, and since when series count."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.metrics.exposition.exposed import NO_TIMESTAMP, Exposition
from fleet.metrics.exposition.families import HELP_MAX_CHARS
from fleet.metrics.exposition.lines import LINE_MAX_BYTES
from fleet.metrics.exposition.numbers import ExpositionFormat
from fleet.metrics.exposition.parser import CACHE_SLACK, ExpositionParser
from fleet.metrics.labels import labels_text
from fleet.metrics.samples import MetricType
from tests.fleet.metrics.exposition.reading import OPENMETRICS, TEXT, parsed, rows


def created(found: Exposition) -> dict[str, int]:
    """Metric and labels to the time at which it began."""
    pairs = zip(found.created_ids.tolist(), found.created_ms.tolist(), strict=True)
    return {labels_text(found.series[one].labels): ms for one, ms in pairs}


def test_the_same_series_again_give_the_same_array_of_identities() -> None:
    """Whoever compares two scrapes needs not look into them."""
    kept = ExpositionParser(TEXT)
    first = kept.parse(b"# HELP a b\na 1\nb 2\n")
    second = kept.parse(b"# HELP a b\na 3\nb NaN\n")
    assert second.series_ids is first.series_ids
    assert [row[2] for row in rows(second)] == [3.0, "NaN"]
    assert kept.parse(b"# HELP a b\na 3\n").series_ids is not first.series_ids


LINES = ["a 1", "a 2", "a NaN", "a x", "a 1 1000", "a 1 2000", 'b{c="d"} 3', 'b{c="d e"} 4']
LINES += ["# HELP a b", "# HELP a c", "# TYPE a counter", "", "a_created 5", 'a 1 # {t="1"} 2']
BODIES = st.lists(st.sampled_from(LINES), max_size=4).map(lambda lines: "\n".join(lines).encode())


@given(BODIES, BODIES, st.sampled_from([TEXT, OPENMETRICS]))
def test_what_is_read_as_before_is_what_a_parser_that_knows_nothing_reads(
    first: bytes, second: bytes, form: ExpositionFormat
) -> None:
    """Or it is not read at all, and the parser reads it then as any other body."""
    if form is OPENMETRICS:
        first, second = first + b"\n# EOF\n", second + b"\n# EOF\n"
    kept = ExpositionParser(form)
    with suppress(InvalidInputError):
        kept.parse(first)
    found = kept.parse_as_before(second)
    if found is None:
        with suppress(InvalidInputError):
            found = kept.parse(second)
    if found is None:
        with pytest.raises(InvalidInputError):
            ExpositionParser(form).parse(second)
    else:
        fresh = ExpositionParser(form).parse(second)
        assert rows(found) == rows(fresh)
        assert (found.lines, found.repeated, found.exemplars) == (
            fresh.lines, fresh.repeated, fresh.exemplars,
        )  # fmt: skip


def test_of_repeated_samples_the_first_counts() -> None:
    """Also in a later body, where only numbers are read; times make samples different."""
    kept = ExpositionParser(TEXT)
    for values in ("123", "456"):
        body = "".join(f"{name} {value}\n" for name, value in zip("aba", values, strict=True))
        found = kept.parse(body.encode())
        assert [row[2] for row in rows(found)] == [float(values[0]), float(values[1])]
        assert (found.lines, found.repeated) == (3, 1)
    timed = parsed("a 1 1000\na 2 2000\na 3 1000\na 4\n")
    assert rows(timed) == [("a", (), 1.0, 1000), ("a", (), 2.0, 2000), ("a", (), 4.0, None)]
    assert timed.repeated == 1


def test_lines_with_times_are_known_again() -> None:
    """Their values and times are read, whatever stands between."""
    kept = ExpositionParser(TEXT)
    for number in range(3):
        found = kept.parse(f'a{{b="c d"}} {number} {1000 + number}\nx {number}\n'.encode())
        assert rows(found) == [
            ("a", (("b", "c d"),), float(number), 1000 + number),
            ("x", (), float(number), None),
        ]
        assert found.ts_ms is not None
        assert found.ts_ms.tolist() == [1000 + number, NO_TIMESTAMP]


def test_of_a_long_help_the_beginning_is_kept() -> None:
    """Every series of the family bears it."""
    found = parsed(f'# HELP a {"x" * 2000}\na{{b="1"}} 1\na{{b="2"}} 1\n')
    assert {len(info.help) for info in found.series.values()} == {HELP_MAX_CHARS}


def test_a_line_longer_than_labels_and_exemplars_can_be_is_refused() -> None:
    """By its number, also when its series is known; up to there it is read."""
    kept = ExpositionParser(OPENMETRICS)
    exemplar = ' # {a="' + "x" * (LINE_MAX_BYTES - 16 - len("a_total ")) + '"} 1'
    for body in ("a_total 1", "a_total 1" + exemplar):
        assert len(kept.parse(f"{body}\n# EOF\n".encode()).series_ids) == 1
    with pytest.raises(InvalidInputError, match=r"line 1: .*at most 65536 bytes"):
        kept.parse(f"a_total 1{exemplar}23456789\n# EOF\n".encode())


def test_exemplars_are_counted_and_dropped() -> None:
    """Each time, with and without a time of the sample."""
    kept = ExpositionParser(OPENMETRICS)
    for number in range(3):
        body = f'a_total {number} # {{t="x"}} 1\nb_total {number} 5 # {{}} 1 2\nc 1\n# EOF\n'
        found = kept.parse(body.encode())
        assert found.exemplars == 2
        assert [row[2:] for row in rows(found)] == [(number, None), (number, 5000), (1.0, None)]


def test_created_series_tell_when_their_family_began_to_count() -> None:
    """Counter, every part of a histogram, sum and count of a summary; not its quantiles."""
    body = """\
# TYPE c counter
c_total{x="1"} 5
c_created{x="1"} 100.5
c_total{x="2"} 6
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_sum 3
h_count 2
h_created 200
# TYPE s summary
s{quantile="0.5"} 1
s_sum 3
s_count 2
s_created 300
# TYPE g gauge
g_created 400
# EOF
"""
    kept = ExpositionParser(OPENMETRICS)
    expected = {
        'c_total{x="1"}': 100_500,
        'h_bucket{le="1"}': 200_000,
        'h_bucket{le="+Inf"}': 200_000,
        "h_sum": 200_000,
        "h_count": 200_000,
        "s_sum": 300_000,
        "s_count": 300_000,
    }
    first = kept.parse(body.encode())
    assert created(first) == expected
    assert len(first.values) == 10  # g_created is a gauge of its own
    again = kept.parse(body.replace('c_total{x="1"} 5', 'c_total{x="1"} 7').encode())
    assert again.created_ms is first.created_ms
    later = kept.parse(body.replace("100.5", "150").encode())
    assert created(later) == expected | {'c_total{x="1"}': 150_000}


def test_created_series_that_appear_later_speak_of_series_that_are_known() -> None:
    """A target that was restarted with another library says more than before."""
    kept = ExpositionParser(OPENMETRICS)
    kept.parse(b"# TYPE c counter\nc_total 5\n# EOF\n")
    later = kept.parse(b"# TYPE c counter\nc_total 6\nc_created 100\n# EOF\n")
    assert created(later) == {"c_total": 100_000}
    assert len(later.values) == 1


def test_a_family_that_changes_its_type_changes_what_is_known_of_its_series() -> None:
    """Also where the lines of the samples stay the same."""
    kept = ExpositionParser(TEXT)
    for word in ("counter", "gauge", "counter"):
        found = kept.parse(f"# TYPE a {word}\na 1\nb 2\n".encode())
        kinds = [found.series[one].type for one in found.series_ids.tolist()]
        assert kinds == [MetricType(word), MetricType.UNKNOWN]


def test_what_is_remembered_is_bounded_by_what_is_exposed() -> None:
    """A target whose series change all the time does not fill the memory."""
    kept = ExpositionParser(TEXT)
    for round_number in range(12):
        body = "".join(f'a{{n="{round_number}-{n}"}} 1\n' for n in range(500))
        found = kept.parse(body.encode())
        assert len(found.values) == 500
    assert len(kept._slots) <= 2 * 500 + CACHE_SLACK
    assert len(kept._series) <= 2 * 500 + CACHE_SLACK
