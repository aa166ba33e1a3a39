"""What one step of one node's state machine looks at, and what it yields."""

from __future__ import annotations

from typing import NamedTuple

from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import NodeMark, NodeState, Reason
from fleet.failover.rules import Rule
from fleet.failover.screening import NodeFacts


class Orders(NamedTuple):
    """What people have said about one node."""

    forced: bool = False
    acknowledged: bool = False


class Step(NamedTuple):
    """A node's mark after one step, and what the step rests on."""

    mark: NodeMark
    rule: Rule
    reasons: tuple[Reason, ...]


class Case(NamedTuple):
    """Everything that one step of one node looks at."""

    facts: NodeFacts
    mark: NodeMark
    policy: FailoverPolicy
    now_s: float
    orders: Orders
    without: frozenset[Rule]

    def to(self, state: NodeState, rule: Rule, *reasons: Reason, **changes: object) -> Step:
        """Enter a state now; alerts may be raised anew there."""
        fence_s = self.mark.fence_s if self.orders.forced else None
        mark = self.mark._replace(state=state, since_s=self.now_s, told=(), fence_s=fence_s)
        return Step(mark._replace(**changes), rule, reasons)  # type: ignore[arg-type]


def gray_since(case: Case) -> float | None:
    """Since when it beats while the observers' verdict is: dead."""
    facts = case.facts
    unusable = facts.heard and facts.watched and facts.dead_votes and not facts.terminated
    if not unusable or Rule.GRAY in case.without:
        return None
    return case.now_s if case.mark.gray_s is None else case.mark.gray_s


def is_unusable(mark: NodeMark, policy: FailoverPolicy, now_s: float) -> bool:
    """Whether it beats now, and the observers have called it dead for `confirm_s`.

    A node that is held to be GRAY need not be: one whose beats have ended stays in that state until
    its silence counts, and silence counts later than the beats end when ages have been restarted.

    Args:
        mark: as the present tick has left it.
        policy: `confirm_s` is how long.
        now_s: the receiver's monotonic clock.
    """
    return mark.gray_s is not None and now_s - mark.gray_s >= policy.confirm_s


def is_gray(case: Case) -> bool:
    """Whether what is seen of it calls for GRAY."""
    return is_unusable(case.mark, case.policy, case.now_s)


def shows_life(case: Case) -> bool:
    """Whether another channel speaks against a death.

    What counts is a sign that is fresh, or one that came after the suspicion began: ticks may be
    further apart than a sign stays fresh.
    """
    facts, mark = case.facts, case.mark
    if Rule.CONTRARY_EVIDENCE in case.without:
        return False
    suspected = mark.state in {NodeState.SUSPECT, NodeState.CONFIRMED, NodeState.FENCED}
    sign_s = case.now_s - min(facts.lease_age_s, facts.work_age_s)
    return facts.fresh or facts.alive_votes or (suspected and sign_s > mark.suspect_s)


def fence_of(
    facts: NodeFacts, policy: FailoverPolicy, without: frozenset[Rule] = frozenset()
) -> str:
    """What proves that nothing on the node can write: `terminated`, `stopped`, `lease` or ''."""
    if facts.terminated:
        return "terminated"
    if facts.stop_acknowledged:
        return "stopped"
    run_out = facts.lease_silence_s >= facts.lease_ttl_s + policy.fence_margin_s
    return "lease" if run_out or Rule.FENCING in without else ""
