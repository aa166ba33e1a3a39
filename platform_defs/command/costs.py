"""`stateroom costs`: what the fleet costs, what could be saved, what is left behind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fleet.cleanup import CleanupProposal, LeftKind
from fleet.costs.prices import HOURS_A_MONTH, PriceBook
from fleet.costs.report import GROUPINGS, group_costs
from fleet.errors import InvalidInputError, NotFoundError
from platform_defs.command.lake_access import existing_lake
from platform_defs.command.output import age, size_text, table, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import Settings, load_settings
from platform_defs.settings_costs import (
    declared_prices,
    declared_quotes,
    declared_spot,
)

if TYPE_CHECKING:
    from fleet.agents import Workload
    from ops.costs import FleetLook

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
    look, _ = _look(settings)
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
    look, workloads = _look(settings)
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


@costs.command()
@click.option("--approve", metavar="ID", help="Remove this one; only rows of the lake can be.")
@_limit
@_json
def cleanup(approve: str | None, limit: int, as_json: bool) -> None:
    """List what is left behind; remove one thing that is approved.

    What `cleanup.keep` names is held and never removed.

    \b
    Examples:
      stateroom costs cleanup
      stateroom costs cleanup --approve 3f2a9c01b7de
    """  # noqa: D301
    from ops.cleanup import read_cleanup

    settings = load_settings()
    found = read_cleanup(existing_lake(settings))
    if approve is not None:
        click.echo(_remove(settings, found, approve))
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


def _remove(settings: Settings, rows: Sequence[CleanupProposal], approved: str) -> str:
    """Remove the rows of one partition, after looking again whether it is still left behind.

    Objects go one by one; a call that was cut off is repeated.

    Raises:
        NotFoundError: nothing of this id is left behind.
        InvalidInputError: it is held, or no rows of the lake.
    """
    from ops.costs_removal import remove_lake_partition

    chosen = next((row for row in rows if row.proposal_id == approved), None)
    if chosen is None:
        raise NotFoundError(
            f"nothing left behind has the id {approved!r}",
            hint="`stateroom costs cleanup` lists the ids.",
        )
    if chosen.held:
        raise InvalidInputError("--approve", approved, f"one that is not held ({chosen.reason})")
    if chosen.kind != LeftKind.LAKE_PARTITION:
        raise InvalidInputError(
            "--approve",
            approved,
            f"rows of the lake, and this is {chosen.kind}",
            hint="`stateroom costs proposals` says what to do with it.",
        )
    names = {
        *(one.name for one in settings.regions),
        *(one.name for one in settings.networks),
        "platform",
    }
    removed = remove_lake_partition(existing_lake(settings), chosen.subject, names)
    return f"removed {removed} objects of {chosen.subject}, {size_text(chosen.size_bytes)}"


def price_book(settings: Settings) -> PriceBook:
    """The prices of the settings, with what the provider last quoted."""
    book = declared_prices(settings.costs, settings.prices)
    quotes = declared_quotes(settings.costs)
    if not quotes.enabled:
        return book
    from ops.price_quotes import quoted_book

    return quoted_book(existing_lake(settings), book, quotes)


def _look(settings: Settings) -> tuple[FleetLook, list[Workload]]:
    """The fleet as the control store has it now."""
    from ops.costs import FleetLook, read_copied

    copied = {}
    if settings.lake.path.is_dir():
        copied = read_copied(existing_lake(settings), datetime.now(UTC))
    with fleet_store(settings) as store:
        seen = (store.nodes(), store.agents(), store.state_infos(), store.gpus())
        return FleetLook(*seen, copied), store.workloads()
