"""What agents did and noted, as they tell it themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from fleet.agents import Activity, Note


class ActivityStore(Protocol):
    """Append-only records of what agents did and noted. Repeated ids are ignored."""

    def append_activities(self, activities: Sequence[Activity]) -> None:
        """Durably append."""
        ...

    def activities(self, agent_id: str | None, limit: int) -> list[Activity]:
        """Newest first."""
        ...

    def trim_activities(self, before: datetime) -> int:
        """Remove activities older than `before`; returns how many there were."""
        ...

    def append_notes(self, notes: Sequence[Note]) -> None:
        """Durably append."""
        ...

    def notes(self, network_id: str, after: str, limit: int) -> list[Note]:
        """Notes of a network with note_id > `after`, ordered by note_id."""
        ...
