"""Which replica gets the next request: the one with the fewest open connections for its weight.

Between equals the one that has been given the fewest requests so far, so that idle replicas take
turns. Weights come from `fleet.service_weights`; a weight of 0 drains a replica: it gets nothing
new and keeps what it has. O(log replicas) for each request that begins or ends.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from fleet.errors import InvalidInputError, NotFoundError


class LeastConnections:
    """Open connections of one service's replicas; for one thread."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        """No connection is open.

        Args:
            weights: of all replicas, by name; a replica of weight 2 carries twice that of 1.

        Raises:
            InvalidInputError: a negative weight.
        """
        self._open: dict[str, int] = {}
        self._given: dict[str, int] = {}
        self._weights: dict[str, int] = {}
        self._heap: list[tuple[float, int, str]] = []
        self.set_weights(weights)

    def set_weights(self, weights: Mapping[str, int]) -> None:
        """Take the replicas that there are now; those that stay keep their connections.

        Raises:
            InvalidInputError: a negative weight; nothing has changed.
        """
        for name, weight in weights.items():
            if weight < 0:
                raise InvalidInputError(f"weight of {name}", weight, "0 or more")
        self._weights = dict(weights)
        self._open = {name: self._open.get(name, 0) for name in weights}
        # A newcomer begins where the others are, not with a debt of all they were ever given.
        start = min((self._given[name] for name in weights if name in self._given), default=0)
        self._given = {name: self._given.get(name, start) for name in weights}
        self._heap = []
        for name in weights:
            self._push(name)

    def open_connections(self, name: str) -> int:
        """How many a replica has.

        Raises:
            NotFoundError: there is no such replica.
        """
        self._require(name)
        return self._open[name]

    def begin(self) -> str | None:
        """The replica of the next request, which counts from now on; None: there is none."""
        while self._heap:
            entry = self._heap[0]
            name = entry[2]
            if name in self._weights and self._weights[name] and entry == self._entry(name):
                self._open[name] += 1
                self._given[name] += 1
                heapq.heapreplace(self._heap, self._entry(name))
                return name
            heapq.heappop(self._heap)  # told of an earlier count; the present one is in the heap
        return None

    def end(self, name: str) -> None:
        """A request has ended; of a replica that is gone it counts nowhere.

        Raises:
            InvalidInputError: it has no open connection.
        """
        if name not in self._open:
            return
        if self._open[name] == 0:
            raise InvalidInputError("replica", name, "one with an open connection")
        self._open[name] -= 1
        self._push(name)
        if len(self._heap) > 64 + 4 * len(self._weights):
            self._heap = [self._entry(one) for one, weight in self._weights.items() if weight]
            heapq.heapify(self._heap)

    def _entry(self, name: str) -> tuple[float, int, str]:
        return (self._open[name] / self._weights[name], self._given[name], name)

    def _push(self, name: str) -> None:
        if self._weights[name]:
            heapq.heappush(self._heap, self._entry(name))

    def _require(self, name: str) -> None:
        if name not in self._open:
            raise NotFoundError(f"no replica {name}", hint="Set the weights of all replicas.")
