"""`stateroom capacity`: how full regions are, their trend, and whether they could lose nodes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from fleet.capacity import CapacityForecast, CapacityPolicy
from fleet.errors import NotFoundError
from platform_defs.command import exit_codes
from platform_defs.command.cost_prices import look_at_fleet
from platform_defs.command.lake_access import existing_lake
from platform_defs.command.output import age, size_text, table, to_json
from platform_defs.declared_costs import declared_capacity
from platform_defs.settings import Settings, load_settings

if TYPE_CHECKING:
    from ops.capacity import Points


@click.command()
@click.option("--region", help="Only this region.")
@click.option(
    "--lose",
    type=click.IntRange(0, 1000),
    help="Ask for the loss of so many of the largest nodes; default `capacity.nodes_lost`.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON list with every field.")
@click.pass_context
def capacity(ctx: click.Context, region: str | None, lose: int | None, as_json: bool) -> None:
    """Show how full each region is now, its trend, and what is left after the loss of nodes.

    What is there and allocated is read from the control store at this moment; the trend is taken
    from the hourly cost reports, as far as there are any. Nodes that have never reported do not
    count.

    Exit code 1 when a region is full within `capacity.warn_days`, or could not lose the nodes.

    \b
    Examples:
      stateroom capacity
      stateroom capacity --region us-west-2 --lose 3
      stateroom capacity --json | jq '.[] | select(.days_to_full != null)'
    """  # noqa: D301
    from ops.capacity import forecast_live

    settings = load_settings()
    regions = sorted(one.name for one in settings.regions)
    if region is not None and region not in regions:
        raise NotFoundError(f"no region {region!r}; declared: {', '.join(regions)}")
    policy = declared_capacity(settings.capacity)
    if lose is not None:
        policy = CapacityPolicy(policy.history_days, policy.warn_days, policy.full_ratio, lose)
    now = datetime.now(UTC)
    look, _ = look_at_fleet(settings)
    history = read_history(settings, policy, now)
    found = forecast_live(history, look, policy, now)
    rows = [row for row in found if region in {None, row.region}]
    if not rows:
        where = f"region {region}" if region else "any region"
        raise NotFoundError(
            f"no node of {where} has ever reported, so it has no capacity yet",
            hint="Start the fleet with `stateroom up`; `stateroom nodes` lists the nodes.",
        )
    if as_json:
        click.echo(to_json([row._asdict() for row in rows]))
    else:
        click.echo(capacity_text(rows, policy))
        click.echo(freshness_text(history, now))
    wrong = any(is_finding(row, policy) for row in rows)
    ctx.exit(exit_codes.FINDING if wrong else exit_codes.OK)


def read_history(settings: Settings, policy: CapacityPolicy, now: datetime) -> Points:
    """Looks of the hourly reports, oldest first; none before the first report."""
    from ops.capacity import read_points

    if not settings.lake.path.is_dir():
        return {}
    since = now - timedelta(days=policy.history_days)
    return read_points(existing_lake(settings), since, now)


def freshness_text(history: Points, now: datetime) -> str:
    """How fresh the numbers are: what is from now, and what the trend is from."""
    newest = max((points[-1].at for points in history.values() if points), default=None)
    looks = max((len(points) for points in history.values()), default=0)
    if newest is None:
        return "as of now; no hourly report yet, so there is no trend (`costs_job` makes the first)"
    return f"as of now; trend from {looks} reports, the newest {age(newest, now)} ago"


def is_finding(row: CapacityForecast, policy: CapacityPolicy) -> bool:
    """Whether somebody should look at it."""
    soon = row.days_to_full is not None and row.days_to_full < policy.warn_days
    return soon or not row.holds_loss


def capacity_text(rows: list[CapacityForecast], policy: CapacityPolicy) -> str:
    """A line for each region and resource."""
    headings = (
        "region", "resource", "capacity", "allocated", "used", "trend/day", "sure", "full in",
        f"free after loss of {policy.nodes_lost}", "why",
    )  # fmt: skip
    cells = [
        (
            row.region,
            row.resource,
            _amount(row.resource, row.capacity),
            _amount(row.resource, row.allocated),
            f"{row.used_ratio * 100:.0f} %",
            _amount(row.resource, row.slope_per_day),
            "-" if row.agreement is None else f"{row.agreement * 100:.0f} %",
            "-" if row.days_to_full is None else f"{row.days_to_full:.1f} days",
            _amount(row.resource, row.free_after_loss),
            row.reason,
        )
        for row in rows
    ]
    return table(headings, cells)


def _amount(resource: str, amount: float | None) -> str:
    if amount is None:
        return "-"
    if resource == "memory_bytes":
        return size_text(round(amount)) if amount >= 0 else f"-{size_text(round(-amount))}"
    return f"{amount:.4g}"
