"""How the metric store stands: its raw samples, how far each level is built, what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.metrics.store_facts import facts_of
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
    late: int
    """Samples that came after their hour was closed; its rollups are made anew."""
    refused: int
    """Samples that were too old or too far ahead; they are not stored."""
    raw_parts: int
    raw_samples: int
    raw_bytes: int
    raw_from_ms: int | None
    raw_to_ms: int | None
    levels: list[LevelStatus]


def read_status(store: ObjectMetricStore) -> MetricsStatus:
    """Read the log and the catalogue of a store, and no sample.

    Raises:
        LakeUnavailableError: it cannot be read.
    """
    now_ms, open_from = store.now_ms(), store.open_from_ms()
    series = len(store.catalogue())
    with store.log.reading() as state:
        facts = facts_of(state, open_from)
        floors = dict(state.floors_ms)
        parts = [live.part for places in state.raw.values() for live in places.values()]
    levels = []
    for level, found in facts.levels.items():
        built_to = open_from - found.lag_ms
        floor = floors[level] if floors[level] > 0 else None
        lag_s, dirty = (now_ms - built_to) / 1000, len(found.dirty)
        levels.append(
            LevelStatus(level.text, built_to, lag_s, dirty, found.rows, found.size_bytes, floor)
        )
    return MetricsStatus(
        series=series,
        commits=facts.commits,
        late=facts.counted.late,
        refused=facts.counted.refused_expired + facts.counted.refused_future,
        raw_parts=facts.raw_parts,
        raw_samples=facts.raw_rows,
        raw_bytes=facts.raw_bytes,
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
    if found.late or found.refused:
        first += f"; {found.late} samples came late, {found.refused} were refused"
    return "\n".join((first, raw, table(headings, rows)))
