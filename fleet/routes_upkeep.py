"""Which tables of backends a router is given between failovers, and why; most looks change nothing.

Wanted is what the registry says now, within the healthy-panic rule (`fleet.service_health`).
Applied is what this controller knows to be in force. A table is given again only when somebody
would notice: an endpoint came, left or moved, a weight went a step, another term leads, or nobody
has looked for so long that the router may have forgotten (it was started anew) or been changed by
another hand. Registries whose revision rises without a visible change cost no write.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.routes import Backend, RouteTable
from fleet.service_weights import WEIGHT_MAX, WEIGHT_MIN

_NAMED = 3
"""Agents that a reason spells out."""


@dataclass(frozen=True, slots=True)
class UpkeepPolicy:
    """How often and how much the keeper writes."""

    interval_s: float
    """Between two looks at the registry; one look gives a router its tables at most once."""
    verify_s: float
    """A table that does not change is given again after so long: a router that was started anew
    has forgotten it for at most this time."""
    weight_step: int = WEIGHT_MAX // 10
    """Weights that changed by less are left as they are; the smallest weight, which stands for
    failed checks, is entered and left at once."""
    tables_max: int = 500
    """Tables that one router is given in one look; the rest waits for the next."""
    failures_to_tell: int = 3
    """Looks in a row in which a router did not take its tables, before a person is told."""


def validate_upkeep_policy(policy: UpkeepPolicy) -> UpkeepPolicy:
    """Return a policy that looks, and ends.

    Raises:
        InvalidInputError: names the field.
    """
    for name in ("interval_s", "verify_s"):
        if not 0.0 < getattr(policy, name) < math.inf:
            raise InvalidInputError(name, getattr(policy, name), "seconds above 0")
    for name in ("weight_step", "tables_max", "failures_to_tell"):
        if getattr(policy, name) < 1:
            raise InvalidInputError(name, getattr(policy, name), "1 or more")
    return policy


class AppliedTable(NamedTuple):
    """A table as this controller brought it into force."""

    table: RouteTable
    at_s: float
    """When, in monotonic seconds."""


class RouteChange(NamedTuple):
    """A table to be given, and why."""

    table: RouteTable
    reason: str
    is_news: bool = True
    """False: it is only looked at again."""


class RoutePlan(NamedTuple):
    """What one router is given in one look."""

    changes: tuple[RouteChange, ...]
    """News first, then those that nobody has looked at for longest."""
    unchanged: int
    postponed: int
    """Changes for which this look has no room."""


def plan_route_changes(
    wanted: Iterable[RouteTable],
    applied: Mapping[str, AppliedTable],
    now_s: float,
    policy: UpkeepPolicy,
) -> RoutePlan:
    """Compare what a router is to have with what it has.

    Args:
        wanted: its tables, each service once.
        applied: service to the table in force; a service whose application broke off is missing.
        now_s: monotonic seconds.
        policy: how much is written.
    """
    found: list[tuple[bool, float, str, RouteChange]] = []
    unchanged = 0
    for table in wanted:
        known = applied.get(table.service)
        change = _compare(table, known, now_s, policy)
        if change is None:
            unchanged += 1
        else:
            since_s = -math.inf if known is None else known.at_s
            found.append((not change.is_news, since_s, table.service, change))
    found.sort(key=lambda one: one[:3])
    changes = tuple(change for *_, change in found[: policy.tables_max])
    return RoutePlan(changes, unchanged, len(found) - len(changes))


def steady_table(table: RouteTable, known: AppliedTable | None, weight_step: int) -> RouteTable:
    """The table with weights that went less than a step put back to what they are.

    So a table that is given for another reason does not carry a shiver of all weights along.
    """
    if known is None:
        return table
    before = {one.agent_id: one.weight for one in known.table.backends}
    backends = tuple(
        one
        if _is_step(before.get(one.agent_id), one.weight, weight_step)
        else one._replace(weight=before[one.agent_id])
        for one in table.backends
    )
    return table._replace(backends=backends)


def _compare(
    table: RouteTable, known: AppliedTable | None, now_s: float, policy: UpkeepPolicy
) -> RouteChange | None:
    if known is None:
        return RouteChange(table, "it is not known what is in force")
    reasons = []
    if table.term != known.table.term:
        reasons.append(f"term {table.term} leads now")
    reasons += _differences(known.table.backends, table.backends, policy.weight_step)
    if reasons:
        return RouteChange(table, "; ".join(reasons))
    age_s = now_s - known.at_s
    if age_s >= policy.verify_s:
        return RouteChange(table, f"looked at again after {age_s:.0f} s", is_news=False)
    return None


def _differences(before: Sequence[Backend], after: Sequence[Backend], step: int) -> list[str]:
    if before == after:
        return []
    old = {one.agent_id: one for one in before}
    new = {one.agent_id: one for one in after}
    came = [one for one in new if one not in old]
    left = [one for one in old if one not in new]
    both = [one for one in new if one in old]
    moved = [one for one in both if old[one]._replace(weight=0) != new[one]._replace(weight=0)]
    weighed = [one for one in both if _is_step(old[one].weight, new[one].weight, step)]
    told = (("came", came), ("left", left), ("moved", moved), ("weigh otherwise", weighed))
    return [f"{len(names)} {verb} ({_named(names)})" for verb, names in told if names]


def _is_step(before: int | None, after: int, step: int) -> bool:
    if before is None:
        return True
    entered_or_left_minimum = (before == WEIGHT_MIN) != (after == WEIGHT_MIN)
    return abs(after - before) >= step or entered_or_left_minimum


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:_NAMED])
    return f"{shown}, ..." if len(names) > _NAMED else shown


class RouterStanding(NamedTuple):
    """How a router has answered lately."""

    failures: int = 0
    """Looks in a row in which it did not take its tables."""
    problem: str = ""
    """Of the last failure."""


def note_router(standing: RouterStanding, problem: str) -> RouterStanding:
    """The standing after a look; '' when the router has its tables."""
    return RouterStanding(standing.failures + 1, problem) if problem else RouterStanding()


def is_to_be_told(standing: RouterStanding, policy: UpkeepPolicy, *, is_open: bool) -> bool:
    """Whether a person is to know that a router does not take its tables.

    Args:
        standing: after this look.
        policy: how patient.
        is_open: its circuit is open, so that it has failed often enough already.
    """
    return bool(standing.failures) and (is_open or standing.failures >= policy.failures_to_tell)
