"""Which copy a drill restores, whom it starts, when it has passed; which snapshots V4 looks at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.drill_plan import (
    Candidate,
    DrillMeasures,
    DrillObjectives,
    RegionCopy,
    SnapshotCopy,
    judge_drill,
    measure_rpo,
    plan_drill,
    select_started,
)
from fleet.reports import AgentDeclaration
from fleet.restore_test_plan import LoadedState, select_loaded_agents, select_tested_snapshots

NOW = datetime(2026, 11, 20, 14, tzinfo=UTC)


def copy_at(age_s: float, fault: str = "", taint: str = "") -> SnapshotCopy:
    """The snapshot of that age, the same in every region."""
    return SnapshotCopy(f"s{age_s:g}", NOW - timedelta(seconds=age_s), fault, taint)


def region(
    name: str, *snapshots: SnapshotCopy, fault: str = "", journal: float | None = None
) -> RegionCopy:
    """A region with snapshots, and a journal that reaches to that age."""
    until = None if journal is None else NOW - timedelta(seconds=journal)
    return RegionCopy(name, snapshots, fault, until)


CASES = {
    "the youngest cut wins": (
        [region("a", copy_at(90), copy_at(30)), region("b", copy_at(60), copy_at(20))],
        ["b/s20", "a/s30", "b/s60", "a/s90"],
    ),
    "a tie goes to the first name, then to the other copy of the same moment": (
        [region("b", copy_at(20)), region("a", copy_at(20), copy_at(40))],
        ["a/s20", "b/s20", "a/s40"],
    ),
    "a region that is damaged at its newest end comes last": (
        [region("a", copy_at(10, fault="gone"), copy_at(20)), region("b", copy_at(30))],
        ["b/s30", "a/s20"],
    ),
    "a tainted newest one as well": (
        [region("a", copy_at(10, taint="lost"), copy_at(20)), region("b", copy_at(30))],
        ["b/s30", "a/s20"],
    ),
    "damage further back costs only that snapshot": (
        [region("a", copy_at(10), copy_at(20, fault="gone"), copy_at(30))],
        ["a/s10", "a/s30"],
    ),
    "a clock that was wrong by an hour is not believed": (
        [region("a", copy_at(-3600), copy_at(20))],
        ["a/s20"],
    ),
    "a clock that was wrong by a minute is": ([region("a", copy_at(-60))], ["a/s-60"]),
    "a region that cannot be read is passed over": (
        [region("a", fault="no answer"), region("b", copy_at(20))],
        ["b/s20"],
    ),
    "a journal counts up to its end, then the snapshot without it": (
        [region("a", copy_at(90), copy_at(99), journal=5), region("b", copy_at(20), journal=20)],
        ["a/s90+journal", "b/s20", "a/s90", "a/s99"],
    ),
    "a journal behind a snapshot that is not whole restores nothing": (
        [region("a", copy_at(10, fault="gone"), copy_at(20), journal=5)],
        ["a/s20"],
    ),
    "nothing is left": ([region("a", copy_at(1, fault="gone")), region("b")], []),
    "there is no region": ([], []),
}


@pytest.mark.parametrize("case", CASES)
def test_copies_are_tried_in_the_order_that_loses_least(case: str) -> None:
    """Golden table; the order in which regions are given does not matter."""
    copies, wanted = CASES[case]
    for given_copies in (copies, copies[::-1]):
        plan = plan_drill(given_copies, NOW)
        assert [
            f"{one.region}/{one.snapshot_id}" + ("+journal" if one.with_journal else "")
            for one in plan.candidates
        ] == wanted


def test_every_choice_has_its_reason() -> None:
    """Each region once, each snapshot that was passed over once; one region is taken."""
    plan = plan_drill(
        [
            region("a", copy_at(10, fault="pack x is gone"), copy_at(20)),
            region("b", copy_at(30), copy_at(40, taint="lost")),
            region("c", fault="no answer"),
            region("d"),
            region("e", copy_at(80), journal=40)._replace(journal_fault="segment 3 is missing"),
        ],
        NOW,
    )
    said = {one.subject: (one.taken, one.reason) for one in plan.choices}
    assert len(said) == len(plan.choices)
    assert said == {
        "a/s10": (False, "V1 fails: pack x is gone"),
        "b/s40": (False, "it is tainted: lost"),
        "c": (False, "no answer"),
        "d": (False, "it holds no snapshot that can be restored"),
        "a": (False, "its newest whole snapshot is 20 s old"),
        "b": (True, "its newest snapshot is whole and is 30 s old"),
        "e": (False, "its newest snapshot is whole, with its journal it is 40 s old"),
        "e/journal": (False, "segment 3 is missing"),
    }


COPIES = st.lists(
    st.builds(
        RegionCopy,
        st.sampled_from(["a", "b", "c", "d"]),
        st.lists(
            st.builds(
                copy_at,
                st.integers(-1000, 1000),
                st.sampled_from(["", "", "gone"]),
                st.sampled_from(["", "", "lost"]),
            ),
            max_size=5,
            unique_by=lambda one: one.snapshot_id,
        ).map(tuple),
        st.just(""),
        st.none() | st.integers(-200, 1000).map(lambda age_s: NOW - timedelta(seconds=age_s)),
        st.just(""),
    ),
    max_size=4,
    unique_by=lambda one: one.region,
)


@given(COPIES)
def test_exactly_the_whole_untainted_copies_are_tried(copies: list[RegionCopy]) -> None:
    """Each once; what a later one would save, an earlier one of the same rank saves as well."""
    plan = plan_drill(copies, NOW)
    good = {
        Candidate(copy.region, one.snapshot_id, one.taken_at)
        for copy in copies
        for one in copy.snapshots
        if not one.fault and not one.taint and one.taken_at <= NOW + timedelta(minutes=5)
    }
    without = [one for one in plan.candidates if not one.with_journal]
    assert set(without) == good
    assert len(without) == len(good)
    until = {copy.region: copy.journal_until for copy in copies}
    for one in plan.candidates:
        if one.with_journal:
            behind = next(each for each in without if each.region == one.region)
            assert one.snapshot_id == behind.snapshot_id
            assert until[one.region] == one.covered_until > behind.covered_until
    assert sum(one.taken for one in plan.choices) == bool(good)
    assert all(one.reason for one in plan.choices)
    first_rank = {
        copy.region
        for copy in copies
        for one in copy.snapshots
        if one == max(copy.snapshots, key=lambda each: (each.taken_at, each.snapshot_id))
        and Candidate(copy.region, one.snapshot_id, one.taken_at) in good
    }
    ranks = [one.region not in first_rank for one in plan.candidates]
    assert ranks == sorted(ranks)
    for rank in (False, True):
        moments = [
            one.covered_until for one in plan.candidates if (one.region not in first_rank) is rank
        ]
        assert moments == sorted(moments, reverse=True)


def agent(name: str, workload: str) -> AgentDeclaration:
    """An agent as declared."""
    return AgentDeclaration(name, "net", workload, "eu", 1, 1)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("xyz")), unique_by=lambda one: one[0]),
    st.sets(st.integers(0, 40)),
    st.integers(-1, 20),
)
def test_the_started_agents_are_spread_over_the_workloads(
    declared: list[tuple[int, str]], restored: set[int], cap: int
) -> None:
    """As many as the cap allows, only restored ones, and no workload is left behind by two."""
    agents = [agent(f"a{number:02}", workload) for number, workload in declared]
    held = {f"a{number:02}" for number in restored}
    chosen = select_started(agents, held, cap)
    fitting = [one for one in agents if one.agent_id in held]
    assert len(set(chosen)) == len(chosen) == min(max(0, cap), len(fitting))
    assert set(chosen) <= set(fitting)
    assert select_started(agents[::-1], held, cap) == chosen
    counts = {one: sum(each.workload == one for each in chosen) for one in "xyz"}
    for one in "xyz":
        if counts[one] < sum(each.workload == one for each in fitting):
            assert counts[one] >= max(counts.values()) - 1


REACHED = DrillMeasures(120.0, 10.0, 20.0, restored=8, wanted=4, running=4)
VERDICTS = [
    (REACHED, DrillObjectives(), ()),
    (REACHED, DrillObjectives(120.0, 10.0, 20.0), ()),
    (REACHED, DrillObjectives(rpo_s=119.0), ("rpo_s is 120.0, the objective is 119.0",)),
    (
        REACHED,
        DrillObjectives(rto_first_step_s=9.0, rto_all_s=19.0),
        (
            "rto_first_step_s is 10.0, the objective is 9.0",
            "rto_all_s is 20.0, the objective is 19.0",
        ),
    ),
    (
        REACHED._replace(rto_all_s=None, running=3),
        DrillObjectives(rto_all_s=1.0),
        ("3 of 4 started agents ran",),
    ),
    (
        REACHED._replace(rto_first_step_s=None),
        DrillObjectives(),
        ("none of 4 started agents made a step",),
    ),
    (
        REACHED._replace(wanted=0),
        DrillObjectives(),
        ("no restored agent is declared, so none was started: give the declared workloads",),
    ),
    (DrillMeasures(), DrillObjectives(1.0, 1.0, 1.0), ("no agent was restored",)),
]


@pytest.mark.parametrize(("measures", "objectives", "wanted"), VERDICTS)
def test_a_drill_passes_only_when_agents_work_within_the_objectives(
    measures: DrillMeasures, objectives: DrillObjectives, wanted: tuple[str, ...]
) -> None:
    """Golden table."""
    assert judge_drill(measures, objectives) == wanted


def test_what_is_lost_is_counted_from_the_cut() -> None:
    """And never negative, when the copy's clock was a little ahead."""
    assert measure_rpo(NOW, NOW - timedelta(seconds=90)) == 90
    assert measure_rpo(NOW, NOW + timedelta(seconds=90)) == 0


LIVE = st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=3), st.integers(0, 5)),
    unique_by=lambda one: one[0],
)


@given(LIVE, st.integers(0, 2**31), st.randoms(use_true_random=False))
def test_the_newest_snapshot_and_one_older_are_tested(
    named: list[tuple[str, int]], seed: int, chance: object
) -> None:
    """The same for any order of the listing; the seed decides which older one."""
    live = [(name, NOW + timedelta(hours=hour)) for name, hour in named]
    chosen = select_tested_snapshots(live, seed)
    assert len(chosen) == min(2, len(live))
    assert {(one.snapshot_id, one.taken_at) for one in chosen} <= set(live)
    if chosen:
        assert chosen[0].taken_at == max(at for _, at in live)
        assert len({one.snapshot_id for one in chosen}) == len(chosen)
    assert select_tested_snapshots(live[::-1], seed) == chosen


def test_over_time_every_older_snapshot_gets_its_turn() -> None:
    """Forty seeds find all of five."""
    live = [(f"s{number}", NOW + timedelta(hours=number)) for number in range(6)]
    older = {select_tested_snapshots(live, seed)[1].snapshot_id for seed in range(40)}
    assert older == {f"s{number}" for number in range(5)}


@given(
    st.lists(
        st.builds(
            LoadedState, st.text("ab", min_size=1, max_size=4), st.just(1), st.just("d"),
            st.integers(0, 9),
        ),
        unique_by=lambda one: one.agent_id,
        max_size=12,
    ),
    st.integers(0, 12),
    st.integers(0, 99),
)  # fmt: skip
def test_the_largest_and_the_smallest_state_are_among_the_loaded(
    states: list[LoadedState], count: int, seed: int
) -> None:
    """Exactly as many as asked for, each once, repeatable."""
    chosen = select_loaded_agents(states, count, seed)
    assert len(set(chosen)) == len(chosen) == min(count, len(states))
    assert set(chosen) <= set(states)
    assert list(chosen) == sorted(chosen)
    assert select_loaded_agents(states[::-1], count, seed) == chosen
    sizes = [one.size_bytes for one in states]
    found = [one.size_bytes for one in chosen]
    if chosen:
        assert max(sizes) in found
    if len(chosen) > 1:
        assert min(sizes) in found
