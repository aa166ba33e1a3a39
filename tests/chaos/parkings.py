"""Who was parked although a healthy node could have taken it in: what an operator would ask first.

Parking is for good, until a person comes. So nobody may be parked for a lack of room that passes
(docs/guarantees.md): the plan that parks must not overlook a node that has been there for a while.
Of what is looked at here nothing is asked of the plan itself: processes, leases, and what the
leading controller says of each node, twice a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.failover.policy import FailoverPolicy
from fleet.failover_moves import PLAN, read_plans
from fleet.journal import JournalEntry
from fleet.placement.parking import NO_NODE
from fleet.placement_history import PlacementRecord
from tests.chaos.write_ledger import Finding

GAP_MAX = timedelta(seconds=5)
"""Between two looks; what was in between is not known then."""

_LOST = re.compile(r"(node|region) (\S+) was lost \((\S+)\); parked: (.*)")
_NO_ROOM = re.compile(r"no node of .* has room|has no node")
_CRASH_LOOP = re.compile(r"parked: .*(crash|restarts)")


class Look(NamedTuple):
    """Which nodes could take agents in at a moment."""

    at: datetime
    working: frozenset[str]
    """The supervisor runs, is not stopped, and holds its lease."""
    trusted: frozenset[str]
    """Of these, the ones that an acting leader holds to be healthy; none while nobody acts."""


class Parking(NamedTuple):
    """One agent that failover has taken off its node for lack of room."""

    agent_id: str
    planned_at: datetime
    reach: frozenset[str]
    """Nodes that the order may have used."""
    reason: str


class Bounds(NamedTuple):
    """For how long a node may be there without being used."""

    trusted_s: float
    """The leader itself calls it healthy."""
    working_s: float
    """It works, whatever is said of it."""


def bounds_of(policy: FailoverPolicy) -> Bounds:
    """What an operator may expect under a policy.

    A plan is made of what was known when its move was asked for: it may be as old as the attempt
    before, when its run had to be tried again. A node that works may be doubted for as long as the
    longest probation or quarantine.
    """
    trusted_s = 2.0 * policy.move_retry_s
    return Bounds(trusted_s, trusted_s + max(policy.probation_max_s, policy.quarantine_s))


def read_parkings(
    history: Iterable[PlacementRecord],
    journals: Mapping[str, Sequence[JournalEntry]],
    regions: Mapping[str, str],
) -> tuple[list[Parking], list[Finding]]:
    """Parkings for lack of room, and those that have no reason known here.

    Args:
        history: every epoch that was ever stored.
        journals: incident -> its journal.
        regions: node -> region, of all nodes.

    Returns:
        What is to be judged; and a finding for each parking that is neither for lack of room nor
        for a crash loop, which are the only causes that killed and frozen processes have.
    """
    parkings, odd = [], []
    for row in history:
        if row.desired != "parked":
            continue
        lost = _LOST.match(row.reason)
        if lost is None or not _NO_ROOM.search(lost[4]):
            if not _CRASH_LOOP.match(row.reason):
                odd.append(Finding(row.agent_id, f"parked, and nobody knows why: {row.reason!r}"))
            continue
        kind, name, incident, _ = lost.groups()
        home = {one for one, region in regions.items() if region == row.region}
        reach = home - {name} if kind == "node" else regions.keys() - home
        planned_at = _planned_at(journals.get(incident, ()), row)
        parkings.append(Parking(row.agent_id, planned_at, frozenset(reach), row.reason))
    return parkings, odd


def _planned_at(journal: Iterable[JournalEntry], row: PlacementRecord) -> datetime:
    """When the plan was written down that this parking carries out."""
    plans = [
        entry.at
        for entry in journal
        if entry.step.startswith(f"{PLAN}/")
        and entry.status == "done"
        and entry.at <= row.placed_at
        and any(
            (one.agent_id, one.node_id) == (row.agent_id, NO_NODE) for one in read_plans([entry])
        )
    ]
    return max(plans, default=row.placed_at)


def find_needless_parkings(
    parkings: Iterable[Parking], looks: Sequence[Look], bounds: Bounds
) -> list[Finding]:
    """Parkings that had been planned although a node in reach was there for longer than a bound.

    Args:
        parkings: to be judged.
        looks: in the order of time.
        bounds: see `bounds_of`.
    """
    findings = []
    for one in parkings:
        for node_id in sorted(one.reach):
            trusted_s = _there_s(
                one.planned_at, [(look.at, node_id in look.trusted) for look in looks]
            )
            working_s = _there_s(
                one.planned_at, [(look.at, node_id in look.working) for look in looks]
            )
            if trusted_s >= bounds.trusted_s or working_s >= bounds.working_s:
                problem = (
                    f"was parked by a plan of {one.planned_at:%H:%M:%S} although {node_id} had "
                    f"worked for {working_s:.0f} s and been trusted for {trusted_s:.0f} s: "
                    f"{one.reason}"
                )
                findings.append(Finding(one.agent_id, problem))
    return findings


def _there_s(until: datetime, seen: Sequence[tuple[datetime, bool]]) -> float:
    """For how long without a break a node had been there when a plan was made."""
    began = last = None
    for at, there in seen:
        if at > until:
            break
        broken = last is not None and at - last > GAP_MAX
        began = (at if began is None or broken else began) if there else None
        last = at
    if began is None or last is None or until - last > GAP_MAX:
        return 0.0
    return (until - began).total_seconds()
