"""`stateroom costs`: what the fleet costs, what could be saved, what is left behind."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fleet.costs.prices import HOURS_A_MONTH
from fleet.costs.report import GROUPINGS, group_costs
from platform_defs.command.cost_prices import look_at_fleet, price_book
from platform_defs.command.costs_cleanup import cleanup
from platform_defs.command.costs_consolidation import consolidation
from platform_defs.command.lake_access import existing_lake
from platform_defs.command.output import table, to_json
from platform_defs.declared_costs import declared_spot
from platform_defs.settings import load_settings

ROWS_SHOWN = 30

_json = click.option("--json", "as_json", is_flag=True, help="A JSON list with every field.")
_limit = click.option(
    "--limit", type=click.IntRange(1), default=ROWS_SHOWN, show_default=True, help="Lines shown."
)


@click.group()
def costs() -> None:
    """Show what the fleet costs and what could be saved. Nothing is changed without `--approve`.

    \b
    Examples:
      stateroom costs report --by workload
      stateroom costs spot
      stateroom costs proposals
      stateroom costs consolidation
      stateroom costs cleanup
    """  # noqa: D301


@costs.command()
@click.option(
    "--by", type=click.Choice(tuple(GROUPINGS)), default="network", show_default=True,
    help="What costs are added up by.",
)  # fmt: skip
@_limit
@_json
def report(by: str, limit: int, as_json: bool) -> None:
    """Price what is allocated, used, stored and idle at this moment.

    \b
    Examples:
      stateroom costs report
      stateroom costs report --by node --limit 10
      stateroom costs report --by workload --json
    """  # noqa: D301
    from ops.costs import cost_rows

    settings = load_settings()
    look, _ = look_at_fleet(settings)
    groups = group_costs(cost_rows(look, price_book(settings), datetime.now(UTC)), by)
    if as_json:
        click.echo(to_json([group._asdict() for group in groups]))
        return
    unit = f"{settings.costs.currency}/h"
    headings = (by, "agents", f"spend {unit}", "used", "wasted", "stored", "sent")
    click.echo(table(headings, groups[:limit]))
    spend = sum(group.spend_per_hour for group in groups)
    wasted = sum(group.wasted_per_hour for group in groups)
    more = f"{len(groups) - limit} more; " if len(groups) > limit else ""
    share = f"{wasted / spend:.0%} wasted" if spend else "nothing is paid"
    month = f"{spend * HOURS_A_MONTH:.2f} {settings.costs.currency} a month"
    click.echo(f"{more}{spend:.4g} {unit} in all ({month}), {share}")


@costs.command()
@_json
def spot(as_json: bool) -> None:
    """Judge which workloads bear capacity that is taken back at short notice.

    \b
    Examples:
      stateroom costs spot
      stateroom costs spot --json
    """  # noqa: D301
    from ops.costs import cost_rows, spot_rows

    settings, now = load_settings(), datetime.now(UTC)
    look, workloads = look_at_fleet(settings)
    rows = cost_rows(look, price_book(settings), now)
    found = spot_rows(workloads, look, rows, declared_spot(settings.costs), now)
    if as_json:
        click.echo(to_json([row._asdict() for row in found]))
        return
    unit = f"{settings.costs.currency}/month"
    headings = ("network", "workload", "verdict", "agents", "away s", unit, "why")
    cells = [
        (
            row.network_id,
            row.workload,
            row.verdict,
            row.agents,
            row.away_s,
            round(row.saving_per_hour * HOURS_A_MONTH, 2),
            row.reason,
        )
        for row in found
    ]
    click.echo(table(headings, cells) if cells else "no workload has agents")


@costs.command()
@_limit
@_json
def proposals(limit: int, as_json: bool) -> None:
    """List every change that would save money, dearest first. They overlap.

    \b
    Examples:
      stateroom costs proposals
      stateroom costs proposals --json | jq '.[] | select(.kind == "consolidation")'
    """  # noqa: D301
    from ops.savings import gather_savings

    settings = load_settings()
    found = gather_savings(existing_lake(settings), datetime.now(UTC))
    if as_json:
        click.echo(to_json([row._asdict() for row in found]))
        return
    if not found:
        click.echo("nothing is proposed; `costs_job` judges every hour")
        return
    unit = f"{settings.costs.currency}/month"
    headings = ("kind", "subject", unit, "tested on", "why", "next step")
    cells = [
        (
            row.kind,
            row.subject,
            round(row.saving_per_month, 2),
            row.tested,
            row.reason,
            row.next_step,
        )
        for row in found[:limit]
    ]
    click.echo(table(headings, cells))
    if len(found) > limit:
        click.echo(f"... {len(found) - limit} more")


for command in (cleanup, consolidation):
    costs.add_command(command)
