"""A week of hourly looks opens every manifest; evidence knows what was opened, and since when."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.backup_evidence import NAMED_MAX, VerificationEvidence
from fleet.errors import CorruptObjectError
from fleet.manifest_openings import (
    OPENED_KEY,
    Opening,
    digest_objects,
    encode_openings,
    fold_openings,
    reason_to_open,
)
from fleet.verification_sampling import SLICES, part_of, slice_of

DAY = date(2026, 11, 21)
NAMES = st.binary(min_size=32, max_size=32).map(bytes.hex)


def noon(day: date) -> datetime:
    """A moment of a day."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def of_its_day(day: date) -> str:
    """A hash whose part is read on a day."""
    return f"{slice_of(day):08x}"


def look(level: str = "V1", *failures: str, **detail: Any) -> VerificationEvidence:
    """Evidence of one look."""
    return VerificationEvidence(
        "net", "eu", level, "s", noon(DAY), 1.0, 1, 1, failures, "v", detail
    )


@given(NAMES, st.sets(st.integers(0, 40), max_size=39))
def test_every_manifest_is_opened_in_any_seven_days_with_a_look_and_behind_each_gap(
    name: str, missed: set[int]
) -> None:
    """Whatever days were missed: it is never seven days old behind a look."""
    days = [DAY + timedelta(days=number) for number in range(41) if number not in missed]
    opened: Opening | None = None
    read: set[date] = set()
    for day in days:
        if reason_to_open(opened, name, day):
            opened = Opening("d", noon(day))
            read.add(day)
        assert opened is not None
        assert (day - opened.opened_at.date()).days < SLICES
    for start in days:
        week = [start + timedelta(days=number) for number in range(SLICES)]
        if all(day in days for day in week):
            assert read.intersection(week)


@pytest.mark.parametrize(
    ("age", "name", "reason"),
    [
        (0, of_its_day(DAY), ""),
        (1, of_its_day(DAY), "its day"),
        (1, of_its_day(DAY + timedelta(days=1)), ""),
        (6, of_its_day(DAY + timedelta(days=1)), ""),
        (7, of_its_day(DAY + timedelta(days=1)), "opened 7 days ago"),
        (-1, of_its_day(DAY + timedelta(days=1)), "dated in the future"),
    ],
)
def test_the_edges_of_the_rule(age: int, name: str, reason: str) -> None:
    """By whole days, UTC."""
    opened = Opening("d", noon(DAY - timedelta(days=age)))
    assert reason_to_open(opened, name, DAY) == reason
    assert part_of(name) == int(name, 16) % SLICES
    assert reason_to_open(None, name, DAY) == "new"


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=6), st.randoms())
def test_a_digest_tells_every_change_and_no_order(
    sizes: dict[str, int], order: random.Random
) -> None:
    """One object more, less, or of another size."""
    shuffled = list(sizes.items())
    order.shuffle(shuffled)
    known = digest_objects(sizes)
    assert digest_objects(dict(shuffled)) == known
    assert digest_objects({**sizes, "another": 1}) != known
    for key, size in sizes.items():
        assert digest_objects({**sizes, key: size + 10}) != known
        assert digest_objects({one: sizes[one] for one in sizes if one != key}) != known


def test_what_was_opened_comes_back_from_the_evidence_as_it_went_in() -> None:
    """The newest look counts; other levels open nothing."""
    first = {"a": Opening("1", noon(DAY)), "b": Opening("2", noon(DAY))}
    later = {"b": Opening("3", noon(DAY + timedelta(days=1)))}
    evidence = [
        look(**{OPENED_KEY: encode_openings(first)}),
        look("V3", **{OPENED_KEY: encode_openings({"c": first["a"]})}),
        look(),
        look(**{OPENED_KEY: encode_openings(later)}),
    ]
    assert fold_openings(evidence) == {**first, **later}


def test_damage_found_by_any_level_ends_what_is_known_of_a_snapshot() -> None:
    """Those that it names; where it names none of its own, all that it looked at."""
    opened = look(**{OPENED_KEY: encode_openings({x: Opening("1", noon(DAY)) for x in "abc"})})
    named = look("V2", "bad", snapshots=["a", "b", "c"], failed_snapshots=["b"])
    assert fold_openings([opened, named]).keys() == {"a", "c"}
    assert fold_openings([opened, look("V3", "bad", snapshots=["a", "b"])]).keys() == {"c"}
    nobody = look("V2", "bad", snapshots=["a"], failed_snapshots=[])
    assert fold_openings([opened, nobody]).keys() == {"a", "b", "c"}
    assert fold_openings([named, opened]).keys() == {"a", "b", "c"}


@pytest.mark.parametrize("named", [["a"], {"a": "x"}, {"a": ["1", "yesterday"]}, {"a": ["1", 2]}])
def test_an_opening_that_is_none_is_named(named: object) -> None:
    """Authentic or not: whoever asks opens everything then."""
    with pytest.raises(CorruptObjectError, match="openings badly"):
        fold_openings([look(**{OPENED_KEY: named})])


def test_evidence_names_a_bounded_number() -> None:
    """The others are opened again by the next look."""
    many = {f"s{number}": Opening("1", noon(DAY)) for number in range(NAMED_MAX + 5)}
    assert list(encode_openings(many)) == list(many)[:NAMED_MAX]
