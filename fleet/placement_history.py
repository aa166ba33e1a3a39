"""The history of placements, and what must be true of all of it.

Every epoch that the store has ever stored is a row, written in the same transaction as the
placement. Three claims are judged over the rows, without trust in the store that wrote them:

* no agent on two nodes: an epoch is the right to run and write, and names one node;
* no stale epoch accepted: of one agent, epochs rise and terms never fall in the order of commits,
  and no state was stored under an epoch after a higher one had been;
* nothing is missing: epochs rise by exactly one.

None of this asks a clock. Rows carry the number of the newest state change that was committed when
the agent was moved (`change_id`); the move holds the agent's row lock then, so every state under an
older epoch has a number up to it, and every later one a higher number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from fleet.agents import Placement, StateChange


class PlacementRecord(NamedTuple):
    """One stored epoch of one agent."""

    history_id: int
    """Order of commits; cursors are made of it."""
    agent_id: str
    node_id: str
    """'' when the agent was parked on no node."""
    region: str
    epoch: int
    term: int
    desired: str
    reason: str
    placed_at: datetime
    """When it was stored, by the store's clock."""
    change_id: int
    """Number of the newest state change committed at that moment; 0 when there was none."""


class Breach(NamedTuple):
    """One place where the history contradicts a claim."""

    agent_id: str
    epoch: int
    problem: str
    """A sentence with both sides of the contradiction."""


def find_double_placements(rows: Iterable[PlacementRecord]) -> list[Breach]:
    """Agents whose one epoch was given to two nodes; empty when no agent was ever on two.

    Args:
        rows: in any order; the same row twice (exports overlap) is no breach.
    """
    first: dict[tuple[str, int], PlacementRecord] = {}
    breaches = []
    for row in rows:
        known = first.setdefault((row.agent_id, row.epoch), row)
        if known.node_id != row.node_id:
            problem = f"given to node {known.node_id or '(none)'} and to {row.node_id or '(none)'}"
            breaches.append(Breach(row.agent_id, row.epoch, problem))
    return breaches


def find_stale_epochs(
    rows: Iterable[PlacementRecord], changes: Iterable[StateChange] = ()
) -> list[Breach]:
    """Orders and states that were accepted although a newer epoch or term had been stored.

    Args:
        rows: of one store, in the order of `history_id`.
        changes: state changes of the same store, in any order.

    Returns:
        In the order of rows, then of changes; empty when every stale epoch was refused.
    """
    newest: dict[str, PlacementRecord] = {}
    breaches = []
    history: dict[str, list[PlacementRecord]] = {}
    for row in rows:
        before = newest.setdefault(row.agent_id, row)
        if before is not row and before.history_id != row.history_id:
            breaches += _stale_order(before, row)
        newest[row.agent_id] = max(before, row, key=lambda one: (one.epoch, one.term))
        history.setdefault(row.agent_id, []).append(row)
    for moves in history.values():
        moves.sort(key=lambda one: one.epoch)
    for change in changes:
        breaches += _stale_change(change, history.get(change.agent_id, []))
    return breaches


def find_missing_epochs(
    rows: Iterable[PlacementRecord], placements: Iterable[Placement] = ()
) -> list[Breach]:
    """Epochs that were stored without a row: between two rows, or behind the last one.

    Args:
        rows: of one store, in the order of `history_id`. The first row of an agent may have any
            epoch, because old rows are trimmed.
        placements: as stored now, read before the rows; an agent without rows is skipped, they may
            have been trimmed.
    """
    last: dict[str, int] = {}
    breaches = []
    for row in rows:
        before = last.get(row.agent_id)
        if before is not None and row.epoch > before + 1:
            breaches.append(Breach(row.agent_id, row.epoch, f"follows epoch {before}"))
        last[row.agent_id] = max(row.epoch, before or 0)
    for placed in placements:
        known = last.get(placed.agent_id)
        if known is not None and known < placed.epoch:
            problem = f"is stored, the history ends at epoch {known}"
            breaches.append(Breach(placed.agent_id, placed.epoch, problem))
    return breaches


def _stale_order(before: PlacementRecord, row: PlacementRecord) -> list[Breach]:
    breaches = []
    if row.epoch <= before.epoch:
        problem = f"stored as {row.history_id}, after epoch {before.epoch} as {before.history_id}"
        breaches.append(Breach(row.agent_id, row.epoch, problem))
    if row.term < before.term:
        problem = f"ordered under term {row.term}, after term {before.term} had been stored"
        breaches.append(Breach(row.agent_id, row.epoch, problem))
    return breaches


def _stale_change(change: StateChange, moves: list[PlacementRecord]) -> list[Breach]:
    """Whether the move that fenced the writer of a change came before it; moves by epoch."""
    index = bisect_right(moves, change.epoch, key=lambda one: one.epoch)
    if index == len(moves) or change.change_id <= moves[index].change_id:
        return []
    fence = moves[index]
    problem = (
        f"version {change.version} was stored as change {change.change_id} under epoch "
        f"{change.epoch}, after the move to epoch {fence.epoch} at change {fence.change_id}"
    )
    return [Breach(change.agent_id, change.epoch, problem)]
