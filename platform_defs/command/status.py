"""`stateroom status`: the fleet on one screen, from counts that the database makes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from fleet.circuit_breaker import breakers_text
from fleet.status import FleetStatus, summarize_fleet
from fleet.vectors.health import IndexHealth
from platform_defs.command import exit_codes
from platform_defs.command.controller_standing import (
    UNKNOWN,
    Standing,
    read_standing,
    standing_document,
)
from platform_defs.command.output import age, cell_text, coloured, colours_wanted, table, to_json
from platform_defs.command.status_backups import BackupLine, backup_text, read_backup_lines
from platform_defs.command.status_failover import (
    incident_texts,
    standing_findings,
    standing_texts,
)
from platform_defs.command.status_vectors import (
    index_documents,
    index_findings,
    index_texts,
    read_index_health,
)
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import Settings, load_settings
from platform_defs.state_folder import StateFolder, UpRun

INCIDENTS_SHOWN = 10


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--watch", is_flag=True, help="Repeat until Ctrl-C.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks with --watch.",
)
@click.pass_context
def status(ctx: click.Context, as_json: bool, watch: bool, interval_s: float) -> None:
    """Show regions, nodes, agents, the oldest heartbeat and open incidents.

    Exit code 1 when something is wrong, 3 when the store cannot be reached.

    \b
    Examples:
      stateroom status
      stateroom status --watch --interval 1
      stateroom status --json | jq .findings
    """  # noqa: D301
    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other")
    settings = load_settings()
    folder = StateFolder(settings.fleet.state_dir)
    while True:
        running, now = folder.read_up(), datetime.now(UTC)
        found, standing, indexes = _look(settings, now)
        backups = read_backup_lines(settings)
        if as_json:
            document = status_document(settings, found, running, backups, standing, indexes)
            click.echo(to_json(document))
        else:
            if watch:
                click.clear()
            colours = colours_wanted()
            screen = status_text(
                settings, found, running, now, backups, standing, indexes, colours=colours
            )
            click.echo(screen)
        if not watch:
            ctx.exit(exit_codes.OK if is_well(found, running) else exit_codes.FINDING)
        time.sleep(interval_s)


def is_well(found: FleetStatus, running: UpRun | None) -> bool:
    """Whether nothing is wrong, neither with the fleet nor with its start."""
    return found.healthy and not (running and running.problem)


def _look(
    settings: Settings, now: datetime
) -> tuple[FleetStatus, Standing, tuple[IndexHealth, ...]]:
    with fleet_store(settings) as store:
        actions = store.open_actions()
        found = summarize_fleet(store.fleet_counts(), actions, store.breakers())
        standing = read_standing(store, now)
        indexes = read_index_health(store, settings, now)
    findings = (
        *found.findings,
        *standing_findings(standing, actions),
        *index_findings(indexes),
    )
    return found._replace(findings=findings), standing, indexes


def status_document(
    settings: Settings,
    found: FleetStatus,
    running: UpRun | None,
    backups: Sequence[BackupLine] = (),
    standing: Standing = UNKNOWN,
    indexes: Sequence[IndexHealth] = (),
) -> dict[str, Any]:
    """What `--json` prints; docs/command.md describes it."""
    numbers = {
        name: value
        for name, value in found._asdict().items()
        if name not in {"regions", "incidents", "findings", "breakers"}
    }
    return {
        "fleet": settings.fleet.name,
        "running": running is not None,
        "url": running.url if running else None,
        "healthy": is_well(found, running),
        **numbers,
        "regions": [region._asdict() for region in found.regions],
        "backups": [line._asdict() for line in backups],
        "indexes": index_documents(indexes),
        "failover": standing_document(standing),
        "circuits": [breaker._asdict() for breaker in found.breakers],
        "incidents": [incident._asdict() for incident in found.incidents],
        "findings": [*filter(None, [running and running.problem]), *found.findings],
    }


def status_text(
    settings: Settings,
    found: FleetStatus,
    running: UpRun | None,
    now: datetime,
    backups: Sequence[BackupLine] = (),
    standing: Standing = UNKNOWN,
    indexes: Sequence[IndexHealth] = (),
    *,
    colours: bool,
) -> str:
    """The screen: who runs it, a line per region and per network's backup, incidents, findings."""
    word = coloured("ok" if is_well(found, running) else "wrong", colours=colours)
    lines = [f"fleet {settings.fleet.name}: {word}", _running_text(running), ""]
    headings = (
        "region",
        "nodes",
        "live",
        "silent",
        "agents",
        "running",
        "failed",
        "unknown",
        "oldest heartbeat",
    )
    rows: list[tuple[object, ...]] = [
        (
            region.region,
            region.nodes,
            region.nodes_live,
            region.nodes_silent,
            region.agents_placed,
            region.agents_running,
            region.agents_failed,
            region.agents_unknown,
            age(region.oldest_report_at, now),
        )
        for region in found.regions
    ]
    if len(rows) > 1:
        total = [sum(int(str(row[column])) for row in rows) for column in range(1, 8)]
        rows.append(("all", *total, age(found.oldest_report_at, now)))
    lines += [table(headings, rows) if rows else "no nodes are declared", ""]
    lines += [backup_text(line, now) for line in backups]
    lines += index_texts(indexes, now)
    lines += standing_texts(standing, now)
    lines += filter(None, [cell_text(breakers_text(found.breakers))])
    lines += incident_texts(standing, found.incidents, now)
    lines += [f"  ! {cell_text(sentence)}" for sentence in found.findings[: INCIDENTS_SHOWN * 2]]
    hidden = len(found.findings) - INCIDENTS_SHOWN * 2
    if hidden > 0:
        lines.append(f"  ... and {hidden} more; `stateroom status --json` lists all")
    return "\n".join(lines)


def _running_text(running: UpRun | None) -> str:
    if running is None:
        return "not running here (`stateroom up` starts it); last known:"
    state = "running" if running.ready else "starting"
    line = f"{state} since {running.started_at} (pid {running.pid})  {running.url}".rstrip()
    return f"{line}\n  ! {running.problem}" if running.problem else line
