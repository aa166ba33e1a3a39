"""When a tick of the journal leaves an event: often enough to be seen, too rarely to be a flood."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from fleet.backup_tables import JournalReach

EVENT_EVERY = timedelta(seconds=55)
"""A row and an event a minute: a tick may come a moment early. Segments in between add up."""


def add_reach(before: JournalReach | None, after: JournalReach) -> JournalReach:
    """Two ticks of one network and region as one: counts add up, the rest is of the later one."""
    if before is None:
        return after
    damaged = tuple(sorted({*before.damaged, *after.damaged}))
    return after._replace(
        segments=before.segments + after.segments,
        agents=before.agents + after.agents,
        stored_bytes=before.stored_bytes + after.stored_bytes,
        damaged=damaged,
        gap=after.gap or before.gap,
    )


def is_event_due(last_at: datetime | None, reaches: Iterable[JournalReach], now: datetime) -> bool:
    """Tell whether what has gathered since the last event is recorded now."""
    rows = list(reaches)
    if not rows:
        return False
    return last_at is None or now - last_at >= EVENT_EVERY
