"""Dagster's record of finished runs: reads it, and forgets runs with everything they left.

`DagsterInstance.delete_run` leaves the run's emptied SQLite file behind, and its captured logs.
Both are removed here. The run's row goes first: a crash after that leaves files without a run,
which `sweep_files` finds.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from pathlib import Path

import dagster as dg
from dagster import DagsterInstance

from fleet.run_history import FinishedRun

FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]

SWEEP_AFTER_S = 3600.0
"""Files younger than this are left alone: their run may be about to be stored."""

_BATCH = 500


class RunHistory:
    """Finished runs of one Dagster instance."""

    def __init__(self, instance: DagsterInstance) -> None:
        """Work on `instance`."""
        self._instance = instance

    def finished(self, limit: int) -> list[FinishedRun]:
        """Finished runs, oldest first, at most `limit`."""
        records = self._instance.get_run_records(
            dg.RunsFilter(statuses=FINISHED),
            limit=limit,
            order_by="create_timestamp",
            ascending=True,
        )
        return [FinishedRun(each.dagster_run.run_id, each.create_timestamp) for each in records]

    def newest(self, checks: Collection[dg.AssetCheckKey]) -> frozenset[str]:
        """Ids of runs that hold the newest materialization or check result of something.

        Materializations count for each asset and partition, results for each of `checks`.
        """
        instance = self._instance
        found: set[str] = set()
        for key in instance.all_asset_keys():
            partitions = sorted(instance.get_materialized_partitions(key))
            filters = [
                dg.AssetRecordsFilter(asset_key=key, asset_partitions=[each]) for each in partitions
            ] or [dg.AssetRecordsFilter(asset_key=key)]
            for each in filters:
                latest = instance.fetch_materializations(each, limit=1).records
                found.update(record.run_id for record in latest)
        latest_checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(
            list(checks)
        )
        found.update(record.run_id for record in latest_checks.values())
        return frozenset(found)

    def forget(self, run_ids: Iterable[str]) -> int:
        """Remove runs, their events, files and captured logs; returns how many."""
        count = 0
        for run_id in run_ids:
            self._instance.delete_run(run_id)
            self._instance.compute_log_manager.delete_logs(prefix=[run_id])
            for path in self._files(run_id):
                path.unlink(missing_ok=True)
            count += 1
        return count

    def sweep_files(self) -> int:
        """Remove event files whose run does not exist; returns how many files."""
        folder = self._folder()
        if folder is None or not folder.is_dir():
            return 0
        before_s = time.time() - SWEEP_AFTER_S
        files = [each for each in folder.glob("*.db*") if each.name.split(".db")[0] != "index"]
        old = [each for each in files if _modified_s(each) < before_s]
        ids = sorted({each.name.split(".db")[0] for each in old})
        known: set[str] = set()
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            known.update(self._instance.get_run_ids(dg.RunsFilter(run_ids=batch)))
        orphans = [each for each in old if each.name.split(".db")[0] not in known]
        for each in orphans:
            each.unlink(missing_ok=True)
        return len(orphans)

    def _files(self, run_id: str) -> list[Path]:
        """The run's event file and its companions; empty where events share one database."""
        folder = self._folder()
        return (
            [] if folder is None else [folder / f"{run_id}.db{end}" for end in ("", "-wal", "-shm")]
        )

    def _folder(self) -> Path | None:
        """Where each run has an event file of its own (SQLite); None elsewhere."""
        path_for_shard = getattr(self._instance.event_log_storage, "path_for_shard", None)
        return None if path_for_shard is None else Path(path_for_shard("any")).parent


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
