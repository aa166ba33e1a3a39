"""`stateroom backup now`: takes snapshots at once, as a run that the UI shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from fleet.backup_tables import SNAPSHOTS, TakenSnapshot
from fleet.errors import NotFoundError, StateroomError
from fleet.ports.progress import Progress
from platform_defs.command.backup_rows import read_newest
from platform_defs.command.moments import span_text, utc_text
from platform_defs.command.output import size_text, table, to_json
from platform_defs.command.progress_bar import ReportedStates, watched
from platform_defs.command.store_access import fleet_store
from platform_defs.command.vault_access import (
    Backups,
    json_option,
    networks_option,
    open_backups,
)
from platform_defs.settings import Settings

if TYPE_CHECKING:
    from fleet.ports.control_store import ControlStore


@click.group()
def backup() -> None:
    """Take backups by hand; schedules take them every hour in any case.

    \b
    Examples:
      stateroom backup now
      stateroom backup now --network host-watch --reason "before the upgrade"
    """  # noqa: D301


@backup.command()
@networks_option
@click.option("--full", is_flag=True, help="Read every file again, and write a full manifest.")
@click.option("--reason", default="asked for by a person", show_default=True,
              help="Kept with the snapshot.")  # fmt: skip
@json_option
def now(networks: tuple[str, ...], full: bool, reason: str, as_json: bool) -> None:
    """Take a snapshot of each network that has something to back up, and say what it holds.

    Only what changed since the newest snapshot is read and stored. The other regions pull their
    copies afterwards, while `stateroom up` runs.

    \b
    Examples:
      stateroom backup now
      stateroom backup now --network host-watch --full
      stateroom backup now --json | jq -r '.snapshots[].snapshot_id'
    """  # noqa: D301
    from platform_defs.command.job_runs import raise_failures

    backups = open_backups()
    wanted = backups.networks(networks)
    with fleet_store(backups.settings) as store, watched() as progress:
        due = wanted if networks else _with_something(backups.settings, store, wanted)
        for network_id in due:
            backups.open(network_id)
        run_ids, failed = _take(backups, store, progress, due, reason, full=full)
    rows = [
        row
        for row in read_newest(backups.settings, SNAPSHOTS, TakenSnapshot)
        if row.run_id in run_ids
    ]
    if as_json:
        click.echo(to_json({"runs": run_ids, "snapshots": [row._asdict() for row in rows]}))
    elif rows:
        click.echo(snapshots_text(rows))
    raise_failures(failed)


def _with_something(
    settings: Settings, store: ControlStore, networks: Sequence[str]
) -> tuple[str, ...]:
    """Networks that have something to back up: agents with a state, or declared artefacts.

    Raises:
        NotFoundError: none has.
    """
    from platform_defs.declared_backup import declared_artefacts

    filled = {info.network_id for info in store.state_infos()}
    filled |= {one.network_id for one in declared_artefacts(settings)}
    due = tuple(one for one in networks if one in filled)
    if not due:
        raise NotFoundError(
            f"no agent of {', '.join(networks)} has stored a state yet: nothing to back up",
            hint="`stateroom agents` shows whether they run; they store their state as they work.",
        )
    return due


def _take(
    backups: Backups,
    store: ControlStore,
    progress: Progress,
    due: Sequence[str],
    reason: str,
    *,
    full: bool,
) -> tuple[list[str], list[StateroomError]]:
    """Run the job over the networks; ids of the runs, and what went wrong."""
    from ops.backup_jobs import BACKUP_JOB, asset_config
    from ops.backups import SNAPSHOT_OP
    from platform_defs.command.job_runs import job_runner
    from resources.vault.verification.copy_head import copy_head

    since = {one: copy_head(backups.open(one)).snapshot_at for one in due}
    reported = cast("ControlStore", ReportedStates(store, progress, since))
    resources: dict[str, Any] = {"region_vaults": backups.vaults, "control_store": reported}
    options = {"reason": reason, "scheduled": False, "full": full}
    config = asset_config(SNAPSHOTS, SNAPSHOT_OP, options)
    with job_runner(backups.settings, **resources) as runner:
        failed = runner.run(
            BACKUP_JOB,
            backups.declaration.vault_networks,
            due,
            reason=reason,
            config=config,
        )
        return runner.run_ids, failed


def snapshots_text(rows: Sequence[TakenSnapshot]) -> str:
    """What was taken, one line a network, and where to go on."""
    headings = ("network", "snapshot", "cut", "agents", "changed", "files", "stored", "took")
    cells = [
        (
            row.network_id,
            row.snapshot_id,
            utc_text(row.taken_at),
            row.agents,
            row.changed,
            row.items,
            size_text(row.stored_bytes),
            span_text(row.taking_s),
        )
        for row in rows
    ]
    lines = [table(headings, cells)]
    for row in rows:
        if row.damaged:
            names = ", ".join(row.damaged[:5]) + (", ..." if len(row.damaged) > 5 else "")
            lines.append(
                f"  ! {row.network_id}: the live state of {len(row.damaged)} agents is damaged "
                f"({names}); their last good version is kept. Restore them: `stateroom restore "
                f"--network {row.network_id} --agent {row.damaged[0]}`"
            )
        lines += [
            f"  ! {row.network_id}: {said}; its last good copy is kept" for said in row.incomplete
        ]
        if row.base_fault:
            lines.append(f"  ! {row.network_id}: everything was stored again: {row.base_fault}")
    return "\n".join(lines)
