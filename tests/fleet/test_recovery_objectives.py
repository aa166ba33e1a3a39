"""What was never measured is never green, and what was measured long ago turns red by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.inventory_checks import CheckVerdict
from fleet.recovery_objectives import (
    EVIDENCE_LEVELS,
    Drill,
    ObjectivePolicy,
    RecoveryFacts,
    RecoveryFigures,
    check_backup_age,
    check_replica_lag,
    check_rpo,
    check_rto,
    check_verified,
    measure_recovery,
    span_text,
)

NOW = datetime(2026, 11, 20, 14, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
POLICY = ObjectivePolicy()
NEVER = RecoveryFacts("net", "eu", None, None, {}, None)
GOOD = RecoveryFacts(
    "net",
    "eu",
    NOW - 50 * MINUTE,
    NOW - MINUTE,
    dict.fromkeys(EVIDENCE_LEVELS, NOW - 60 * MINUTE),
    Drill(NOW - DAY, 1800.0),
)


def all_checks(figures: list[RecoveryFigures]) -> dict[str, CheckVerdict]:
    """Every verdict by name."""
    found = {
        "rpo": check_rpo(figures, POLICY),
        "backup_age": check_backup_age(figures, POLICY),
        "replica_lag": check_replica_lag(figures, POLICY),
        "rto": check_rto(figures, POLICY),
    }
    return found | {level: check_verified(figures, level, POLICY) for level in EVIDENCE_LEVELS}


def red(facts: RecoveryFacts, now: datetime = NOW, home: RecoveryFacts | None = None) -> set[str]:
    """Names of the checks that fail."""
    found = all_checks([measure_recovery(facts, now, home)])
    return {name for name, verdict in found.items() if not verdict.passed}


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({}, set()),
        ({"journal_at": None}, set()),
        ({"journal_at": None, "snapshot_at": NOW - 60 * MINUTE}, set()),
        ({"journal_at": None, "snapshot_at": NOW - 61 * MINUTE}, {"rpo"}),
        ({"snapshot_at": NOW - 121 * MINUTE}, {"backup_age"}),
        ({"snapshot_at": None}, {"backup_age"}),
        ({"journal_at": None, "snapshot_at": None}, {"rpo", "backup_age"}),
        ({"journal_at": NOW + DAY}, set()),
        ({"journal_at": NOW + DAY, "snapshot_at": None}, {"rpo", "backup_age"}),
        ({"journal_at": NOW + 4 * MINUTE}, set()),
        ({"drill": None}, {"rto"}),
        ({"drill": Drill(NOW - DAY, 14_401.0)}, {"rto"}),
        ({"drill": Drill(NOW - DAY, 60.0, "agent a did not start")}, {"rto"}),
        ({"verified_at": {}}, set(EVIDENCE_LEVELS)),
        ({"verified_at": {**GOOD.verified_at, "V4": NOW - 8 * DAY}}, set()),
        ({"verified_at": {**GOOD.verified_at, "V4": NOW - 8 * DAY - MINUTE}}, {"V4"}),
        ({"verified_at": {**GOOD.verified_at, "V5": NOW - 36 * DAY}}, {"V5"}),
        ({"home": False}, {"replica_lag"}),
        ({"failing": {"V2": "pack p: SHA-256 is 0"}}, {"V2"}),
    ],
)
def test_each_objective_turns_red_at_its_limit(change: dict[str, Any], failing: set[str]) -> None:
    """The good facts with one thing changed."""
    assert red(GOOD._replace(**change)) == failing


def test_nothing_known_is_none_and_red_with_the_reason_and_never_zero() -> None:
    """A network that was never backed up, verified or drilled."""
    figures = measure_recovery(NEVER, NOW)
    assert (figures.rpo_s, figures.backup_age_s, figures.rto_s) == (None, None, None)
    assert set(figures.verified_age_s.values()) == {None}
    found = all_checks([figures])
    assert {name for name, one in found.items() if one.passed} == {"replica_lag"}
    assert found["rto"].offenders[0].detail == "never drilled"
    assert found["V4"].reason == (
        "1 of 1 copies have no recent V4; first: net (eu): V4 never passed"
    )
    assert "worst_s" not in found["rpo"].numbers


def test_no_copy_at_all_is_red() -> None:
    """An empty list proves nothing; only the lag of no replica is no offence."""
    assert {name for name, one in all_checks([]).items() if one.passed} == {"replica_lag"}


def test_all_evidence_expires_while_nothing_fails() -> None:
    """Green now; forty days later every check is red, without a single failure."""
    assert red(GOOD) == set()
    assert red(GOOD, NOW + 40 * DAY) == {"rpo", "backup_age", *EVIDENCE_LEVELS}


@pytest.mark.parametrize(
    ("replica", "home", "lag_s", "missing"),
    [
        (GOOD, GOOD, 0.0, ""),
        (GOOD._replace(journal_at=None), GOOD, 49 * 60.0, ""),
        (GOOD, GOOD._replace(journal_at=None), 0.0, ""),
        (NEVER, GOOD, None, "nothing has been replicated yet"),
        (GOOD, NEVER, None, "the region that writes has no recovery point"),
        (GOOD, None, None, "the region that writes cannot be read"),
    ],
)
def test_the_lag_of_a_replica_is_measured_against_the_region_that_writes(
    replica: RecoveryFacts, home: RecoveryFacts | None, lag_s: float | None, missing: str
) -> None:
    """What cannot be compared is None, with its reason, and red."""
    figures = measure_recovery(replica._replace(home=False), NOW, home)
    assert figures.replica_lag_s == lag_s
    assert figures.missing.get("replica_lag_s", "") == missing
    assert check_replica_lag([figures], POLICY).passed == (lag_s is not None)


def test_a_verdict_says_how_old_and_how_old_it_may_be_and_names_what_never_was_first() -> None:
    """Reasons as people say them."""
    old = measure_recovery(GOOD._replace(network_id="a", drill=Drill(NOW, 20_000.0)), NOW)
    never = measure_recovery(NEVER._replace(network_id="b"), NOW)
    verdict = check_rto([old, never, measure_recovery(GOOD, NOW)], POLICY)
    assert [one.subject for one in verdict.offenders] == ["b", "a"]
    assert verdict.offenders[1].detail == "the newest drill took 5.6 h, at most 4.0 h"
    assert verdict.numbers == {
        "checked": 3,
        "offenders": 2,
        "missing": 1.0,
        "limit_s": 14_400,
        "worst_s": 20_000.0,
    }


known = st.integers(-100_000, 100_000).map(lambda s: NOW + timedelta(seconds=s))
moments = st.none() | known
facts = st.builds(
    RecoveryFacts,
    st.just("net"),
    st.just("eu"),
    moments,
    moments,
    st.dictionaries(st.sampled_from(EVIDENCE_LEVELS), known),
    st.none() | st.builds(Drill, st.just(NOW), st.floats(0, 1e6), st.sampled_from(["", "bad"])),
    st.booleans(),
    st.dictionaries(st.sampled_from(EVIDENCE_LEVELS), st.just("bad"), max_size=1),
)


@settings(deadline=None)
@given(facts, st.none() | facts)
def test_a_figure_is_missing_exactly_when_its_reason_is_given(
    one: RecoveryFacts, home: RecoveryFacts | None
) -> None:
    """And no figure is negative."""
    figures = measure_recovery(one, NOW, home)
    named: dict[str, float | None] = {
        name: getattr(figures, name) for name in ("rpo_s", "backup_age_s", "rto_s")
    }
    if not one.home:
        named["replica_lag_s"] = figures.replica_lag_s
    named |= {f"verified_age_s.{level}": age for level, age in figures.verified_age_s.items()}
    assert {name for name, figure in named.items() if figure is None} == figures.missing.keys()
    assert all(figure is None or figure >= 0 for figure in named.values())


@settings(deadline=None)
@given(facts, facts, st.integers(0, 10_000_000))
def test_time_alone_never_turns_a_red_check_green(
    one: RecoveryFacts, home: RecoveryFacts, seconds: int
) -> None:
    """Unless a fact was dated in the future; those are left out."""
    past = [at for at in (one.snapshot_at, one.journal_at, *one.verified_at.values()) if at]
    homes = [at for at in (home.snapshot_at, home.journal_at) if at]
    if any(at > NOW for at in (*past, *homes)):
        return
    assert red(one, NOW, home) <= red(one, NOW + timedelta(seconds=seconds), home)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_an_objective_that_cannot_be_met_or_missed_is_refused(value: float) -> None:
    """The error names it."""
    with pytest.raises(InvalidInputError, match=r"objectives\.rpo_max_s"):
        ObjectivePolicy(rpo_max_s=value)
    with pytest.raises(InvalidInputError, match="level: 'V0'"):
        check_verified([], "V0", POLICY)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2.0 h"), (172_800, "2.0 d")],
)
def test_spans_are_written_as_people_say_them(seconds: float, text: str) -> None:
    """The largest unit of which there are two."""
    assert span_text(seconds) == text
