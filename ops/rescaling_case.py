"""One workload in one region at one look: what is asked about it, and what comes of it."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.placement.quotas import QuotaLedger
from fleet.rescaling.calendar import calendar_limits
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.decision import ReplicaDecision
from fleet.rescaling.foresight import Forecast
from fleet.rescaling.hpa import unapplied
from fleet.rescaling.observation import AutoscalerState
from fleet.rescaling.pods import waiting_words
from fleet.rescaling.policy import ScalingMode, WorkloadScaling
from fleet.rescaling.rollout_watch import remembering, watch_rollout
from fleet.rescaling.standing import LoggedDecision, Pending, ScalingOrder, next_pending
from fleet.rescaling.start_watch import Starts
from fleet.rescaling.state_json import (
    PackedStanding,
    decode_autoscaler,
    decode_pending,
    encode_autoscaler,
    encode_pending,
)
from fleet.rescaling.telling import (
    Frame,
    log_decision,
    log_hold,
    log_order,
    sentence,
    with_waiting,
)
from ops.rescaling_engine import Prices, ask_engine
from ops.scaling_observation import Seen

Key = tuple[str, str]


class Case(NamedTuple):
    """One workload in one region, with all that a decision about it looks at."""

    key: Key
    scaling: WorkloadScaling
    seen: Seen
    standing: PackedStanding
    starts: Starts
    hold: ScalingOrder | None
    approval: ScalingOrder | None
    brake: str
    revision: str
    """That the workload is declared with; empty: it is not declared."""
    damaged: DamagedStanding | None = None
    """What is wrong with the stored standing: nothing may be decided, or kept in its place."""

    @property
    def current(self) -> int:
        """Agents that are wanted."""
        return self.seen.current

    @property
    def pending(self) -> Pending | None:
        """The change that waited before this look."""
        return decode_pending(self.standing.pending_json)

    def frame(self, now: datetime) -> Frame:
        """What it is written down with: limits as the calendar has them now."""
        spec, windows = self.scaling.spec, self.scaling.calendar
        limits = (spec.min_replicas, spec.max_replicas)
        if windows:
            open_now = calendar_limits(windows, spec.max_replicas, now)
            most = spec.max_replicas if open_now.maximum is None else open_now.maximum
            limits = (max(spec.min_replicas, open_now.floor), most)
        return Frame(*self.key, self.scaling.mode, *limits, self.seen.agents.ready)


class Outcome(NamedTuple):
    """What comes of a case."""

    standing: PackedStanding | None
    """To be kept; None: what is stored is left as it is."""
    pending: Pending | None
    """The same as in the standing, read."""
    logged: LoggedDecision
    """To be written down."""


class Asking(NamedTuple):
    """What decisions of one look share."""

    ledger: QuotaLedger
    """What quotas still allow; taken from."""
    prices: Prices
    foreseen: Callable[[Key], Forecast | None]
    now: datetime
    term: int


def decide_alone(case: Case, asking: Asking) -> Outcome:
    """One case, held or asked of the engine."""
    now = asking.now
    if case.damaged is not None:
        why = f"held: {case.damaged.told}"
        told = log_hold(case.frame(now), now, case.current, why, "damaged")
        return Outcome(None, None, with_waiting(told, waiting_words(case.seen.agents)))
    if case.brake:
        told = log_hold(case.frame(now), now, case.current, f"held: {case.brake}", "brake")
        return _outcome(case, asking, case.standing.state_json, None, told)
    if case.hold is not None:
        return _held_by_hand(case, case.hold, asking)
    try:
        before = decode_autoscaler(case.standing.state_json)
        rolled = watch_rollout(before.details, case.revision, case.seen.agents, now)
        state = remembering(before, rolled.details)
        decision = ask_engine(
            case.scaling,
            case.seen,
            state,
            asking.ledger,
            asking.prices,
            asking.foreseen(case.key),
            case.starts.measured_s,
            rolled.rollout,
            now,
        )
    except InvalidInputError as error:  # of one workload: the others go on
        why = "; ".join(filter(None, (f"held: {error}", error.hint)))
        told = log_hold(case.frame(now), now, case.current, why, "invalid")
        return _outcome(case, asking, case.standing.state_json, None, told)
    return settle(case, asking, state, decision)


def settle(
    case: Case, asking: Asking, before: AutoscalerState, decision: ReplicaDecision
) -> Outcome:
    """What comes of a decision: a change waits to be made, unless nobody may make it."""
    logged = log_decision(case.frame(asking.now), decision, case.scaling.spec)
    if decision.desired == case.current:
        return _outcome(case, asking, encode_autoscaler(decision.state), None, logged)
    remembered = unapplied(case.scaling.spec, decision, before).state
    pending = None
    if case.scaling.mode is not ScalingMode.OBSERVE:
        why = sentence(decision)
        fresh = Pending(case.current, decision.desired, asking.now, decision.state, why)
        pending = next_pending(case.pending, fresh)
    return _outcome(case, asking, encode_autoscaler(remembered), pending, logged)


def as_before(case: Case, asking: Asking, state_json: str, logged: LoggedDecision) -> Outcome:
    """What comes of a decision that lets nothing be changed, when its words are known already."""
    return Outcome(_kept(case, asking, state_json, None), None, logged)


def _held_by_hand(case: Case, hold: ScalingOrder, asking: Asking) -> Outcome:
    """A person says how many there are to be; the autoscaler remembers what it did."""
    until = f" until {hold.until.isoformat(timespec='minutes')}" if hold.until else ""
    why = f"{hold.ordered_by} holds {hold.replicas} replicas{until}: {hold.reason}"
    told = log_order(case.frame(asking.now), asking.now, case.current, hold.replicas, why)
    pending, state_json = None, case.standing.state_json
    if hold.replicas != case.current:
        state = decode_autoscaler(state_json)
        fresh = Pending(case.current, hold.replicas, asking.now, state, why)
        pending = next_pending(case.pending, fresh)
    return _outcome(case, asking, state_json, pending, told)


def _outcome(
    case: Case,
    asking: Asking,
    state_json: str,
    pending: Pending | None,
    logged: LoggedDecision,
) -> Outcome:
    """With a word on agents that are wanted and have no node."""
    kept = _kept(case, asking, state_json, pending)
    return Outcome(kept, pending, with_waiting(logged, waiting_words(case.seen.agents)))


def _kept(case: Case, asking: Asking, state_json: str, pending: Pending | None) -> PackedStanding:
    """To be kept under the term."""
    return case.standing._replace(
        state_json=state_json,
        pending_json=encode_pending(pending),
        decided_at=asking.now,
        term=asking.term,
    )
