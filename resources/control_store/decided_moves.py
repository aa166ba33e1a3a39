"""Decisions to move nodes in SQL: one look at the journals of lately living incidents.

Incidents carry the times of those who opened and ended them, so they are chosen with a day to
spare; which of their moves are inside the window is judged by the store's own clock.
"""

from __future__ import annotations

import sqlalchemy as sa

from fleet.decided_moves import (
    DECIDED_STEPS,
    WINDOW_ROWS_MAX,
    DecidedMove,
    DecisionRow,
    fold_decided_moves,
)
from fleet.incidents import IncidentState
from resources.control_store.database import Feature
from resources.control_store.schema import incidents, journal

SKEW_MAX_S = 86_400.0
"""By how much the clock of who ended an incident may be behind the store's."""

_AFTER = "0"
"""The next character after the slash and the hyphen that follow a step's name."""


class SqlDecidedMoves(Feature):
    """The part of the control store that tells a leader of its predecessors' moves."""

    def decided_moves(self, window_s: float) -> list[DecidedMove]:
        """Moves of the window, oldest first."""
        with self._database.read() as connection:
            now_us = self._database.dialect.now_us(connection)
            since_us = now_us - round((window_s + SKEW_MAX_S) * 1e6)
            rows = connection.execute(_DECISIONS, {"since": since_us}).all()
        return fold_decided_moves([DecisionRow._make(row) for row in rows], now_us, window_s)


_LATELY = sa.or_(
    incidents.c.state != IncidentState.ENDED.value,
    incidents.c.opened_at >= sa.bindparam("since"),
    incidents.c.ended_at >= sa.bindparam("since"),
)

_DECISIONS = (
    sa.select(*(journal.c[name] for name in ("action_id", "step", "subject", "at", "detail")))
    .select_from(incidents.join(journal, journal.c.action_id == incidents.c.incident_id))
    .where(
        _LATELY,
        journal.c.status == "done",
        sa.or_(
            *(
                sa.and_(journal.c.step >= step, journal.c.step < f"{step}{_AFTER}")
                for step in DECIDED_STEPS
            )
        ),
    )
    .order_by(journal.c.entry_id.desc())
    .limit(WINDOW_ROWS_MAX)
)
