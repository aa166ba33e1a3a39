"""Silences: whom they are about, until when, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.alerts.silences import (
    KEPT_AFTER_END,
    SILENCES_MAX,
    Silence,
    decode_silences,
    encode_silences,
    ended_silence,
    matcher_text,
    muted,
    new_silence,
    parse_matcher,
    with_silence,
)
from fleet.errors import InvalidInputError, NotFoundError, TooLargeError
from fleet.metrics.labels import Matcher, MatchKind
from tests.fleet.alerts.alerts import labels

NOW = datetime(2026, 3, 1, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)


def silence(*matchers: str, starts: datetime = NOW, hours: float = 1, by: str = "ann") -> Silence:
    """One that holds from now on."""
    found = [parse_matcher(one) for one in matchers]
    return new_silence(found, starts, starts + hours * HOUR, by, "work")


@pytest.mark.parametrize(
    ("text", "matcher"),
    [
        ("NodeDown", Matcher("alertname", MatchKind.EQUAL, "NodeDown")),
        ("region=eu", Matcher("region", MatchKind.EQUAL, "eu")),
        ('region = "eu west"', Matcher("region", MatchKind.EQUAL, "eu west")),
        ('a!="b\\"c"', Matcher("a", MatchKind.NOT_EQUAL, 'b"c')),
        ("region=~eu-.*", Matcher("region", MatchKind.REGEX, "eu-.*")),
        ("region!~us", Matcher("region", MatchKind.NOT_REGEX, "us")),
        ("region=", Matcher("region", MatchKind.EQUAL, "")),
    ],
)
def test_a_matcher_is_read_as_people_type_it(text: str, matcher: Matcher) -> None:
    """And written so that it reads back the same."""
    assert parse_matcher(text) == matcher
    assert parse_matcher(matcher_text(matcher)) == matcher


@pytest.mark.parametrize("text", ["", "a b", "1a=b", "a=~[", "=x", 'a="b'])
def test_what_is_no_matcher_is_refused(text: str) -> None:
    """A silence that silences nothing would be found out too late."""
    if text == 'a="b':
        assert parse_matcher(text).value == '"b'
        return
    with pytest.raises(InvalidInputError):
        parse_matcher(text)


def test_all_matchers_must_hold_and_only_while_it_lasts() -> None:
    """From its start, up to and without its end."""
    one = silence("A", "region=~eu-.*")
    inside, outside = labels(alertname="A", region="eu-1"), labels(alertname="A", region="us")
    assert muted([one], inside, NOW) == one
    assert muted([one], outside, NOW) is None
    assert muted([one], inside, NOW - HOUR) is None
    assert muted([one], inside, NOW + HOUR) is None


@pytest.mark.parametrize(
    ("matchers", "hours", "by", "says"),
    [
        ((), 1, "ann", "everything"),
        (("region!=eu",), 1, "ann", "everything"),
        (("region=~.*",), 1, "ann", "everything"),
        (("A",), 0, "ann", "after the start"),
        (("A",), 9000, "ann", "366 days"),
        (("A",), 1, " ", "a name and a reason"),
    ],
)
def test_a_silence_about_everything_for_ever_or_by_nobody_is_refused(
    matchers: tuple[str, ...], hours: float, by: str, says: str
) -> None:
    """Each with its reason."""
    with pytest.raises(InvalidInputError, match=says):
        silence(*matchers, hours=hours, by=by)


def test_silences_are_kept_for_days_after_their_end_and_bounded() -> None:
    """Twice the same is one."""
    old = silence("Old", starts=NOW - KEPT_AFTER_END - 2 * HOUR)
    kept = with_silence([old], silence("A"), NOW)
    assert kept == [silence("A")]
    assert with_silence(kept, silence("A"), NOW) == kept
    many = [silence("A", by=str(number)) for number in range(SILENCES_MAX)]
    with pytest.raises(TooLargeError, match="10000"):
        with_silence(many, silence("B"), NOW)


def test_a_silence_can_be_ended_before_its_time() -> None:
    """It stays in the list; what does not exist is named."""
    one = silence("A")
    (ended,) = ended_silence([one], one.silence_id, NOW + HOUR / 2)
    assert ended.ends_at == NOW + HOUR / 2
    assert ended_silence([ended], one.silence_id, NOW + HOUR) == [ended]
    later = silence("A", starts=NOW + HOUR)
    (never,) = ended_silence([later], later.silence_id, NOW)
    assert not never.is_active(NOW + 1.5 * HOUR)
    with pytest.raises(NotFoundError, match="nobody"):
        ended_silence([one], "nobody", NOW)


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.text(max_size=5)), max_size=4))
def test_a_document_reads_back_the_same(found: list[tuple[str, str]]) -> None:
    """Whatever people write."""
    silences = [
        silence(name, by=f"b{text}\N{GRINNING FACE}", hours=1 + place)
        for place, (name, text) in enumerate(found)
    ]
    assert sorted(decode_silences(encode_silences(silences))) == sorted(silences)


def test_a_document_that_is_not_ours_is_no_empty_list() -> None:
    """A silence that is lost wakes people."""
    for text in ("", "{}", '{"format": 9}', '{"format": 1, "silences": [{}]}'):
        with pytest.raises(InvalidInputError, match="silences"):
            decode_silences(text)
    assert decode_silences(None) == []


def test_quotes_that_do_not_end_and_endless_comments_are_refused() -> None:
    """Each by its name."""
    with pytest.raises(InvalidInputError, match="plain double quotes"):
        parse_matcher('a="b\\q"')
    with pytest.raises(InvalidInputError, match="1000 characters"):
        new_silence([parse_matcher("A")], NOW, NOW + HOUR, "ann", "x" * 1001)
