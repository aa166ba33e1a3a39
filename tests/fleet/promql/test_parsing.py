"""What is refused, by name and place, before anything is read."""

from __future__ import annotations

import promql_parser as pp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.metrics.labels import Matcher, MatchKind
from fleet.promql.parsing import AGGREGATIONS, FUNCTIONS, matchers_of, parse
from fleet.promql.semantics import PROMETHEUS_2, PROMETHEUS_3, semantics_of


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sum(foo(a))", "unknown function with name 'foo' (position 4)"),
        ('a{foo="foo("} + foo(a)', "(position 16)"),
        ("mad_over_time(a[5m])", "function 'mad_over_time' at position 0"),
        ("1 + limitk(2, a)", "aggregation 'limitk' at position 4"),
        ("a + fill(0) b", "modifier 'fill' at position 4"),
        ('a{x="1" or y="2"}', "alternative among matchers 'or' at position 8"),
        ("histogram_stddev(a)", "'histogram_stddev' at position 0"),
        ("rate(a)", "expected type matrix"),
        ("sum(a) +", "it makes sense up to position 6"),
        ("rate(a[5m]", "unclosed"),
        ("", "no expression"),
        ("(" * 100 + "a" + ")" * 100, "levels of nesting"),
        ("-" * 100 + "a", "levels of nesting"),
        ("a" * 20_000, "at most 16384 bytes"),
        ('a{b=~"("}', "regex"),
        ("+".join(["a"] * 400), "operators in one another"),
        ("a offset 1e308", "times from 1970 on"),
        ("a @ -1", "times from 1970 on"),
        ("sum(a offset 9999999y)", "between 1970 and 9999"),
        ("a @ 253402300800", "between 1970 and 9999"),
    ],
)
def test_what_is_not_answered_is_named_with_its_position(query: str, said: str) -> None:
    """Not the parser's panic, and not an answer that only looks like one."""
    with pytest.raises(InvalidInputError, match=r".") as error:
        parse(query)
    assert said in str(error.value)
    unhinted = ("nesting", "bytes", "one another", "1970")
    assert error.value.hint or any(word in said for word in unhinted)


@pytest.mark.parametrize(
    "query",
    ["a @ -1", "a @ - 0.5", "a offset 1e20", "a offset -1e20", "rate(a[1e20])", "a @ -9e15"],
)
def test_times_that_cannot_be_are_refused_without_a_word_of_the_parser(
    query: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its panic would print lines of its own before the error."""
    with pytest.raises(InvalidInputError, match="times from 1970 on"):
        parse(query)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "query", ["a @ -0", "a @ 5", 'a{b="@ -1"}', "a[300]", "a offset -300", "- 1"]
)
def test_times_that_can_be_are_not_refused(query: str) -> None:
    """Nor what only looks like a time."""
    assert parse(query) is not None


words = st.sampled_from(
    [
        "a",
        "sum",
        "rate",
        "(",
        ")",
        "[5m]",
        "{",
        "}",
        " offset ",
        " @ ",
        "1e308",
        "-1",
        "99999999y",
        ",",
    ]
)
wordy = st.lists(words, max_size=10).map("".join)


@given(text=st.text(max_size=40) | wordy | st.text("ab()[]{}\"'=~!<>+-*/%^ 05mh:,@.", max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Nothing but the documented error comes out, not even the parser's panic."""
    try:
        parse(text)
    except InvalidInputError:
        return


def test_every_function_that_the_parser_knows_is_answered_or_named_as_not() -> None:
    """The list of what is answered names functions that exist."""
    for name in FUNCTIONS:
        with pytest.raises(ValueError, match=r"argument|expected") as error:
            pp.parse(f"{name}(1, 2, 3, 4, 5, 6, 7)")
        assert "unknown function" not in str(error.value)
    assert all(pp.parse(f'{name}("x", a)' if name == "count_values" else f"{name}(1, a)"
                        if name in {"topk", "bottomk", "quantile"} else f"{name}(a)")
               for name in AGGREGATIONS)  # fmt: skip


def test_matchers_are_those_of_the_port() -> None:
    """The metric's name is one of them, in whatever way it is written."""
    tree = parse('up{a="1",b!="2",c=~"3.*",d!~"4"}')
    assert matchers_of(tree) == (
        Matcher("__name__", MatchKind.EQUAL, "up"),
        Matcher("a", MatchKind.EQUAL, "1"),
        Matcher("b", MatchKind.NOT_EQUAL, "2"),
        Matcher("c", MatchKind.REGEX, "3.*"),
        Matcher("d", MatchKind.NOT_REGEX, "4"),
    )
    assert matchers_of(parse('{__name__="up"}')) == (Matcher("__name__", MatchKind.EQUAL, "up"),)


def test_semantics_are_named_by_version() -> None:
    """Only those that are known."""
    assert semantics_of("2.x") == PROMETHEUS_2
    assert semantics_of("3.x") == PROMETHEUS_3
    with pytest.raises(InvalidInputError, match=r"2\.x or 3\.x"):
        semantics_of("4.x")
