"""What rescaling has decided, as a scraper reads it: decisions by verdict, replicas by workload.

The log of decisions is read behind a cursor: a look costs what was written since the one before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from fleet.metrics.exported.readings import ExportedFamily, Reading
from fleet.rescaling.standing import LoggedDecision
from fleet.rescaling.telling import VERDICTS

WORKLOADS_MAX = 200
"""Workloads that have series of their own, in order of name."""
FORGOTTEN = timedelta(hours=1)
"""A workload that nothing was decided of for so long is scaled no more; decisions are written down
every five minutes at least."""

FAMILIES = (
    ExportedFamily(
        "stateroom_scaling_decisions_total",
        "counter",
        "Decisions of rescaling since the exporter began, by verdict.",
        ("region", "verdict"),
        f"regions x {len(VERDICTS)}",
    ),
    ExportedFamily(
        "stateroom_scaling_replicas",
        "gauge",
        "Replicas of a scaled workload: current, ready, desired, min and max of the last decision.",
        ("kind", "region", "workload"),
        f"regions x {WORKLOADS_MAX} workloads x 5",
    ),
)


class ScalingCounts:
    """Decisions by region and verdict, each look of a row counted once; and the newest of each."""

    def __init__(self, since: datetime) -> None:
        """Count what is decided after `since`."""
        self._began = since
        self.cursor: tuple[datetime, int] = (since - FORGOTTEN, 0)
        """Behind which rows are new: the last look and id of the newest one."""
        self._rows: dict[int, LoggedDecision] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._regions: set[str] = set()

    def add(self, rows: Iterable[LoggedDecision], now: datetime) -> None:
        """Take rows into account, in order of (last look, id); known ones have grown.

        A row that began before the count did is counted from what it was when it was first seen.
        """
        for row in rows:
            self._regions.add(row.region)
            self.cursor = (row.last_at, row.decision_id)
            known = self._rows.get(row.decision_id)
            if known is not None:
                self._counts[row.region, row.verdict] += row.times - known.times
            elif row.first_at >= self._began:
                self._counts[row.region, row.verdict] += row.times
            self._rows[row.decision_id] = row
        kept = now - FORGOTTEN
        self._rows = {key: row for key, row in self._rows.items() if row.last_at >= kept}

    def readings(self) -> Iterator[Reading]:
        """Every verdict of each region where something is scaled, and each workload's replicas."""
        for region in sorted(self._regions):
            for verdict in VERDICTS:
                count = self._counts[region, verdict]
                yield Reading("stateroom_scaling_decisions_total", (region, verdict), count)
        newest: dict[tuple[str, str], LoggedDecision] = {}
        for row in sorted(self._rows.values(), key=lambda one: (one.last_at, one.decision_id)):
            newest[row.key] = row
        shown = set(sorted({workload for workload, _ in newest})[:WORKLOADS_MAX])
        for (workload, region), row in sorted(newest.items()):
            if workload not in shown:
                continue
            for kind, value in (
                ("current", row.current),
                ("ready", row.ready),
                ("desired", row.desired),
                ("min", row.min_replicas),
                ("max", row.max_replicas),
            ):
                yield Reading("stateroom_scaling_replicas", (kind, region, workload), value)
