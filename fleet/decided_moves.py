"""Moves that controllers have decided, as the journals of incidents keep them for the next leader.

The blast radius and the rate count all moves of a window, whoever decided them. A leader remembers
its own; of its predecessors' it learns from here. Each decision to move is written into the journal
of its incident before the order is handed out, with how many agents it concerns and with the moment
by the store's clock, so that nobody's wall clock can let a move leave the window early.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

FACT = "move"
"""Field of a decision's detail that holds what the budget counts."""

DECIDED_STEPS = ("decided/move_node", "decided/fence_node")
"""Beginnings of the steps that may hold one: a forced fence is a run that moves as well."""

WINDOW_ROWS_MAX = 20_000
"""Newest decisions that one look takes: two for each node of a fleet of 10,000."""

_UNKNOWN_KEEPS_MOVE = "decided/move_node"


class DecidedMove(NamedTuple):
    """One node's move, decided once however often it was asked for."""

    key: str
    """Equal for all attempts of the same move in the same incident (`Action.move_key`)."""
    subject: str
    """`node/<id>`."""
    region: str
    agents: int | None
    """Concerned when it was decided; None where the decision does not say (an older version's)."""
    age_s: float
    """Since it was first decided, by the store's clock; never negative."""
    early: bool = False
    """Only agents that may run twice were moved, ahead of the fence."""


class DecisionRow(NamedTuple):
    """A decision as the journal has it."""

    incident_id: str
    step: str
    subject: str
    """Name of the node."""
    at_us: int
    """By the clock of who decided; counts only where the detail has none by the store's."""
    detail: str


def move_fact(
    agents: int, region: str, decided_us: int | None, *, early: bool = False, attempt: int = 1
) -> dict[str, Any]:
    """What a decision's detail says of the move, under `FACT`.

    Args:
        agents: concerned.
        region: of the node.
        decided_us: moment by the store's clock, whole microseconds; None where nobody knows it.
        early: only agents that may run twice.
        attempt: from 1; further ones of the same leader are no news.
    """
    fact = {"agents": agents, "region": region, "decided_us": decided_us}
    return {**fact, "early": early, "attempt": attempt}


def move_key(subject: str, incident_id: str, *, early: bool) -> str:
    """Names a move of one incident, whichever step of it was asked for, and how often."""
    return f"{subject}:{incident_id}" + (":stateless" if early else "")


def fold_decided_moves(
    rows: Iterable[DecisionRow], now_us: int, window_s: float
) -> list[DecidedMove]:
    """The moves of a window, each once, oldest first: as a leader that stayed would remember them.

    A move counts from when a leader last decided it anew (another one that took over, or a node
    that died again); further attempts of the same leader change nothing, and count only where the
    decision itself is missing. A row that cannot be read counts as a move of unknown size: too much
    rather than nothing.

    Args:
        rows: decisions, in any order.
        now_us: the store's clock.
        window_s: how far to look back; a move of exactly this age is outside.
    """
    decided: dict[str, DecidedMove] = {}
    attempts: dict[str, DecidedMove] = {}
    for row in rows:
        fact = _fact(row)
        if fact is None:
            continue
        move, again = _move(row, fact, now_us), (_whole(fact.get("attempt")) or 1) > 1
        known = (attempts if again else decided).setdefault(move.key, move)
        if again and move.age_s > known.age_s:
            attempts[move.key] = move
        elif not again:
            decided[move.key] = _merged(move, known)
    found = [one for one in (attempts | decided).values() if one.age_s < window_s]
    return sorted(found, key=lambda one: (-one.age_s, one.key))


def _merged(one: DecidedMove, other: DecidedMove) -> DecidedMove:
    """Two decisions of one move: its time is the newer one's, its size the larger one's."""
    newer = min(one, other, key=lambda move: move.age_s)
    if one.agents is None or other.agents is None:
        return newer._replace(agents=None)
    return newer._replace(agents=max(one.agents, other.agents))


def _move(row: DecisionRow, fact: dict[str, Any], now_us: int) -> DecidedMove:
    subject = f"node/{row.subject}"
    at_us = _whole(fact.get("decided_us"))
    age_s = (now_us - (row.at_us if at_us is None else at_us)) / 1e6
    early = fact.get("early") is True
    key = move_key(subject, row.incident_id, early=early)
    agents = _whole(fact.get("agents"))
    return DecidedMove(key, subject, str(fact.get("region", "")), agents, max(0.0, age_s), early)


def _fact(row: DecisionRow) -> dict[str, Any] | None:
    """What a decision says of its move; None for a fence that moves nobody."""
    try:
        found = json.loads(row.detail)
    except ValueError:
        found = None
    fact = found.get(FACT) if isinstance(found, dict) else None
    if isinstance(fact, dict):
        return fact
    return {} if row.step.startswith(_UNKNOWN_KEEPS_MOVE) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
