"""Incidents, what people order the automation, and the history of placements, as stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from fleet.incidents import IncidentHeader, IncidentOpening
from fleet.operator_orders import ActionApproval, Automation, Maintenance
from fleet.placement_history import PlacementRecord


class IncidentStore(Protocol):
    """Headers of incidents; their timelines are in the journal under `incident_id`."""

    def open_incident(self, opening: IncidentOpening) -> IncidentHeader:
        """Open an incident, or find the one that this opening means; idempotent.

        The incident of this very opening (kind, subject, moment) is found also when it has ended,
        so that a run which is repeated late opens nothing. Else the incident of the same kind and
        subject that has not ended is found.

        Raises:
            InvalidInputError: see `validate_opening`; nothing was stored.
        """
        ...

    def update_incident(self, header: IncidentHeader) -> IncidentHeader:
        """Store a change by compare-and-swap on the revision; returns it with the next one.

        Raises:
            NotFoundError: there is no such incident.
            LeaseLostError: a controller with a higher term has changed it; stop.
            VersionConflictError: it has changed since it was read; read and repeat.
            InvalidInputError: see `decide_incident_update`.
        """
        ...

    def acknowledge(self, incident_id: str, by: str, note: str = "") -> IncidentHeader:
        """Somebody has it: nobody else is woken. The first one to say so stays; journaled.

        Raises:
            NotFoundError: there is no such incident.
            InvalidInputError: no name, or a note that is too long.
        """
        ...

    def incident(self, incident_id: str) -> IncidentHeader | None:
        """One incident; None when there is none of this id."""
        ...

    def incidents(
        self,
        *,
        open_only: bool = False,
        ended_since: datetime | None = None,
        limit: int = 100,
    ) -> list[IncidentHeader]:
        """Newest first (by `opened_at`, then id), at most `limit`.

        Args:
            open_only: those that have not ended.
            ended_since: those that have not ended, and those that ended at or after this moment, as
                `plan_notifications` wants them.
            limit: give more than can be open where a missing one would be taken for ended.
        """
        ...

    def automation(self) -> Automation:
        """The switch; `UNTOUCHED` when nobody ever set it."""
        ...

    def set_automation(self, *, paused: bool, by: str, reason: str) -> Automation:
        """Set the switch, durable when this returns; journaled under the action `automation`.

        Raises:
            InvalidInputError: no name or no reason.
        """
        ...

    def start_maintenance(self, subject: str, until: datetime, by: str, reason: str) -> Maintenance:
        """Mark a node or region; a mark that is there is replaced, its beginning stays; journaled.

        Raises:
            InvalidInputError: see `validate_maintenance`; `until` is judged by the store's clock.
        """
        ...

    def end_maintenance(self, subject: str, by: str, reason: str) -> bool:
        """Remove a mark; False when there was none. Journaled."""
        ...

    def maintenances(self) -> list[Maintenance]:
        """All marks by subject, also those whose time is over (`select_live_maintenances`)."""
        ...

    def approve_action(self, incident_id: str, action: str, by: str, reason: str) -> ActionApproval:
        """Allow one planned action of one incident; the first approval stays; journaled.

        Raises:
            NotFoundError: there is no such incident.
            InvalidInputError: it has ended, or a text is missing.
        """
        ...

    def approvals(self) -> list[ActionApproval]:
        """Approvals of all incidents that have not ended, by incident and action."""
        ...


class PlacementHistoryStore(Protocol):
    """Every epoch that was ever stored; rows are written by `place_agents`, in its transaction."""

    def placement_history(self, after: int, limit: int) -> list[PlacementRecord]:
        """Rows with history_id > `after`, in order, at most `limit`.

        No row appears later below one that was returned.
        """
        ...

    def agent_placements(self, agent_id: str, limit: int = 100) -> list[PlacementRecord]:
        """Where one agent was placed, newest first."""
        ...

    def last_nodes(self, agent_ids: Sequence[str]) -> dict[str, str]:
        """The node that each of these agents had last, whether or not it is still declared.

        An agent that never had one, or whose rows were trimmed, is absent.
        """
        ...

    def trim_placement_history(self, before: datetime) -> int:
        """Remove rows older than `before`; returns how many there were."""
        ...
