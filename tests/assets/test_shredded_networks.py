"""A shredded network is left out by every job, and told; an unfinished or forged order is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fleet.backup_tables import (
    REPLICAS,
    SHREDDED,
    SNAPSHOTS,
    VERIFICATIONS,
    ProvenLevel,
    Replica,
    ShreddedNetwork,
)
from fleet.vault_shred import ShredNote, encode_shred_note
from ops.backup_jobs import BACKUP_JOB, REPLICATE_JOB, RETENTION_JOB, SCRUB_JOB, VERIFY_JOB
from ops.backup_rows import read_rows
from ops.state_journal import journal_changes
from resources.vault.keys.shredding import shred_key, shred_network
from tests.assets.backup_runs import AWAY, HOME, NETWORK, BackupRuns, open_backups
from tests.assets.inventory_runs import checked, materialized, red

JOBS = (BACKUP_JOB, RETENTION_JOB, REPLICATE_JOB, VERIFY_JOB, SCRUB_JOB)


@pytest.fixture
def runs(instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[BackupRuns]:
    """A fleet whose network was backed up."""
    with open_backups(instance, tmp_path) as runs:
        runs.back_up()
        yield runs


def shred(runs: BackupRuns) -> None:
    """The order, carried out in all regions."""
    vaults = runs.vaults()
    stores = {region: vaults.store(region) for region in (HOME, AWAY)}
    done = shred_network(
        stores, NETWORK, confirm=NETWORK, by="ada", reason="contract ended", at=runs.clock.now()
    )
    assert done.remaining == ()


def test_every_job_leaves_a_shredded_network_out_and_says_why(runs: BackupRuns) -> None:
    """Green with a reason, for as long as the settings still name the network."""
    shred(runs)
    told: dict[str, Any] = {}
    for job in JOBS:
        result = runs.run(job)
        assert result.success, job
        told[job] = [
            said for shown in materialized(result).values() for said in shown.get("skipped", ())
        ]
    for job in JOBS:
        (said, *_) = told[job]
        assert said.startswith(f"network {NETWORK} was shredded on ")
        assert said.endswith("UTC by ada: contract ended")
    for table, row in ((REPLICAS, Replica), (VERIFICATIONS, ProvenLevel)):
        rows = read_rows(runs.lake, table, row)
        assert NETWORK not in {one.network_id for one in rows}
    (known,) = read_rows(runs.lake, SHREDDED, ShreddedNetwork)
    assert (known.network_id, known.by, known.reason) == (NETWORK, "ada", "contract ended")
    assert runs.vaults().prepare() == []


def test_checks_set_a_shredded_network_aside_by_name(runs: BackupRuns) -> None:
    """Its agents still have states and no backup: said, and not red for ever."""
    shred(runs)
    for job in JOBS:
        runs.run(job)
    runs.clock.advance(40 * 86_400)
    judged = runs.judge()
    verdict = checked(judged)["every_network_has_a_verified_snapshot"]
    assert verdict.passed
    assert f"network {NETWORK} is set aside: shredded on " in str(verdict.description)
    assert "by ada: contract ended" in str(verdict.description)
    assert red(judged) == {}


def test_the_journal_leaves_a_shredded_network_out(runs: BackupRuns) -> None:
    """No tick fails; nothing is written for it."""
    shred(runs)
    assert journal_changes(runs.vaults(), runs.store, runs.clock, [NETWORK]) == []


def test_a_note_beside_standing_wraps_is_no_reason_to_be_quiet(runs: BackupRuns) -> None:
    """Whoever can write one object must not be able to end all backups in green."""
    note = ShredNote(NETWORK, runs.clock.now(), "mallory", "none", ())
    runs.vaults().store(HOME).create(shred_key(NETWORK), encode_shred_note(note))
    for job in JOBS:
        result = runs.run(job)
        assert not result.success, job
        (failure,) = (event.step_failure_data for event in result.get_step_failure_events())
        assert failure.user_failure_data is not None
        assert "shredded on" in (failure.user_failure_data.description or "")
    assert read_rows(runs.lake, SHREDDED, ShreddedNetwork) == []
    assert (SNAPSHOTS, NETWORK) not in materialized(runs.run(BACKUP_JOB))
