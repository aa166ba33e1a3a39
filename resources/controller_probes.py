"""The controller looks at nodes that may be lost: one more observer, outside of all regions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from fleet.ports.observer_store import ObserverStore
from fleet.probe_reports import NodeContact, Probe, ProbeOutcome
from fleet.probing import ProbePolicy
from resources.probe_client import Sight, look

LOOKS_MAX = 64
"""Nodes that are looked at in one round; where more are suspect, the region decides."""


class ControllerProbes:
    """Looks at a few nodes at once; remembers how often in a row each was silent.

    Args:
        store: says where nodes can be reached.
        policy: how long an answer is waited for.
    """

    def __init__(self, store: ObserverStore, policy: ProbePolicy) -> None:
        """Nobody has been looked at yet."""
        self._store, self._policy = store, policy
        self._failures: dict[str, int] = {}

    def probe(self, node_ids: Collection[str]) -> list[Probe]:
        """Look at these nodes now, all at once; takes at most the policy's timeout.

        A node without a known address is left out: nothing was seen of it.
        """
        wanted = sorted(node_ids)[:LOOKS_MAX]
        self._failures = {one: self._failures.get(one, 0) for one in wanted}
        if not wanted:
            return []
        contacts = [one for one in self._store.node_contacts(wanted) if one.address]
        sights = asyncio.run(self._look_at(contacts))
        return [self._probe(one, sight) for one, sight in zip(contacts, sights, strict=True)]

    async def _look_at(self, contacts: list[NodeContact]) -> list[Sight]:
        return await asyncio.gather(*(look(one, self._policy.timeout_s) for one in contacts))

    def _probe(self, contact: NodeContact, sight: Sight) -> Probe:
        if sight.answered:
            outcome, failures = ProbeOutcome.ANSWERED, 0
        elif sight.something:
            outcome, failures = ProbeOutcome.UNSURE, 0
        else:
            outcome, failures = ProbeOutcome.SILENT, self._failures[contact.node_id] + 1
        self._failures[contact.node_id] = failures
        latency_ms = 1000 * sight.elapsed_s if sight.answered else None
        return Probe(contact.node_id, outcome, sight.boot_id, failures, latency_ms, sight.reason)
