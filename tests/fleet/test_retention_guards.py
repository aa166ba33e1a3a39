"""No policy, no attack and no clock makes the plan forget what must stay."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.retention import RetentionPolicy, Snapshot, plan_retention
from fleet.retention_guards import (
    Fate,
    PlanRow,
    RetentionPlan,
    forget_digest,
    plan_guarded_retention,
    protect_from_sweep,
)
from fleet.snapshot_fitness import Guard, GuardPolicy, SnapshotFacts
from tests.examples import examples
from tests.fleet.snapshot_facts import DAY, HOUR, NOW, a_fact, fact_lists, history, unverified

GUARDS = GuardPolicy()
DAILY = RetentionPolicy(hourly=0, daily=7, weekly=4, monthly=12, yearly=3)
LAST_ONE = RetentionPolicy(1, 0, 0, 0, 0, 0)
FREE = GuardPolicy(forget_min=10_000)


def plan(
    facts: list[SnapshotFacts],
    policy: RetentionPolicy = LAST_ONE,
    guards: GuardPolicy = FREE,
    **more: Any,
) -> RetentionPlan:
    """The plan at `NOW`."""
    return plan_guarded_retention(facts, policy, guards, head=99, now=NOW, **more)


def row(found: RetentionPlan, snapshot_id: str) -> PlanRow:
    """The row of one snapshot."""
    (one,) = (row for row in found.rows if row.snapshot_id == snapshot_id)
    return one


class Case(NamedTuple):
    """A snapshot among twenty good daily ones, and what becomes of it."""

    name: str
    one: SnapshotFacts
    fate: Fate
    reason: str


OLD = a_fact("x", 10 * DAY, 105)
AT_OLD = "2026-11-10 14:30Z"
FAILED = OLD._replace(failed_level="V3", failed_at=NOW - 3 * DAY, failure="pack p: SHA-256 is 0")
LONG_AGO = NOW - 8 * DAY

CASES = [
    Case("no rule", OLD, Fate.FORGET, "forget: no rule keeps it; newest verified stays s20"),
    Case(
        "G2 pending",
        unverified(a_fact("x", 3 * HOUR, 195)),
        Fate.PENDING,
        "pending: not yet verified, 3 h old, at most 48 h (G2)",
    ),
    Case(
        "G2 pending for too long",
        unverified(a_fact("x", 50 * HOUR, 175)),
        Fate.PENDING,
        "pending: not yet verified, 50 h old, at most 48 h (G2)",
    ),
    Case(
        "G1 verified, but not to the level that counts",
        OLD._replace(verified_level="V0"),
        Fate.PENDING,
        "pending: not yet verified, 240 h old, at most 48 h (G2)",
    ),
    Case(
        "G1 incomplete",
        OLD._replace(incomplete=("lake", "index")),
        Fate.INELIGIBLE,
        "ineligible: incomplete, it lacks lake, index (G1)",
    ),
    Case(
        "G1 incomplete, approved",
        OLD._replace(incomplete=("lake",), approved="ada: known"),
        Fate.FORGET,
        "forget: no rule keeps it; newest verified stays s20",
    ),
    Case(
        "G1 tainted",
        OLD._replace(tainted="pack p is lost"),
        Fate.INELIGIBLE,
        "ineligible: tainted: pack p is lost (G1)",
    ),
    Case(
        "G3 failed lately",
        FAILED,
        Fate.INELIGIBLE,
        "ineligible: failed V3 on 2026-11-17 14:30Z (G3); kept 7 d to be looked at",
    ),
    Case(
        "G3 failed long ago",
        FAILED._replace(failed_at=LONG_AGO, failure=""),
        Fate.FORGET,
        "forget: failed V3 on 2026-11-12 14:30Z (G3); newer and verified is s20",
    ),
    Case(
        "G3 failed long ago, approved: approval is not for damage",
        FAILED._replace(failed_at=LONG_AGO + DAY, failure="", approved="ada: fine"),
        Fate.FORGET,
        "forget: failed V3 on 2026-11-13 14:30Z (G3); newer and verified is s20",
    ),
    Case(
        "G3 failed long ago and nothing newer",
        a_fact("x", HOUR / 2, 205, failed_level="V1", failed_at=LONG_AGO),
        Fate.INELIGIBLE,
        "ineligible: failed V1 on 2026-11-12 14:30Z (G3); kept, for nothing newer is verified",
    ),
    Case(
        "G5 dated in the future",
        OLD._replace(taken_at=NOW + 10 * DAY),
        Fate.INELIGIBLE,
        f"ineligible: dated 2026-11-30 14:30Z, after the store's time {AT_OLD} (G5)",
    ),
    Case(
        "G5 dated six minutes ahead of the store, long ago",
        OLD._replace(taken_at=OLD.taken_at + timedelta(minutes=6)),
        Fate.INELIGIBLE,
        f"ineligible: dated 2026-11-10 14:36Z, after the store's time {AT_OLD} (G5)",
    ),
    Case(
        "G5 dated five minutes ahead is within the tolerance",
        OLD._replace(taken_at=OLD.taken_at + timedelta(minutes=5)),
        Fate.FORGET,
        "forget: no rule keeps it; newest verified stays s20",
    ),
    Case(
        "G5 approval does not set a clock right",
        OLD._replace(taken_at=NOW + 10 * DAY, approved="ada: fine"),
        Fate.INELIGIBLE,
        f"ineligible: dated 2026-11-30 14:30Z, after the store's time {AT_OLD} (G5)",
    ),
    Case(
        "G5 the cut is days older than its record",
        OLD._replace(taken_at=OLD.taken_at - 2 * DAY),
        Fate.INELIGIBLE,
        f"ineligible: dated 2026-11-08 14:30Z, recorded {AT_OLD} (G5)",
    ),
    Case(
        "G5 written before the record before it",
        OLD._replace(written_at=OLD.written_at - 40 * DAY, taken_at=OLD.taken_at - 40 * DAY),
        Fate.INELIGIBLE,
        "ineligible: written 2026-10-01 14:30Z, before the log's 2026-11-10 13:30Z (G5)",
    ),
    Case(
        "G6 unscheduled",
        OLD._replace(scheduled=False),
        Fate.INELIGIBLE,
        "ineligible: from an unscheduled run, not approved (G6)",
    ),
    Case(
        "G6 a third of the agents is gone",
        OLD._replace(agents=66),
        Fate.INELIGIBLE,
        "ineligible: agents fell by 34% from 100 to 66, at most 20%, not approved (G6)",
    ),
    Case(
        "G6 a fifth of the agents is gone: just allowed",
        OLD._replace(agents=80),
        Fate.FORGET,
        "forget: no rule keeps it; newest verified stays s20",
    ),
    Case(
        "G6 approved",
        OLD._replace(agents=66, scheduled=False, approved="ada: scaled down"),
        Fate.FORGET,
        "forget: no rule keeps it; newest verified stays s20",
    ),
    Case(
        "G6 verified, young, and no rule keeps it",
        a_fact("x", 30 * HOUR, 185),
        Fate.KEEP,
        "keep: 30 h old, verified ones stay 48 h (G6)",
    ),
    Case("G8 held", OLD._replace(hold="legal"), Fate.HELD, "held: legal (G8)"),
    Case(
        "G8 held and failed",
        FAILED._replace(failed_at=LONG_AGO, failure="", hold="restore"),
        Fate.HELD,
        "held: restore (G8); failed V3 on 2026-11-12 14:30Z (G3)",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_guard_decides_as_documented(case: Case) -> None:
    """One snapshot among good ones; the plan of `last 1` would forget it but for the guard."""
    found = row(plan([*history(20, DAY), case.one]), "x")
    assert (found.fate, found.reason) == (case.fate, case.reason)
    assert found.rules == ()


def test_a_kept_snapshot_names_every_rule_and_guard_that_keeps_it() -> None:
    """What an operator reads beside the newest one."""
    newest = plan(history(20, DAY), DAILY).rows[0]
    assert newest.fate == Fate.KEEP
    assert newest.reason == (
        "keep: newest of 2026-11-20 (daily 1 of 7), newest of 2026-W47 (weekly 1 of 4), "
        "newest of 2026-11 (monthly 1 of 12), newest of 2026 (yearly 1 of 3), "
        "newest verified of this region (G4), 1 h old, verified ones stay 48 h (G6)"
    )
    assert [note.guard for note in newest.guards] == [Guard.LAST_GOOD, Guard.SUSPECT]


def test_what_failed_is_an_alarm_that_says_what_was_found_and_the_stored_row_does_not() -> None:
    """G3: findings may name agents, and plans are stored in the clear."""
    found = plan([*history(20, DAY), FAILED])
    (alarm,) = found.alarms
    assert alarm == (Guard.FAILED, "x", "failed V3 on 2026-11-17 14:30Z: pack p: SHA-256 is 0")
    assert "pack p" not in row(found, "x").reason


def test_two_verified_snapshots_stay_though_the_policy_asks_for_one() -> None:
    """G4: the older of the two newest is protected too."""
    found = plan(history(20, DAY, newest=5 * DAY))
    kept = [one for one in found.rows if one.fate == Fate.KEEP]
    assert [one.snapshot_id for one in kept] == ["s20", "s19"]
    assert kept[1].reason == "keep: one of the newest 2 verified of this region (G4)"
    assert found.alarms == ()


def test_a_region_with_fewer_verified_snapshots_than_wanted_raises_an_alarm() -> None:
    """G4: one verified and one waiting are one too few."""
    one, two = history(2, HOUR)
    found = plan([one, unverified(two)])
    assert [(a.guard, a.snapshot_id) for a in found.alarms] == [(Guard.LAST_GOOD, "")]
    assert "1 of 2 live snapshots are verified in this region, 2 wanted" in found.alarms[0].text


def test_waiting_too_long_is_an_alarm_and_waiting_is_none() -> None:
    """G2: at 48 hours and a minute, not before."""
    late = unverified(a_fact("late", 48 * HOUR + timedelta(minutes=1), 185))
    fine = unverified(a_fact("fine", 48 * HOUR, 186))
    alarms = plan([*history(20, DAY), late, fine]).alarms
    assert [(one.guard, one.snapshot_id) for one in alarms] == [(Guard.PENDING, "late")]


def test_what_waits_never_pushes_a_verified_one_out() -> None:
    """G2: seven unverified dailies in front leave the seven verified ones where they are."""
    good = history(7, DAY, newest=8 * DAY)
    waiting = [unverified(a_fact(f"w{n}", n * DAY, 100 - n)) for n in range(1, 8)]
    policy = RetentionPolicy(0, 0, 7, 0, 0, 0)
    assert plan([*good, *waiting], policy).forget == ()


@pytest.mark.parametrize(("live", "most"), [(30, 10), (40, 10), (44, 11), (100, 25)])
def test_one_plan_forgets_at_most_a_quarter_and_always_ten(live: int, most: int) -> None:
    """G7: exactly at the limit it goes, one beyond it does not."""
    facts = history(live, DAY, newest=5 * DAY)
    at_limit = plan(facts, RetentionPolicy(live - most, 0, 0, 0, 0, 0), GUARDS)
    beyond = plan(facts, RetentionPolicy(live - most - 1, 0, 0, 0, 0, 0), GUARDS)
    assert (len(at_limit.forget), at_limit.refused) == (most, None)
    assert beyond.refused is not None
    assert f"forget {most + 1} snapshots without approval, at most {most}" in beyond.refused
    assert beyond.digest in beyond.refused
    assert [one.guard for one in beyond.alarms] == [Guard.BRAKE]


@pytest.mark.parametrize("rhythm_h", [6, 24, 72])
def test_a_plan_of_any_rhythm_that_holds_the_level_passes_the_brake(rhythm_h: int) -> None:
    """G7: hourly snapshots for forty days; then a policy that was cut short does not pass."""
    facts, thinned = history(24 * 40, HOUR), None
    for hour in range(rhythm_h, 24 * 40 + 1, rhythm_h):
        seen = [one for one in facts if one.seq <= 10 * hour]
        now = seen[-1].taken_at + HOUR
        found = plan_guarded_retention(
            seen, RetentionPolicy(), GUARDS, head=1, now=now, thinned_seq=thinned
        )
        assert found.refused is None, hour
        facts = [one for one in facts if one.snapshot_id not in found.forget]
        thinned = seen[-1].seq if found.forget else thinned
    brief = GuardPolicy(thin_after_h=1)
    now = facts[-1].taken_at + 2 * DAY
    shortened = plan_guarded_retention(
        facts, RetentionPolicy(hourly=3, daily=1), brief, head=1, now=now, thinned_seq=thinned
    )
    assert shortened.refused is not None


def test_snapshots_that_nobody_believes_widen_no_brake() -> None:
    """G7: a flood of unscheduled or unverified ones lets not one more go."""
    facts = history(40, DAY, newest=5 * DAY)
    flood = [unverified(one) for one in history(200, HOUR / 10)]
    flood = [one._replace(snapshot_id=f"f{one.seq}", seq=one.seq + 10_000) for one in flood]
    for thinned in (None, facts[-1].seq):
        found = plan([*facts, *flood], guards=GUARDS, thinned_seq=thinned)
        assert found.refused is not None
        assert "0 came since the last thinning" in found.refused


def test_an_approval_of_ids_releases_the_brake_for_just_these() -> None:
    """G7: what is approved does not count, what came later does."""
    facts = history(60, DAY, newest=5 * DAY)
    held_back = plan(facts, guards=GUARDS)
    assert held_back.refused is not None
    assert plan(facts, guards=GUARDS, approved=held_back.forget).refused is None
    assert plan(facts, guards=GUARDS, approved=held_back.forget[:40]).refused is not None


def test_an_approval_makes_nothing_go_that_the_plan_keeps() -> None:
    """Approving everything changes no fate."""
    facts = history(20, DAY)
    everything = [one.snapshot_id for one in facts]
    assert plan(facts, approved=everything).rows == plan(facts).rows


# The attacks of design 3.4.


def test_shadow_snapshots_do_not_push_the_good_ones_out() -> None:
    """`attack_shadow_snapshots`: beside each of 30 dailies an emptied one, a minute later.

    The bare rule keeps the shadows, for they are the newest of their days.
    """
    good = history(30, DAY)
    shadows = [
        a_fact(f"x{n}", NOW - one.taken_at - timedelta(minutes=1), one.seq + 1, agents=3)
        for n, one in enumerate(good)
    ]
    found = plan([*good, *shadows], DAILY)
    fates = {one.snapshot_id: one.fate for one in found.rows}
    assert {fates[one.snapshot_id] for one in shadows} == {Fate.INELIGIBLE}
    alone = {one.snapshot_id: one.fate for one in plan(good, DAILY).rows}
    assert {one.snapshot_id: fates[one.snapshot_id] for one in good} == alone
    assert sum(fate == Fate.KEEP for fate in alone.values()) == 11
    bare = [Snapshot(one.snapshot_id, one.taken_at) for one in (*good, *shadows)]
    assert [v.snapshot_id for v in plan_retention(bare, DAILY, NOW) if v.keep][-1] == "s1"
    assert sum(v.keep and v.snapshot_id[0] == "s" for v in plan_retention(bare, DAILY, NOW)) == 1


def test_a_flood_of_normal_looking_snapshots_thins_nothing_younger_than_two_days() -> None:
    """`attack_shadow_snapshots` in one night: hourly ones that look well, every minute anew."""
    good = history(24, HOUR, newest=2 * HOUR)
    flood = [a_fact(f"x{n}", timedelta(minutes=100 - n), 300 + n) for n in range(100)]
    found = plan([*good, *flood], RetentionPolicy(hourly=24), GUARDS)
    assert not {one.snapshot_id for one in good} & set(found.forget)


@pytest.mark.parametrize("bogus", [1, 8])
@pytest.mark.parametrize("now_known", [True, False])
def test_snapshots_of_a_clock_that_jumped_ahead_spend_no_count(bogus: int, now_known: bool) -> None:
    """`clock_jump_future` and `_x8`: dated 2099 in the middle; the good ones fare as without."""
    good = history(40, DAY)
    at = datetime(2099, 1, 1, tzinfo=NOW.tzinfo)
    jumped = [
        good[19]._replace(
            snapshot_id=f"x{n}",
            seq=good[19].seq + 1 + n,
            taken_at=at + n * DAY,
            written_at=at + n * DAY,
            stored_at=good[19].stored_at if now_known else None,
        )
        for n in range(bogus)
    ]
    found = plan([*good, *jumped], DAILY)
    fates = {one.snapshot_id: one.fate for one in found.rows}
    assert {fates[one.snapshot_id] for one in jumped} == {Fate.INELIGIBLE}
    alone = {one.snapshot_id: one.fate for one in plan(good, DAILY).rows}
    assert {one.snapshot_id: fates[one.snapshot_id] for one in good} == alone
    assert {one.guard for one in found.alarms} == {Guard.TIME}


def test_snapshots_of_a_clock_that_was_set_back_spend_no_count() -> None:
    """`clock_back`: six in the middle are dated two years earlier and would pose as yearly ones."""
    good = history(40, DAY)
    back = [
        one._replace(taken_at=one.taken_at - 730 * DAY, written_at=one.written_at - 730 * DAY)
        for one in good[20:26]
    ]
    found = plan([*good[:20], *back, *good[26:]], DAILY)
    fates = {one.snapshot_id: one.fate for one in found.rows}
    assert {fates[one.snapshot_id] for one in back} == {Fate.INELIGIBLE}
    assert not any(one.rules for one in found.rows if one.snapshot_id in {b[0] for b in back})
    alone = plan([*good[:20], *good[26:]], DAILY)
    assert found.forget == alone.forget


def test_a_long_backup_that_commits_after_a_short_one_is_no_clock_fault() -> None:
    """Taken at 10:00, committed at 14:00; another was taken and committed at noon."""
    first, second = history(2, 2 * HOUR)
    long = first._replace(
        snapshot_id="long", seq=30, written_at=NOW, stored_at=NOW, taken_at=NOW - 4 * HOUR
    )
    assert plan([first, second, long]).alarms == ()


def changing(*shares: int) -> list[SnapshotFacts]:
    """Daily snapshots of 1000 agents, of which so many changed; the last one is `x`."""
    facts = history(len(shares), DAY)
    facts = [one._replace(agents=1000, changed=n) for one, n in zip(facts, shares, strict=True)]
    return [*facts[:-1], facts[-1]._replace(snapshot_id="x")]


@pytest.mark.parametrize(
    ("shares", "suspect"),
    [
        ((20, 20, 20, 20, 100), False),
        ((20, 20, 20, 20, 101), True),
        ((20, 20, 500, 20, 20, 101), True),
        ((0, 0, 0, 50), False),
        ((0, 0, 0, 51), True),
        ((20, 20, 900), False),
        ((1000, 20, 20, 20, 20, 20, 20, 20, 20, 90), False),
    ],
    ids=["five times", "more", "one peak is not usual", "little", "idle", "young", "first full"],
)
def test_a_burst_of_change_is_suspect(shares: tuple[int, ...], suspect: bool) -> None:
    """G6: more than five times the median of seven days; what is suspect does not become usual."""
    found = row(plan(changing(*shares)), "x")
    assert (found.fate == Fate.INELIGIBLE) is suspect
    assert any("changed, usual are" in note.text for note in found.guards) is suspect


def test_in_a_small_network_one_agent_is_no_burst() -> None:
    """G6: two of ten agents are a fifth, and still only two."""
    facts = [one._replace(agents=10, changed=0) for one in history(5, DAY)]
    facts[-1] = facts[-1]._replace(changed=2)
    assert plan(facts).alarms == ()


def test_after_an_approved_fall_the_smaller_fleet_is_the_usual_one() -> None:
    """G6: the approved snapshot is what later ones are compared with."""
    facts = history(10, DAY)
    facts[5:] = [one._replace(agents=50) for one in facts[5:]]
    suspect = [a.snapshot_id for a in plan(facts).alarms]
    assert suspect == ["s10", "s9", "s8", "s7", "s6"]
    facts[5] = facts[5]._replace(approved="ada: scaled down")
    assert plan(facts).alarms == ()


# What a replica asks before it sweeps.


def test_a_replica_refuses_to_sweep_what_its_own_plan_keeps() -> None:
    """G10: a hostile forget of all but the newest; expired ones may go, held ones never."""
    facts = history(40, DAY)
    facts[0] = facts[0]._replace(hold="legal")
    copied = [one._replace(live=False) for one in facts[:-1]] + facts[-1:]
    doomed = {one.snapshot_id for one in facts[:-1]}
    kept = protect_from_sweep(copied, doomed, DAILY, GUARDS, now=NOW)
    fates = {one.snapshot_id: one.fate for one in plan(facts, DAILY).rows}
    assert kept.keys() == {one for one in doomed if fates[one] != Fate.FORGET}
    assert protect_from_sweep(copied, doomed, DAILY, GUARDS, now=NOW, approved=doomed).keys() == {
        "s1"
    }


def test_a_replica_sweeps_what_plan_after_plan_forgot() -> None:
    """G10: ten days of hourly plans leave nothing that the replica would hold on to.

    And as each forgets about one, the brake never closes.
    """
    facts = [one._replace(live=False) for one in history(240, HOUR)]
    policy = RetentionPolicy(hourly=24)
    for end in range(1, 241):
        now = facts[end - 1].taken_at + HOUR
        seen = [*facts[: end - 1], facts[end - 1]._replace(live=True)]
        found = plan_guarded_retention(seen, policy, GUARDS, head=end, now=now)
        assert found.refused is None
        gone = set(found.forget)
        facts[:end] = [one._replace(live=one.live and one[0] not in gone) for one in seen]
    dead = {one.snapshot_id for one in facts if not one.live}
    assert len(dead) > 150
    assert protect_from_sweep(facts, dead, policy, GUARDS, now=NOW) == {}


# Properties.

counts = st.integers(-1, 5)
policies = st.builds(RetentionPolicy, counts, counts, counts, counts, counts, counts).filter(
    lambda p: any((p.last, p.hourly, p.daily, p.weekly, p.monthly, p.yearly))
)
guard_policies = st.builds(
    GuardPolicy,
    verified_min=st.integers(1, 4),
    thin_after_h=st.sampled_from([0.0, 48.0, 500.0]),
    forget_min=st.sampled_from([0, 3, 1000]),
)


@settings(max_examples=examples(60))
@given(fact_lists(), policies, guard_policies)
def test_applying_a_plan_and_planning_again_forgets_nothing(
    facts: list[SnapshotFacts], policy: RetentionPolicy, guards: GuardPolicy
) -> None:
    """Whatever stays, stays again."""
    first = plan(facts, policy, guards)
    applied = [one._replace(live=one.live and one[0] not in first.forget) for one in facts]
    again = plan(applied, policy, guards)
    assert again.forget == ()
    assert again.refused is None


@settings(max_examples=examples(60))
@given(fact_lists(), policies, st.sampled_from(["last", "hourly", "daily", "weekly", "yearly"]))
def test_a_higher_count_never_forgets_more(
    facts: list[SnapshotFacts], policy: RetentionPolicy, kind: str
) -> None:
    """Monotone in each count; -1 is the highest."""
    count = getattr(policy, kind)
    if count == -1:
        return
    values = {name: getattr(policy, name) for name in policy.__dataclass_fields__}
    more = RetentionPolicy(**{**values, kind: count + 1})
    assert set(plan(facts, more).forget) <= set(plan(facts, policy).forget)


@settings(max_examples=examples(60))
@given(fact_lists(), policies, guard_policies)
def test_what_is_protected_is_never_forgotten(
    facts: list[SnapshotFacts], policy: RetentionPolicy, guards: GuardPolicy
) -> None:
    """By a second look at the facts themselves: newest verified ones, held, waiting, young."""
    found = plan(facts, policy, guards)
    rows = {one.snapshot_id: one for one in found.rows}
    assert rows.keys() == {one.snapshot_id for one in facts if one.live}
    fit = [one for one in found.rows if one.fate in {Fate.KEEP, Fate.FORGET, Fate.HELD}]
    fit = [one for one in fit if not any(n.guard in {"G1", "G2", "G3", "G5"} for n in one.guards)]
    fit = [one for one in fit if not any("not approved" in n.text for n in one.guards)]
    for newest in fit[: guards.verified_min]:
        assert newest.fate != Fate.FORGET
    for one in facts:
        if one.snapshot_id not in found.forget:
            continue
        good = one.verified_level >= "V1" and one.failed_at is None
        assert not one.hold
        assert good or (one.failed_at is not None and NOW - one.failed_at >= 7 * DAY)
        assert one.failed_at or NOW - (one.stored_at or one.written_at) >= (
            timedelta(hours=guards.thin_after_h)
        )
        assert one.scheduled or one.approved or one.failed_at


@settings(max_examples=examples(60))
@given(fact_lists(), policies)
def test_only_eligible_snapshots_have_rules_and_no_rule_exceeds_its_count(
    facts: list[SnapshotFacts], policy: RetentionPolicy
) -> None:
    """The plan never names an ineligible one as keeper."""
    found = plan(facts, policy)
    for one in found.rows:
        if one.fate in {Fate.PENDING, Fate.INELIGIBLE, Fate.FORGET}:
            assert one.rules == ()
        assert one.reason.startswith(f"{one.fate}: ")
        assert len(one.reason) > len(one.fate) + 2
    for kind in ("last", "hourly", "daily", "weekly", "monthly", "yearly"):
        spent = sum(f"({kind} " in rule for one in found.rows for rule in one.rules)
        assert getattr(policy, kind) == -1 or spent <= getattr(policy, kind)
    assert found.forget == tuple(sorted(r.snapshot_id for r in found.rows if r.fate == "forget"))
    assert found.digest == forget_digest(reversed(found.forget))


@settings(max_examples=examples(60))
@given(fact_lists(), policies, st.randoms(use_true_random=False), st.integers(-14, 14))
def test_the_plan_depends_neither_on_order_nor_on_zones(
    facts: list[SnapshotFacts], policy: RetentionPolicy, chance: random.Random, offset_h: int
) -> None:
    """Shuffled, and with every time written in another zone."""
    zone = timezone(timedelta(hours=offset_h))
    moved = [
        one._replace(taken_at=one.taken_at.astimezone(zone), written_at=one.written_at)
        for one in facts
    ]
    chance.shuffle(moved)
    assert plan(moved, policy) == plan(facts, policy)


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the zone of the process, and sets it back."""
    before = os.environ.get("TZ")

    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    assert os.environ.get("TZ") == before
    time.tzset()


def test_the_plan_does_not_depend_on_the_zone_of_its_process(
    in_zone: Callable[[str], None],
) -> None:
    """Also not in its words; hourly snapshots over a change to winter time."""
    facts = history(24 * 60, HOUR)
    found = []
    for name in ("UTC", "Europe/Berlin", "Pacific/Kiritimati"):
        in_zone(name)
        found.append(plan(facts, DAILY))
    assert found[0] == found[1] == found[2]


@settings(max_examples=examples(60))
@given(fact_lists(), policies, st.data())
def test_a_hold_changes_the_fate_of_nobody_else(
    facts: list[SnapshotFacts], policy: RetentionPolicy, data: st.DataObject
) -> None:
    """G8: holds spend no count, and their release brings back what was without them."""
    number = data.draw(st.integers(0, len(facts) - 1))
    name = facts[number].snapshot_id
    without = [*facts[:number], facts[number]._replace(hold=""), *facts[number + 1 :]]
    with_hold = [*facts[:number], facts[number]._replace(hold="pin"), *facts[number + 1 :]]
    others = [one for one in plan(without, policy).rows if one.snapshot_id != name]
    assert [one for one in plan(with_hold, policy).rows if one.snapshot_id != name] == others


def test_facts_that_contradict_themselves_are_refused() -> None:
    """A snapshot that occurs twice, and a time without a zone."""
    one = history(1, DAY)[0]
    with pytest.raises(InvalidInputError, match="snapshot_id: 's1'"):
        plan([one, one])
    with pytest.raises(InvalidInputError, match=r"s1\.taken_at.*aware"):
        plan([one._replace(taken_at=one.taken_at.replace(tzinfo=None))])


def test_an_empty_policy_is_refused_even_for_an_empty_vault() -> None:
    """No rule at all is an error; no snapshot at all is none."""
    with pytest.raises(InvalidInputError, match="at least one rule"):
        plan([], RetentionPolicy(0, 0, 0, 0, 0, 0))
    assert plan([]) == RetentionPlan(99, (), (), (), None, forget_digest([]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"level_min": "V0"}, "level_min.*V1 to V5"),
        ({"verified_min": 0}, "verified_min.*1 or more"),
        ({"failed_keep_d": -1}, "failed_keep_d.*0 or more"),
        ({"thin_after_h": float("nan")}, "thin_after_h.*0 or more"),
        ({"forget_share_max": 1.5}, "forget_share_max.*a share"),
        ({"agents_fall_max": 20}, "agents_fall_max.*a share"),
    ],
)
def test_a_guard_cannot_be_given_an_absurd_number(wrong: dict[str, Any], message: str) -> None:
    """The error names the guard and what is allowed."""
    with pytest.raises(InvalidInputError, match=message):
        GuardPolicy(**wrong)
