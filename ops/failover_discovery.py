"""Verdicts on whole nodes in discovery: GRAY ones are withheld from readers, and given back later.

A verdict is an order to the registry for each endpoint that stands on the node now, under the
controller's term. Nothing is deleted, and readers withhold within the healthy-panic rule, so that a
wrong verdict empties no service. What the registry did not take is ordered again with every tick,
until it holds or a later verdict replaces it.
"""

from fleet.errors import LeaseLostError, StateroomError
from fleet.failover.explain import explain_action
from fleet.failover.records import Action, ActionKind
from fleet.ports.control_store import ControlStore
from fleet.services import GrayVerdict

DISCOVERY = frozenset({ActionKind.UNREGISTER_NODE, ActionKind.REGISTER_NODE})
"""Actions that are verdicts."""

_REASON_MAX_CHARS = 500


class DiscoveryVerdicts:
    """Verdicts of one controller that are to be in force; one thread uses it."""

    def __init__(self, store: ControlStore) -> None:
        """None is wanted."""
        self._store = store
        self._due: dict[str, Action] = {}

    def want(self, action: Action) -> None:
        """Take a verdict over; it replaces an earlier one on the same node."""
        self._due[action.subject] = action

    def carry_out(self) -> list[str]:
        """Bring every verdict that is due into force; returns what failed, in words."""
        faults = []
        for subject, action in sorted(self._due.items()):
            try:
                judge_endpoints(self._store, action)
            except LeaseLostError as error:
                faults.append(f"{action.key}: {error}")
            except StateroomError as error:
                faults.append(f"{action.key}: {error}")
                continue  # ordered again with the next tick
            del self._due[subject]
        return faults


def judge_endpoints(store: ControlStore, action: Action) -> int:
    """Record a verdict on all endpoints of a node; returns how many hold it now.

    Args:
        store: also the registry.
        action: UNREGISTER_NODE or REGISTER_NODE.

    Raises:
        LeaseLostError: a controller of a higher term has judged one of them.
        TransientError: the registry does not answer.
    """
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
        for node_id in action.nodes
        for one in store.registrations_of([each.agent_id for each in store.placements(node_id)])
        if one.endpoint.node_id == node_id
    ]
    results = store.mark_gray(verdicts)
    for result in results:
        if isinstance(result.error, LeaseLostError):
            raise result.error
    # All other refusals mean that the endpoint has left or moved on meanwhile: it is not this one.
    return sum(result.error is None for result in results)
