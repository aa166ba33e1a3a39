"""`stateroom costs cleanup`: what is left behind, and one thing of it removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fleet.cleanup import CleanupProposal, LeftKind
from fleet.errors import NotFoundError
from platform_defs.command.action_journal import journaled
from platform_defs.command.cost_prices import look_at_fleet, price_book
from platform_defs.command.lake_access import existing_lake
from platform_defs.command.operator_input import by_option, demand_reason, person
from platform_defs.command.output import age, size_text, table, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.command.vector_access import opened_indexes
from platform_defs.declared_backup import declared_backup
from platform_defs.declared_costs import declared_cleanup
from platform_defs.declared_fleet import scaled_workloads
from platform_defs.settings import Settings, load_settings

if TYPE_CHECKING:
    from fleet.ports.control_store import ControlStore
    from fleet.ports.orphan_reader import OrphanRemover
    from ops.cleanup_removal import CleanupPorts, Removed

ROWS_SHOWN = 30
REMOVED_TOGETHER = (
    LeftKind.AGENT_LOGS.value,
    LeftKind.LAKE_PARTITION.value,
    LeftKind.UNDECLARED_BACKUPS.value,
)
"""Kinds of which there may be very many; agents are stopped one by one, or by `stateroom scale`."""


@click.command()
@click.option("--approve", metavar="ID", help="Stop or remove this one.")
@click.option("--approve-all", type=click.Choice(REMOVED_TOGETHER),
              help="Remove all of this kind that are listed.")  # fmt: skip
@click.option("--reason", default="left behind", show_default=True, metavar="TEXT",
              help="Why; it stands in the journal.")  # fmt: skip
@by_option
@click.option(
    "--limit", type=click.IntRange(1), default=ROWS_SHOWN, show_default=True, help="Lines shown."
)
@click.option("--json", "as_json", is_flag=True, help="JSON with every field.")
def cleanup(
    approve: str | None,
    approve_all: str | None,
    reason: str,
    by: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what is left behind; stop or remove what is approved.

    What is approved is looked at again first: what is in use again, was written since, or is held
    (`cleanup.keep`) stays. Killed and run again, a removal goes on.

    \b
    Examples:
      stateroom costs cleanup
      stateroom costs cleanup --approve 3f2a9c01b7de --reason "project ended"
      stateroom costs cleanup --approve-all agent_logs
    """  # noqa: D301
    from ops.cleanup import read_cleanup

    if approve is not None and approve_all is not None:
        raise click.UsageError("--approve and --approve-all exclude each other")
    settings = load_settings()
    found = read_cleanup(existing_lake(settings))
    if approve is not None or approve_all is not None:
        who, said = person(by), demand_reason(reason, "it stands in the journal")
        if approve is not None:
            done = [remove_approved(settings, found, approve, who, said)]
        else:
            rows = [row for row in found if row.kind == approve_all and not row.held]
            done = remove_kind(settings, rows, who, said)
        shown = to_json([one._asdict() for one in done]) if as_json else _removed_text(done)
        click.echo(shown)
        return
    if as_json:
        click.echo(to_json([row._asdict() for row in found]))
        return
    click.echo(cleanup_text(found, limit, datetime.now(UTC)))


def cleanup_text(rows: Sequence[CleanupProposal], limit: int, now: datetime) -> str:
    """A line for each thing; held ones say so."""
    if not rows:
        return "nothing is left behind; `costs_job` looks every hour"
    headings = ("id", "kind", "subject", "region", "size", "held", "seen", "why")
    cells = [
        (
            row.proposal_id,
            row.kind,
            row.subject,
            row.region or None,
            size_text(row.size_bytes),
            "yes" if row.held else "no",
            f"{age(row.looked_at, now)} ago",
            row.reason,
        )
        for row in rows[:limit]
    ]
    more = f"\n... {len(rows) - limit} more" if len(rows) > limit else ""
    return table(headings, cells) + more


def remove_approved(
    settings: Settings, rows: Sequence[CleanupProposal], approved: str, by: str, reason: str
) -> Removed:
    """Remove one thing, journaled as one action.

    Raises:
        NotFoundError: nothing of this id is, or was, left behind.
        InvalidInputError: it is held, or nothing removes its kind.
        PermanentError: it has come back to life.
        TransientError: a place does not answer; run again.
    """
    from ops.cleanup_removal import Approval, remove_left_behind

    chosen = next((row for row in rows if row.proposal_id == approved), None)
    if chosen is None:
        raise NotFoundError(
            f"nothing left behind has the id {approved!r}",
            hint="`stateroom costs cleanup` lists the ids.",
        )
    said = f"{by} removes {chosen.kind} {chosen.subject}: {reason}"
    with (
        fleet_store(settings) as store,
        journaled(store, "cleanup", chosen.proposal_id, said, same_reason=False) as detail,
    ):
        done = remove_left_behind(removal_ports(settings, store), chosen, Approval(by, reason))
        detail.update(done._asdict())
    return done


def remove_kind(
    settings: Settings, rows: Sequence[CleanupProposal], by: str, reason: str
) -> list[Removed]:
    """Remove all things of one kind, journaled as one action; what has come back to life is told.

    Raises:
        NotFoundError: none is listed.
        TransientError: a place does not answer; run again.
    """
    from ops.cleanup_removal import Approval, remove_all_of

    if not rows:
        raise NotFoundError(
            "nothing of this kind is listed, or all of it is held",
            hint="`stateroom costs cleanup` lists what is left behind.",
        )
    said = f"{by} removes {len(rows)} of kind {rows[0].kind}: {reason}"
    with (
        fleet_store(settings) as store,
        journaled(store, "cleanup", rows[0].kind, said, same_reason=False) as detail,
    ):
        ports = removal_ports(settings, store)
        removed, refused = remove_all_of(ports, rows, Approval(by, reason))
        detail.update(removed=[one.said for one in removed], refused=[str(e) for e in refused])
    for error in refused:
        click.echo(f"left alone: {error}", err=True)
    return removed


def removal_ports(settings: Settings, store: ControlStore) -> CleanupPorts:
    """What removals touch, as the settings declare it; nothing is opened that is not asked."""
    from ops.cleanup_removal import CleanupPorts
    from resources.clock import SystemClock
    from resources.orphans.agent_logs import AgentLogs
    from resources.orphans.lake_partitions import LakePartitions
    from resources.orphans.resource import index_readers
    from resources.orphans.retired_states import RetiredStates
    from resources.orphans.undeclared_backups import UndeclaredBackups
    from resources.vault.region_vaults import RegionVaults

    clock, declaration = SystemClock(), declared_backup(settings)
    vaults = RegionVaults(declaration, clock)
    names = {*(one.name for one in settings.regions), *declaration.vault_networks}
    logs = AgentLogs(settings.log_dir, store)
    rows = LakePartitions(existing_lake(settings), names)
    removers: list[OrphanRemover] = [logs, rows, *index_readers(opened_indexes(settings))]
    return CleanupPorts(
        store,
        vaults,
        (RetiredStates(store), UndeclaredBackups(vaults), *removers),
        {one.kind: one for one in removers},
        lambda: idle_now(settings),
        scaled_workloads(settings),
        declared_cleanup(settings.cleanup),
        clock,
    )


def idle_now(settings: Settings) -> list[CleanupProposal]:
    """Idle agents by the live store and the newest samples."""
    from fleet.promql.engine import PromqlEngine
    from ops.cleanup import idle_agents
    from platform_defs.command.metric_access import existing_metric_store

    look, _ = look_at_fleet(settings)
    engine = PromqlEngine(existing_metric_store(settings))
    policy = declared_cleanup(settings.cleanup)
    return idle_agents(engine, look, policy, price_book(settings), datetime.now(UTC))


def _removed_text(done: Sequence[Removed]) -> str:
    lines = [one.said for one in done] or ["nothing was removed"]
    freed = sum(one.freed_bytes for one in done)
    return "\n".join([*lines, *([f"{size_text(freed)} freed"] if freed else [])])
