"""Every family that the platform exports: the contract of exporter, dashboards, alerts and docs."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.metrics.exported import automation, backups, collection, ended, fleet, gpus, scaling
from fleet.metrics.exported.readings import ExportedFamily, Reading

FAMILIES: tuple[ExportedFamily, ...] = (
    *fleet.FAMILIES,
    *backups.FAMILIES,
    *automation.FAMILIES,
    *ended.FAMILIES,
    *scaling.FAMILIES,
    *collection.FAMILIES,
    *gpus.FAMILIES,
)

BY_NAME = {family.name: family for family in FAMILIES}


def grouped(readings: Iterable[Reading]) -> dict[str, list[Reading]]:
    """Readings by family, in the order of the table; families without a reading are left out.

    Raises:
        KeyError: a reading of no family. AssertionError: one with other labels than its family's,
            or a series that stands twice. Both are defects of the platform.
    """
    found: dict[str, list[Reading]] = {family.name: [] for family in FAMILIES}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for reading in readings:
        assert len(reading.labels) == len(BY_NAME[reading.name].labels), reading
        assert reading[:2] not in seen, reading
        seen.add(reading[:2])
        found[reading.name].append(reading)
    return {name: some for name, some in found.items() if some}
