"""Questions about one agent, and about what is unfinished, in SQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from fleet.agents import Note, Placement
from fleet.inventory import Agent
from fleet.journal import JournalEntry
from fleet.reports import AgentDeclaration, merge_agents, unplaced
from resources.control_store.activities import NOTE_COLUMNS, note_of
from resources.control_store.database import Feature
from resources.control_store.leases import NOBODY
from resources.control_store.nodes import REPORTED_NODES
from resources.control_store.report_codec import decode_agents
from resources.control_store.schema import agents, journal, leases, node_reports, nodes, notes
from resources.control_store.schema import placements as placed
from resources.control_store.times import from_us

_LIVE = sa.and_(leases.c.holder != NOBODY, leases.c.expires_at > sa.bindparam("now"))


class SqlLookups(Feature):
    """The part of the control store that answers about one thing."""

    def agent(self, agent_id: str) -> Agent | None:
        """One agent with its placement and its node's last report; None when not declared."""
        declaration = sa.select(*(agents.c[name] for name in AgentDeclaration._fields)).where(
            agents.c.agent_id == agent_id
        )
        placement = sa.select(*(placed.c[name] for name in Placement._fields)).where(
            placed.c.agent_id == agent_id, placed.c.retired == 0
        )
        report = (
            sa.select(node_reports.c.agents_json, sa.func.coalesce(_LIVE, False))
            .select_from(REPORTED_NODES)
            .where(nodes.c.node_id == sa.bindparam("node_id"))
        )
        with self._database.read() as connection:
            found = connection.execute(declaration).one_or_none()
            if found is None:
                return None
            shape = AgentDeclaration._make(found)
            row = connection.execute(placement).one_or_none()
            home = _placement(row) if row is not None else unplaced(shape)
            given = {"now": self._database.dialect.now_us(connection), "node_id": home.node_id}
            heard = connection.execute(report, given).one_or_none()
        reports = {home.node_id: decode_agents(heard[0])} if heard is not None else {}
        silent = frozenset({home.node_id} if heard is not None and not heard[1] else ())
        (agent,) = merge_agents([(shape, home)], reports, silent)
        return agent

    def agent_notes(self, agent_id: str, limit: int) -> list[Note]:
        """Notes of one agent, newest first; of equal times the higher id first."""
        statement = (
            sa.select(*(notes.c[name] for name in NOTE_COLUMNS))
            .where(notes.c.agent_id == agent_id)
            .order_by(notes.c.at.desc(), notes.c.note_id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [note_of(row) for row in rows]

    def open_actions(self, limit: int = 1000) -> list[JournalEntry]:
        """The first unfinished step of every action that has one, oldest first."""
        done = journal.alias("done")
        finished = sa.exists().where(
            done.c.action_id == journal.c.action_id,
            done.c.step == journal.c.step,
            done.c.status == "done",
        )
        first = (
            sa.select(sa.func.min(journal.c.entry_id))
            .where(journal.c.status == "started", ~finished)
            .group_by(journal.c.action_id)
        )
        statement = (
            sa.select(*(journal.c[name] for name in JournalEntry._fields))
            .where(journal.c.entry_id.in_(first))
            .order_by(journal.c.entry_id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [
            JournalEntry._make((*row[:5], from_us(row.at), row.duration_s, row.detail))
            for row in rows
        ]


def _placement(row: sa.Row[Any]) -> Placement:
    return Placement._make((*row[:-1], from_us(row[-1])))
