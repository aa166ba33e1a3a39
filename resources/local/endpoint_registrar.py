"""What a node tells discovery: which of its agents run, at its address, under their epochs.

Agents are compared with what was registered last, in memory; what differs is sent in one call for
all of them, and signs of life in another each `renew_interval_s`. It has a thread of its own and
no part in the heartbeat, which is neither delayed by a slow registry nor stopped by one that is
away. What an earlier boot has left is replaced when the agent runs again, and otherwise withheld
for its silence. Nothing is registered without the node's lease; what has stopped is taken out with
or without it. The registry judges epochs, so a copy that was placed elsewhere meanwhile is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from fleet.errors import NotFoundError, StateroomError
from fleet.ports.service_registry import OrderResult, ServiceRegistry
from fleet.services import Endpoint, Removal, Renewal

GATHER_S = 0.05
"""After a change, for others to come: a storm of starts costs one call."""

_log = logging.getLogger(__name__)


class Answering(NamedTuple):
    """An agent that runs on this node."""

    agent_id: str
    service: str
    epoch: int


@dataclass(slots=True)
class RegistrarCounts:
    """Counters since the node started."""

    registered: int = 0
    renewed: int = 0
    removed: int = 0
    refused: int = 0
    failed: int = 0
    """Passes that the registry did not answer."""
    duration_s: float = 0.0
    """Of the last pass."""


class EndpointRegistrar:
    """Keeps the registry's entries of one node as its agents are.

    Args:
        registry: takes the orders.
        answering: the agents that run now; called on the event loop.
        may_register: whether the node holds its lease; called on the event loop.
        node_id: of the node.
        region: of the node.
        address: `host:port` at which its agents answer.
        interval_s: between two looks when nothing was reported, seconds.
        renew_interval_s: between two signs of life, seconds.
    """

    def __init__(
        self,
        registry: ServiceRegistry,
        answering: Callable[[], Sequence[Answering]],
        may_register: Callable[[], bool],
        *,
        node_id: str,
        region: str,
        address: str,
        interval_s: float,
        renew_interval_s: float,
    ) -> None:
        """Register nothing yet."""
        host, _, port = address.rpartition(":")
        self._registry, self._answering, self._may_register = registry, answering, may_register
        self._node_id, self._region = node_id, region
        self._host, self._port = host.strip("[]"), int(port)
        self._interval_s, self._renew_interval_s = interval_s, renew_interval_s
        self._held: dict[str, Endpoint] = {}
        self._refused: set[Endpoint] = set()
        self._renewed_s = float("-inf")
        self._asked = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="discovery")
        self.counts = RegistrarCounts()

    def ask(self) -> None:
        """Let `run` look soon: an agent has started or ended."""
        self._asked.set()

    async def run(self) -> None:
        """Register, renew and remove for ever; a registry that does not answer is asked again."""
        while True:
            await self.pass_once()
            with suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it can lose a cancellation that comes together
                # with the event, as it does when a node that stops ends its last agent.
                async with asyncio.timeout(self._interval_s):
                    await self._asked.wait()
                    await asyncio.sleep(GATHER_S)
            self._asked.clear()

    async def pass_once(self) -> None:
        """Bring the registry up to date with what runs now."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        wanted = {}
        if self._may_register():
            wanted = {one.key: one for one in map(self._endpoint, self._answering())}
        renew = began_s - self._renewed_s >= self._renew_interval_s
        try:
            bring = partial(self._bring, wanted, renew=renew)
            await loop.run_in_executor(self._thread, bring)
        except StateroomError as error:  # also a refusal: discovery never ends a node
            self.counts.failed += 1
            _log.warning("discovery: %s", error)
        else:
            self._renewed_s = began_s if renew else self._renewed_s
        self.counts.duration_s = loop.time() - began_s

    async def close(self) -> None:
        """Take everything out that is registered, once, and end the thread."""
        await self.pass_once()
        await asyncio.to_thread(self._thread.shutdown)

    def _endpoint(self, one: Answering) -> Endpoint:
        return Endpoint(
            one.service,
            one.agent_id,
            self._node_id,
            self._region,
            self._host,
            self._port,
            one.epoch,
        )

    def _bring(self, wanted: Mapping[str, Endpoint], *, renew: bool) -> None:
        """Remove first: a copy that is placed anew here is registered under its new epoch."""
        gone = [one for key, one in self._held.items() if key not in wanted]
        self._remove(gone)
        new = [
            one
            for key, one in wanted.items()
            if self._held.get(key) != one and (renew or one not in self._refused)
        ]
        self._refused &= set(wanted.values())
        known = [one for key, one in wanted.items() if self._held.get(key) == one]
        self._register(new)
        if renew:
            self._renew(known)

    def _remove(self, gone: Sequence[Endpoint]) -> None:
        if not gone:
            return
        reason = f"it does not run on {self._node_id} any more"
        self._registry.remove_endpoints(
            [Removal(one.service, one.agent_id, one.epoch, reason) for one in gone]
        )
        # A refusal means that a newer copy has registered: then it is that one's.
        for one in gone:
            self._held.pop(one.key, None)
        self.counts.removed += len(gone)

    def _register(self, new: Sequence[Endpoint]) -> None:
        if not new:
            return
        for endpoint, result in zip(new, self._registry.register_endpoints(new), strict=True):
            if result.error is None:
                self._held[endpoint.key] = endpoint
                self._refused.discard(endpoint)
                self.counts.registered += 1
            else:
                self._refuse(endpoint, result)

    def _refuse(self, endpoint: Endpoint, result: OrderResult) -> None:
        """It was placed elsewhere, as its placement will say; the next renewal asks again."""
        self.counts.refused += 1
        self._held.pop(endpoint.key, None)
        if endpoint not in self._refused:
            _log.warning("discovery: %s", result.error)
        self._refused.add(endpoint)

    def _renew(self, known: Sequence[Endpoint]) -> None:
        if not known:
            return
        renewals = [Renewal(one.service, one.agent_id, one.epoch) for one in known]
        results = self._registry.renew_endpoints(renewals)
        for endpoint, result in zip(known, results, strict=True):
            if result.error is None:
                self.counts.renewed += 1
            elif isinstance(result.error, NotFoundError):
                self._held.pop(endpoint.key, None)  # the registry has lost it: registered anew
            else:
                self._refuse(endpoint, result)
