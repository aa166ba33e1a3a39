"""The claims about the history of placements as verdicts, and what moved in words and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fleet.agents import Placement, StateChange
from fleet.inventory_checks import CheckVerdict, Offender, judge
from fleet.placement_history import (
    Breach,
    PlacementRecord,
    find_double_placements,
    find_missing_epochs,
    find_stale_epochs,
)

REASONS_MAX = 20
"""Reasons of moves that are told one by one."""


def check_double_placements(
    rows: Sequence[PlacementRecord], placements: Iterable[Placement]
) -> CheckVerdict:
    """No epoch was ever given to two nodes, and no epoch lacks its row.

    Args:
        rows: the whole history, in order.
        placements: as stored now, read before the rows.
    """
    breaches = [*find_double_placements(rows), *find_missing_epochs(rows, placements)]
    claim = "{offenders} of {checked} placements contradict that each epoch is one agent's one node"
    return judge(claim, len(rows), _offenders(breaches, rows))


def check_stale_epochs(
    rows: Sequence[PlacementRecord], changes: Iterable[StateChange]
) -> CheckVerdict:
    """No order and no state was accepted under an epoch or term that had been replaced.

    Args:
        rows: the whole history, in order.
        changes: the log of state changes; read once, never held.
    """
    seen = Counter[str]()
    breaches = find_stale_epochs(rows, _counted(changes, seen))
    claim = "{offenders} of {checked} placements and states were accepted under a replaced epoch"
    return judge(
        claim,
        len(rows) + seen["changes"],
        _offenders(breaches, rows),
        numbers={"placements": len(rows), "changes": seen["changes"]},
    )


def _counted(changes: Iterable[StateChange], seen: Counter[str]) -> Iterable[StateChange]:
    for change in changes:
        seen["changes"] += 1
        yield change


def _offenders(breaches: Sequence[Breach], rows: Sequence[PlacementRecord]) -> list[Offender]:
    wanted = {one.agent_id for one in breaches}
    regions = {row.agent_id: row.region for row in rows if row.agent_id in wanted}
    return [
        Offender(one.agent_id, regions.get(one.agent_id, ""), f"epoch {one.epoch}: {one.problem}")
        for one in breaches
    ]


def moves_by_reason(rows: Iterable[PlacementRecord]) -> list[tuple[str, int]]:
    """What brought agents where they are, most often first.

    What stands behind the first `;` or `:` names the node or agent; without it alike reasons are
    counted together.
    """
    counts = Counter(_cause(row) for row in rows)
    return counts.most_common(REASONS_MAX)


def _cause(row: PlacementRecord) -> str:
    if row.epoch == 1:
        return "placed for the first time"
    cause = row.reason.partition(";")[0].partition(":")[0].strip()
    return f"parked: {cause}" if row.desired == "parked" and cause != "parked" else cause
