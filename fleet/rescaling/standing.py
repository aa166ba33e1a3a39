"""How one workload stands in one region between two looks: what is remembered, waits, was decided.

A change is made by a run, a moment after the look that decided it. Until then it is *pending*: what
the autoscaler will remember once it is made stands beside what it remembers now, and only the
transaction that makes the change exchanges the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.agents import Placement
from fleet.errors import InvalidInputError
from fleet.inventory import Agent
from fleet.journal import JournalEntry
from fleet.moments import microseconds
from fleet.reports import AgentDeclaration
from fleet.rescaling.observation import AutoscalerState
from fleet.rescaling.policy import ScalingMode
from fleet.scaling import REPLICAS_MAX

FOLD_S = 300.0
"""Decisions that say the same are written down once in this time, with their number."""

HOLD_MAX = timedelta(days=90)
"""Longest hold with an end: one that nobody lifts must not switch scaling off for ever unseen."""


class Pending(NamedTuple):
    """A change that was decided and not made yet."""

    current: int
    """Wanted when it was decided."""
    desired: int
    since: datetime
    """When this very change was decided first."""
    state: AutoscalerState
    """What the autoscaler remembers once it is made."""
    reason: str


class ScalingStanding(NamedTuple):
    """What the controller keeps of one workload in one region."""

    workload: str
    region: str
    state: AutoscalerState
    scales: int = 0
    """Changes that were made; nothing is kept that was decided before the last of them."""
    pending: Pending | None = None
    decided_at: datetime | None = None
    """Last look; None before the first."""
    term: int = 0
    """Of the controller that looked."""

    @property
    def key(self) -> tuple[str, str]:
        """Workload and region."""
        return self.workload, self.region


class ScalingOrder(NamedTuple):
    """A person's word about one workload in one region; the newest of a kind counts."""

    workload: str
    region: str
    kind: str
    """`hold`: so many replicas until it is lifted; `approval`: the pending change may be made."""
    replicas: int
    ordered_by: str
    reason: str
    ordered_at: datetime
    until: datetime | None = None
    """End of a hold (exclusive); None: until somebody lifts it."""

    @property
    def key(self) -> tuple[str, str]:
        """Workload and region."""
        return self.workload, self.region


HOLD, APPROVAL = "hold", "approval"


class LoggedDecision(NamedTuple):
    """One decision, or several in a row that said the same."""

    workload: str
    region: str
    mode: ScalingMode
    first_at: datetime
    last_at: datetime
    times: int
    """How many looks said this."""
    current: int
    desired: int
    min_replicas: int
    max_replicas: int
    ready: int
    """Agents that were ready at the last of these looks."""
    load: float | None
    """How much of its target the leading metric used, 1 for exactly all; None: nothing measured."""
    limited_by: str
    """Rule that changed the count last; empty for none."""
    verdict: str
    """One word: `unchanged`, `scale-up`, `scale-down`, `held`, `blind`, `ordered`."""
    reason: str
    """One sentence with figures."""
    detail: str = "{}"
    """JSON: proposals and rules of the last look."""
    decision_id: int = 0
    """Given by the store; 0: not stored yet."""

    @property
    def key(self) -> tuple[str, str]:
        """Workload and region."""
        return self.workload, self.region

    @property
    def outcome(self) -> tuple[object, ...]:
        """What makes two decisions say the same."""
        return (
            self.mode,
            self.current,
            self.desired,
            self.min_replicas,
            self.max_replicas,
            self.limited_by,
            self.verdict,
        )


class ScaledAgent(NamedTuple):
    """One agent of a workload that is scaled, as the store knows it."""

    agent: Agent
    placement: Placement | None
    """None: nobody has placed it yet."""
    home: str
    """Region that it was declared in."""

    @property
    def is_wanted(self) -> bool:
        """Whether it is to be there; one that waits for room, or is parked by failover, is."""
        return self.placement is None or self.placement.desired != "stopped"

    @property
    def declaration(self) -> AgentDeclaration:
        """Its shape, at home where it was declared."""
        agent = self.agent
        return AgentDeclaration(
            agent_id=agent.agent_id,
            network_id=agent.network_id,
            workload=agent.workload,
            region=self.home,
            cpu_milli=agent.cpu_milli,
            memory_bytes=agent.memory_bytes,
            bandwidth_bps=agent.bandwidth_bps,
            gpu_milli=agent.gpu_milli,
            gpu_memory_bytes=agent.gpu_memory_bytes,
            priority=agent.priority,
        )


class ScaleChange(NamedTuple):
    """One change of scale, planned, as one transaction makes it."""

    workload: str
    region: str
    scales: int
    """Changes made before the plan looked; another number now means that somebody was faster."""
    declared: tuple[AgentDeclaration, ...]
    placements: tuple[Placement, ...]
    """To stop or to revive, each with the epoch that it was planned on."""
    state: AutoscalerState
    """What the autoscaler remembers from then on."""
    reason: str
    """Told in the journal, in the same transaction."""

    @property
    def key(self) -> tuple[str, str]:
        """Workload and region."""
        return self.workload, self.region


class ScaleResult(NamedTuple):
    """Outcome of one change of a batch."""

    workload: str
    region: str
    made: bool
    """False: another change was made since the plan; nothing was stored."""
    placed: tuple[Placement, ...] = ()
    """Placements that were stored, with their new epochs."""


def scaling_subject(workload: str, region: str) -> str:
    """What journals call a workload in a region."""
    return f"scaling/{workload}/{region}"


_SCALED = "scaled/"


def scaled_step(change: ScaleChange, at: datetime) -> JournalEntry:
    """The step that tells of a change, in the transaction that makes it."""
    subject = scaling_subject(change.workload, change.region)
    step = f"{_SCALED}{change.scales + 1}"
    return JournalEntry(subject, step, "done", subject, change.reason, at)


def scales_journaled(steps: Iterable[str]) -> int:
    """The highest number of a change that such steps of a journal tell of; 0 for none."""
    numbers = [step.removeprefix(_SCALED) for step in steps if step.startswith(_SCALED)]
    return max((int(one) for one in numbers if one.isascii() and one.isdigit()), default=0)


def forgotten_step(
    key: tuple[str, str], row: Mapping[str, object], by: str, why: str, at: datetime
) -> JournalEntry:
    """The step that tells who had a standing forgotten, with the row as it stood there.

    Args:
        key: workload and region.
        row: its columns, whatever they hold.
        by: who said so.
        why: in his words.
        at: when.
    """
    subject = scaling_subject(*key)
    detail = json.dumps(dict(row), default=repr)
    step = f"forgotten/{microseconds(at)}"
    return JournalEntry(subject, step, "done", subject, f"{by}: {why}", at, None, detail)


def live_orders(
    orders: Iterable[ScalingOrder], now: datetime
) -> tuple[dict[tuple[str, str], ScalingOrder], dict[tuple[str, str], ScalingOrder]]:
    """Holds and approvals that count now, by workload and region."""
    holds: dict[tuple[str, str], ScalingOrder] = {}
    approvals: dict[tuple[str, str], ScalingOrder] = {}
    for one in orders:
        if one.until is None or now < one.until:
            (holds if one.kind == HOLD else approvals)[one.key] = one
    return holds, approvals


def validate_order(order: ScalingOrder) -> ScalingOrder:
    """Return an order that makes sense.

    Raises:
        InvalidInputError: an unknown kind, replicas out of range, or an end that is not within
            `HOLD_MAX` after it was given.
    """
    if order.kind not in {HOLD, APPROVAL}:
        raise InvalidInputError("kind", order.kind, f"{HOLD} or {APPROVAL}")
    if not 0 <= order.replicas <= REPLICAS_MAX:
        raise InvalidInputError("replicas", order.replicas, f"0 to {REPLICAS_MAX}")
    if order.until is not None and not (
        order.ordered_at < order.until <= order.ordered_at + HOLD_MAX
    ):
        raise InvalidInputError(
            "until", order.until.isoformat(), f"within {HOLD_MAX.days} days after it is ordered"
        )
    return order


def next_pending(before: Pending | None, decided: Pending) -> Pending:
    """The pending change: it keeps its beginning while the very same change is decided again."""
    if before is not None and (before.current, before.desired) == (
        decided.current,
        decided.desired,
    ):
        return decided._replace(since=before.since)
    return decided


def fold(before: LoggedDecision | None, decided: LoggedDecision) -> LoggedDecision:
    """The decision as it is written down: with the one before, when both say the same."""
    if before is None or before.outcome != decided.outcome:
        return decided
    return decided._replace(
        first_at=before.first_at, times=before.times + 1, decision_id=before.decision_id
    )
