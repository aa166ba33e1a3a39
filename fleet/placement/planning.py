"""The plan: which node takes how many agents of each request, and why the others wait.

Requests alike are one class. Classes go in the order of their priority, the biggest first, because
what is big finds room only while there is some. Agents that need GPUs are packed (best fit); the
others are dealt evenly: over all nodes, or, where a workload says `pack`, over as few as hold them,
first those without GPUs. Quotas are asked before room; a gang is placed whole or given back. The
same plan is made in whatever order nodes and requests are listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fleet.errors import InvalidInputError
from fleet.placement.class_fill import NOTHING, Fill, fill_gpus, fill_tightest
from fleet.placement.gangs import GangKey, gang_of, gang_refusal
from fleet.placement.node_pool import Flags, Ints, NodePool, Taken, big_first
from fleet.placement.quotas import QuotaLedger, check_limits
from fleet.placement.requests import AgentSize, PlacementRequest, validate_request
from fleet.placement.striping import deal_evenly, imbalance, open_nodes, opening_order
from fleet.placement.zone_quota import share_over_zones
from fleet.reports import AgentDeclaration
from fleet.rooms import few


class Present(NamedTuple):
    """Agents of one workload in one region that have a node already."""

    rows: Ints
    """Of their nodes, each once."""
    counts: Ints


class PlannedRequest(NamedTuple):
    """What becomes of one request."""

    request: PlacementRequest
    rows: Ints
    """Row of the region's pool for each agent that is placed, in the order of the agents."""
    reason: str
    """Of those that are placed; the same for all of them."""
    refusal: str
    """Why the rest is not placed; empty when there is no rest."""
    lacks_room: bool = False
    """Whether the rest would be placed if there were room."""

    @property
    def left(self) -> int:
        """Agents that are not placed."""
        return self.request.agents - len(self.rows)


@dataclass(slots=True)
class PlacementProblem:
    """Everything that a plan is made from; its pools hold what is left, and are used up by it."""

    pools: Mapping[str, NodePool]
    quotas: QuotaLedger = field(default_factory=lambda: QuotaLedger((), {}))
    present: Mapping[tuple[str, str], Present] = field(default_factory=dict)
    """(region, workload) -> where its agents are; absent: nowhere."""


def plan_placements(
    requests: Iterable[PlacementRequest], problem: PlacementProblem
) -> list[PlannedRequest]:
    """Plan where the agents of all requests go.

    Args:
        requests: in any order, their names unique.
        problem: capacity, quotas and what is placed; its pools and quotas are taken from.

    Returns:
        One for each request, ordered by name.

    Raises:
        InvalidInputError: a request with an amount that cannot be meant, or a name used twice.
    """
    wanted = sorted(map(validate_request, requests))
    for one, two in pairwise(wanted):
        if one.name == two.name:
            raise InvalidInputError("request", one.name, "each name once")
    return _Planner(problem).plan(wanted)


class _Planner:
    def __init__(self, problem: PlacementProblem) -> None:
        self._problem = problem
        self._open: dict[str, Flags] = {}
        self._cpu_per_gpu: dict[str, float] = {}
        self._done: dict[str, PlannedRequest] = {}
        self._taken: list[tuple[NodePool, Taken]] | None = None
        """Of the gang that is being placed, to be put back."""

    def plan(self, requests: Sequence[PlacementRequest]) -> list[PlannedRequest]:
        admitted = self._admit(requests)
        self._open_pools(admitted)
        gangs: dict[GangKey, list[PlacementRequest]] = defaultdict(list)
        steps: dict[tuple[object, ...], list[PlacementRequest]] = defaultdict(list)
        for request in admitted:
            gang = gang_of(request)
            if gang is not None:
                gangs[gang].append(request)
            else:
                steps[self._class_key(request)].append(request)
        for gang, members in gangs.items():
            steps[(*min(map(self._class_key, members))[:2], gang)] = members
        for key in sorted(steps, key=_order):
            members = steps[key]
            if isinstance(key[-1], GangKey):
                self._place_gang(key[-1], members)
            else:
                self._place_class(members)
        return [self._done[request.name] for request in requests]

    def _class_key(self, request: PlacementRequest) -> tuple[object, ...]:
        known = (request.region, request.workload) in self._problem.present
        return (
            -request.priority,
            big_first(request.size),
            request.region,
            request.rules,
            request.workload if known else "",
        )

    def _admit(self, requests: Sequence[PlacementRequest]) -> list[PlacementRequest]:
        """Cut requests down to what limits and quotas allow, the highest priority first."""
        quotas, admitted = self._problem.quotas, []
        for request in sorted(requests, key=lambda one: (-one.priority, one)):
            agent = _agent_of(request)
            wrong = check_limits(agent, quotas.limits_of(request.network_id))
            count = 0 if wrong else quotas.allowed(agent, request.agents)
            if request.rules.gang and count < request.agents:
                wrong, count = wrong or quotas.refusal(agent, request.agents), 0
            if count < request.agents:
                wrong = wrong or quotas.refusal(agent, request.agents)
            quotas.take(agent, count)
            self._done[request.name] = PlannedRequest(request, NOTHING.rows, "", wrong)
            if count or request.rules.gang:
                admitted.append(request._replace(agents=count))
        return admitted

    def _open_pools(self, requests: Sequence[PlacementRequest]) -> None:
        """What the plan asks of each region together: see `open_nodes` and `fill_gpus`."""
        gpus: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        demand: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for request in requests:
            if request.size.gpu_milli:
                gpus[request.region][0] += request.size.cpu_milli * request.agents
                gpus[request.region][1] += request.size.gpu_milli * request.agents
            elif request.rules.pack and not request.size.needs_gpu:
                sums = demand[request.region]
                for index, wanted in enumerate(request.size[:3]):
                    sums[index] += wanted * request.agents
        for region, pool in self._problem.pools.items():
            cpu, gpu = gpus[region]
            self._cpu_per_gpu[region] = cpu / gpu if gpu else 0.0
            self._open[region] = open_nodes(pool, np.array(demand[region], np.float64))

    def _place_class(self, members: Sequence[PlacementRequest]) -> None:
        """Fill the region's nodes once, then cut the agents' rows into the requests' parts."""
        first = members[0]
        pool = self._problem.pools.get(first.region)
        count = sum(one.agents for one in members)
        rows = NOTHING.rows
        if pool is not None and first.rules.spread_zones:
            self._spread_class(pool, members)
            return
        if pool is not None:
            rows = self._fill(pool, first, count, np.ones(len(pool), np.bool_))
        self._cut(pool, members, rows)

    def _cut(self, pool: NodePool | None, members: Sequence[PlacementRequest], rows: Ints) -> None:
        start = 0
        refusal = "" if sum(one.agents for one in members) == len(rows) else _no_room(pool, members)
        for one in members:
            mine = rows[start : start + one.agents]
            start += one.agents
            self._settle(pool, one, mine, refusal)

    def _settle(
        self, pool: NodePool | None, one: PlacementRequest, rows: Ints, refusal: str
    ) -> None:
        """Keep what was found for a request, and give the quota of the rest back."""
        before = self._done[one.name]
        missing = one.agents - len(rows)
        if missing:
            self._problem.quotas.take(_agent_of(one), -missing)
        words = refusal if missing else before.refusal
        reason = "" if pool is None or not len(rows) else self._reason(pool, one, rows)
        self._done[one.name] = PlannedRequest(before.request, rows, reason, words, missing > 0)

    def _reason(self, pool: NodePool, one: PlacementRequest, rows: Ints) -> str:
        how = "packed on" if one.size.needs_gpu else "dealt over"
        nodes = np.unique(rows)
        zones = ""
        if one.rules.spread_zones:
            found = len(np.unique(pool.zone[nodes]))
            zones = f" in {found} zone{'s' if found > 1 else ''}"
        named = pool.nodes[rows[0]].node_id if len(nodes) == 1 else f"{len(nodes)} nodes"
        return f"{how} {named} of {one.region}{zones}: {len(rows)} of {one.workload or one.name}"

    def _spread_class(self, pool: NodePool, members: Sequence[PlacementRequest]) -> None:
        """Quotas of all services first, zone by zone; then one fill for each zone."""
        first = members[0]
        fits = pool.fits(first.size, first.rules)
        limit = sum(one.agents for one in members)
        zones = range(len(pool.zones))
        room = [int(np.minimum(fits[pool.zone == zone], limit).sum()) for zone in zones]
        here = self._present_by_zone(pool, first)
        shares = []
        for one in members:
            share = share_over_zones(here, room, one.agents)
            room = [had - taken for had, taken in zip(room, share, strict=True)]
            shares.append(share)
            if (one.region, one.workload) in self._problem.present:  # then all are of this workload
                here = [had + more for had, more in zip(here, share, strict=True)]
        columns = [
            self._fill(pool, first, sum(share[zone] for share in shares), pool.zone == zone)
            for zone in zones
        ]
        starts = [0] * len(zones)
        refusal = _no_room(pool, members) if sum(map(sum, shares)) < limit else ""
        for one, share in zip(members, shares, strict=True):
            parts = [columns[z][starts[z] : starts[z] + share[z]] for z in zones]
            starts = [start + taken for start, taken in zip(starts, share, strict=True)]
            self._settle(pool, one, np.concatenate(parts), refusal)

    def _present_by_zone(self, pool: NodePool, request: PlacementRequest) -> list[int]:
        here = self._problem.present.get((request.region, request.workload))
        if here is None:
            return [0] * len(pool.zones)
        counts = np.bincount(pool.zone[here.rows], here.counts, len(pool.zones))
        return [int(count) for count in counts]

    def _fill(self, pool: NodePool, request: PlacementRequest, count: int, rows: Flags) -> Ints:
        """Take room for up to `count` agents on the allowed rows; the row of each."""
        if count == 0:
            return NOTHING.rows
        if request.size.needs_gpu:
            keep = self._cpu_per_gpu[pool.region]
            fill = fill_gpus(pool, request.size, request.rules, count, rows, keep)
            self._take(pool, fill, request.size)
            return np.repeat(*fill)
        if not request.rules.pack:
            return self._deal(pool, request, count, rows)
        dealt = self._deal(pool, request, count, rows & self._open[pool.region])
        if len(dealt) < count:
            self._open_more(pool, request, count - len(dealt), rows)
            more = self._deal(pool, request, count - len(dealt), rows & self._open[pool.region])
            dealt = np.concatenate((dealt, more))
        if len(dealt) < count:
            last = fill_tightest(pool, request.size, request.rules, count - len(dealt), rows)
            self._take(pool, last, request.size)
            dealt = np.concatenate((dealt, np.repeat(*last)))
        return dealt

    def _open_more(
        self, pool: NodePool, request: PlacementRequest, count: int, rows: Flags
    ) -> None:
        """Open as many further nodes as the rest of a class needs."""
        order = opening_order(pool)
        order = order[rows[order] & ~self._open[pool.region][order]]
        fits = np.minimum(pool.fits_plain(request.size, slice(None))[order], count)
        needed = int(np.searchsorted(np.cumsum(fits), count)) + 1
        self._open[pool.region][order[:needed]] = True

    def _deal(self, pool: NodePool, request: PlacementRequest, count: int, rows: Flags) -> Ints:
        room = np.where(rows, pool.fits_plain(request.size, slice(None)), 0)
        level = np.zeros(len(pool), np.int64)
        here = self._problem.present.get((request.region, request.workload))
        if here is not None:
            level[here.rows] = here.counts
        load = imbalance(pool, request.size) if request.rules.pack else pool.agents
        dealt = deal_evenly(np.minimum(room, count), level, load, pool.rank, count)
        named, counts = np.unique(dealt, return_counts=True)
        self._take(pool, Fill(named, counts), request.size)
        return dealt

    def _take(self, pool: NodePool, fill: Fill, size: AgentSize) -> None:
        if len(fill.rows):
            taken = pool.take(fill.rows, fill.counts, size)
            if self._taken is not None:
                self._taken.append((pool, taken))

    def _place_gang(self, gang: GangKey, members: Sequence[PlacementRequest]) -> None:
        """All of a gang's requests or none: what was taken for some is given back."""
        wanted = sum(self._done[one.name].request.agents for one in members)
        held = {one.name: one.agents for one in members}  # of quotas
        taken = self._taken = []
        if wanted == sum(held.values()):
            for one in sorted(members, key=lambda one: (*self._class_key(one)[:2], one.name)):
                self._place_class([one])
                held[one.name] = len(self._done[one.name].rows)
        self._taken = None
        if wanted == sum(held.values()):
            return
        for pool, part in reversed(taken):
            pool.put_back(part)
        self._refuse_gang(gang, members, wanted, held)

    def _refuse_gang(
        self,
        gang: GangKey,
        members: Sequence[PlacementRequest],
        wanted: int,
        held: Mapping[str, int],
    ) -> None:
        """Say to all members what one of them lacks, and give their quota back."""
        lacking = next(one for one in members if self._done[one.name].refusal)
        why = self._done[lacking.name].refusal
        refusal = gang_refusal(gang, wanted, lacking.workload or lacking.name, why)
        for one in members:
            self._problem.quotas.take(_agent_of(one), -held[one.name])
            asked = self._done[one.name].request
            said = refusal if asked.agents else ""
            self._done[one.name] = PlannedRequest(asked, NOTHING.rows, "", said)


def _order(key: tuple[object, ...]) -> tuple[object, ...]:
    """Gangs of a priority before single agents: what must come together is harder to place."""
    is_gang = isinstance(key[-1], GangKey)
    return (key[0], not is_gang, *key[1:])


def _agent_of(request: PlacementRequest) -> AgentDeclaration:
    """One agent of a request, as quotas count it."""
    return AgentDeclaration(
        request.name, request.network_id, request.workload, request.region, *request.size
    )


def _no_room(pool: NodePool | None, members: Sequence[PlacementRequest]) -> str:
    """Why the rest of a class has no node, with some of the nodes that were asked."""
    first = members[0]
    if pool is None or not len(pool):
        return f"region {first.region} has no node"
    order = np.argsort(pool.rank)
    lacking = [pool.shortage(int(row), first.size, first.rules) for row in order[:3]]
    said = few([one for one in lacking if one])
    more = f"; and {len(pool) - 3} more nodes" if len(pool) > 3 else ""
    return f"no node of {first.region} has room: {said}{more}"
