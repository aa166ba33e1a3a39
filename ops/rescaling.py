"""One look of the controller of rescaling: see everything, decide for all, keep it, order.

A look ends with one write: what is remembered and what was decided, under the term of the rescaling
lease. A change is then ordered and made by a run; until it is made it is pending, and decided anew
with every look.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from fleet.errors import LeaseLostError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from fleet.ports.query_engine import QueryEngine
from fleet.rescaling.brakes import Brakes, read_brakes
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.pods import waits_for_room
from fleet.rescaling.policy import ScalingMode, WorkloadScaling
from fleet.rescaling.scale_order import ScaleOrder, identity_of, order_of
from fleet.rescaling.spec import AutoscalerSpec
from fleet.rescaling.standing import (
    FOLD_S,
    LoggedDecision,
    Pending,
    ScalingOrder,
    fold,
    live_orders,
)
from fleet.rescaling.start_watch import Starts, watch_starts
from fleet.rescaling.state_json import PackedStanding
from fleet.rescaling.telling import waiting_part
from fleet.scaling import REPLICAS_MAX
from ops.bulk import collector_paused
from ops.rescaling_bulk import TOLD_ALWAYS, BulkEngine, Written
from ops.rescaling_case import Asking, Case, Key, Outcome, as_before, decide_alone, settle
from ops.rescaling_engine import Prices, read_ledger, room_of, take_room
from ops.rescaling_foresight import Forecasts
from ops.rescaling_standings import StandingReader, damage_problem
from ops.scaling_observation import MetricQueries, observe
from resources.leader_lease import LeaderLease

LEASE_TTL_S = 30.0
"""Longest time without a controller after one has died. Sensors look every few seconds at best, so
it is longer than that of the failover."""
LEASE_RENEW_S = 10.0

ROOM_RETRY_S = 60.0
"""Between two plans for agents that wait for room, while none is seen to come back."""
ROOM_REST = 20
"""After such a plan at least so many times as long as it took: of 100,000 agents it takes 3 s."""
STARTS_MAX = 1000
"""Waiting agents that get a node by one look, the most important first."""
OPEN_MAX = 1000
"""Open incidents that are looked through for regions that are being evacuated."""


class Look(NamedTuple):
    """What came of one look."""

    leads: bool
    why_not: str
    """Who leads instead, or why nobody does; empty when this controller does."""
    decisions: tuple[LoggedDecision, ...] = ()
    """One for each workload and region, by key."""
    orders: tuple[ScaleOrder, ...] = ()
    """Changes to be made now that were not ordered before."""
    waiting: tuple[ScaleOrder, ...] = ()
    """Changes that wait for a person's word."""
    problems: tuple[str, ...] = ()
    """Sources of metrics that gave no answer, and standings that are damaged, in words."""


class RescalingPorts(NamedTuple):
    """What a controller of rescaling touches."""

    store: ControlStore
    clock: Clock
    leader: LeaderLease
    engine: QueryEngine | None
    """None: there are no metrics beside what nodes report."""
    open_lake: Callable[[], Lake] | None = None
    """For forecasts; None: there are none."""


class RescalingController:
    """The controller of one process: what it has ordered and written down is its memory.

    What counts is in the store: another process goes on in the middle of a window.
    """

    def __init__(self, ports: RescalingPorts, declaration: RescalingDeclaration) -> None:
        """Look at nothing yet."""
        self._ports, self._declaration = ports, declaration
        self._forecasts = Forecasts(ports.open_lake, declaration)
        self._ordered: set[str] = set()
        self._logged: dict[Key, Written] = {}
        self._bulk = BulkEngine(declaration.sample_age_max_s)
        self._standings = StandingReader()
        self._damaged: tuple[DamagedStanding, ...] = ()
        """By the last look."""
        self._starts: dict[Key, Starts] = {}
        self._waits_for_room = False
        """Some agent did, by the last look."""
        self._room_planned = (float("-inf"), 0.0)
        """When room was last looked for, by the monotonic clock, and how long that took."""

    def look(self) -> Look:
        """Decide for all workloads, and keep it.

        Raises:
            StoreUnavailableError: nothing was decided, or what was is not kept: look again.
        """
        with collector_paused():
            return self._look()

    def _look(self) -> Look:
        store, now = self._ports.store, self._ports.clock.now()
        leadership = self._ports.leader.campaign()
        if not leadership.held:
            return Look(False, leadership.reason or f"{leadership.holder} leads")
        self._give_room(now, came_back=bool(store.release_ended()))
        queries = MetricQueries(self._ports.engine, now)
        cases = self._cases(queries, now)
        self._waits_for_room = any(map(_waits_for_room, cases))
        asking = Asking(
            read_ledger(store, [case.seen.agents for case in cases]),
            Prices(store, self._declaration.prices),
            lambda key: self._forecasts.of(key, now),
            now,
            leadership.term,
        )
        found = self._decide(cases, asking)
        standings = [one for key in sorted(found) if (one := found[key].standing) is not None]
        decisions = tuple(found[key].logged for key in sorted(found))
        try:
            self._keep(standings, decisions, leadership.term, now)
        except LeaseLostError as error:
            return Look(False, str(error))
        allowed = {case.key: _may_act(case, found[case.key].pending) for case in cases}
        orders, waiting = self._orders(found, allowed, leadership.term, now)
        told = {self._forecasts.problem, damage_problem(self._damaged)}
        problems = tuple(sorted({*queries.problems.values(), *told} - {""}))
        return Look(True, "", decisions, orders, waiting, problems)

    def _give_room(self, now: datetime, *, came_back: bool) -> None:
        """Place agents that the last look saw waiting: nothing else may change for long.

        At once when stopped agents have given room back; else, as nodes return and quotas are
        raised, too, every `ROOM_RETRY_S`, since a plan reads the whole fleet.
        """
        clock, (ended_s, took_s) = self._ports.clock, self._room_planned
        begun_s = clock.monotonic_s()
        rest_s = max(ROOM_REST * took_s, 0.0 if came_back else ROOM_RETRY_S)
        if not self._waits_for_room or begun_s - ended_s < rest_s:
            return
        # here, because it plans with NumPy, which nobody pays for who only reads definitions
        from ops.placement import alive_nodes, newest_term, place_waiting

        store = self._ports.store
        outcome = place_waiting(
            store, alive_nodes(store, now), now=now, term=newest_term(store), limit=STARTS_MAX
        )
        ended_s = clock.monotonic_s()
        is_all = len(outcome.placed) < STARTS_MAX
        self._room_planned = (ended_s if is_all else float("-inf"), ended_s - begun_s)

    def _decide(self, cases: Sequence[Case], asking: Asking) -> dict[Key, Outcome]:
        """All cases: in columns where Kubernetes' rules are all there is, else one by one.

        Who matters more is asked first whether a quota has room.
        """
        answers = self._bulk.decide(cases, asking.now)

        def shown_first(case: Case) -> tuple[bool, Key]:
            if answers is None or case.key not in answers:
                return True, case.key
            return answers.desired(case.key) == case.current, case.key

        told_always = {case.key for case in sorted(cases, key=shown_first)[:TOLD_ALWAYS]}
        found: dict[Key, Outcome] = {}
        apart: list[Key] = []
        for case in sorted(cases, key=_by_priority):
            if answers is None or case.key not in answers:
                found[case.key] = decide_alone(case, asking)
                continue
            more = answers.desired(case.key) - case.current
            if more > room_of(case.seen.agents, asking.ledger):
                apart.append(case.key)  # the quota is a rule beyond Kubernetes'
                found[case.key] = decide_alone(case, asking)
                continue
            acts = case.scaling.mode is not ScalingMode.OBSERVE
            if acts:  # what is only said takes room from nobody
                take_room(case.seen.agents, asking.ledger, more)
            written = self._logged.get(case.key)
            known = self._bulk.known_words(answers, case, written, asking.now)
            waits = bool(more) and acts
            if waits or known is None or case.key in told_always:
                before, decision = answers.before(case.key), answers.decision(case.key)
                found[case.key] = settle(case, asking, before, decision)
            else:
                state_json = answers.state_json(case.key)
                found[case.key] = as_before(case, asking, state_json, known)
        self._bulk.forget(apart)
        return found

    def _cases(self, queries: MetricQueries, now: datetime) -> list[Case]:
        store = self._ports.store
        standings, damaged = self._standings.read(store.packed_standings())
        self._damaged = tuple(damaged.values())
        holds, approvals = live_orders(store.scaling_orders(), now)
        declaration = with_ordered(self._declaration, {workload for workload, _ in holds})
        brakes = brakes_of(store, declaration)
        revisions = store.revisions(declaration.workloads)
        seen = observe(store, declaration, queries, now)
        self._starts = {
            key: watch_starts(self._starts.get(key, Starts()), one.agents, now)
            for key, one in seen.items()
        }
        return [
            Case(
                key,
                declaration.workloads[key[0]],
                one,
                standings.get(key, PackedStanding(*key, "", 0, "", None, 0)),
                self._starts[key],
                holds.get(key),
                approvals.get(key),
                brakes.on(key[1], ordered=key in holds),
                revisions.get(key[0], ""),
                damaged.get(key),
            )
            for key, one in seen.items()
            if key in holds or key[0] in self._declaration.workloads
        ]

    def _keep(
        self,
        standings: list[PackedStanding],
        decisions: Iterable[LoggedDecision],
        term: int,
        now: datetime,
    ) -> None:
        """Write what is remembered, and those decisions that are due to be written down."""
        due: list[LoggedDecision] = []
        folded: dict[Key, Written] = {}
        for one in decisions:
            before, written_at = self._logged.get(one.key, (None, now))
            together = fold(before, one)
            is_new = before is None or together.decision_id == 0 or together.times == 1
            # who has no node does not make it another decision, but is not told five minutes late
            is_new |= before is not None and waiting_part(before.reason) != waiting_part(one.reason)
            if is_new or (now - written_at).total_seconds() >= FOLD_S:
                due.append(together)
            folded[one.key] = Written(together, written_at)
        ids = self._ports.store.keep_scaling(standings, due, term=term)
        for one, decision_id in zip(due, ids, strict=True):
            folded[one.key] = Written(one._replace(decision_id=decision_id), now)
        self._logged = folded
        self._standings.written(standings)

    def _orders(
        self,
        found: Mapping[Key, Outcome],
        allowed: Mapping[Key, bool],
        term: int,
        now: datetime,
    ) -> tuple[tuple[ScaleOrder, ...], tuple[ScaleOrder, ...]]:
        """Changes that are due and not ordered yet, and those that wait for a person."""
        due, waiting = [], []
        names: set[str] = set()
        for key in sorted(found):
            pending = found[key].pending
            if pending is None:
                continue
            order = order_of(key, pending, term, now)
            if not allowed[key]:
                waiting.append(order)
                continue
            names.add(identity_of(order))
            if identity_of(order) not in self._ordered:
                due.append(order)
        self._ordered = names
        return tuple(due), tuple(waiting)


def brakes_of(store: ControlStore, declaration: RescalingDeclaration) -> Brakes:
    """What holds rescaling back now.

    Args:
        store: says what failover and people are about.
        declaration: whether there is a failover at all.
    """
    return read_brakes(
        store.controller_view(),
        store.automation(),
        store.incidents(open_only=True, limit=OPEN_MAX),
        failover_enabled=declaration.failover_enabled,
    )


def mode_of(declaration: RescalingDeclaration, workload: str) -> ScalingMode:
    """Who acts for a workload; for one that is not scaled only a person does."""
    scaling = declaration.workloads.get(workload)
    return ScalingMode.OBSERVE if scaling is None else scaling.mode


def with_ordered(
    declaration: RescalingDeclaration, workloads: Iterable[str]
) -> RescalingDeclaration:
    """The declaration with workloads that are not scaled, but that a person has given a number."""
    plain = {
        name: WorkloadScaling(name, AutoscalerSpec(name, (), 0, REPLICAS_MAX))
        for name in workloads
        if name not in declaration.workloads
    }
    return replace(declaration, workloads={**declaration.workloads, **plain})


def _by_priority(case: Case) -> tuple[int, Key]:
    """Who is asked first whether a quota has room."""
    wanted = case.seen.agents.wanted
    return (-wanted[0].agent.priority if wanted else 0, case.key)


def _waits_for_room(case: Case) -> bool:
    """Whether an agent waits for a node that it may be given: nobody has said to leave it alone."""
    if case.brake or case.scaling.mode is ScalingMode.OBSERVE:
        return False
    return any(map(waits_for_room, case.seen.agents.not_ready))


def _may_act(case: Case, pending: Pending | None) -> bool:
    """Whether a pending change may be made without another word."""
    if pending is None:
        return False
    return is_allowed(case.scaling.mode, pending, case.hold, case.approval)


def is_allowed(
    mode: ScalingMode,
    pending: Pending,
    hold: ScalingOrder | None,
    approval: ScalingOrder | None,
) -> bool:
    """Whether somebody who may has said that a change is to be made.

    Args:
        mode: of the workload.
        pending: the change.
        hold: a person's number, which stands above the mode.
        approval: a person's word for one number; it counts for a change that was pending then.
    """
    if hold is not None:
        return hold.replicas == pending.desired
    if mode is ScalingMode.AUTO:
        return True
    return (
        mode is ScalingMode.APPROVE
        and approval is not None
        and approval.replicas == pending.desired
        and approval.ordered_at >= pending.since
    )
