"""Reports become votes by what the receiver saw change, and by nobody else's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fleet.probe_reports import Probe, ProbeOutcome, ProbeReport, RosterMember
from fleet.probe_votes import Vote, VoteBook, vote_of
from fleet.probing import PRODUCTION_PROBING, ProbePolicy, plan_probes

AT = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = PRODUCTION_PROBING
MEMBERS = [
    RosterMember(f"n{n}", region, f"{region}-{n % 2}")
    for n, region in enumerate(["eu", "eu", "eu", "us", "us", "ap"])
]
PLAN = plan_probes(MEMBERS, POLICY)
NAMES = tuple(PLAN.observers)


def probe(node_id: str, outcome: ProbeOutcome = ProbeOutcome.ANSWERED, failures: int = 0) -> Probe:
    """What became of one probe."""
    return Probe(node_id, outcome, "", failures, None, "")


def report(observer_id: str, round_number: int, *probes: Probe, boot_id: str = "b") -> ProbeReport:
    """What one observer says."""
    return ProbeReport(observer_id, boot_id, round_number, AT, probes)


def all_say(
    round_number: int, dead: str = "", outcome: ProbeOutcome = ProbeOutcome.SILENT
) -> list[ProbeReport]:
    """Every observer reports on all of its targets; one node is out of reach."""
    return [
        report(
            name,
            round_number,
            *(probe(t, outcome, 9) if t == dead else probe(t) for t in PLAN.targets[name]),
        )
        for name in NAMES
    ]


def counted(book: VoteBook, node_id: str, now_s: float, **options: Any) -> tuple[int, ...]:
    """(observers, dead, alive, domains, outside) of one node."""
    return tuple(int(column[0]) for column in book.columns([node_id], now_s, **options))


def book(**options: Any) -> VoteBook:
    """A book that has seen every observer once, which makes no vote yet."""
    opened = VoteBook(MEMBERS, PLAN, POLICY, **{"controller_votes": False} | options)
    opened.take(all_say(1), 0.0)
    return opened


def test_one_answer_is_life_and_only_lasting_silence_is_death() -> None:
    """The table of outcomes."""
    enough = POLICY.failures_min
    cases = {
        (ProbeOutcome.ANSWERED, 0): Vote.ALIVE,
        (ProbeOutcome.RELAYED, 0): Vote.ALIVE,
        (ProbeOutcome.SILENT, enough - 1): Vote.UNSURE,
        (ProbeOutcome.SILENT, enough): Vote.DEAD,
        (ProbeOutcome.UNSURE, enough + 9): Vote.UNSURE,
    }
    for (outcome, failures), vote in cases.items():
        assert vote_of(probe("n1", outcome, failures), POLICY) == vote


def test_what_was_there_at_first_sight_counts_only_from_its_next_change() -> None:
    """It may be of any age: the observer may be long dead."""
    votes = VoteBook(MEMBERS, PLAN, POLICY, controller_votes=False)
    assert votes.take(all_say(7, dead="n0"), 0.0) == 0
    assert counted(votes, "n0", 0.0) == (5, 0, 0, 0, 0)
    assert votes.observers_reporting(0.0) == 0
    assert votes.take(all_say(7, dead="n0"), 1.0) == 0
    assert counted(votes, "n0", 1.0) == (5, 0, 0, 0, 0)
    assert votes.take(all_say(8, dead="n0"), 2.0) == len(NAMES)
    assert counted(votes, "n0", 2.0)[:3] == (5, 5, 0)
    assert votes.observers_reporting(2.0) == votes.observers_configured() == len(NAMES)


def test_a_vote_counts_until_it_is_too_old_by_our_clock() -> None:
    """45 s after its observer's report was last seen to change, and not a moment longer."""
    votes = book()
    votes.take(all_say(2), 10.0)
    assert counted(votes, "n0", 10.0 + POLICY.fresh_s)[2] == 5
    assert counted(votes, "n0", 10.0 + POLICY.fresh_s + 0.001)[2] == 0
    assert votes.observers_reporting(10.0 + POLICY.fresh_s + 0.001) == 0


def test_dead_votes_are_counted_by_domain_and_from_outside() -> None:
    """Five observers of n0 in eu: who stands where is counted, not who they are."""
    votes = book()
    votes.take(all_say(2, dead="n0"), 10.0)
    observers = [member for member in MEMBERS if member.node_id in PLAN.observers["n0"]]
    domains = len({member[1:] for member in observers})
    outside = sum(member.region != "eu" for member in observers)
    assert counted(votes, "n0", 10.0) == (5, 5, 0, domains, outside)
    assert outside == 3
    assert counted(votes, "n1", 10.0) == (5, 0, 5, 0, 0)


def test_votes_of_observers_that_are_suspect_themselves_can_be_left_out() -> None:
    """A dead observer's last word was not about the present."""
    votes = book()
    votes.take(all_say(2), 10.0)
    first, second = PLAN.observers["n0"][:2]
    assert counted(votes, "n0", 10.0, without={first, second, "stranger"})[:3] == (5, 0, 3)


def test_a_restart_believes_nothing_that_was_seen_before() -> None:
    """After a freeze or a pause of our own, only what changes from then on counts."""
    votes = book(controller_votes=True)
    votes.take(all_say(2, dead="n0"), 10.0)
    votes.take_own([probe("n0", ProbeOutcome.SILENT, 9)], 10.0)
    votes.restart()
    assert counted(votes, "n0", 10.0) == (5, 0, 0, 0, 0)
    votes.take(all_say(3, dead="n0"), 11.0)
    assert counted(votes, "n0", 11.0) == (5, 0, 0, 0, 0)
    votes.take(all_say(4, dead="n0"), 12.0)
    assert counted(votes, "n0", 12.0)[1] == 5


def test_the_controllers_own_probes_are_one_more_observer_from_outside() -> None:
    """It stands in no region and in a domain of its own; it observes the nodes that it probes."""
    votes = book(controller_votes=True)
    assert votes.observers_configured() == len(NAMES) + 1
    assert counted(votes, "n0", 0.0) == (5, 0, 0, 0, 0)
    votes.take_own([probe("n0", ProbeOutcome.SILENT, 2), probe("n1"), probe("stranger")], 5.0)
    assert counted(votes, "n0", 5.0) == (6, 1, 0, 1, 1)
    assert counted(votes, "n1", 5.0) == (6, 0, 1, 0, 0)
    assert counted(votes, "n0", 5.0 + POLICY.fresh_s + 0.1) == (5, 0, 0, 0, 0)


def test_where_the_controller_does_not_probe_the_observers_outside_are_a_majority() -> None:
    """Three of five stand outside; a controller that probes other nodes must not make it six."""
    votes = book(controller_votes=True)
    outside = [
        name
        for name in PLAN.observers["n0"]
        if {one.node_id: one.region for one in MEMBERS}[name] != "eu"
    ]
    for round_number in (1, 2):
        votes.take(
            [report(one, round_number, probe("n0", ProbeOutcome.SILENT, 9)) for one in outside],
            float(round_number),
        )
    observers, dead, *_ = counted(votes, "n0", 2.0)
    assert 2 * dead > observers


def test_another_roster_keeps_what_is_still_asked_for() -> None:
    """A node more makes nobody's vote unheard; a node that is gone has none."""
    votes = book()
    votes.take(all_say(2, dead="n0"), 10.0)
    members = [*MEMBERS, RosterMember("n9", "us", "us-9")]
    plan = plan_probes(members, POLICY)
    votes.replan(members, plan)
    kept = set(PLAN.observers["n0"]) & set(plan.observers["n0"])
    assert counted(votes, "n0", 10.0)[:2] == (5, len(kept))
    assert len(kept) >= 3
    assert counted(votes, "n9", 10.0)[:3] == (5, 0, 0)
    fewer = [member for member in MEMBERS if member.node_id != "n0"]
    votes.replan(fewer, plan_probes(fewer, POLICY))
    assert counted(votes, "n0", 10.0) == (0, 0, 0, 0, 0)
    assert counted(votes, "n5", 10.0)[0] == 4


def test_a_report_counts_for_the_targets_that_the_plan_gives_and_no_others() -> None:
    """Neither strangers nor probes that nobody asked for."""
    policy = ProbePolicy(observers=1, targets_max=1)
    plan = plan_probes(MEMBERS, policy)
    votes = VoteBook(MEMBERS, plan, policy, controller_votes=False)
    (observer,) = plan.observers["n0"]
    other = next(name for name in NAMES if name not in {observer, "n0"})
    for number in (1, 2):
        said = [probe(name, ProbeOutcome.SILENT, 5) for name in NAMES]
        votes.take([report(other, number, *said), report("stranger", number, *said)], 1.0)
    assert counted(votes, "n0", 1.0)[:2] == (1, 0)
    for number in (1, 2):
        votes.take([report(observer, number, probe("n0", ProbeOutcome.SILENT, 5))], 1.0)
    assert counted(votes, "n0", 1.0)[:2] == (1, 1)
    votes.take([report(observer, 3)], 2.0)
    assert counted(votes, "n0", 2.0)[:3] == (1, 0, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("report"),
            st.sampled_from(NAMES),
            st.lists(st.sampled_from(ProbeOutcome), min_size=5, max_size=5),
        ),
        st.tuples(st.just("advance"), st.sampled_from([1.0, 20.0, 46.0])),
        st.tuples(st.just("restart")),
        st.tuples(st.just("own"), st.sampled_from(NAMES), st.sampled_from(ProbeOutcome)),
    ),
    max_size=30,
)


@given(STEPS)
def test_columns_agree_with_counting_one_by_one(steps: list[tuple[Any, ...]]) -> None:
    """Any history of reports, against plain loops over what was seen."""
    votes = VoteBook(MEMBERS, PLAN, POLICY)
    members = {member.node_id: member for member in MEMBERS}
    now_s, rounds = 0.0, dict.fromkeys(NAMES, 0)
    known: set[str] = set()
    said: dict[str, tuple[dict[str, Vote], float]] = {}
    own: dict[str, tuple[Vote, float]] = {}
    for name, *rest in steps:
        if name == "advance":
            now_s += rest[0]
        elif name == "restart":
            votes.restart()
            known, said, own = set(), {}, {}
        elif name == "own":
            looked = probe(rest[0], rest[1], 9)
            votes.take_own([looked], now_s)
            own[rest[0]] = (vote_of(looked, POLICY), now_s)
        else:
            observer, outcomes = rest
            rounds[observer] += 1
            probes = [
                probe(node, outcome, 9)
                for node, outcome in zip(PLAN.targets[observer], outcomes, strict=False)
            ]
            votes.take([report(observer, rounds[observer], *probes)], now_s)
            if observer in known:
                heard = {one.node_id: vote_of(one, POLICY) for one in probes}
                said[observer] = (heard, now_s)
            known.add(observer)
    order = NAMES[::-1]
    columns = votes.columns(order, now_s)
    for index, node_id in enumerate(order):
        cast = [
            (members[observer][1:], heard.get(node_id, Vote.NONE))
            for observer, (heard, seen_s) in said.items()
            if observer in PLAN.observers[node_id] and now_s - seen_s <= POLICY.fresh_s
        ]
        if node_id in own and now_s - own[node_id][1] <= POLICY.fresh_s:
            cast.append((("controller", ""), own[node_id][0]))
        dead = [domain for domain, vote in cast if vote == Vote.DEAD]
        looks = node_id in own and now_s - own[node_id][1] <= POLICY.fresh_s
        assert tuple(int(column[index]) for column in columns) == (
            len(PLAN.observers[node_id]) + looks,
            len(dead),
            sum(vote == Vote.ALIVE for _, vote in cast),
            len(set(dead)),
            sum(region != members[node_id].region for region, _ in dead),
        )
