"""What a failover run is told to do: the decision that launched it, as a record that travels.

An order holds what was known when it was given, so that the run can look again and see whether it
still holds: the term under which it was decided, and each node's last heartbeat.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from fleet.errors import InvalidInputError

_EARLY = "early"


class OrderKind(StrEnum):
    """What is to be moved."""

    NODE = "node"
    """All agents of some nodes, within their region while it has room."""
    REGION = "region"
    """All agents of a region, into other regions."""
    FAIL_BACK = "fail_back"
    """Agents that a region failover has put elsewhere, home again."""


class FailoverOrder(NamedTuple):
    """One order to move agents."""

    kind: OrderKind
    subject: str
    """Name of the node or region."""
    incident_id: str
    """The journal of the run; steps of several attempts stand side by side in it."""
    attempt: int
    """From 1; names the steps of this run."""
    term: int
    """Of the controller that decided; the run acts under it or not at all."""
    because: str
    """Begins every placement's reason, without a full stop."""
    nodes: tuple[str, ...] = ()
    """Nodes that are left, sorted."""
    heartbeats: Mapping[str, int] = {}
    """Their last heartbeats as seen by the decision; a newer one is a sign of life."""
    avoid: tuple[str, ...] = ()
    """Nodes that take nobody in: those that are not plainly healthy, sorted."""
    regions: tuple[str, ...] = ()
    """Where agents may go beside their own region, in this order."""
    head_room: float = 0.0
    """Share of every target that stays free."""
    agents_max: int | None = None
    """At most so many in this run."""
    forced: bool = False
    """A person ordered it: signs of life do not stop it, fencing is waited for all the same."""
    stateless_only: bool = False
    """Only agents that may run twice, ahead of the fence, as far as they have a place."""

    @property
    def label(self) -> str:
        """Names the steps of this run in its journal: `2`, or `node-ap-1.2` in another's incident.

        Nodes of a region share the region's incident, so the number alone would let one run take
        the plan of another for its own; agents that go ahead of the others have a plan of their own
        (`early-1`). A label never begins as another does.
        """
        shared = self.kind == OrderKind.NODE and self.incident_id.startswith(f"{OrderKind.REGION}-")
        label = f"{self.kind}-{self.subject}.{self.attempt}" if shared else str(self.attempt)
        return f"{_EARLY}-{label}" if self.stateless_only else label

    @property
    def is_region(self) -> bool:
        """Whether a whole region is left, with everything that lies in it."""
        return self.kind == OrderKind.REGION


def encode_order(order: FailoverOrder) -> str:
    """As one line of JSON."""
    return json.dumps(order._asdict(), separators=(",", ":"))


def decode_order(text: str) -> FailoverOrder:
    """The order that `encode_order` wrote.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        found: dict[str, Any] = json.loads(text)
        tuples = {name: tuple(found[name]) for name in ("nodes", "avoid", "regions")}
        return FailoverOrder(**{**found, **tuples, "kind": OrderKind(found["kind"])})
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InvalidInputError(
            "order", text[:80], "an order as `encode_order` writes it"
        ) from error
