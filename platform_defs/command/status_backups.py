"""Backups in `stateroom status`: read from the lake, never from a vault, so that it is quick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.backup_declaration import PLATFORM_NETWORK
from fleet.backup_tables import JOURNAL, OBJECTIVES, JournalReach, RecoveryObjective
from fleet.errors import StateroomError
from platform_defs.command.backup_rows import read_newest
from platform_defs.command.output import age, cell_text
from platform_defs.settings import Settings

LEVELS = ("V5", "V4", "V3", "V2", "V1")


class BackupLine(NamedTuple):
    """What is known of the backups of one network, over all regions."""

    network_id: str
    backup_at: datetime | None
    """Cut of the newest snapshot; None for none."""
    covered_until: datetime | None
    """Newest moment that can be restored from any region."""
    covered_without_home: datetime | None
    """The same when the region that writes is lost."""
    verified_level: str
    """Highest level that any region has passed; empty for none."""
    verified_at: datetime | None
    """When that level was passed last."""
    regions: int
    """Regions with a copy."""
    problem: str = ""
    """Why nothing is known; empty when it is."""


def read_backup_lines(settings: Settings) -> list[BackupLine]:
    """One line for each network, in the order of the settings; of the newest that was measured."""
    networks = (*(one.name for one in settings.networks), PLATFORM_NETWORK)
    home = settings.backup.home_region or settings.regions[0].name
    try:
        objectives = read_newest(settings, OBJECTIVES, RecoveryObjective)
        reach = read_newest(settings, JOURNAL, JournalReach)
    except StateroomError as error:
        return [BackupLine(one, None, None, None, "", None, 0, str(error)) for one in networks]
    return [backup_line(one, home, objectives, reach) for one in networks]


def backup_line(
    network_id: str,
    home: str,
    objectives: Iterable[RecoveryObjective],
    reach: Iterable[JournalReach],
) -> BackupLine:
    """Join what is known of one network."""
    rows = [row for row in objectives if row.network_id == network_id]
    covered = {row.region: row.covered_until for row in rows}
    for one in reach:
        # The journal tells of itself every minute, the objectives every quarter of an hour.
        if one.network_id == network_id and one.region in covered:
            covered[one.region] = _newest([covered[one.region], one.covered_until])
    level, verified_at = _verified(rows)
    return BackupLine(
        network_id,
        _newest([row.snapshot_at for row in rows]),
        _newest(list(covered.values())),
        _newest([at for region, at in covered.items() if region != home]),
        level,
        verified_at,
        sum(row.snapshot_at is not None for row in rows),
    )


def backup_text(line: BackupLine, now: datetime) -> str:
    """One line of the screen."""
    name = f"backup {line.network_id}:"
    if line.problem:
        return f"{name} unknown: {cell_text(line.problem)}"
    if line.backup_at is None:
        return f"{name} none yet"
    elsewhere = f"{age(line.covered_without_home, now)} if the writing region is lost"
    if line.covered_without_home is None:
        elsewhere = "everything if the writing region is lost: no other region has a copy"
    verified = "never verified"
    if line.verified_at is not None:
        verified = f"verified {line.verified_level} {age(line.verified_at, now)} ago"
    return (
        f"{name} {age(line.backup_at, now)} old, RPO {age(line.covered_until, now)} "
        f"({elsewhere}), {verified}, {line.regions} {'copy' if line.regions == 1 else 'copies'}"
    )


def _newest(moments: Sequence[datetime | None]) -> datetime | None:
    return max((one for one in moments if one is not None), default=None)


def _verified(rows: Sequence[RecoveryObjective]) -> tuple[str, datetime | None]:
    for level in LEVELS:
        found = [
            row.looked_at - timedelta(seconds=age_s)
            for row in rows
            if (age_s := getattr(row, f"verified_age_{level.lower()}_s")) is not None
        ]
        if found:
            return level, max(found)
    return "", None
