"""Bringing back states that the control store has lost, from where backups survive."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol


class RescuedState(NamedTuple):
    """What became of one agent's state."""

    agent_id: str
    version: int
    """Of the state that came back, as the backup names it; 0 when none did."""
    stored_at: datetime | None
    """When that version had been stored; None when none came back."""
    source: str
    """Region and snapshot that it came from; '' when none did."""
    problem: str
    """Why none came back; '' when one did, or when no backup ever held one."""


class StateRescue(Protocol):
    """Restores single agents from the newest verified backup that a disaster has left."""

    def rescue_states(
        self, network_id: str, agent_ids: Sequence[str], lost_regions: Collection[str]
    ) -> list[RescuedState]:
        """Restore these agents' states into the control store, where a backup holds them.

        Version-guarded: a state that has come back by itself meanwhile is left alone.

        Args:
            network_id: of all these agents.
            agent_ids: whose states the control store has lost, or cannot read.
            lost_regions: whose vaults are not asked.

        Returns:
            One result for each agent, in the same order; one that no backup holds has version 0
            and no problem: it may never have stored anything.
        """
        ...
