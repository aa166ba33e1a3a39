"""Copies of agents' states in the regions of a simulated fleet, as a failover run finds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fleet.agents import StateRestore
from fleet.ports.state_rescue import RescuedState
from tests.fakes.control_store import InMemoryControlStore


class _Copy(NamedTuple):
    """One agent's state as a region's vault holds it."""

    version: int
    body: bytes
    stored_at: datetime


class SimulatedBackups:
    """One vault for each region; they go away and come back as told.

    Args:
        store: whose states are copied.
        say: takes agent and region of each state that comes back.
    """

    def __init__(self, store: InMemoryControlStore, say: Callable[[str, str], None]) -> None:
        """Nothing is copied yet."""
        self._store, self._say = store, say
        self.away: set[str] = set()
        """Regions whose vaults do not answer."""
        self._vaults: dict[str, dict[str, _Copy]] = {}

    def take(self, regions: Collection[str]) -> None:
        """Copy every state as it is now into the vaults of these regions."""
        agent_ids = [one.agent_id for one in self._store.state_infos()]
        states = self._store.states(agent_ids)
        for region in regions:
            self._vaults[region] = {
                one.agent_id: _Copy(one.version, one.body, one.updated_at) for one in states
            }

    def through(self, store: Any) -> VaultRescue | None:
        """The port for a run that reaches the control store as `store`; None without any copy."""
        return VaultRescue(self, store) if self._vaults else None


class VaultRescue:
    """`fleet.ports.StateRescue` that asks vault after vault, as the real one does."""

    def __init__(self, backups: SimulatedBackups, store: Any) -> None:
        """Restore into `store`."""
        self._backups, self._store = backups, store

    def rescue_states(
        self, network_id: str, agent_ids: Sequence[str], lost_regions: Collection[str]
    ) -> list[RescuedState]:
        """From the first vault that answers; a problem for each agent when none does."""
        del network_id
        problems = []
        for region, copies in sorted(self._backups._vaults.items()):
            if region in lost_regions:
                continue
            if region in self._backups.away:
                problems.append(f"{region}: the vault does not answer")
                continue
            return [self._restore(region, one, copies.get(one)) for one in agent_ids]
        why = "no backup can be restored: " + ("; ".join(problems) or "no region is left")
        return [RescuedState(one, 0, None, "", why) for one in agent_ids]

    def _restore(self, region: str, agent_id: str, copy: _Copy | None) -> RescuedState:
        if copy is None:
            return RescuedState(agent_id, 0, None, "", "")
        live = {one.agent_id: one.version for one in self._store.state_infos()}.get(agent_id, 0)
        restore = StateRestore(agent_id, live, copy.version, copy.body)
        (done,) = self._store.restore_states([restore])
        assert done.error is None, done
        self._backups._say(agent_id, region)
        return RescuedState(agent_id, copy.version, copy.stored_at, region, "")
