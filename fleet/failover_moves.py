"""The moves of an incident as its journal keeps them: planned first, then made, never twice.

A plan is journaled before anything is moved. A run that dies is made up for by reading the plans
and the placements: what stands on the epoch that it was planned on is still to be moved, what
stands one epoch higher on the planned node has been, and all else was moved by somebody else since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fleet.agents import Placement
from fleet.errors import CorruptObjectError
from fleet.journal import JournalEntry
from fleet.relocation import Move

BATCH_AGENTS = 200
"""Agents of one journaled batch: some 20 KB of detail, and a restart repeats little."""

PLAN = "plan"
"""Verb of the steps that hold plans: `plan/<attempt>-<batch>`."""


class PlannedMove(NamedTuple):
    """One agent's way, as planned."""

    agent_id: str
    epoch: int
    """That it was planned on; the move raises it by one."""
    source: str
    """Node that it leaves."""
    node_id: str
    """Node that it goes to; '' when it is parked."""
    region: str
    desired: str
    """`running` or `parked`."""
    reason: str


class Settled(NamedTuple):
    """What has become of planned moves."""

    pending: tuple[PlannedMove, ...]
    """Still where they were."""
    made: tuple[PlannedMove, ...]
    """Where they should be, or parked as planned."""
    overtaken: tuple[PlannedMove, ...]
    """Placed anew or retired by somebody else since; theirs no longer to move."""


def planned(moves: Iterable[Move]) -> list[PlannedMove]:
    """The plan of a relocation as the journal keeps it."""
    return [
        PlannedMove(
            before.agent_id,
            before.epoch,
            before.node_id,
            after.node_id,
            after.region,
            after.desired,
            after.reason,
        )
        for before, after in moves
    ]


def batches(moves: Sequence[PlannedMove], size: int = BATCH_AGENTS) -> list[list[PlannedMove]]:
    """The same moves, so many at a time."""
    return [list(moves[start : start + size]) for start in range(0, len(moves), size)]


def encode_plan(moves: Iterable[PlannedMove]) -> list[list[object]]:
    """A batch as rows of a step's detail; reasons repeat, so the store's pages compress them."""
    return [list(move) for move in moves]


def read_plans(entries: Iterable[JournalEntry]) -> list[PlannedMove]:
    """All moves that an incident's journal has planned, the latest plan of each agent.

    Raises:
        CorruptObjectError: a plan's detail cannot be read.
    """
    latest: dict[str, PlannedMove] = {}
    for entry in entries:
        if entry.status == "done" and entry.step.startswith(f"{PLAN}/"):
            for move in _rows(entry):
                latest[move.agent_id] = move
    return [latest[agent_id] for agent_id in sorted(latest)]


def settle(moves: Iterable[PlannedMove], placements: Mapping[str, Placement]) -> Settled:
    """Compare plans with what is stored.

    Args:
        moves: as planned.
        placements: of at least these agents, as stored now, by agent id.
    """
    pending, made, overtaken = [], [], []
    for move in moves:
        stored = placements.get(move.agent_id)
        if stored is not None and stored.epoch == move.epoch:
            pending.append(move)
        elif stored is not None and _is_made(move, stored):
            made.append(move)
        else:
            overtaken.append(move)
    return Settled(tuple(pending), tuple(made), tuple(overtaken))


def to_placement(move: PlannedMove, stored: Placement, term: int) -> Placement:
    """What is stored to make a move, on the epoch that it was planned on."""
    return stored._replace(
        node_id=move.node_id,
        region=move.region,
        epoch=move.epoch,
        term=term,
        desired=move.desired,
        reason=move.reason,
    )


def _is_made(move: PlannedMove, stored: Placement) -> bool:
    found = (stored.epoch, stored.node_id, stored.desired)
    return found == (move.epoch + 1, move.node_id, move.desired)


def _rows(entry: JournalEntry) -> list[PlannedMove]:
    try:
        return [PlannedMove(*row) for row in json.loads(entry.detail)["moves"]]
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptObjectError(
            f"journal of {entry.action_id}: the detail of {entry.step} holds no moves: {error}",
            hint="Move the agents by hand: `stateroom failover node NAME --approve`.",
        ) from error
