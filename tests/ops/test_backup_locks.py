"""What stands for a week is locked for as long as weeks are kept, by the job that runs nightly."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.backup_declaration import BackupDeclaration, VaultLocation
from ops.backup_locks import extend_locks
from platform_defs.declared_backup import simple_backup
from resources.object_store.s3 import S3ObjectStore
from resources.vault.region_vaults import RegionVaults, open_store
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verification_runs import VerificationRuns
from tests.fakes.clocked_store import ClockedStore
from tests.fakes.vault_fleet import VaultFleet
from tests.servers.moto_server import aws_client, aws_environment, moto_server

DAY_S = 86_400.0
LOCK_DAYS = 14


@pytest.fixture
def declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BackupDeclaration]:
    """One region whose bucket locks every object for two weeks."""
    with moto_server() as endpoint, aws_client("s3", endpoint) as client:
        for name, value in aws_environment(endpoint).items():
            monkeypatch.setenv(name, value)
        bucket = f"b{uuid.uuid4().hex}"
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        plain = simple_backup(("eu",), str(tmp_path), networks=("net",))
        where = VaultLocation(
            "eu", bucket=bucket, endpoint_url=endpoint, aws_region="us-east-1", lock_days=LOCK_DAYS
        )
        yield BackupDeclaration(
            home_region="eu", vaults=(where,), keys=plain.keys, networks=("net",)
        )


def test_a_snapshot_that_stands_for_its_week_stays_locked_as_long_as_weeks_are_kept(
    declaration: BackupDeclaration,
) -> None:
    """Twice is as once; the newest, which stands for nothing that has ended, keeps its first."""
    fleet = VaultFleet(3)
    fleet.clock.jump((datetime.now(UTC) - fleet.clock.now()).total_seconds())
    bucket = open_store(declaration.location("eu"))
    assert isinstance(bucket, S3ObjectStore)
    vaults = RegionVaults(declaration, fleet.clock)
    vaults._stores["eu"] = ClockedStore(bucket, fleet.clock)
    vaults.prepare()
    for pause_s in (8 * DAY_S, 0.0):
        fleet.change(*fleet.agent_ids)
        back_up(vaults.home("net"), fleet.store, workers=1)
        VerificationRuns(vaults, fleet.store, "eu", "net").run("V1")
        fleet.clock.advance(pause_s)
    done = extend_locks(vaults, "eu")
    assert done["snapshots_locked"] == 1
    assert done["locks_extended"] > 0
    assert extend_locks(vaults, "eu") == {"snapshots_locked": 1, "locks_extended": 0}

    live = list(vaults.home("net").log.refresh().live.values())
    weeks = declaration.retention.weekly
    for key in (one.key for one in bucket.list_objects("packs/")):
        until = bucket._locked_until(key)
        assert until is not None
        if key.rpartition("/")[2].partition(".")[0] in live[0].packs:
            # At least: it may stand for a month or a year as well.
            assert until >= live[0].taken_at + timedelta(days=7 * weeks, seconds=-2)
        else:
            assert until < datetime.now(UTC) + timedelta(days=LOCK_DAYS + 1)


def test_a_store_without_locks_is_left_alone(tmp_path: Path) -> None:
    """A folder cannot lock; nothing is asked of it, and nothing is claimed."""
    fleet = VaultFleet(1)
    vaults = RegionVaults(simple_backup(("eu",), str(tmp_path), networks=("net",)), fleet.clock)
    vaults.prepare()
    back_up(vaults.home("net"), fleet.store, workers=1)
    assert extend_locks(vaults, "eu") == {}
