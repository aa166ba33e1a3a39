"""Verdicts on whole nodes in discovery: GRAY ones are withheld from readers, and given back later.

A verdict is an order to the registry for each endpoint that stands on the node now, under the
controller's term. Nothing is deleted, and readers withhold within the healthy-panic rule, so that a
wrong verdict empties no service. What the registry did not take is ordered again with every tick,
until it holds or a later verdict replaces it.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet.errors import LeaseLostError, StateroomError
from fleet.failover.explain import explain_action
from fleet.failover.records import Action, ActionKind
from fleet.ports.control_store import ControlStore
from fleet.ports.service_registry import ServiceRegistry
from fleet.services import GrayVerdict

DISCOVERY = frozenset({ActionKind.UNREGISTER_NODE, ActionKind.REGISTER_NODE})
"""Actions that are verdicts."""

_REASON_MAX_CHARS = 500


class DiscoveryVerdicts:
    """Verdicts of one controller that are to be in force; one thread uses it.

    Args:
        store: says who is placed on a node; also the registry, unless another is given.
        registry: another one, such as Consul. It is asked in a thread of its own, so that one that
            does not answer delays no decision; its faults are told by a later tick.
    """

    def __init__(self, store: ControlStore, registry: ServiceRegistry | None = None) -> None:
        """None is wanted."""
        self._store, self._registry = store, registry
        self._due: dict[str, Action] = {}
        self._thread: threading.Thread | None = None
        self._ended: list[tuple[Action, StateroomError | None]] = []

    def want(self, action: Action) -> None:
        """Take a verdict over; it replaces an earlier one on the same node."""
        self._due[action.subject] = action

    def carry_out(self) -> list[str]:
        """Bring every verdict that is due into force; returns what failed, in words."""
        if self._registry is None:
            for _, action in sorted(self._due.items()):
                self._ended.append((action, _judge(self._store, self._asked(action))))
            return self._settle()
        if self._thread is not None and self._thread.is_alive():
            return []
        faults = self._settle()
        if self._due:
            asked = [self._asked(action) for _, action in sorted(self._due.items())]
            self._thread = threading.Thread(
                target=self._ask, args=(self._registry, asked), name="verdicts", daemon=True
            )
            self._thread.start()
        return faults

    def wait(self, timeout_s: float) -> None:
        """Wait for a registry that is being asked."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _ask(self, registry: ServiceRegistry, asked: Sequence["_Asked"]) -> None:
        for one in asked:
            self._ended.append((one.action, _judge(registry, one)))

    def _asked(self, action: Action) -> "_Asked":
        return _Asked(action, _placed_on(self._store, action))

    def _settle(self) -> list[str]:
        """Forget what holds or was refused for good; the rest is ordered again."""
        faults = []
        for action, error in self._ended:
            if error is not None:
                faults.append(f"{action.key}: {error}")
            is_over = error is None or isinstance(error, LeaseLostError)
            if is_over and self._due.get(action.subject) == action:
                del self._due[action.subject]
        self._ended = []
        return faults


class _Asked(NamedTuple):
    """A verdict, and whom it may concern."""

    action: Action
    agents: Mapping[str, tuple[str, ...]]
    """Node to the agents that are placed there."""


def judge_endpoints(
    store: ControlStore, action: Action, registry: ServiceRegistry | None = None
) -> int:
    """Record a verdict on all endpoints of a node; returns how many hold it now.

    Args:
        store: says who is placed on the node; also the registry, unless another is given.
        action: UNREGISTER_NODE or REGISTER_NODE.
        registry: another registry.

    Raises:
        LeaseLostError: a controller of a higher term has judged one of them.
        TransientError: the registry does not answer.
    """
    return _order(registry or store, _Asked(action, _placed_on(store, action)))


def _placed_on(store: ControlStore, action: Action) -> dict[str, tuple[str, ...]]:
    return {
        node_id: tuple(one.agent_id for one in store.placements(node_id))
        for node_id in action.nodes
    }


def _judge(registry: ServiceRegistry, asked: _Asked) -> StateroomError | None:
    try:
        _order(registry, asked)
    except StateroomError as error:
        return error
    return None


def _order(registry: ServiceRegistry, asked: _Asked) -> int:
    action = asked.action
    gray = action.kind is ActionKind.UNREGISTER_NODE
    reason = explain_action(action)[:_REASON_MAX_CHARS]
    verdicts = [
        GrayVerdict(
            one.endpoint.service,
            one.endpoint.agent_id,
            one.endpoint.epoch,
            action.term,
            gray,
            reason,
        )
        for node_id, agent_ids in asked.agents.items()
        for one in registry.registrations_of(agent_ids)
        if one.endpoint.node_id == node_id
    ]
    results = registry.mark_gray(verdicts)
    for result in results:
        if isinstance(result.error, LeaseLostError):
            raise result.error
    # All other refusals mean that the endpoint has left or moved on meanwhile: it is not this one.
    return sum(result.error is None for result in results)
