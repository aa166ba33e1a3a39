"""What Prometheus' Python client writes is read as its own parsers read it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of
from prometheus_client.parser import text_string_to_metric_families as text_of

from fleet.errors import InvalidInputError
from fleet.metrics.exposition.numbers import ExpositionFormat
from fleet.metrics.exposition.parser import ExpositionParser
from fleet.metrics.samples import MetricType
from tests.examples import examples
from tests.fleet.metrics.exposition.reading import (
    OPENMETRICS,
    TEXT,
    client_rows,
    families,
    parsed,
    registry_of,
    rows,
)


@given(families())
def test_text_is_read_as_the_client_reads_it(made: list[Metric]) -> None:
    """Names, labels of any text, values with NaN and infinities, timestamps."""
    body = generate_latest(registry_of(made))
    assert sorted(map(repr, rows(parsed(body)))) == sorted(
        map(repr, client_rows(text_of(body.decode())))
    )


@given(families())
def test_openmetrics_is_read_as_the_client_reads_it(made: list[Metric]) -> None:
    """The same, but for `_created`, which is no series here."""
    body = openmetrics_latest(registry_of(made))
    expected = client_rows(openmetrics_of(body.decode()), created=False)
    assert sorted(map(repr, rows(parsed(body, OPENMETRICS)))) == sorted(map(repr, expected))


@given(families())
def test_types_units_and_help_are_those_of_the_family(made: list[Metric]) -> None:
    """Each series knows what its family said, whatever its suffix."""
    found = parsed(openmetrics_latest(registry_of(made)), OPENMETRICS)
    by_prefix = {family.name[:2]: family for family in made}
    types = {"gaugehistogram": "gauge", "info": "gauge", "stateset": "gauge"}
    for one in found.series_ids.tolist():
        info = found.series[one]
        family = by_prefix[dict(info.labels)["__name__"][:2]]
        assert info.type is MetricType(types.get(family.type, family.type))
        assert info.help == family.documentation


@settings(max_examples=examples(60))
@given(st.lists(families(), min_size=1, max_size=6), st.sampled_from([TEXT, OPENMETRICS]))
def test_a_parser_that_remembers_reads_what_a_new_one_reads(
    bodies: list[list[Metric]], form: str
) -> None:
    """Bodies in a row, also repeated ones, with families that come, go and change their type."""
    render = generate_latest if form == TEXT else openmetrics_latest
    kept = ExpositionParser(form)  # type: ignore[arg-type]
    for made in [*bodies, *bodies, bodies[-1]]:
        body = render(registry_of(made))
        found, fresh = kept.parse(body), parsed(body, form)  # type: ignore[arg-type]
        assert rows(found) == rows(fresh)
        shown = [found.series[one] for one in found.series_ids.tolist()]
        assert shown == [fresh.series[one] for one in fresh.series_ids.tolist()]
        assert found.lines == fresh.lines
        pairs = zip(found.created_ids.tolist(), found.created_ms.tolist(), strict=True)
        assert dict(pairs) == dict(
            zip(fresh.created_ids.tolist(), fresh.created_ms.tolist(), strict=True)
        )


_SEEDS = (
    b'# HELP a x\n# TYPE a counter\na{b="c",d="e f"} 1.5\na{b="g"} NaN 17\nx 1\nx 2\n',
    b'# TYPE a counter\n# UNIT a_s s\na_total{b="c"} 1 # {t="u"} 1 2\na_created{b="c"} 7\n# EOF\n',
)
_PARTS = [
    b" ",
    b"\n",
    b"\t",
    b"#",
    b"{",
    b"}",
    b'"',
    b",",
    b"=",
    b"\\",
    b"1",
    b"_",
    b"e",
    b"\xff",
    b"N",
    b"a",
    b"# EOF",
    b" 5",
]


def outcome(parser: ExpositionParser, body: bytes) -> object:
    """Samples, or that a line is refused; of several wrong lines any may be named."""
    try:
        return rows(parser.parse(body))
    except InvalidInputError as error:
        assert error.field.startswith("line ")  # noqa: PT017 - both ends are right
        return "refused"


@settings(max_examples=examples(400))
@given(
    st.sampled_from([TEXT, OPENMETRICS]),
    st.lists(
        st.tuples(st.integers(0, 130), st.integers(0, 6), st.sampled_from(_PARTS)), max_size=5
    ),
)
def test_any_bytes_are_read_or_refused_alike_by_a_parser_that_remembers(
    form: ExpositionFormat, changes: list[tuple[int, int, bytes]]
) -> None:
    """Bodies with parts cut out and put in: memory changes nothing, no other error is raised."""
    body = _SEEDS[form is OPENMETRICS]
    kept = ExpositionParser(form)
    kept.parse(body)
    kept.parse(body)
    for place, cut, part in changes:
        body = body[:place] + part + body[place + cut :]
        assert outcome(kept, body) == outcome(ExpositionParser(form), body)
    assert rows(kept.parse(_SEEDS[form is OPENMETRICS])) == rows(
        ExpositionParser(form).parse(_SEEDS[form is OPENMETRICS])
    )
