"""Addresses of other nodes, read from the store when they are needed and kept until they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence

from fleet.errors import TransientError
from fleet.ports.observer_store import ObserverStore
from fleet.probe_reports import NodeContact

UNKNOWN_S = 5.0
"""How long a node without an address is not asked for again."""

_log = logging.getLogger(__name__)


class ContactBook:
    """What one node knows of where others are; lives on the event loop."""

    def __init__(self, store: ObserverStore) -> None:
        """Know nothing yet."""
        self._store = store
        self._known: dict[str, NodeContact] = {}
        self._unknown_until_s: dict[str, float] = {}

    async def find(self, node_ids: Sequence[str]) -> list[NodeContact]:
        """Those of these nodes that have an address, in the given order.

        Nodes that are not known are asked for in one read, at most once in `UNKNOWN_S` each; when
        the store does not answer they stay unknown.
        """
        now_s = asyncio.get_running_loop().time()
        missing = [
            name
            for name in node_ids
            if name not in self._known and now_s >= self._unknown_until_s.get(name, 0.0)
        ]
        if missing:
            self._unknown_until_s.update(dict.fromkeys(missing, now_s + UNKNOWN_S))
            self._keep(await self._read(missing))
        return [self._known[name] for name in node_ids if name in self._known]

    async def demand(self, node_id: str) -> NodeContact | None:
        """One node's address, asked for now unless it is known; None when it has none.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        if node_id not in self._known:
            self._keep(await asyncio.to_thread(self._store.node_contacts, [node_id]))
        return self._known.get(node_id)

    async def moved(self, contact: NodeContact) -> NodeContact | None:
        """The new address of a node that has started again; None when it is where it was."""
        found = await self._read([contact.node_id])
        self._keep(found)
        return next((one for one in found if one.address != contact.address), None)

    def retain(self, declared: Collection[str]) -> None:
        """Forget nodes that are not declared any more, and ask again for those without address."""
        self._known = {name: self._known[name] for name in self._known.keys() & set(declared)}
        self._unknown_until_s.clear()

    def _keep(self, found: Iterable[NodeContact]) -> None:
        self._known.update({contact.node_id: contact for contact in found})

    async def _read(self, node_ids: Sequence[str]) -> list[NodeContact]:
        try:
            return await asyncio.to_thread(self._store.node_contacts, node_ids)
        except TransientError as error:
            _log.warning("addresses of %d nodes: %s", len(node_ids), error)
            return []
