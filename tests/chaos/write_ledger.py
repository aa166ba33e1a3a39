"""What agents were promised against what the store holds: three questions, no clock, no store.

An acknowledged write is a triple of epoch, version and digest that an agent has written down
itself. It is kept when the change log holds exactly that, and everything after it follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fleet.agents import StateChange


class Acknowledged(NamedTuple):
    """One write that an agent was told is durable."""

    agent_id: str
    epoch: int
    version: int
    digest: str
    """SHA-256 of the body, in hex."""


class Finding(NamedTuple):
    """One place where store and ledger contradict each other."""

    agent_id: str
    problem: str
    """A sentence with both sides."""


def find_lost_writes(
    acknowledged: Iterable[Acknowledged], changes: Iterable[StateChange]
) -> list[Finding]:
    """Acknowledged writes that the change log does not hold as they were acknowledged.

    Args:
        acknowledged: the ledgers of all agents, in any order.
        changes: the whole change log, in any order.
    """
    stored = {(one.agent_id, one.version): one for one in changes}
    findings = []
    for one in acknowledged:
        change = stored.get((one.agent_id, one.version))
        if change is None:
            problem = f"version {one.version} of epoch {one.epoch} is not in the change log"
            findings.append(Finding(one.agent_id, problem))
        elif (change.epoch, change.digest) != (one.epoch, one.digest):
            problem = (
                f"version {one.version} was acknowledged to epoch {one.epoch} "
                f"({one.digest[:8]}), the log holds epoch {change.epoch} ({change.digest[:8]})"
            )
            findings.append(Finding(one.agent_id, problem))
    return findings


def find_broken_order(changes: Iterable[StateChange]) -> list[Finding]:
    """Versions that do not follow each other by one, and epochs that fall.

    Args:
        changes: the whole change log of a fleet that nothing was restored into, in any order; it
            is judged in the order of commits (`change_id`).
    """
    last: dict[str, StateChange] = {}
    findings = []
    for change in sorted(changes, key=lambda one: one.change_id):
        before = last.get(change.agent_id)
        expected = before.version + 1 if before else 1
        if change.version != expected:
            problem = f"change {change.change_id} is version {change.version}, not {expected}"
            findings.append(Finding(change.agent_id, problem))
        if before and change.epoch < before.epoch:
            problem = (
                f"version {change.version} was written under epoch {change.epoch}, "
                f"after epoch {before.epoch} had written version {before.version}"
            )
            findings.append(Finding(change.agent_id, problem))
        last[change.agent_id] = change
    return findings


def find_lost_states(
    states: Mapping[str, tuple[int, int, str]], changes: Iterable[StateChange]
) -> list[Finding]:
    """Agents whose stored state is not the newest entry of the change log.

    Args:
        states: agent_id -> version, epoch and digest as stored now.
        changes: the whole change log, in any order.
    """
    newest: dict[str, StateChange] = {}
    for change in changes:
        known = newest.setdefault(change.agent_id, change)
        newest[change.agent_id] = max(known, change, key=lambda one: one.change_id)
    findings = []
    for agent_id, change in newest.items():
        wanted = (change.version, change.epoch, change.digest)
        found = states.get(agent_id)
        if found != wanted:
            problem = f"stored is {_brief(found)}, the newest change is {_brief(wanted)}"
            findings.append(Finding(agent_id, problem))
    return findings


def _brief(state: tuple[int, int, str] | None) -> str:
    if state is None:
        return "nothing"
    version, epoch, digest = state
    return f"version {version} of epoch {epoch} ({digest[:8]})"
