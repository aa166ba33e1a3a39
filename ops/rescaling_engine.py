"""The one place that asks the engine of rescaling, with what it wants to know beside metrics."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from fleet.costs.prices import PriceBook, RateTable
from fleet.inventory import Node
from fleet.placement.quotas import QuotaLedger
from fleet.ports.control_store import ControlStore
from fleet.rescaling.context import Rollout, ScalingContext
from fleet.rescaling.decision import ReplicaDecision
from fleet.rescaling.engine import decide_scaling
from fleet.rescaling.foresight import Forecast
from fleet.rescaling.observation import AutoscalerState
from fleet.rescaling.pods import WorkloadAgents
from fleet.rescaling.policy import ScalingMode, WorkloadScaling
from fleet.rescaling.spec import ControllerOptions
from fleet.rescaling.standing import ScaledAgent
from fleet.scaling import REPLICAS_MAX
from ops.scaling_observation import Seen


def read_ledger(store: ControlStore, workloads: Iterable[WorkloadAgents]) -> QuotaLedger:
    """What the quotas of these workloads' networks still allow.

    Args:
        store: knows quotas and uses; asked for uses only where there is a quota.
        workloads: that may grow.
    """
    networks = {one.wanted[0].agent.network_id for one in workloads if one.wanted}
    limits = [one for one in store.network_limits() if one.network_id in networks]
    uses = store.network_uses(sorted(one.network_id for one in limits)) if limits else {}
    return QuotaLedger(limits, uses)


class Prices:
    """What one agent of a workload costs, asked only where a ceiling wants to know.

    Args:
        store: knows the nodes; read once, at the first question.
        book: of prices; None: nothing is known.
    """

    def __init__(self, store: ControlStore, book: PriceBook | None) -> None:
        """Ask nothing yet."""
        self._store, self._book = store, book
        self._nodes: dict[str, Node] | None = None
        self._table = None if book is None else RateTable(book)

    def of(self, scaling: WorkloadScaling, wanted: Sequence[ScaledAgent]) -> float | None:
        """For an hour, on the dearest node that has one; None when nobody asks or knows."""
        if scaling.cost_ceiling is None or self._table is None or not wanted:
            return None
        if self._nodes is None:
            self._nodes = {node.node_id: node for node in self._store.nodes()}
        names = {one.agent.node_id for one in wanted}
        rates = [self._table.of(self._nodes[name]) for name in names if name in self._nodes]
        agent = wanted[0].agent
        costs = [one.cost(agent.cpu_milli, agent.memory_bytes, agent.gpu_milli) for one in rates]
        return max(costs, default=None)


def ask_engine(
    scaling: WorkloadScaling,
    seen: Seen,
    state: AutoscalerState,
    ledger: QuotaLedger,
    prices: Prices,
    foreseen: Forecast | None,
    start_times_s: Sequence[float],
    rollout: Rollout | None,
    now: datetime,
) -> ReplicaDecision:
    """The engine's decision; what it adds is taken from the quota, if it may ever be added.

    Args:
        scaling: what is wished.
        seen: the workload in one region.
        state: what is remembered of it.
        ledger: what quotas still allow; changed.
        prices: of agents.
        foreseen: of this workload in this region; None: nothing is.
        start_times_s: how long its agents took from their order to readiness, as far as measured.
        rollout: that is under way; None: none is.
        now: moment of the look.
    """
    wanted = seen.agents.wanted
    shape = wanted[0].declaration if wanted else None
    bounded = shape is not None and ledger.limits_of(shape.network_id) is not None
    room = room_of(seen.agents, ledger) if bounded else None
    context = ScalingContext(
        is_gpu=shape is not None and shape.gpu_milli > 0,
        start_times_s=start_times_s,
        price_per_hour=prices.of(scaling, wanted),
        forecast=foreseen,
        quota_room=room,
        rollout=rollout,
        options=ControllerOptions(scale_to_zero=scaling.activation is not None),
    )
    decision = decide_scaling(scaling, seen.observation, context, state, now)
    if scaling.mode is not ScalingMode.OBSERVE:  # what is only said takes room from nobody
        take_room(seen.agents, ledger, decision.desired - seen.current)
    return decision


def room_of(agents: WorkloadAgents, ledger: QuotaLedger) -> int:
    """How many more agents of a workload its quota lets be placed, beside those that are wanted.

    Who was scaled away and has not ended counts as used already, and comes back first.
    """
    if not agents.wanted:
        return REPLICAS_MAX
    return agents.stopped + ledger.allowed(agents.wanted[0].declaration, REPLICAS_MAX)


def take_room(agents: WorkloadAgents, ledger: QuotaLedger, more: int) -> None:
    """Count so many more agents as placed, those aside that have their room still."""
    if agents.wanted and more > agents.stopped:
        ledger.take(agents.wanted[0].declaration, more - agents.stopped)
