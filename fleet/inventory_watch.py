"""When is the inventory taken again? At once when a node changes, calmly when only agents do.

A look at a region is reduced to some 60 bytes, because all of them travel in the cursor of a
sensor, which Dagster copies into every tick it records. A region that cannot be read is a fact
like any other; it never hides the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.heartbeats import HeartbeatPolicy, Readiness, classify_heartbeat
from fleet.inventory import Node


class RegionLook(NamedTuple):
    """What one look at a region saw, reduced to what a change shows in."""

    nodes_digest: str
    """Of every node's id, boot, phase and readiness; empty when the region was unreadable."""
    ready: int
    late: int
    lost: int
    other: int
    """Nodes that are pending or stopped."""
    agents_running: int
    agents_failed: int
    unreadable: str = ""
    """Name of the error that kept the region from being read; empty when it was read."""

    def summary(self) -> str:
        """The look in words, without the digest."""
        if self.unreadable:
            return f"unreadable ({self.unreadable})"
        counts = {
            "ready": self.ready,
            "late": self.late,
            "lost": self.lost,
            "pending or stopped": self.other,
            "agents running": self.agents_running,
            "agents failed": self.agents_failed,
        }
        said = [f"{count} {what}" for what, count in counts.items() if count]
        return ", ".join(said) or "empty"


class WatchCursor(NamedTuple):
    """What the last requested inventory was based on."""

    requested_at: datetime
    looks: Mapping[str, RegionLook]


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """How calmly changes among agents are followed; changes of nodes never wait.

    In a busy fleet some agent starts or ends at every look. Without the pause each look would
    request a run.
    """

    agents_pause_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse a pause that is not a number of seconds."""
        if not self.agents_pause_s >= 0.0:
            raise InvalidInputError("agents_pause_s", self.agents_pause_s, "seconds, 0 or more")


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """How often one tick looks at the fleet, and for how long.

    The sensor daemon passes every 5 s and leaves out a sensor whose last tick still runs, so a tick
    must be over well before the next pass. Beside its looks it takes 0.1 to 0.3 s, on two cores at
    load 15 up to 1.2 s.
    """

    span_s: float = 3.5
    """From the first look to the end of the last."""
    interval_s: float = 0.25
    """Shortest pause between two looks."""
    pause_ratio: float = 5.0
    """A pause lasts at least so many times as long as the look before it: at 10,000 nodes, where a
    look costs 0.13 s, looking takes a sixth of one processor."""

    def __post_init__(self) -> None:
        """Refuse what would never look or never rest."""
        for name in ("span_s", "interval_s", "pause_ratio"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise InvalidInputError(name, getattr(self, name), "a finite number above 0")


class InventoryRunVerdict(NamedTuple):
    """Whether to take the inventory now, of which groups of regions, and why."""

    groups: tuple[tuple[str, ...], ...]
    """One run for each group; no group means that nothing is to be done."""
    reason: str


def look_at_region(nodes: Iterable[Node], now: datetime, policy: HeartbeatPolicy) -> RegionLook:
    """Reduce the nodes of a region to what a change shows in; their order does not matter."""
    counts = dict.fromkeys(Readiness, 0)
    lines, running, failed = [], 0, 0
    for node in nodes:
        readiness = classify_heartbeat(node, now, policy).readiness
        counts[readiness] += 1
        lines.append(f"{node.node_id}\t{node.boot_id}\t{node.phase}\t{readiness}")
        running += node.agents_running or 0
        failed += node.agents_failed or 0
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
    ready, late, lost = counts[Readiness.READY], counts[Readiness.LATE], counts[Readiness.LOST]
    other = len(lines) - ready - late - lost
    return RegionLook(digest, ready, late, lost, other, running, failed)


def unreadable_look(error: Exception) -> RegionLook:
    """The look at a region that could not be read."""
    return RegionLook("", 0, 0, 0, 0, 0, 0, type(error).__name__)


def decide_inventory_run(
    before: WatchCursor | None,
    looks: Mapping[str, RegionLook],
    now: datetime,
    policy: WatchPolicy,
) -> InventoryRunVerdict:
    """Say whether the inventory is taken again.

    Args:
        before: what the last requested inventory was based on; None when there was none.
        looks: region -> what was seen now.
        now: the time of the look, aware UTC.
        policy: how calmly changes among agents are followed.

    Returns:
        One group of all regions while all can be read, so that one run serves them; one group for
        each region while any cannot, so that its failure does not take the others along.
    """
    changes = _changes({} if before is None else before.looks, looks)
    if before is None:
        return InventoryRunVerdict(group_regions(looks), "first look at the fleet")
    if not changes:
        return InventoryRunVerdict((), f"no change in {len(looks)} regions")
    reason = "; ".join(changes.values())
    calm = all(_same_nodes(before.looks.get(region), looks.get(region)) for region in changes)
    age_s = (now - before.requested_at).total_seconds()
    if calm and 0.0 <= age_s < policy.agents_pause_s:
        waits = f"only agents changed, {policy.agents_pause_s - age_s:.0f} s to wait: {reason}"
        return InventoryRunVerdict((), waits)
    return InventoryRunVerdict(group_regions(looks), reason)


def plan_next_look(elapsed_s: float, look_s: float, policy: PollPolicy) -> float | None:
    """Say how long to pause before the next look of the same tick.

    Args:
        elapsed_s: since the tick began its first look.
        look_s: what the last look took.
        policy: how often and for how long.

    Returns:
        Seconds to pause; None when another look would not be over in time.
    """
    pause_s = max(policy.interval_s, policy.pause_ratio * look_s)
    return pause_s if elapsed_s + pause_s + look_s <= policy.span_s else None


def group_regions(looks: Mapping[str, RegionLook]) -> tuple[tuple[str, ...], ...]:
    """Regions that are inventoried by one run: all, or each on its own when one is unreadable."""
    regions = tuple(sorted(looks))
    if any(look.unreadable for look in looks.values()):
        return tuple((region,) for region in regions)
    return (regions,) if regions else ()


def _same_nodes(before: RegionLook | None, after: RegionLook | None) -> bool:
    if before is None or after is None:
        return False
    return (before.nodes_digest, before.unreadable) == (after.nodes_digest, after.unreadable)


def _changes(before: Mapping[str, RegionLook], after: Mapping[str, RegionLook]) -> dict[str, str]:
    """Region -> what changed there, in words; regions without a change are absent."""
    changes = {}
    for region in sorted(before.keys() | after.keys()):
        old, new = before.get(region), after.get(region)
        if old == new:
            continue
        was = "not known" if old is None else old.summary()
        now = "no longer declared" if new is None else new.summary()
        changes[region] = f"{region}: {was} -> {now}" if was != now else f"{region}: nodes replaced"
    return changes


def encode_cursor(cursor: WatchCursor) -> str:
    """Write a cursor as JSON, about 60 bytes for each region."""
    looks = {region: list(look) for region, look in cursor.looks.items()}
    return json.dumps(
        {"requested_at": cursor.requested_at.isoformat(), "looks": looks}, separators=(",", ":")
    )


def decode_cursor(text: str | None) -> WatchCursor | None:
    """Read a cursor; None for one that is absent or of another version, which only costs a run."""
    try:
        raw = json.loads(text or "null")
        looks = {str(region): _decode_look(look) for region, look in raw["looks"].items()}
        requested_at = datetime.fromisoformat(raw["requested_at"])
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    return None if requested_at.tzinfo is None else WatchCursor(requested_at, looks)


def _decode_look(raw: list[object]) -> RegionLook:
    """Read one look; ValueError when a field is missing, surplus or of another type."""
    kinds = [str, *[int] * 6, str]
    if [type(value) for value in raw] != kinds:
        raise ValueError(raw)
    return RegionLook(*raw)  # type: ignore[arg-type]
