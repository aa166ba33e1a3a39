"""A week of scrubs reads everything, whatever days are missed; coverage claims no more."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.backup_evidence import VerificationEvidence
from fleet.scrub_plan import (
    SAMPLE_SHARE,
    ContentLook,
    PartReading,
    ScrubCoverage,
    fold_readings,
    plan_content,
    plan_scrub,
)
from fleet.verification_sampling import SLICES, part_of, slice_of

NOTHING_READ = ScrubCoverage({})
DAY = date(2026, 11, 21)
DAYS = st.dates(min_value=date(1, 2, 1), max_value=date(9999, 1, 1))
NAMES = st.binary(min_size=32, max_size=32).map(bytes.hex)


def noon(day: date) -> datetime:
    """A moment of a day."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def look(day: date, level: str, failure: str = "", **detail: Any) -> VerificationEvidence:
    """Evidence of a look at that day's noon."""
    failures = (failure,) if failure else ()
    return VerificationEvidence(
        "net", "eu", level, "s", noon(day), 1.0, 1, 1, failures, "v", detail
    )


def scrub(
    days: list[date], first: date, failing: set[tuple[date, int]] | None = None
) -> dict[date, set[int]]:
    """Run a scrub on each of some days; what each has read."""
    evidence: list[VerificationEvidence] = []
    read: dict[date, set[int]] = {}
    for day in days:
        parts = {one.part for one in plan_scrub(fold_readings(evidence), day, noon(first))}
        read[day] = parts
        bad = sorted(part for at, part in failing or set() if at == day and part in parts)
        failure = "damaged" if bad else ""
        evidence.append(look(day, "V2", failure, parts=sorted(parts), failed_parts=bad))
    return read


@given(DAYS, NAMES, st.integers(0, 30), st.sets(st.integers(0, 40), max_size=20))
def test_every_object_is_read_within_seven_consecutive_days(
    begin: date, name: str, age: int, missed: set[int]
) -> None:
    """Of any seven days in a row with a scrub, whatever was missed or read before them."""
    days = [begin + timedelta(days=number) for number in range(41) if number not in missed]
    read = scrub(days, begin - timedelta(days=min(age, (begin - date.min).days)))
    for start in days:
        week = [start + timedelta(days=number) for number in range(SLICES)]
        if all(day in read for day in week):
            assert any(part_of(name) in read[day] for day in week)


@given(DAYS, st.sets(st.integers(0, 40), max_size=39))
def test_the_scrub_behind_a_gap_reads_what_was_missed(begin: date, missed: set[int]) -> None:
    """Behind each scrub of a copy older than a week, no part was read seven days ago or more."""
    days = [begin + timedelta(days=number) for number in range(41) if number not in missed]
    read = scrub(days, begin - timedelta(days=7))
    last: dict[int, date] = {}
    for day in days:
        last |= dict.fromkeys(read[day], day)
        assert set(last) == set(range(SLICES))
        assert all((day - one).days < SLICES for one in last.values())


@given(DAYS)
def test_without_a_gap_each_day_reads_one_part_alone(begin: date) -> None:
    """The work is bounded: a seventh a day, from the copy's first day on."""
    days = [begin + timedelta(days=number) for number in range(30)]
    assert scrub(days, begin) == {day: {slice_of(day)} for day in days}


def test_a_damaged_part_is_read_again_the_next_day() -> None:
    """Until it passes: no quiet week between a finding and the next look."""
    days = [DAY + timedelta(days=number) for number in range(4)]
    bad = slice_of(DAY)
    read = scrub(days, DAY, failing={(days[0], bad), (days[1], bad)})
    assert [bad in read[day] for day in days] == [True, True, True, False]


def test_each_part_has_its_reason() -> None:
    """In words: its day, what was missed, never read, damaged."""
    today = slice_of(DAY)
    readings = {
        (today + 1) % 7: PartReading(noon(DAY - timedelta(days=6)), ""),
        (today + 2) % 7: PartReading(noon(DAY - timedelta(days=7)), ""),
        (today + 3) % 7: PartReading(noon(DAY - timedelta(days=1)), "SHA-256 is x"),
    }
    due = plan_scrub(ScrubCoverage(readings), DAY, noon(DAY - timedelta(days=7)))
    assert {(one.part - today) % 7: one.reason for one in due} == {
        0: "its day",
        2: "last read on 2026-11-14",
        3: "damage was found on 2026-11-20",
        **dict.fromkeys((4, 5, 6), "never read, and the copy holds snapshots since 2026-11-14"),
    }
    assert [one.part for one in due] == sorted(one.part for one in due)
    assert [one.part for one in plan_scrub(NOTHING_READ, DAY, None)] == [today]


def test_coverage_says_how_far_back_the_reading_goes() -> None:
    """The oldest of the newest readings, and nothing while a part was never read or is damaged."""
    days = [DAY + timedelta(days=number) for number in range(SLICES)]
    week = [look(day, "V2", parts=[slice_of(day)]) for day in days]
    six = fold_readings(week[:6])
    assert (six.oldest_read_at, six.proven_since) == (None, None)
    assert str(six) == f"6 of 7 parts read; never: {(slice_of(DAY) + 6) % 7}"
    seven = fold_readings(week)
    assert seven.oldest_read_at == seven.proven_since == noon(DAY)
    assert str(seven) == "all 7 parts read; oldest reading 2026-11-21 12:00 UTC"
    worse = fold_readings([*week, look(DAY + timedelta(days=8), "V2", "bad", parts=[2])])
    assert worse.oldest_read_at is not None
    assert worse.proven_since is None
    assert fold_readings([look(DAY, "V2")]).proven_since == noon(DAY)
    assert fold_readings([look(DAY, "V1"), look(DAY, "V3")]) == NOTHING_READ


@pytest.mark.parametrize(
    ("history", "share", "reason"),
    [
        ([], 1.0, "all was never opened"),
        ([look(DAY, "V3", sample_share=0.01)], 1.0, "all was never opened"),
        ([look(DAY, "V3", chosen=True)], 1.0, "all was never opened"),
        ([look(DAY - timedelta(days=6), "V3")], SAMPLE_SHARE, "all was opened on 2026-11-15"),
        ([look(DAY - timedelta(days=7), "V3")], 1.0, "all was last opened on 2026-11-14"),
        (
            [look(DAY - timedelta(days=3), "V3"), look(DAY, "V3", "bad", sample_share=0.01)],
            1.0,
            "damage was found on 2026-11-21",
        ),
        (
            [
                look(DAY - timedelta(days=3), "V3"),
                look(DAY - timedelta(days=2), "V3", "bad", sample_share=0.01),
                look(DAY - timedelta(days=1), "V3", sample_share=0.01),
            ],
            1.0,
            "damage was found on 2026-11-19",
        ),
        (
            [look(DAY - timedelta(days=1), "V3"), look(DAY, "V3", "journal", snapshots=[])],
            SAMPLE_SHARE,
            "all was opened on 2026-11-20",
        ),
    ],
)
def test_content_is_opened_whole_once_a_week_and_after_damage(
    history: list[VerificationEvidence], share: float, reason: str
) -> None:
    """On the other days a sample, another one each day; what somebody chose replaces none."""
    assert plan_content(history, DAY) == ContentLook(share, DAY.toordinal(), reason)
    assert plan_content(history, DAY).is_whole is (share == 1.0)
