"""Who probes whom: every node has observers in several failure domains, and no observer too many.

A plan depends on the roster alone, so every supervisor and every controller makes the same one
without talking. For each node, regions and zones are chosen by rendezvous hashing (the highest
weight of node and domain wins), and inside a zone the observer is the node's successor on a hash
ring that still has room. Plain rendezvous over all nodes would cost observers x targets hashes
(a second at 10,000 nodes, in each supervisor) and bound no observer's work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.hash_ring import HashRing, hash64, rendezvous_weight
from fleet.probe_reports import RosterMember

DOMAINS_MIN = 2
"""Failure domains that the votes against a node must come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePolicy:
    """How often nodes are probed, by how many, and what counts as silence.

    Raises:
        InvalidInputError: a number that makes probing impossible or unbounded.
    """

    interval_s: float = 5.0
    """From one round of probes to the next."""
    timeout_s: float = 1.0
    """Longest wait for one answer, direct or from a helper."""
    observers: int = 5
    """Observers of each node. Five tolerate two that are lost themselves."""
    targets_max: int = 10
    """Nodes that one observer probes at most; twice `observers` leaves room for uneven regions."""
    helpers: int = 3
    """Other nodes that are asked to try when a node does not answer (SWIM's k)."""
    failures_min: int = 2
    """Rounds that must end in silence, with no answer between, before it is a vote."""
    refresh_s: float = 15.0
    """A report in which nothing changed is stored again after this time."""
    fresh_s: float = 45.0
    """A vote counts for this long after its observer's report was last seen to change."""
    jitter: float = 0.2
    """Share of the interval by which rounds are spread at random."""

    def __post_init__(self) -> None:
        """Refuse what could not work."""
        rules = {
            "interval_s": ("0.05 to 3600 seconds", 0.05 <= self.interval_s <= 3600),
            "timeout_s": (
                "0.01 seconds up to half the interval: a direct probe and one by helpers fit in",
                0.01 <= self.timeout_s <= self.interval_s / 2,
            ),
            "observers": ("1 to 15", 1 <= self.observers <= 15),
            "targets_max": ("from `observers` to 100", self.observers <= self.targets_max <= 100),
            "helpers": ("0 to 10", 0 <= self.helpers <= 10),
            "failures_min": ("1 to 100", 1 <= self.failures_min <= 100),
            "refresh_s": (
                "from the interval to 3600 seconds",
                self.interval_s <= self.refresh_s <= 3600,
            ),
            "fresh_s": ("at least twice refresh_s", self.fresh_s >= 2 * self.refresh_s),
            "jitter": ("0 to 0.5", 0.0 <= self.jitter <= 0.5),
        }
        for field, (allowed, holds) in rules.items():
            if not holds:
                raise InvalidInputError(f"probing.{field}", getattr(self, field), allowed)


PRODUCTION_PROBING = ProbePolicy()
"""A dead node has its votes against it within 15 s; one probe a second and node."""

EMBEDDED_PROBING = ProbePolicy(interval_s=1.0, timeout_s=0.5, refresh_s=2.0, fresh_s=5.0)
"""For nodes that are processes of one machine: votes within 5 s."""

PROBING_PROFILES = {"production": PRODUCTION_PROBING, "embedded": EMBEDDED_PROBING}
"""By the names of the failover profiles (`fleet.failover.profiles`), which count on these times."""


class CoverageGap(NamedTuple):
    """A node that the roster gives fewer observers, or less scattered ones, than wanted."""

    node_id: str
    observers: int
    domains: int
    """Distinct (region, zone) of its observers."""
    outside: int
    """Observers outside of its region."""
    reason: str


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """Who observes whom in one roster."""

    observers: Mapping[str, tuple[str, ...]]
    """node_id -> its observers, in the order in which they were chosen."""
    targets: Mapping[str, tuple[str, ...]]
    """observer_id -> the nodes that it probes, sorted; at most `targets_max`."""
    gaps: tuple[CoverageGap, ...]
    """Nodes that probes alone can never prove dead, ordered by node_id."""


def plan_probes(members: Sequence[RosterMember], policy: ProbePolicy) -> ProbePlan:
    """Choose the observers of every node.

    The first observer of each node is chosen before the second of any, so that where observers
    outside of a region are few, all its nodes get one before some get two. O(n log n).

    Args:
        members: the roster, in any order; ids are unique.
        policy: numbers of observers and targets.

    Returns:
        The same plan for the same roster in every process. Adding or removing a node changes the
        observers of few others.
    """
    domains = _Domains(members, policy)
    keys = {member.node_id: hash64(member.node_id) for member in members}
    order = sorted(keys, key=lambda node_id: (keys[node_id], node_id))
    chosen: dict[str, list[str]] = {node_id: [] for node_id in order}
    for slot in range(policy.observers):
        for node_id in order:
            target, found = domains.members[node_id], chosen[node_id]
            domains.take(target, keys[node_id], found, outside=slot % 2 == 0)
    for node_id in order:  # what one side could not give, the other may
        target, found = domains.members[node_id], chosen[node_id]
        while len(found) < policy.observers:
            if not (
                domains.take(target, keys[node_id], found, outside=False)
                or domains.take(target, keys[node_id], found, outside=True)
            ):
                break
    targets: dict[str, list[str]] = {node_id: [] for node_id in sorted(chosen)}
    for node_id in targets:
        for observer_id in chosen[node_id]:
            targets[observer_id].append(node_id)
    return ProbePlan(
        observers={node_id: tuple(chosen[node_id]) for node_id in targets},
        targets={node_id: tuple(found) for node_id, found in targets.items()},
        gaps=tuple(_gaps(chosen, domains.members, policy)),
    )


def choose_helpers(
    observer_id: str,
    target_id: str,
    members: Sequence[RosterMember],
    *,
    count: int,
    round_number: int = 0,
) -> tuple[str, ...]:
    """Other nodes that an observer asks to try a target that does not answer it.

    They change with the round, and are of as many zones as there are close by on the way through
    the roster: a helper with the observer's own broken switch helps nobody.

    Args:
        observer_id: who asks.
        target_id: who does not answer.
        members: the roster, ordered by node_id.
        count: how many are wanted.
        round_number: of the observer.

    Returns:
        At most `count` names, none of them the observer or the target.
    """
    if not members:
        return ()
    start = helper_start(observer_id, target_id, round_number, len(members))
    stride = helper_stride(len(members))
    zones: set[tuple[str, str]] = set()
    first: list[str] = []
    rest: list[str] = []
    for step in range(helper_steps(len(members), count)):
        member = members[(start + step * stride) % len(members)]
        if member.node_id in {observer_id, target_id}:
            continue
        known = (member.region, member.zone) in zones
        zones.add((member.region, member.zone))
        (rest if known else first).append(member.node_id)
    return tuple((first + rest)[:count])


class _Domains:
    """All zones as rings, with the weights by which a node prefers them."""

    def __init__(self, members: Sequence[RosterMember], policy: ProbePolicy) -> None:
        even = min(policy.observers + 1, policy.targets_max)
        # The first ring of a zone shares the work evenly; the second one is used when all of the
        # zone have their share, as where a small region is the only outside of a large one.
        capacities = [one for one in (even, policy.targets_max - even) if one]
        self.members = {member.node_id: member for member in members}
        names: dict[tuple[str, str], list[str]] = defaultdict(list)
        for member in members:
            names[member.region, member.zone].append(member.node_id)
        self._rings: dict[str, dict[str, tuple[int, list[HashRing]]]] = defaultdict(dict)
        for (region, zone), found in names.items():
            rings = [HashRing(found, capacity) for capacity in capacities]
            self._rings[region][zone] = (hash64(f"{region}/{zone}"), rings)
        self._regions = {region: hash64(region) for region in self._rings}

    def take(self, target: RosterMember, key: int, chosen: list[str], *, outside: bool) -> bool:
        """Add an observer of a target, of its own region or of another; False when none is left.

        Zones and regions that have given an observer already come last, and the target's own zone
        last of all: what stands together falls together.
        """
        used = {self.members[name][1:] for name in chosen}
        if not outside:
            return self._take_in(target.region, target, key, chosen, used)
        used_regions = {region for region, _ in used}
        others = [region for region in self._regions if region != target.region]
        others.sort(key=lambda r: (r in used_regions, -rendezvous_weight(key, self._regions[r])))
        return any(self._take_in(region, target, key, chosen, used) for region in others)

    def _take_in(
        self,
        region: str,
        target: RosterMember,
        key: int,
        chosen: list[str],
        used: set[tuple[str, str]],
    ) -> bool:
        zones = self._rings[region]
        own = target.zone if region == target.region else None
        banned = {target.node_id, *chosen}

        def preference(zone: str) -> tuple[bool, bool, int]:
            weight = rendezvous_weight(key, zones[zone][0])
            return zone == own, (region, zone) in used, -weight

        for zone in sorted(zones, key=preference):
            for ring in zones[zone][1]:
                found = ring.take(key, banned)
                if found is not None:
                    chosen.append(found)
                    return True
        return False


def _gaps(
    chosen: Mapping[str, list[str]], members: Mapping[str, RosterMember], policy: ProbePolicy
) -> Iterator[CoverageGap]:
    for node_id in sorted(chosen):
        own = members[node_id]
        domains = {members[name][1:] for name in chosen[node_id]}
        outside = sum(members[name].region != own.region for name in chosen[node_id])
        wanting = []
        if len(chosen[node_id]) < policy.observers:
            wanting.append(f"{len(chosen[node_id])} of {policy.observers} observers")
        if len(domains) < DOMAINS_MIN:
            wanting.append(f"observers in {len(domains)} of {DOMAINS_MIN} failure domains")
        if not outside:
            wanting.append(f"no observer outside of {own.region}")
        if wanting:
            reason = ", ".join(wanting)
            yield CoverageGap(node_id, len(chosen[node_id]), len(domains), outside, reason)


def helper_start(observer_id: str, target_id: str, round_number: int, size: int) -> int:
    """Place in a roster of `size` members at which the search for helpers begins."""
    return hash64(f"{observer_id} {target_id} {round_number}") % size


def helper_steps(size: int, count: int) -> int:
    """How many members are looked at to find `count` helpers of several zones."""
    return min(size, 4 * count + 2)


def helper_stride(size: int) -> int:
    """A step that visits all of `size` places, and jumps from zone to zone on the way."""
    stride = max(1, round(size * 0.618))
    while gcd(stride, size) > 1:
        stride += 1
    return stride
