"""Snapshots, replicas and their proof, through the real jobs on real vaults in folders."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from fleet.backup_tables import (
    CATALOG,
    ITEMS,
    OBJECTIVES,
    PLAN,
    REPLICAS,
    SNAPSHOTS,
    VERIFICATIONS,
    CataloguedSnapshot,
    PlannedSnapshot,
    ProvenLevel,
    RecoveryObjective,
    Replica,
    TakenSnapshot,
)
from fleet.retention import RetentionPolicy
from ops.backup_jobs import (
    BACKUP_JOB,
    OBJECTIVES_JOB,
    REPLICATE_JOB,
    RESTORE_JOB,
    RESTORE_TEST_JOB,
    RETENTION_JOB,
    SCRUB_JOB,
    VERIFY_JOB,
    asset_config,
)
from ops.backup_rows import read_rows
from resources.vault.journal.journal import append_segment
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.retention.snapshot_facts import gather_facts
from resources.vault.verification.verify import verify_content
from tests.assets.backup_runs import AWAY, HOME, NETWORK, BackupRuns, open_backups
from tests.assets.inventory_runs import checked, materialized, red

HOUR_S = 3600.0


@pytest.fixture
def runs(instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[BackupRuns]:
    """A fleet with states and prepared vaults."""
    with open_backups(instance, tmp_path) as made:
        yield made


def test_a_snapshot_is_materialized_with_its_numbers_and_names_its_run(runs: BackupRuns) -> None:
    """Evidence, lake row and the vault's own log agree on what was taken, and by whom."""
    result = runs.run(BACKUP_JOB)
    assert result.success
    shown = materialized(result)[SNAPSHOTS, NETWORK]
    (row,) = read_rows(runs.lake, SNAPSHOTS, TakenSnapshot)
    assert (shown["agents"], shown["agents_changed"], shown["manifest"]) == (8, 8, "full")
    assert shown["snapshot_id"] == row.snapshot_id
    assert (row.run_id, row.scheduled) == (result.run_id, False)
    home = runs.vaults().home(NETWORK)
    home.log.refresh()
    extra = home.snapshot(row.snapshot_id).extra
    assert (extra["run_id"], extra["scheduled"]) == (result.run_id, False)
    (listed,) = read_rows(runs.lake, CATALOG, CataloguedSnapshot)
    assert (listed.state, listed.run_id, listed.agents) == ("live", result.run_id, 8)


def test_the_next_snapshot_stores_only_what_has_changed(runs: BackupRuns) -> None:
    """The second row compares with the first, and the catalogue knows both."""
    runs.run(BACKUP_JOB)
    runs.write("eu-1-a1", b"changed")
    shown = materialized(runs.run(BACKUP_JOB))
    assert shown[SNAPSHOTS, NETWORK]["agents_changed"] == 1
    assert shown[CATALOG, NETWORK]["snapshots_live"] == 2
    first, second = (
        row["snapshot_id"]
        for row in runs.lake.query(
            "SELECT snapshot_id FROM backup_snapshots_history ORDER BY taken_at"
        ).to_pylist()
    )
    assert shown[SNAPSHOTS, NETWORK]["snapshot_id"] == second
    assert shown[SNAPSHOTS, NETWORK]["base"] == first


def test_sql_tells_which_snapshots_hold_which_version_of_an_agent(runs: BackupRuns) -> None:
    """A version that did not change is one row over its snapshots; no older table is kept."""
    runs.run(BACKUP_JOB)
    runs.write("eu-1-a1", b"changed")
    shown = materialized(runs.run(BACKUP_JOB))
    ask = "SELECT version, snapshots FROM backup_items WHERE item_id = '{}' ORDER BY version"
    changed = runs.lake.query(ask.format("eu-1-a1")).to_pylist()
    same = runs.lake.query(ask.format("eu-1-a2")).to_pylist()
    assert [row["snapshots"] for row in changed] == [1, 1]
    assert [row["snapshots"] for row in same] == [2]
    assert shown[CATALOG, NETWORK]["item_runs"] == 8 + 1
    assert len(runs.lake.objects(ITEMS)) == 1


def test_a_snapshot_is_copied_proven_and_judged_in_every_region(runs: BackupRuns) -> None:
    """One replication later the other region holds it, verified, and every claim is green."""
    runs.back_up()
    rows = {row.region: row for row in read_rows(runs.lake, REPLICAS, Replica)}
    assert rows[HOME].is_home
    assert not rows[AWAY].is_home
    assert rows[AWAY].snapshot_id == rows[HOME].snapshot_id
    assert rows[AWAY].copied_records == rows[HOME].records == 1
    proven = read_rows(runs.lake, VERIFICATIONS, ProvenLevel)
    assert {(row.region, row.level, row.passed) for row in proven} == {
        (HOME, "V1", True),
        (AWAY, "V1", True),
    }
    result = runs.judge()
    assert red(result) == {}
    assert len(checked(result)) == 13
    objectives = {row.region: row for row in read_rows(runs.lake, OBJECTIVES, RecoveryObjective)}
    assert objectives[AWAY].snapshot_id == objectives[HOME].snapshot_id
    assert 0 < (objectives[AWAY].rpo_s or 0) < 60
    assert objectives[AWAY].replica_lag_s == 0
    assert objectives[AWAY].verified_age_v1_s is not None
    assert materialized(result)[OBJECTIVES, AWAY]["rpo_s"] < 60


def test_every_table_answers_sql(runs: BackupRuns) -> None:
    """What the UI shows can be asked for in one language."""
    runs.back_up()
    runs.judge()
    for table in (SNAPSHOTS, CATALOG, REPLICAS, VERIFICATIONS, OBJECTIVES):
        (row,) = runs.lake.query(f"SELECT count(*) AS rows FROM {table}").to_pylist()
        assert row["rows"] >= 1, table


def test_a_network_without_states_fails_its_run_and_says_why(runs: BackupRuns) -> None:
    """A backup of nothing would only hide that the states are gone."""
    runs.store._states.clear()
    result = runs.run(BACKUP_JOB)
    assert not result.success
    (failure,) = (event.step_failure_data for event in result.get_step_failure_events())
    assert failure.user_failure_data is not None
    said = failure.user_failure_data.description or ""
    assert f"backup_snapshots of network {NETWORK}" in said
    assert "no agent state" in said


def test_a_region_that_cannot_be_written_does_not_hide_the_others(
    runs: BackupRuns, no_delays: None
) -> None:
    """The home's partition is recorded; the failure names the region, and its check goes red."""
    runs.run(BACKUP_JOB)
    vault = Path(runs.declaration.location(AWAY).path)
    vault.parent.mkdir(exist_ok=True)
    vault.write_text("not a folder")
    result = runs.run(REPLICATE_JOB)
    assert not result.success
    assert (REPLICAS, HOME) in materialized(result)
    assert (REPLICAS, AWAY) not in materialized(result)
    (failure,) = (event.step_failure_data for event in result.get_step_failure_events())
    assert failure.user_failure_data is not None
    assert f"backup_replicas of region {AWAY}" in (failure.user_failure_data.description or "")


def test_damage_is_a_result_that_turns_its_claim_red_and_names_the_region(runs: BackupRuns) -> None:
    """One flipped byte in one region's pack: the run succeeds, the claim does not."""
    runs.back_up()
    pack = runs.objects(AWAY, "packs")[0]
    data = bytearray(pack.read_bytes())
    data[100] ^= 1  # within the first frame: behind a header of fewer bytes
    pack.chmod(0o600)
    pack.write_bytes(data)
    look = asset_config(VERIFICATIONS, "verify_op", {"levels": ["V2", "V3"], "whole": True})
    result = runs.run(SCRUB_JOB, **look)
    assert result.success
    assert set(red(result)) == {"no_damage_was_found"}
    found = checked(result)["no_damage_was_found"]
    regions = {row.data["region"] for row in found.metadata["offending"].value.records}
    assert regions == {AWAY}
    rows = read_rows(runs.lake, VERIFICATIONS, ProvenLevel, AWAY)
    assert {row.level: row.passed for row in rows} == {"V1": True, "V2": False, "V3": False}

    healed = runs.run(SCRUB_JOB)
    assert healed.success
    assert red(healed) == {}
    shown = materialized(healed)[VERIFICATIONS, AWAY]
    assert f"healed from {HOME}" in shown["mended"][0]
    rows = read_rows(runs.lake, VERIFICATIONS, ProvenLevel, AWAY)
    assert all(row.passed for row in rows)


def test_a_week_of_scrubs_reads_everything_and_says_so_only_then(runs: BackupRuns) -> None:
    """A seventh a day; "verified" is dated by the part that was read longest ago."""
    runs.back_up()
    began_at = runs.clock.now()
    read: list[str] = []
    for day in range(8):
        rows = read_rows(runs.lake, VERIFICATIONS, ProvenLevel, AWAY)
        levels = {row.level: row for row in rows if row.network_id == NETWORK}
        known = [levels[one].passed_at for one in ("V2", "V3") if one in levels]
        if day == 0:
            assert known == []
        elif day < 7:
            assert known == [None, began_at + timedelta(seconds=1)]
        assert runs.run(SCRUB_JOB).success
        rows = read_rows(runs.lake, VERIFICATIONS, ProvenLevel, AWAY)
        levels = {row.level: row for row in rows if row.network_id == NETWORK}
        read.append(levels["V2"].part)
        whole = day in {0, 7}
        assert levels["V3"].part.startswith("all of 1" if whole else "a sample of 1% (seed ")
        runs.clock.advance(24 * HOUR_S - 1)
    assert all(one.startswith("1/7: part ") and "(its day)" in one for one in read)
    assert len({one.split()[2] for one in read}) == 7
    assert read[0].endswith(f"1 of 7 parts read; never: {listed_but(read[0])}")
    assert "all 7 parts read; oldest reading" in read[6]
    # The eighth scrub read the first part again: the second is the oldest now.
    assert levels["V2"].passed_at == began_at + timedelta(days=1, seconds=1)
    assert levels["V2"].oldest_read_at == levels["V2"].passed_at
    runs.clock.advance(7 * 24 * HOUR_S)
    assert V2 in red(runs.judge())


def listed_but(said: str) -> str:
    """The parts that this one, read alone, leaves unread."""
    part = int(said.split()[2])
    return ", ".join(str(one) for one in range(7) if one != part)


RPO, V1 = "recovery_point_objective_holds", "structure_is_proven"
V2, V3 = "stored_bytes_are_proven", "content_is_proven"
V4, V5, RTO = "restores_are_tested", "drills_are_run", "recovery_time_objective_holds"


STALE_AFTER = (
    (0.5, set[str]()),
    (1.5, {RPO}),
    (3.5, {RPO, V1}),
    (24 * 8.1, {RPO, V1, V2, V3, V4}),
    (24 * 35.1, {RPO, V1, V2, V3, V4, V5, RTO}),
)
"""Hours after everything was backed up and proven, and what is red by then."""


def test_claims_turn_red_by_age_alone(runs: BackupRuns) -> None:
    """Nothing fails and nothing runs but the judgement itself."""
    runs.back_up()
    proven_at = runs.clock.now()
    for hours, stale in STALE_AFTER:
        age_s = (runs.clock.now() - proven_at).total_seconds()
        runs.clock.advance(hours * HOUR_S - age_s)
        assert (hours, set(red(runs.judge()))) == (hours, stale)


def test_fresh_evidence_turns_a_stale_claim_green_again(runs: BackupRuns) -> None:
    """V1 is old after a night without power; one verification later it is not."""
    runs.back_up()
    runs.clock.advance(12 * HOUR_S)
    assert "structure_is_proven" in red(runs.judge())
    result = runs.run(VERIFY_JOB)
    assert checked(result)["structure_is_proven"].passed


def test_a_damaged_live_state_is_named_and_does_not_stop_the_others(runs: BackupRuns) -> None:
    """Seven of eight agents are backed up anew, the eighth keeps its last good version."""
    runs.run(BACKUP_JOB)
    for agent_id in ("eu-1-a1", "eu-1-a2"):
        runs.write(agent_id, b"newer")
    state = runs.store._states["eu-1-a1"]
    runs.store._states["eu-1-a1"] = state._replace(body=b"torn")
    result = runs.run(BACKUP_JOB)
    assert result.success
    assert set(red(result)) == {"no_live_state_was_damaged"}
    assert materialized(result)[SNAPSHOTS, NETWORK]["damaged"] == "eu-1-a1"


def test_judging_needs_no_vault(runs: BackupRuns) -> None:
    """The quarter-hourly judgement reads the lake alone: it works while every store is away."""
    runs.back_up()
    (runs.folder / "vaults").rename(runs.folder / "away")
    assert runs.run(OBJECTIVES_JOB).success


def scheduled(runs: BackupRuns) -> dg.ExecuteInProcessResult:
    """A snapshot that counts: a person's waits for approval before retention relies on it."""
    config = {"reason": "test", "scheduled": True}
    return runs.run(BACKUP_JOB, **asset_config(SNAPSHOTS, "take_snapshots_op", config))


def test_the_retention_plan_shows_every_snapshot_with_its_reason(runs: BackupRuns) -> None:
    """Nothing is forgotten by looking: without `apply` a run only plans."""
    scheduled(runs)
    runs.run(REPLICATE_JOB)
    runs.clock.advance(HOUR_S)
    scheduled(runs)
    result = runs.run(RETENTION_JOB, **asset_config(PLAN, "retain_snapshots_op", {"apply": False}))
    assert result.success
    pending, kept = read_rows(runs.lake, PLAN, PlannedSnapshot)
    assert (pending.fate, kept.fate) == ("pending", "keep")
    assert "not yet verified" in pending.reason
    shown = materialized(result)[PLAN, NETWORK]
    assert (shown["snapshots_keep"], shown["snapshots_pending"], shown["applied"]) == (1, 1, False)


def test_retention_forgets_what_no_rule_and_no_guard_keeps(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """What is older than two days goes; the newest two verified stay, whatever the policy says."""
    policy = RetentionPolicy(last=1, hourly=0, daily=0, weekly=0, monthly=0, yearly=0)
    with open_backups(instance, tmp_path, retention=policy) as runs:
        runs.begin_days_ago(4.5)
        for number in range(4):
            runs.write("eu-1-a1", f"day {number}".encode())
            assert scheduled(runs).success
            assert runs.run(REPLICATE_JOB).success
            runs.date_objects()
            runs.clock.advance(24 * HOUR_S)
        result = runs.run(RETENTION_JOB)
        assert result.success
        shown = materialized(result)[PLAN, NETWORK]
        assert shown["applied"]
        assert shown["snapshots_forget"] == shown["snapshots_forgotten"] == 2
        assert shown["outcome"] == "forgot 2 snapshots"
        state = runs.vaults().home(NETWORK).log.refresh()
        assert (len(state.live), len(state.forgotten)) == (2, 2)
        assert materialized(runs.run(RETENTION_JOB))[PLAN, NETWORK]["snapshots_forgotten"] == 0


def day_by_day(runs: BackupRuns, days: int) -> None:
    """A snapshot of changed states a day, with all that is scheduled behind it."""
    for _ in range(days):
        runs.write("eu-1-a1", f"at {runs.clock.now()}".encode())
        assert scheduled(runs).success
        for job in (RETENTION_JOB, REPLICATE_JOB):
            assert runs.run(job).success
        runs.date_objects()
        runs.clock.advance(24 * HOUR_S)


def stored_packs(runs: BackupRuns, region: str) -> set[str]:
    """Digests of the packs and manifests that a region stores."""
    kinds = (f"packs/{NETWORK}", f"manifests/{NETWORK}")
    return {path.name.partition(".")[0] for one in kinds for path in runs.objects(region, one)}


def test_what_retention_lets_go_leaves_every_region(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """Three days after the home, and without a word: no guard mistakes it for an attack."""
    policy = RetentionPolicy(last=1, hourly=0, daily=0, weekly=0, monthly=0, yearly=0)
    with open_backups(instance, tmp_path, retention=policy) as runs:
        runs.begin_days_ago(14)
        day_by_day(runs, 2)
        first = stored_packs(runs, AWAY)
        day_by_day(runs, 10)
        shown = materialized(runs.run(RETENTION_JOB))[PLAN, NETWORK]
        assert "replicas_not_swept" not in shown
        assert len(first - stored_packs(runs, AWAY)) >= 1
        assert runs.run(REPLICATE_JOB).success
        assert stored_packs(runs, HOME) <= stored_packs(runs, AWAY)


def test_a_forget_that_no_rule_would_have_made_spares_the_replicas(runs: BackupRuns) -> None:
    """By a bug or by somebody with the key: the home loses its bytes, the others say no."""
    runs.begin_days_ago(8)
    day_by_day(runs, 2)
    home = runs.vaults().home(NETWORK)
    doomed = list(home.log.refresh().live)
    runs.write("eu-1-a2", b"the newest stays, so that a forget is possible at all")
    assert scheduled(runs).success
    home = runs.vaults().home(NETWORK)
    named = set().union(*(home.log.refresh().live[one].packs for one in doomed))
    needed = named & stored_packs(runs, AWAY)
    forget(home, doomed)
    collect_garbage(home, timedelta(0))
    sweep(home, timedelta(0))
    assert not needed <= stored_packs(runs, HOME)
    assert runs.run(REPLICATE_JOB).success
    runs.date_objects()
    runs.clock.advance(4 * 24 * HOUR_S)
    shown = materialized(runs.run(RETENTION_JOB))[PLAN, NETWORK]
    told = shown["replicas_not_swept"]
    said = sorted(one.partition(": ")[0] for one in told)
    assert said == [f"{AWAY} keeps {one}" for one in sorted(doomed)]
    assert needed <= stored_packs(runs, AWAY)


def test_a_home_that_lost_its_newest_records_is_found_by_comparing(runs: BackupRuns) -> None:
    """A shortened log is a valid log; only a longer copy of it shows what is gone."""
    runs.back_up()
    runs.objects(HOME, f"log/{NETWORK}")[-1].unlink()
    result = runs.run(VERIFY_JOB)
    assert result.success
    (row,) = (
        one
        for one in read_rows(runs.lake, VERIFICATIONS, ProvenLevel, AWAY)
        if (one.level, one.network_id) == ("V1", NETWORK)
    )
    assert row.failures == (
        f"log of {HOME}: the writer has 1 records fewer than a replica: it lost them",
    )


def test_a_damaged_segment_of_the_journal_turns_v3_red_and_no_snapshot(runs: BackupRuns) -> None:
    """The journal is read by the scrub as well; what stands beside it is none the worse."""
    runs.back_up()
    runs.write("eu-1-a1", b"journaled")
    append_segment(runs.vaults().home(NETWORK), runs.store)
    (segment,) = runs.objects(HOME, f"journal/{NETWORK}")
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.chmod(0o600)
    segment.write_bytes(data)
    look = asset_config(VERIFICATIONS, "verify_op", {"levels": ["V3"]})
    assert runs.run(SCRUB_JOB, **look).success
    (row,) = (
        one
        for one in read_rows(runs.lake, VERIFICATIONS, ProvenLevel, HOME)
        if (one.level, one.network_id) == ("V3", NETWORK)
    )
    assert segment.name in row.failures[0]
    found = gather_facts(runs.vaults().home(NETWORK), HOME, runs.clock.now())
    assert [one.failed_at for one in found.snapshots] == [None]


@pytest.mark.long
def test_a_restore_test_is_evidence_of_its_own_level(runs: BackupRuns) -> None:
    """V4 restores into an isolated place and opens what it restored, in each region."""
    runs.back_up()
    result = runs.run(RESTORE_TEST_JOB)
    assert result.success
    rows = {
        (row.region, row.level): row for row in read_rows(runs.lake, VERIFICATIONS, ProvenLevel)
    }
    assert rows[HOME, "V4"].failures == rows[AWAY, "V4"].failures == ()
    assert rows[AWAY, "V4"].passed


def restore(runs: BackupRuns, **config: object) -> dg.ExecuteInProcessResult:
    """A run of the restore job."""
    op = {"restore_agents_op": {"config": {"network": NETWORK, **config}}}
    return runs.defs.resolve_job_def(RESTORE_JOB).execute_in_process(
        instance=runs.instance, run_config={"ops": op}, raise_on_error=False
    )


def test_an_agent_comes_back_from_another_regions_copy(runs: BackupRuns) -> None:
    """A run like any other, that leaves an observation on the network's snapshots."""
    runs.back_up()
    before = runs.store.state("eu-1-a1")
    assert before is not None
    runs.clock.advance(60.0)
    runs.write("eu-1-a1", b"ruined")
    refused = restore(runs, agents=["eu-1-a1"], region=AWAY)
    assert not refused.success
    result = restore(runs, agents=["eu-1-a1"], region=AWAY, newer="overwrite")
    assert result.success
    now = runs.store.state("eu-1-a1")
    assert now is not None
    assert (now.body, now.version > before.version) == (before.body, True)
    (event,) = result.get_asset_observation_events()
    observed = event.asset_observation_data.asset_observation
    assert observed.partition == NETWORK
    assert observed.metadata["restored"].value == 1
    assert observed.metadata["complete"].value is True


def test_a_restore_without_a_zone_is_refused(runs: BackupRuns) -> None:
    """An hour off would bring the wrong state back."""
    runs.back_up()
    result = restore(runs, at="2026-03-01T12:00:00")
    (failure,) = (event.step_failure_data for event in result.get_step_failure_events())
    assert failure.user_failure_data is not None
    assert "a moment with its zone" in (failure.user_failure_data.description or "")


def test_what_every_region_has_lost_is_stored_again_by_the_next_backup(runs: BackupRuns) -> None:
    """The scrub names it; the live states are the last copy, and come into the next snapshot."""
    runs.back_up()
    for region in (HOME, AWAY):
        for pack in runs.objects(region, f"packs/{NETWORK}"):
            pack.unlink()
    scrubbed = materialized(runs.run(SCRUB_JOB))
    assert "lost in every region" in str(scrubbed[VERIFICATIONS, HOME]["mended"])
    assert "create_only" in scrubbed[VERIFICATIONS, HOME]["store_can"]
    assert runs.run(BACKUP_JOB).success
    home = runs.vaults().home(NETWORK)
    newest = list(home.log.refresh().live)[-1]
    assert verify_content(home, [newest]).findings == ()
    assert verify_content(home, [newest]).items == 8
