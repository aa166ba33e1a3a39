"""The controller's own probes: one more observer, which stands in no region.

It probes only the nodes that it is told to (those that are not plainly healthy), a bounded number
at a time, so that its cost follows the trouble and not the fleet. It asks no helpers: the other
observers' reports are the other views.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from fleet.probe_reports import NodeContact, Probe, ProbeOutcome
from fleet.probing import ProbePolicy
from resources.probe_client import look

NODES_MAX = 256
"""Nodes that one call probes at most: some 0.2 s of CPU."""

AT_ONCE = 64
"""Connections that are open at the same time."""

LATE_S = 0.25
"""How much longer than its timeout a probe may take before the delay is our own."""


class ControllerProber:
    """Probes nodes for one controller; remembers how often each was silent."""

    def __init__(self, policy: ProbePolicy) -> None:
        """Know nothing yet; `policy` is that of the nodes' own probes."""
        self._policy = policy
        self._failures: dict[str, int] = {}

    def probe(self, contacts: Sequence[NodeContact]) -> list[Probe]:
        """Probe these nodes once, at the same time; for `VoteBook.take_own`.

        Must not be called on a running event loop. Of more than `NODES_MAX` nodes, those that come
        first are probed; a node that is left out of a call begins anew when it is probed again.

        Returns:
            One probe for each that was probed, in order; takes one timeout for 64 silent nodes.
        """
        wanted = contacts[:NODES_MAX]
        self._failures = {
            contact.node_id: self._failures.get(contact.node_id, 0) for contact in wanted
        }
        return asyncio.run(self._probe_all(wanted)) if wanted else []

    async def _probe_all(self, contacts: Sequence[NodeContact]) -> list[Probe]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(contact: NodeContact) -> Probe:
            async with gate:
                return await self._probe(contact)

        return list(await asyncio.gather(*map(one, contacts)))

    async def _probe(self, contact: NodeContact) -> Probe:
        node_id, began_s = contact.node_id, time.monotonic()
        sight = await look(contact, self._policy.timeout_s)
        if sight.answered:
            self._failures[node_id] = 0
            latency_ms = round(1000 * sight.elapsed_s, 2)
            return Probe(node_id, ProbeOutcome.ANSWERED, sight.boot_id, 0, latency_ms, "")
        late = time.monotonic() - began_s > self._policy.timeout_s + LATE_S
        if late or sight.something:
            reason = f"{sight.reason}; but we were late ourselves" if late else sight.reason
            failures = self._failures[node_id]
            return Probe(node_id, ProbeOutcome.UNSURE, "", failures, None, reason)
        self._failures[node_id] += 1
        return Probe(node_id, ProbeOutcome.SILENT, "", self._failures[node_id], None, sight.reason)
