"""May we trust what we see? The controller's test of itself before anything is judged.

Each failure freezes the controller: nothing is moved, nothing leaves discovery. The commonest cause
of "everybody is silent" is that we are deaf.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.failover.mark_table import MarkTable
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import (
    ControllerState,
    Evidence,
    FailoverState,
    LeaderFacts,
    NodeState,
    Reason,
)
from fleet.failover.rules import Rule
from fleet.failover.screening import Screen


class Failure(NamedTuple):
    """One test that failed."""

    rule: Rule
    reasons: tuple[Reason, ...]


def run_self_test(
    evidence: Evidence,
    screen: Screen,
    state: FailoverState,
    policy: FailoverPolicy,
    now_s: float,
    without: frozenset[Rule] = frozenset(),
) -> tuple[Failure, ...]:
    """Every reason to freeze; empty when there is none.

    Args:
        evidence: of this tick.
        screen: of this tick.
        state: of the last tick, by the same clock.
        policy: the numbers.
        now_s: the receiver's monotonic clock.
        without: rules that are switched off, see `decide.decide`.
    """
    marks = MarkTable.of(state.nodes, evidence.nodes)
    failures = [
        *_test_store(evidence),
        *_test_earlier_moves(evidence, state),
        *_test_gap(state, policy, now_s),
        *_test_observers(evidence),
        *_test_mass_loss(evidence, screen, marks, policy),
        *_test_channels(screen, marks, state, policy, now_s),
    ]
    return tuple(failure for failure in failures if failure.rule not in without)


def _test_store(evidence: Evidence) -> list[Failure]:
    if evidence.store_reachable:
        return []
    return [Failure(Rule.STORE_REACHABLE, (Reason("store", "unreachable"),))]


def _test_earlier_moves(evidence: Evidence, state: FailoverState) -> list[Failure]:
    """A leader that does not know what was moved before it would move as much again."""
    leader = evidence.leader
    unknown = leader.held and evidence.store_reachable and leader.term != state.moves_term
    if not unknown:
        return []
    reason = Reason("moves_counted_in_term", state.moves_term, leader.term)
    return [Failure(Rule.EARLIER_MOVES, (reason,))]


def _test_gap(state: FailoverState, policy: FailoverPolicy, now_s: float) -> list[Failure]:
    """Our own pause looks like everybody else's."""
    if state.tick_s is None:
        return []
    gap_s = now_s - state.tick_s
    limit_s = policy.tick_gap_intervals * policy.tick_interval_s
    if 0.0 <= gap_s <= limit_s:
        return []
    return [Failure(Rule.TICK_GAP, (Reason("tick_gap_s", gap_s, limit_s),))]


def _test_observers(evidence: Evidence) -> list[Failure]:
    """More than half of all configured observers, not of those that answer."""
    reporting, configured = evidence.observers_reporting, evidence.observers_configured
    if 2 * reporting > configured:
        return []
    limit = f"more than half of {configured}"
    return [Failure(Rule.OBSERVER_MAJORITY, (Reason("observers_reporting", reporting, limit),))]


def _test_mass_loss(
    evidence: Evidence, screen: Screen, marks: MarkTable, policy: FailoverPolicy
) -> list[Failure]:
    """Nearly everybody silent at once is rather we. Lost nodes that were emptied do not count.

    One that a person has emptied and that beats does count as alive: else the last lost node would
    freeze us, and frozen we would never see that the others are back.
    """
    import numpy as np

    gone = screen.silent | screen.terminated
    watched, lost = int(np.count_nonzero(screen.watched)), int(np.count_nonzero(gone))
    moved = marks.at[marks.rows(lambda mark: mark.state is NodeState.MOVED)]
    emptied = moved[(evidence.nodes.agents[moved] <= 0) & screen.watched[moved] & gone[moved]]
    watched -= len(emptied)
    lost -= len(emptied)
    if watched == 0 or lost < policy.mass_loss_fraction * watched:
        return []
    limit = f"less than {policy.mass_loss_fraction:g} of {watched}"
    return [Failure(Rule.MASS_LOSS, (Reason("nodes_lost", lost, limit),))]


def _test_channels(
    screen: Screen, marks: MarkTable, state: FailoverState, policy: FailoverPolicy, now_s: float
) -> list[Failure]:
    """When half of all lose one channel while another carries, the channel is at fault.

    A node that is terminated, or whose votes came before its silence was noticed, has lost no
    channel: it is dying. So probes count only where a node has gone on beating for `confirm_s`. A
    frozen controller remembers nothing new of any node; there, whoever is unusable now counts, or
    a fault that goes from nodes to others would end the freeze.
    """
    import numpy as np

    watched = int(np.count_nonzero(screen.watched))
    least = policy.channel_fault_fraction * watched
    deaf = screen.silent & ~screen.terminated & (screen.fresh | screen.alive_votes)
    blind = screen.watched & screen.heard & screen.dead_votes & ~screen.terminated
    old = marks.at[
        marks.rows(lambda mark: mark.gray_s is not None and now_s - mark.gray_s >= policy.confirm_s)
    ]
    if state.controller is ControllerState.FROZEN:
        old = np.arange(len(blind))
    lost = {
        "heartbeat": np.count_nonzero(deaf),
        "lease": np.count_nonzero(screen.lease_lost),
        "probes": np.count_nonzero(blind[old]),
    }
    return [
        Failure(
            Rule.CHANNEL_FAULT,
            (Reason("channel", name), Reason("nodes_without_it", int(count), least)),
        )
        for name, count in lost.items()
        if watched and count >= least and count > 1
    ]


def leader_failure(leader: LeaderFacts, policy: FailoverPolicy) -> Failure | None:
    """Why we may not act although we see well: another leads, or our lease is too short."""
    if not leader.held:
        return Failure(Rule.LEADER_LEASE, (Reason("leader", leader.holder or "nobody"),))
    if not leader.renewed:
        return Failure(Rule.LEADER_LEASE, (Reason("leader_lease", "not renewed in this tick"),))
    if leader.left_s < policy.leader_left_min_s:
        reason = Reason("leader_left_s", leader.left_s, policy.leader_left_min_s)
        return Failure(Rule.LEADER_LEASE, (reason,))
    return None
