"""Incidents, orders of people and the history of placements as plain dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from threading import RLock

from fleet.agents import Placement
from fleet.decided_moves import DECIDED_STEPS, DecidedMove, DecisionRow, fold_decided_moves
from fleet.incidents import (
    ACTION_MAX_CHARS,
    IncidentHeader,
    IncidentOpening,
    IncidentState,
    acknowledge_header,
    decide_incident_update,
    open_header,
    require_open,
    validate_header,
    validate_note,
    validate_person,
    validate_words,
)
from fleet.journal import JournalEntry
from fleet.moments import microseconds
from fleet.operator_orders import (
    UNTOUCHED,
    ActionApproval,
    Automation,
    Maintenance,
    validate_maintenance,
)
from fleet.placement_history import PlacementRecord
from fleet.ports.clock import Clock


class InMemoryIncidents:
    """`IncidentStore` and `PlacementHistoryStore`; a part of `InMemoryControlStore`."""

    clock: Clock
    _lock: RLock
    _journal: dict[tuple[str, str, str], JournalEntry]
    _change_id: int

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self._incidents: dict[str, IncidentHeader] = {}
        self._automation = UNTOUCHED
        self._maintenances: dict[str, Maintenance] = {}
        self._approvals: dict[tuple[str, str], ActionApproval] = {}
        self._history: list[PlacementRecord] = []
        self._history_id = 0

    def _say(self, action_id: str, step: str, subject: str, reason: str, at: datetime) -> None:
        entry = JournalEntry(action_id, step, "done", subject, reason, at)
        self._journal.setdefault((action_id, step, "done"), entry)

    # Incidents

    def open_incident(self, opening: IncidentOpening) -> IncidentHeader:
        """The one of this opening, or the open one of its key, or a new one."""
        header = open_header(opening)
        with self._lock:
            if header.incident_id in self._incidents:
                return self._incidents[header.incident_id]
            for one in self._incidents.values():
                if one.key == header.key and one.state != IncidentState.ENDED:
                    return one
            self._incidents[header.incident_id] = header
        return header

    def decided_moves(self, window_s: float) -> list[DecidedMove]:
        """Every entry is looked at."""
        with self._lock:
            now = self.clock.now()
            since = now - timedelta(seconds=window_s, days=1)
            lately = {
                one.incident_id
                for one in self._incidents.values()
                if one.state != IncidentState.ENDED
                or max(one.opened_at, one.ended_at or one.opened_at) >= since
            }
            rows = [
                DecisionRow(one.action_id, one.step, one.subject, microseconds(one.at), one.detail)
                for one in self._journal.values()
                if one.action_id in lately
                and one.status == "done"
                and any(_begins(one.step, step) for step in DECIDED_STEPS)
            ]
        return fold_decided_moves(rows, microseconds(now), window_s)

    def update_incident(self, header: IncidentHeader) -> IncidentHeader:
        """Compare and swap."""
        validate_header(header)
        with self._lock:
            refused = decide_incident_update(self._incidents.get(header.incident_id), header)
            if refused is not None:
                raise refused
            stored = header._replace(revision=header.revision + 1)
            self._incidents[header.incident_id] = stored
        return stored

    def acknowledge(self, incident_id: str, by: str, note: str = "") -> IncidentHeader:
        """The first one stays."""
        validate_person("acknowledged_by", by)
        validate_note("note", note)
        with self._lock:
            stored, at = self._incidents.get(incident_id), self.clock.now()
            header = acknowledge_header(stored, incident_id, by, note, at)
            if header != stored:
                self._incidents[incident_id] = header
                said = f"{by}: {note}" if note else by
                self._say(incident_id, "acknowledged", header.subject, said, at)
        return header

    def incident(self, incident_id: str) -> IncidentHeader | None:
        """One incident."""
        with self._lock:
            return self._incidents.get(incident_id)

    def incidents(
        self,
        *,
        open_only: bool = False,
        ended_since: datetime | None = None,
        limit: int = 100,
    ) -> list[IncidentHeader]:
        """Newest first."""
        with self._lock:
            found = list(self._incidents.values())
        if open_only:
            found = [one for one in found if one.ended_at is None]
        if ended_since is not None:
            found = [one for one in found if one.ended_at is None or one.ended_at >= ended_since]
        found.sort(key=lambda one: (one.opened_at, one.incident_id), reverse=True)
        return found[:limit]

    # Orders

    def automation(self) -> Automation:
        """The switch."""
        return self._automation

    def set_automation(self, *, paused: bool, by: str, reason: str) -> Automation:
        """Set the switch."""
        validate_person("changed_by", by)
        validate_words("reason", reason)
        with self._lock:
            at, revision = self.clock.now(), self._automation.revision + 1
            self._automation = Automation(paused, by, reason, at, revision)
            step = f"{'paused' if paused else 'resumed'}/{revision}"
            self._say("automation", step, "automation", f"{by}: {reason}", at)
            return self._automation

    def start_maintenance(self, subject: str, until: datetime, by: str, reason: str) -> Maintenance:
        """Mark a node or region."""
        validate_person("started_by", by)
        validate_words("reason", reason)
        with self._lock:
            now = self.clock.now()
            validate_maintenance(subject, until, now)
            before = self._maintenances.get(subject)
            began = before.started_at if before and now < before.until else now
            mark = Maintenance(subject, began, until, by, reason)
            self._maintenances[subject] = mark
            words = f"{by}, until {until.isoformat()}: {reason}"
            self._say(f"maintenance/{subject}", f"started/{now}", subject, words, now)
        return mark

    def end_maintenance(self, subject: str, by: str, reason: str) -> bool:
        """Remove a mark."""
        validate_person("ended_by", by)
        validate_words("reason", reason)
        with self._lock:
            there = self._maintenances.pop(subject, None) is not None
            if there:
                now = self.clock.now()
                action_id = f"maintenance/{subject}"
                self._say(action_id, f"ended/{now}", subject, f"{by}: {reason}", now)
        return there

    def maintenances(self) -> list[Maintenance]:
        """All marks."""
        with self._lock:
            return [self._maintenances[subject] for subject in sorted(self._maintenances)]

    def approve_action(self, incident_id: str, action: str, by: str, reason: str) -> ActionApproval:
        """The first approval stays."""
        validate_words("action", action, ACTION_MAX_CHARS)
        validate_person("approved_by", by)
        validate_words("reason", reason)
        with self._lock:
            header = require_open(self._incidents.get(incident_id), incident_id)
            known = self._approvals.get((incident_id, action))
            if known is not None:
                return known
            at = self.clock.now()
            given = ActionApproval(incident_id, action, by, reason, at)
            self._approvals[incident_id, action] = given
            step = f"approved/{action}"
            self._say(incident_id, step, header.subject, f"{by}: {reason}", at)
        return given

    def approvals(self) -> list[ActionApproval]:
        """Approvals of open incidents."""
        with self._lock:
            return [
                self._approvals[key]
                for key in sorted(self._approvals)
                if self._incidents[key[0]].state != IncidentState.ENDED
            ]

    # History

    def _record_moves(self, moves: Sequence[Placement]) -> None:
        """What `place_agents` has stored."""
        now = self.clock.now()
        for move in sorted(moves, key=lambda one: (one.epoch, one.agent_id)):
            self._history_id += 1
            self._history.append(
                PlacementRecord(
                    self._history_id,
                    move.agent_id,
                    move.node_id,
                    move.region,
                    move.epoch,
                    move.term,
                    move.desired,
                    move.reason,
                    now,
                    self._change_id,
                )
            )

    def placement_history(self, after: int, limit: int) -> list[PlacementRecord]:
        """Rows after a cursor."""
        with self._lock:
            return [row for row in self._history if row.history_id > after][:limit]

    def agent_placements(self, agent_id: str, limit: int = 100) -> list[PlacementRecord]:
        """Of one agent, newest first."""
        with self._lock:
            mine = [row for row in self._history if row.agent_id == agent_id]
        return sorted(mine, key=lambda row: row.epoch, reverse=True)[:limit]

    def last_nodes(self, agent_ids: Sequence[str]) -> dict[str, str]:
        """The last row with a node, agent by agent."""
        found = {}
        for agent_id in agent_ids:
            nodes = [row.node_id for row in self.agent_placements(agent_id) if row.node_id]
            if nodes:
                found[agent_id] = nodes[0]
        return found

    def trim_placement_history(self, before: datetime) -> int:
        """Remove old rows."""
        with self._lock:
            kept = [row for row in self._history if row.placed_at >= before]
            removed = len(self._history) - len(kept)
            self._history = kept
        return removed


def _begins(step: str, name: str) -> bool:
    """Whether it is this step, or one of its attempts or nodes."""
    return step == name or step.startswith((f"{name}-", f"{name}.", f"{name}/"))
