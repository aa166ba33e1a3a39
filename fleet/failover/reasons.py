"""The values that a step was decided on, as `Reason`s: one builder per kind of evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import Reason
from fleet.failover.screening import NodeFacts

if TYPE_CHECKING:
    import numpy.typing as npt

_TERMINATED = Reason("infrastructure", "terminated")
_STOPPED = Reason("stop", "acknowledged")


def silence_reasons(facts: NodeFacts) -> tuple[Reason, ...]:
    """How long the node has been silent, against its own limit."""
    return (Reason("silence_s", facts.silence_s, facts.limit_s),)


def vote_reasons(facts: NodeFacts, policy: FailoverPolicy) -> tuple[Reason, ...]:
    """What the observers say, against the majority, domains and outside that are needed."""
    return _vote_reasons(
        facts.votes_dead, facts.votes_alive, facts.observers, facts.dead_domains,
        facts.dead_outside, policy.observers_min, policy.vote_domains_min, policy.vote_outside_min,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _vote_reasons(
    dead: int, alive: int, observers: int, domains: int, outside: int, observers_min: int,
    domains_min: int, outside_min: int,
) -> tuple[Reason, ...]:  # fmt: skip
    """Cached: nodes that die together are seen by as many."""
    return (
        Reason("votes_dead", dead, f"more than half of {observers}"),
        Reason("votes_alive", alive),
        Reason("observers", observers, observers_min),
        Reason("dead_domains", domains, domains_min),
        Reason("dead_outside", outside, outside_min),
    )


def contrary_reasons(facts: NodeFacts, policy: FailoverPolicy) -> tuple[Reason, ...]:
    """The signs of life that speak against a death; the newest and the fresh."""
    fresh_s = policy.contrary_fresh_s
    found = []
    if facts.contradicted:
        found.append(Reason("terminated_age_s", facts.terminated_age_s))
        found.append(Reason("heartbeat_age_s", facts.heartbeat_age_s, facts.limit_s))
    newest_s = min(facts.lease_age_s, facts.work_age_s)
    if facts.lease_age_s < fresh_s or facts.lease_age_s == newest_s:
        found.append(Reason("lease_age_s", facts.lease_age_s, fresh_s))
    if facts.work_age_s < fresh_s or facts.work_age_s == newest_s:
        found.append(Reason("work_age_s", facts.work_age_s, fresh_s))
    if facts.alive_votes:
        found.append(Reason("votes_alive", facts.votes_alive, facts.votes_dead))
    return tuple(found)


def fence_reasons(facts: NodeFacts, policy: FailoverPolicy) -> tuple[Reason, ...]:
    """What shows that nothing there can write (or how far the lease still is from its end)."""
    if facts.terminated:
        return (_TERMINATED,)
    if facts.stop_acknowledged:
        return (_STOPPED,)
    limit_s = facts.lease_ttl_s + policy.fence_margin_s
    return (Reason("lease_silence_s", facts.lease_silence_s, limit_s),)


def gray_reasons(facts: NodeFacts, policy: FailoverPolicy) -> tuple[Reason, ...]:
    """It beats, and this is what the observers say of it."""
    beat = Reason("heartbeat_age_s", facts.heartbeat_age_s, facts.limit_s)
    return (beat, *vote_reasons(facts, policy))


def death_reasons(facts: NodeFacts, policy: FailoverPolicy) -> tuple[Reason, ...]:
    """Everything that speaks for moving a node's agents: verdict, then fence."""
    if facts.terminated:
        return (_TERMINATED, Reason("agents", facts.agents))
    return (
        *silence_reasons(facts),
        *vote_reasons(facts, policy),
        *fence_reasons(facts, policy),
        Reason("agents", facts.agents),
    )


def deaths_of(
    columns: Mapping[str, npt.NDArray[Any]], rows: Sequence[int], policy: FailoverPolicy
) -> Iterator[tuple[Reason, ...]]:
    """`death_reasons` of many rows, straight from their columns: thousands may die in one tick."""
    wanted = (
        "terminated", "agents", "silence_s", "limit_s", "stop_acknowledged", "lease_silence_s",
        "lease_ttl_s", "votes_dead", "votes_alive", "observers", "dead_domains", "dead_outside",
    )  # fmt: skip
    least = (policy.observers_min, policy.vote_domains_min, policy.vote_outside_min)
    margin_s = policy.fence_margin_s
    for terminated, agents, silence_s, limit_s, stopped, lease_s, ttl_s, *votes in zip(
        *(columns[name][rows].tolist() for name in wanted), strict=True
    ):
        placed = Reason("agents", agents)
        if terminated:
            yield (_TERMINATED, placed)
            continue
        fence = _STOPPED if stopped else Reason("lease_silence_s", lease_s, ttl_s + margin_s)
        silence = Reason("silence_s", silence_s, limit_s)
        yield (silence, *_vote_reasons(*votes, *least), fence, placed)
