"""The automation switch, maintenance marks and approvals in SQL, each journaled as it is made."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleet.incidents import ACTION_MAX_CHARS, require_open, validate_person, validate_words
from fleet.journal import JournalEntry
from fleet.operator_orders import (
    UNTOUCHED,
    ActionApproval,
    Automation,
    Maintenance,
    validate_maintenance,
)
from resources.control_store import schema
from resources.control_store.database import Feature
from resources.control_store.incidents import lock_incident, record
from resources.control_store.times import from_us, to_us

_FLEET = "fleet"
"""Name of the one switch."""

AUTOMATION = "automation"
"""Action id under which the switch is journaled."""


class SqlOperatorOrders(Feature):
    """The part of the control store that takes orders of people."""

    def automation(self) -> Automation:
        """The switch; `UNTOUCHED` when nobody ever set it."""
        table = schema.automation
        statement = sa.select(*(table.c[name] for name in Automation._fields)).where(
            table.c.name == _FLEET
        )
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            return UNTOUCHED
        return Automation(bool(row[0]), row[1], row[2], from_us(row[3]), row[4])

    def set_automation(self, *, paused: bool, by: str, reason: str) -> Automation:
        """Set the switch and journal it in one transaction."""
        validate_person("changed_by", by)
        validate_words("reason", reason)
        table = schema.automation
        with self._database.write() as connection:
            now = self._database.dialect.now_us(connection)
            fresh = {
                "paused": int(paused),
                "changed_by": by,
                "reason": reason,
                "changed_at": now,
            }
            statement = (
                self._database.dialect.insert(table)
                .values(name=_FLEET, revision=1, **fresh)
                .on_conflict_do_update(
                    index_elements=["name"], set_=fresh | {"revision": table.c.revision + 1}
                )
                .returning(table.c.revision)
            )
            revision = int(connection.execute(statement).scalar_one())
            at = from_us(now)
            step = f"{'paused' if paused else 'resumed'}/{revision}"
            entry = JournalEntry(AUTOMATION, step, "done", AUTOMATION, f"{by}: {reason}", at)
            record(self._database, connection, entry)
        return Automation(paused, by, reason, at, revision)

    def start_maintenance(self, subject: str, until: datetime, by: str, reason: str) -> Maintenance:
        """Mark a node or region; the beginning of a mark that still counts stays."""
        validate_person("started_by", by)
        validate_words("reason", reason)
        table = schema.maintenances
        with self._database.write() as connection:
            now = self._database.dialect.now_us(connection)
            validate_maintenance(subject, until, from_us(now))
            statement = (
                self._database.dialect.insert(table)
                .values(
                    subject=subject,
                    started_at=now,
                    until=to_us(until),
                    started_by=by,
                    reason=reason,
                )
                .on_conflict_do_update(
                    index_elements=["subject"],
                    set_={
                        "started_at": sa.case((table.c.until > now, table.c.started_at), else_=now),
                        "until": to_us(until),
                        "started_by": by,
                        "reason": reason,
                    },
                )
                .returning(table.c.started_at)
            )
            started_at = int(connection.execute(statement).scalar_one())
            words = f"{by}, until {until.isoformat()}: {reason}"
            entry = _maintenance_step(subject, f"started/{now}", words, from_us(now))
            record(self._database, connection, entry)
        return Maintenance(subject, from_us(started_at), until, by, reason)

    def end_maintenance(self, subject: str, by: str, reason: str) -> bool:
        """Remove a mark; False when there was none."""
        validate_person("ended_by", by)
        validate_words("reason", reason)
        table = schema.maintenances
        with self._database.write() as connection:
            removed = connection.execute(table.delete().where(table.c.subject == subject)).rowcount
            if removed:
                now = self._database.dialect.now_us(connection)
                entry = _maintenance_step(subject, f"ended/{now}", f"{by}: {reason}", from_us(now))
                record(self._database, connection, entry)
        return removed > 0

    def maintenances(self) -> list[Maintenance]:
        """All marks by subject, also those whose time is over."""
        table = schema.maintenances
        statement = sa.select(*(table.c[name] for name in Maintenance._fields)).order_by(
            table.c.subject
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [Maintenance(row[0], from_us(row[1]), from_us(row[2]), *row[3:]) for row in rows]

    def approve_action(self, incident_id: str, action: str, by: str, reason: str) -> ActionApproval:
        """Allow one planned action of one incident; the first approval stays."""
        validate_words("action", action, ACTION_MAX_CHARS)
        validate_person("approved_by", by)
        validate_words("reason", reason)
        table = schema.approvals
        with self._database.write() as connection:
            header = require_open(lock_incident(connection, incident_id), incident_id)
            at = from_us(self._database.dialect.now_us(connection))
            given = ActionApproval(incident_id, action, by, reason, at)
            connection.execute(
                self._database.insert_new(table).values(
                    given._asdict() | {"approved_at": to_us(at)}
                )
            )
            mine = sa.and_(table.c.incident_id == incident_id, table.c.action == action)
            stored = _approval(connection.execute(_APPROVALS.where(mine)).one())
            if stored == given:
                step = f"approved/{action}"
                words = f"{by}: {reason}"
                entry = JournalEntry(incident_id, step, "done", header.subject, words, at)
                record(self._database, connection, entry)
        return stored

    def approvals(self) -> list[ActionApproval]:
        """Approvals of all incidents that have not ended, by incident and action."""
        incidents = schema.incidents
        statement = (
            _APPROVALS.join(incidents, incidents.c.incident_id == schema.approvals.c.incident_id)
            .where(incidents.c.state != "ended")
            .order_by(schema.approvals.c.incident_id, schema.approvals.c.action)
        )
        with self._database.read() as connection:
            return [_approval(row) for row in connection.execute(statement).all()]


_APPROVALS = sa.select(*(schema.approvals.c[name] for name in ActionApproval._fields))


def _approval(row: sa.Row[Any]) -> ActionApproval:
    return ActionApproval._make((*row[:-1], from_us(row[-1])))


def _maintenance_step(subject: str, step: str, words: str, at: datetime) -> JournalEntry:
    return JournalEntry(f"maintenance/{subject}", step, "done", subject, words, at)
