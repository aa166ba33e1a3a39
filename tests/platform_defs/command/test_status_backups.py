"""The backup lines of `stateroom status`: from the lake's newest rows, one for each network."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

from fleet.backup_tables import JOURNAL, OBJECTIVES, JournalReach, RecoveryObjective
from platform_defs.command.status_backups import BackupLine, backup_line, backup_text
from platform_defs.settings import load_settings
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from resources.lake.records import to_table
from tests.platform_defs.command.backed_up_fleet import AWAY, HOME
from tests.platform_defs.command.conftest import BackedUp

NOW = datetime(2026, 11, 20, 14, tzinfo=UTC)


def ago(minutes: float) -> datetime:
    """A moment before now."""
    return NOW - timedelta(minutes=minutes)


def objective(region: str, covered: datetime | None, **ages: float) -> RecoveryObjective:
    """What a region has measured; `v3=60` means that V3 passed a minute before the look."""
    levels = [ages.get(f"v{number}") for number in range(1, 6)]
    return RecoveryObjective(
        region, "watch", covered, None, None, "01", covered, None, None, *levels, (), ago(99),
        looked_at=ago(10),
    )  # fmt: skip


def reach(region: str, covered: datetime) -> JournalReach:
    """How far the journal reaches in a region."""
    return JournalReach("watch", region, covered, 1, 1, 1, (), "", "", covered)


def test_a_line_joins_what_all_regions_can_restore() -> None:
    """The journal counts to the point; the level is the highest; its age grows since the look."""
    rows = [
        objective(HOME, ago(50), v1=60.0, v3=1200.0),
        objective(AWAY, ago(55), v1=30.0, v3=600.0),
    ]
    line = backup_line("watch", HOME, rows, [reach(HOME, ago(1)), reach(AWAY, ago(2))])
    assert line == BackupLine("watch", ago(50), ago(1), ago(2), "V3", ago(20), 2)
    assert backup_text(line, NOW) == (
        "backup watch: 50 min old, RPO 60.0 s (2 min if the writing region is lost), "
        "verified V3 20 min ago, 2 copies"
    )


def test_what_is_missing_is_said_in_the_line() -> None:
    """No other copy, no verification, no backup, a lake that cannot be read."""
    alone = backup_line("watch", HOME, [objective(HOME, ago(50))], [])
    assert backup_text(alone, NOW) == (
        "backup watch: 50 min old, RPO 50 min (everything if the writing region is lost: no other "
        "region has a copy), never verified, 1 copy"
    )
    none = backup_line("watch", HOME, [], [])
    assert backup_text(none, NOW) == "backup watch: none yet"
    broken = none._replace(problem="object x is damaged")
    assert backup_text(broken, NOW) == "backup watch: unknown: object x is damaged"


def test_status_shows_a_line_for_each_network(backed_up: BackedUp) -> None:
    """On the screen and in the document, without opening a vault: the keys are not needed."""
    settings = load_settings()
    for path in (settings.fleet.state_dir / "keys").iterdir():
        path.unlink()
    lake = ParquetLake(DirectoryStore(settings.lake.path))
    at = datetime.now(UTC)
    rows = [objective(HOME, at - timedelta(hours=1))._replace(looked_at=at)]
    lake.write(OBJECTIVES, HOME, to_table(rows, RecoveryObjective), at)
    lake.write(JOURNAL, "watch", to_table([reach(HOME, at)], JournalReach), at)
    text = backed_up.run("status").stdout
    assert re.search(r"\nbackup watch: 60 min old, RPO \d\.\d s ", text), text
    assert "\nbackup staging: none yet\nbackup platform: none yet\ncontroller: " in text
    document = json.loads(backed_up.run("status", "--json").stdout)
    assert [one["network_id"] for one in document["backups"]] == ["watch", "staging", "platform"]
    assert document["backups"][0]["regions"] == 1
