"""One engine for all rules of scaling: Kubernetes' own first, then what it lacks, in a fixed order.

1. `rollout`: copies that are there twice are not looked at.
2. `calendar` (maximum) and `gpu-down-window`: limits and windows that Kubernetes' rule is given.
3. Kubernetes' rule (`fleet.rescaling.hpa`): metrics, tolerance, stabilization, rates, limits.
4. `activation` from zero: stays at 0 without work, else at least 1.
5. `revisions`: each revision of a rollout asks for its own pods; only raises.
6. `rollout`: pods that have just begun raise nothing.
7. `ignore-below`: a change that is too small is left.
8. `panic`: a short window that only raises, and holds back removals.
9. `fallback`: while metrics are missing.
10. `activation` to zero: the last replica, after the cool-down.
11. Floors, each only raises: `calendar`, `predictive`, `warm-pool`.
12. Ceilings, each only lowers: `max-replicas`, `cost-ceiling`, `quota`.

A later rule stands above an earlier one, so ceilings stand above floors. Where a workload wishes
none of these the result is that of Kubernetes' rule, to the last condition. What rules remember
travels in the state: another process goes on in the middle of a window.

A count of 0 that somebody else has made is left alone by all rules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from fleet.errors import InvalidInputError
from fleet.rescaling import activation, fallback, ignore_small, panic, rollout
from fleet.rescaling.activation import Quiet, Work, recall_quiet, see_work
from fleet.rescaling.bounds import apply_ceilings, apply_floors
from fleet.rescaling.calendar import CalendarLimits, calendar_limits
from fleet.rescaling.context import ScalingContext
from fleet.rescaling.course import has_outside_metric
from fleet.rescaling.decision import ReplicaDecision
from fleet.rescaling.draft import Draft
from fleet.rescaling.hpa import decide_replicas
from fleet.rescaling.hpa_words import SCALED_TO_ZERO, SELECTOR_REASONS, zero
from fleet.rescaling.observation import AutoscalerState, MetricFault, WorkloadObservation
from fleet.rescaling.policy import Activation, WorkloadScaling
from fleet.rescaling.readiness import count_ready
from fleet.rescaling.spec import AutoscalerSpec, ControllerOptions
from fleet.rescaling.start_times import start_lead_s


def decide_scaling(
    wish: WorkloadScaling,
    seen: WorkloadObservation,
    context: ScalingContext,
    state: AutoscalerState,
    now: datetime,
) -> ReplicaDecision:
    """What one reconcile decides for a workload, with every rule that changed or held the count.

    Args:
        wish: the autoscaler and its rules.
        seen: the workload now, with one reading for each metric of the autoscaler.
        context: what else is known of it.
        state: from the decision before; empty for a controller that has just begun.
        now: time of the reconcile, aware.

    Returns:
        Desired replicas and their explanation. While the scale itself cannot be read, that of
        Kubernetes' rule: nothing is decided.

    Raises:
        InvalidInputError: as of `decide_replicas`; or a calendar, price or remembered text that
            cannot be understood. Nothing is decided then.
    """
    if now.tzinfo is None:
        raise InvalidInputError("now", now, "an aware time")
    if seen.fault is not None and seen.fault.reason not in SELECTOR_REASONS:
        return decide_replicas(wish.spec, seen, state, now, context.options)
    if context.rollout is not None:
        seen = rollout.without_surge(seen, context.rollout)
    return _Reconcile(wish, seen, context, state, now).decide()


@dataclass(slots=True)
class _Reconcile:
    """One reconcile: what it was given, and the steps in their order."""

    wish: WorkloadScaling
    seen: WorkloadObservation
    """Without the surge of a rollout."""
    context: ScalingContext
    state: AutoscalerState
    now: datetime

    def decide(self) -> ReplicaDecision:
        """All steps."""
        wish, current = self.wish, self.seen.spec_replicas
        work = self._work()
        quiet = self._quiet(work)
        if current == 0 and self._is_manual(quiet):
            draft = self._draft(wish.spec, self.state, self.context.options)
            self._note_quiet(draft, Quiet(None, asleep=False))
            return draft.finish()
        lead_s = start_lead_s(self.context.start_times_s)
        limits = calendar_limits(wish.calendar, wish.spec.max_replicas, self.now, lead_s)
        draft = self._by_kubernetes(limits, quiet)
        awake = self._wake(draft, work)
        if awake:
            self._follow_rollout(draft)
            self._ignore_small(draft)
        panics = awake and self._panic(draft, work)
        self._fall_back(draft, panics=panics)
        if not panics:
            self._sleep(draft, quiet, work)
        apply_floors(draft, wish, self.context, limits, lead_s)
        apply_ceilings(draft, wish, self.context, limits)
        self._note_quiet(draft, Quiet(quiet.since, asleep=draft.desired == 0))
        return draft.finish()

    def _work(self) -> Work:
        """Whether there is anything to do, as far as it can be seen."""
        if self.wish.activation is None:
            return Work(None, "")
        return see_work(self.wish.spec, self.seen, self.wish.activation)

    def _quiet(self, work: Work) -> Quiet:
        """For how long there has been no work, up to now."""
        if self.wish.activation is None:
            return Quiet(None, asleep=False)
        before = recall_quiet(self.state.details, self.seen.spec_replicas)
        if work.active is not False:
            return Quiet(None, before.asleep)
        return Quiet(before.since or self.now, before.asleep)

    def _note_quiet(self, draft: Draft, quiet: Quiet) -> None:
        if self.wish.activation is not None:
            draft.details[activation.RULE] = quiet.noted()

    def _is_manual(self, quiet: Quiet) -> bool:
        """Whether a count of 0 is somebody else's."""
        if self.context.zero_is_manual is not None:
            return self.context.zero_is_manual
        by_controller = self.context.options.scale_to_zero and any(
            one.type == SCALED_TO_ZERO and one.status for one in self.state.conditions
        )
        return not quiet.asleep and not by_controller

    def _draft(
        self, spec: AutoscalerSpec, state: AutoscalerState, options: ControllerOptions
    ) -> Draft:
        base = decide_replicas(spec, self.seen, state, self.now, options)
        tells_zero = self.wish.activation is not None
        return Draft(spec, base, self.state, self.now, tells_zero)

    def _by_kubernetes(self, limits: CalendarLimits, quiet: Quiet) -> Draft:
        """Kubernetes' rule within the limits and windows of this moment."""
        spec, state, options = self.wish.spec, self.state, self.context.options
        least, most = spec.min_replicas, spec.max_replicas
        if limits.maximum is not None:
            most = limits.maximum
        policy = self.wish.activation
        if policy is not None:  # the last replica is not Kubernetes' to remove
            over = quiet.is_over(self._cooldown_s(policy), self.now)
            least = 1 if over else max(least, 1)
            if self.seen.spec_replicas == 0:
                options = replace(options, scale_to_zero=True)
                state = _asleep(state)
        least = min(least, most)
        if (least, most) != (spec.min_replicas, spec.max_replicas):
            spec = replace(spec, min_replicas=least, max_replicas=most)
        if self.context.is_gpu:
            spec, options = _with_down_window(spec, options, self.wish.gpu_down_window_s)
        return self._draft(spec, state, options)

    def _wake(self, draft: Draft, work: Work) -> bool:
        """From zero: whether there is work; without it the count stays at 0."""
        if draft.current > 0 or self.wish.activation is None:
            return True
        if work.active:
            draft.apply(activation.RULE, max(draft.desired, 1), work.reason)
            return True
        if work.active is None and not has_outside_metric(self.wish.spec):
            why = "no metric tells of work without a replica"
            draft.apply(activation.RULE, max(draft.desired, 1), why)
            return True
        draft.apply(activation.RULE, 0, work.reason)
        return False

    def _follow_rollout(self, draft: Draft) -> None:
        """During a rollout: each revision for itself, and no rise by pods that have just begun."""
        under_way = self.context.rollout
        if under_way is None:
            return
        if self.wish.per_revision and under_way.revisions and draft.base.proposals:
            options, spec = self.context.options, draft.spec
            revisions = under_way.revisions
            asked = rollout.asked_by_revisions(spec, self.seen, revisions, self.now, options)
            allowed = min(draft.at_rate(asked), spec.max_replicas)
            why = f"the revisions ask for {asked} of their own"
            draft.raise_to(rollout.REVISIONS_RULE, allowed, why)
        elapsed_s = rollout.elapsed_s(under_way, self.now)
        held = rollout.hold_rise(
            self.wish.spec, self.seen, draft.base.proposals, draft.desired, elapsed_s
        )
        if held is not None:
            draft.apply(rollout.RULE, held.replicas, held.reason)

    def _ignore_small(self, draft: Draft) -> None:
        """Leave a change that is smaller than wished; limits are no small change."""
        least, current = self.wish.ignore_below, draft.current
        inside = draft.spec.min_replicas <= current <= draft.spec.max_replicas
        if not least or draft.desired == current or not inside or current == 0:
            return
        change = ignore_small.wished_change(draft.base.proposals, current)
        if change is not None and 0 < change < least:
            why = f"a change of {change:.2f} replicas is less than {least:g}"
            draft.apply(ignore_small.RULE, current, why)

    def _panic(self, draft: Draft, work: Work) -> bool:
        """Raise at once where a short window asks for a multiple; whether it does or did.

        What is below the threshold of activation is no work, and no reason to panic.
        """
        policy = self.wish.panic
        if policy is None:
            return False
        asked = [
            proposal.replicas
            for metric, proposal in zip(self.wish.spec.metrics, draft.base.proposals, strict=False)
            if proposal.replicas is not None and not metric.kind.is_resource
        ]
        found = panic.decide_panic(
            policy,
            self.state.details,
            self.now,
            None if work.active is False else max(asked, default=None),
            (draft.current, draft.desired, count_ready(self.seen.pods)),
        )
        draft.details[panic.RULE] = found.memory
        if found.rule is not None:
            draft.apply(found.rule.rule, found.replicas, found.rule.reason)
        return found.panics

    def _fall_back(self, draft: Draft, *, panics: bool) -> None:
        """While metrics are missing: the fallback, and never less than the others ask for."""
        policy = self.wish.fallback
        if policy is None:
            return
        failures = fallback.count_failures(self.state.details, self._failed(draft))
        draft.details[fallback.RULE] = failures.noted()
        if not failures.is_due(policy):
            return
        replicas = fallback.fallback_replicas(policy, draft.current)
        if replicas:  # below the minimum Kubernetes' rule would bring it back at the next look
            replicas = max(replicas, draft.spec.min_replicas)
        allowed = draft.at_rate(replicas)
        missing = "no metric" if failures.is_blind else "not every metric"
        if panics or not failures.is_blind:
            allowed = max(allowed, draft.desired)
        number = max(failures.by_metric)
        why = f"{missing} for {number} reconciles: {policy.behavior} says {replicas}"
        draft.apply(fallback.RULE, allowed, why)

    def _failed(self, draft: Draft) -> list[bool]:
        """Which metrics cannot be had; at zero those of pods are not expected."""
        metrics, seen = self.wish.spec.metrics, self.seen
        if seen.fault is not None:
            return [True] * len(metrics)
        if draft.current == 0:
            outside = [
                isinstance(reading, MetricFault)
                for metric, reading in zip(metrics, seen.readings, strict=True)
                if metric.kind.is_outside
            ]
            return [bool(outside) and all(outside)] * len(metrics)
        if draft.base.proposals:
            return [proposal.fault is not None for proposal in draft.base.proposals]
        return [isinstance(reading, MetricFault) for reading in seen.readings]

    def _sleep(self, draft: Draft, quiet: Quiet, work: Work) -> None:
        """To zero: down to one by the rates, and the last replica when it was quiet for long."""
        policy = self.wish.activation
        if policy is None or draft.current == 0:
            return
        last = draft.current == 1 == draft.desired
        faults = [one.fault.message for one in draft.base.proposals if one.fault is not None]
        if last and (work.active is None or (faults and not work.active)):
            why = work.reason if work.active is None else faults[0]
            draft.apply(activation.RULE, 1, f"the last replica stays: {why}")
        if work.active is not False or faults:
            return
        if not has_outside_metric(self.wish.spec):
            if last:
                draft.apply(activation.RULE, 1, "no metric would tell of work at 0")
            return
        assert quiet.since is not None, "without work it is quiet"
        cooldown_s = self._cooldown_s(policy)
        why = f"{work.reason}; quiet since {quiet.since.isoformat()}, cool-down {cooldown_s} s"
        is_over = quiet.is_over(cooldown_s, self.now)
        if is_over and draft.desired > 1:
            self._retire(draft, why)
        if draft.current == 1 == draft.desired:
            draft.apply(activation.RULE, draft.at_rate(0) if is_over else 1, why)

    def _retire(self, draft: Draft, why: str) -> None:
        """Metrics below the threshold ask for replicas still: they go, unless they are busy."""
        least = 1
        pairs = zip(self.wish.spec.metrics, draft.base.proposals, strict=False)
        for metric, proposal in pairs:
            if metric.kind.is_resource:
                least = max(least, proposal.replicas or 0)
        if draft.base.proposals and max(one.replicas or 0 for one in draft.base.proposals) > least:
            allowed = max(draft.at_rate(least), 1)
            if allowed < draft.desired:
                draft.apply(activation.RULE, allowed, why)

    def _cooldown_s(self, policy: Activation) -> int:
        """Quiet before the last replica goes; of GPU agents at least their window."""
        own_s = policy.cooldown_s
        return max(own_s, self.wish.gpu_down_window_s) if self.context.is_gpu else own_s


def _asleep(state: AutoscalerState) -> AutoscalerState:
    """The state as Kubernetes' rule has it of a workload that it has brought to zero itself."""
    conditions = {one.type: one for one in state.conditions}
    conditions[SCALED_TO_ZERO] = zero(by_controller=True)
    return replace(state, conditions=tuple(conditions.values()))


def _with_down_window(
    spec: AutoscalerSpec, options: ControllerOptions, window_s: int
) -> tuple[AutoscalerSpec, ControllerOptions]:
    """The autoscaler with at least so long a window before replicas are removed."""
    options = replace(
        options, downscale_stabilization_s=max(options.downscale_stabilization_s, window_s)
    )
    behavior = spec.behavior
    if behavior is None or behavior.scale_down.stabilization_window_s is None:
        return spec, options
    own_s = behavior.scale_down.stabilization_window_s
    down = replace(behavior.scale_down, stabilization_window_s=max(own_s, window_s))
    return replace(spec, behavior=replace(behavior, scale_down=down)), options
