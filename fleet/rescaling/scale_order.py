"""What a look orders a run to do: changes of scale, as text between the sensor and the job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from fleet.errors import InvalidInputError
from fleet.rescaling.standing import Pending

ORDERS_MAX = 200
"""Changes of one run: some seconds of work, and a config that a person can still read."""

RETRY_S = 60.0
"""A change that was ordered and is still pending after this is ordered again."""


class ScaleOrder(NamedTuple):
    """One change that is to be made."""

    workload: str
    region: str
    current: int
    """Wanted when it was decided; the run does nothing when it is another number by then."""
    desired: int
    term: int
    """Of the controller that decided, on the rescaling lease."""
    since: datetime
    """When the change was decided first."""
    attempt: int
    """How often it has been ordered before without being made."""
    reason: str

    @property
    def key(self) -> tuple[str, str]:
        """Workload and region."""
        return self.workload, self.region


def order_of(
    key: tuple[str, str], pending: Pending, term: int, now: datetime, retry_s: float = RETRY_S
) -> ScaleOrder:
    """The order to make a pending change; the same one until it has waited for `retry_s`."""
    waited_s = max(0.0, (now - pending.since).total_seconds())
    return ScaleOrder(
        *key,
        pending.current,
        pending.desired,
        term,
        pending.since,
        int(waited_s // retry_s),
        pending.reason,
    )


def identity_of(order: ScaleOrder) -> str:
    """What makes two orders the same: asked twice, it runs once."""
    return (
        f"{order.workload}/{order.region}/{order.current}-{order.desired}/{order.term}/"
        f"{order.since.isoformat()}/{order.attempt}"
    )


def batch_key(orders: Iterable[ScaleOrder]) -> str:
    """The identity of orders that one run carries out."""
    names = "\n".join(sorted(map(identity_of, orders)))
    return hashlib.sha256(names.encode()).hexdigest()[:32]


def encode_orders(orders: Iterable[ScaleOrder]) -> str:
    """One line of JSON."""
    rows = [[*one[:5], one.since.isoformat(), *one[6:]] for one in orders]
    return json.dumps(rows, separators=(",", ":"))


def decode_orders(text: str) -> list[ScaleOrder]:
    """The orders in such a line.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        return [_order(*row) for row in _listed(json.loads(text))]
    except (ValueError, TypeError) as error:
        allowed = "scale orders as `encode_orders` writes them"
        raise InvalidInputError("orders", text[:200], allowed) from error


def _listed(rows: Any) -> list[Any]:
    if not isinstance(rows, list):
        raise TypeError(f"{type(rows).__name__} in place of a list")
    return rows


def _order(
    workload: str,
    region: str,
    current: int,
    desired: int,
    term: int,
    since: str,
    attempt: int,
    reason: str,
) -> ScaleOrder:
    texts, numbers = (workload, region, since, reason), (current, desired, term, attempt)
    if not all(isinstance(one, str) for one in texts) or not all(
        type(one) is int for one in numbers
    ):
        raise TypeError(f"{workload}/{region}")
    return ScaleOrder(
        workload, region, current, desired, term, datetime.fromisoformat(since), attempt, reason
    )
