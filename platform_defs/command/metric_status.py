"""How the metric store stands: its raw samples, how far each level is built, what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.metrics.levels import Level
from fleet.metrics.rollup_plan import find_dirty
from platform_defs.command.metric_answers import moment
from platform_defs.command.moments import span_text
from platform_defs.command.output import size_text, table

if TYPE_CHECKING:
    from resources.metrics.metric_store import ObjectMetricStore


class LevelStatus(NamedTuple):
    """One level of rollups."""

    level: str
    built_to_ms: int
    """Up to where every sample is in it."""
    lag_s: float
    """How long ago that is; an hour and what late samples are waited for is usual."""
    dirty: int
    """Partitions that wait to be made."""
    records: int
    size_bytes: int
    kept_from_ms: int | None
    """Before it retention has removed records; None where it has removed none."""


class MetricsStatus(NamedTuple):
    """The store on one screen."""

    series: int
    commits: int
    raw_parts: int
    raw_samples: int
    raw_bytes: int
    raw_from_ms: int | None
    raw_to_ms: int | None
    levels: list[LevelStatus]


def read_status(store: ObjectMetricStore) -> MetricsStatus:
    """Read the log of a store, and nothing else.

    Raises:
        LakeUnavailableError: it cannot be read.
    """
    now_ms, open_from = store.now_ms(), store.open_from_ms()
    series = len(store.catalogue())
    with store.log.reading() as state:
        levels = []
        for level in Level:
            dirty = find_dirty(state, level, open_from)
            built_to = min((one.partition_ms for one in dirty), default=open_from)
            files = [shard.records for shard in state.rollups[level].values() if shard.records]
            floor = state.floors_ms[level]
            levels.append(
                LevelStatus(
                    level.text,
                    built_to,
                    (now_ms - built_to) / 1000,
                    len(dirty),
                    sum(one.rows for one in files),
                    sum(one.size_bytes for one in files),
                    floor if floor > 0 else None,
                )
            )
        parts = [live.part for places in state.raw.values() for live in places.values()]
        return MetricsStatus(
            series=series,
            commits=state.number,
            raw_parts=len(parts),
            raw_samples=sum(part.rows for part in parts),
            raw_bytes=sum(part.size_bytes for part in parts),
            raw_from_ms=min((part.min_ts_ms for part in parts), default=None),
            raw_to_ms=max((part.max_ts_ms for part in parts), default=None),
            levels=levels,
        )


def status_json(found: MetricsStatus) -> dict[str, Any]:
    """The status for `to_json`."""
    return {**found._asdict(), "levels": [level._asdict() for level in found.levels]}


def status_text(found: MetricsStatus) -> str:
    """The status as people read it."""
    if found.raw_from_ms is None or found.raw_to_ms is None:
        raw = "no raw samples"
    else:
        raw = (
            f"raw: {found.raw_samples} samples of {moment(found.raw_from_ms)} to "
            f"{moment(found.raw_to_ms)} in {found.raw_parts} parts, {size_text(found.raw_bytes)}"
        )
    rows = [
        (
            one.level,
            moment(one.built_to_ms),
            span_text(one.lag_s),
            one.dirty,
            one.records,
            size_text(one.size_bytes),
            None if one.kept_from_ms is None else moment(one.kept_from_ms),
        )
        for one in found.levels
    ]
    headings = ("level", "built to", "lag", "to make", "records", "size", "kept from")
    first = f"{found.series} series in {found.commits} commits"
    return "\n".join((first, raw, table(headings, rows)))
