"""A disaster drill (V5), decided: which copy is restored, which agents are started, what it shows.

The home region is taken as lost, so every decision rests on what the other regions hold. Each
choice carries its reason, because somebody will read it in the hour in which it is no drill.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice, zip_longest
from typing import NamedTuple

from fleet.reports import AgentDeclaration

FUTURE_TOLERANCE = timedelta(minutes=5)
"""A snapshot dated later than this after the declaration has a wrong clock; it is passed over."""


class SnapshotCopy(NamedTuple):
    """A live snapshot as one region holds it."""

    snapshot_id: str
    taken_at: datetime
    fault: str = ""
    """Why its structure (V1) is not whole here; empty when it is."""
    taint: str = ""
    """Why it must not be trusted although it is whole; empty when it may be."""


class RegionCopy(NamedTuple):
    """What one region holds of a network."""

    region: str
    snapshots: tuple[SnapshotCopy, ...]
    fault: str = ""
    """Why nothing of it can be read; empty when it can."""
    journal_until: datetime | None = None
    """Moment up to which the journal behind the newest snapshot reaches; None for no further."""
    journal_fault: str = ""
    """Why the journal cannot be used; empty when it can, or when there is none."""


class Candidate(NamedTuple):
    """A copy that may be restored."""

    region: str
    snapshot_id: str
    covered_until: datetime
    """Moment that comes back: the snapshot's cut, or the end of the journal behind it."""
    with_journal: bool = False


class Choice(NamedTuple):
    """One thing that was considered, and what became of it."""

    subject: str
    taken: bool
    reason: str


class DrillPlan(NamedTuple):
    """What to try, in order, and why."""

    candidates: tuple[Candidate, ...]
    choices: tuple[Choice, ...]


class DrillPhase(NamedTuple):
    """One step of a drill and how long it took."""

    name: str
    seconds: float


class DrillObjectives(NamedTuple):
    """What a drill must reach; None is no demand."""

    rpo_s: float | None = None
    rto_first_step_s: float | None = None
    rto_all_s: float | None = None


class DrillMeasures(NamedTuple):
    """What a drill has reached; None where it did not get there."""

    rpo_s: float | None = None
    rto_first_step_s: float | None = None
    rto_all_s: float | None = None
    restored: int = 0
    """Agents whose state was restored."""
    wanted: int = 0
    """Agents that were to be started."""
    running: int = 0
    """Agents that ran at the end."""


def plan_drill(copies: Iterable[RegionCopy], declared_at: datetime) -> DrillPlan:
    """Order the copies: the region with the youngest whole snapshot first, then what is older.

    Regions whose newest snapshot is whole come before all others: damage at the newest end means
    that something is wrong with that region now. Among them the youngest moment wins, whichever
    region holds it, so that a damaged copy costs a region and not yet an hour of work.

    Args:
        copies: one per region other than the lost one.
        declared_at: the moment of the disaster.

    Returns:
        Every restorable copy in the order to try them, and a choice for each region and each
        snapshot that was passed over. No candidate means that nothing can be restored.
    """
    ranked: list[tuple[bool, RegionCopy, tuple[SnapshotCopy, ...]]] = []
    choices: list[Choice] = []
    for copy in sorted(copies):
        newest_first = sorted(copy.snapshots, key=_by_moment, reverse=True)
        refusals = {one.snapshot_id: _refusal(one, declared_at) for one in newest_first}
        choices += [
            Choice(f"{copy.region}/{one}", taken=False, reason=why)
            for one, why in refusals.items()
            if why
        ]
        good = tuple(one for one in newest_first if not refusals[one.snapshot_id])
        if copy.journal_fault:
            subject = f"{copy.region}/journal"
            choices.append(Choice(subject, taken=False, reason=copy.journal_fault))
        if copy.fault or not good:
            reason = copy.fault or "it holds no snapshot that can be restored"
            choices.append(Choice(copy.region, taken=False, reason=reason))
        else:
            ranked.append((good[0] != newest_first[0], copy, good))
    candidates = _in_order(ranked)
    choices += _region_choices(ranked, candidates, declared_at)
    return DrillPlan(candidates, tuple(choices))


def select_started(
    agents: Iterable[AgentDeclaration], restored: Collection[str], cap: int
) -> tuple[AgentDeclaration, ...]:
    """The agents that a drill starts: every workload in turn, by name, up to `cap`.

    Args:
        agents: as declared.
        restored: agents that the snapshot holds; others are not started.
        cap: at most so many processes.
    """
    by_workload: dict[str, list[AgentDeclaration]] = defaultdict(list)
    for agent in sorted(agents):
        if agent.agent_id in restored:
            by_workload[agent.workload].append(agent)
    groups = [group for _, group in sorted(by_workload.items())]
    rounds = zip_longest(*groups)
    dealt = (agent for one_of_each in rounds for agent in one_of_each if agent is not None)
    return tuple(sorted(islice(dealt, max(0, cap))))


def measure_rpo(declared_at: datetime, covered_until: datetime) -> float:
    """Seconds of work that are lost; 0 when the copy is dated later than the declaration."""
    return max(0.0, (declared_at - covered_until).total_seconds())


def judge_drill(measures: DrillMeasures, objectives: DrillObjectives) -> tuple[str, ...]:
    """What a drill has failed at, in words; empty when it passed.

    A drill that started no agent has proven a restore only, and fails.
    """
    return tuple(_failures(measures, objectives))


def _failures(measures: DrillMeasures, objectives: DrillObjectives) -> Iterator[str]:
    if not measures.restored:
        yield "no agent was restored"
    elif not measures.wanted:
        yield "no restored agent is declared, so none was started: give the declared workloads"
    elif measures.rto_first_step_s is None:
        yield f"none of {measures.wanted} started agents made a step"
    elif measures.rto_all_s is None:
        yield f"{measures.running} of {measures.wanted} started agents ran"
    for name, limit in objectives._asdict().items():
        reached = getattr(measures, name)
        if limit is not None and reached is not None and reached > limit:
            yield f"{name} is {reached:.1f}, the objective is {limit:.1f}"


def _by_moment(one: SnapshotCopy) -> tuple[datetime, str]:
    return one.taken_at, one.snapshot_id


def _refusal(one: SnapshotCopy, declared_at: datetime) -> str:
    """Why a snapshot is no candidate; empty when it is."""
    if one.fault:
        return f"V1 fails: {one.fault}"
    if one.taint:
        return f"it is tainted: {one.taint}"
    if one.taken_at > declared_at + FUTURE_TOLERANCE:
        return f"it is dated {one.taken_at.isoformat()}, after the declaration: a wrong clock"
    return ""


def _in_order(
    ranked: Sequence[tuple[bool, RegionCopy, tuple[SnapshotCopy, ...]]],
) -> tuple[Candidate, ...]:
    keyed = [
        ((behind, -one.covered_until.timestamp(), not one.with_journal), one)
        for behind, copy, good in ranked
        for one in _candidates(copy, good, behind=behind)
    ]
    keyed.sort(key=lambda entry: entry[0])
    return tuple(one for _, one in keyed)


def _candidates(
    copy: RegionCopy, good: Sequence[SnapshotCopy], *, behind: bool
) -> Iterator[Candidate]:
    """A region's whole snapshots; its newest one also with the journal behind it."""
    newest = good[0]
    if not behind and copy.journal_until is not None and copy.journal_until > newest.taken_at:
        yield Candidate(copy.region, newest.snapshot_id, copy.journal_until, with_journal=True)
    for one in good:
        yield Candidate(copy.region, one.snapshot_id, one.taken_at)


def _region_choices(
    ranked: Sequence[tuple[bool, RegionCopy, tuple[SnapshotCopy, ...]]],
    candidates: Sequence[Candidate],
    declared_at: datetime,
) -> Iterator[Choice]:
    for behind, copy, good in ranked:
        youngest = next(_candidates(copy, good, behind=behind))
        age_s = measure_rpo(declared_at, youngest.covered_until)
        what = "its newest whole snapshot" if behind else "its newest snapshot is whole and"
        if youngest.with_journal:
            what = "its newest snapshot is whole, with its journal it"
        reason = f"{what} is {age_s:.0f} s old"
        yield Choice(copy.region, taken=copy.region == candidates[0].region, reason=reason)
