"""`stateroom capacity`: how full regions are, their trend, and whether they could lose nodes."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fleet.capacity import CapacityForecast, CapacityPolicy
from fleet.errors import NotFoundError
from platform_defs.command import exit_codes
from platform_defs.command.lake_access import existing_lake
from platform_defs.command.output import size_text, table, to_json
from platform_defs.settings import load_settings
from platform_defs.settings_costs import declared_capacity


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
    """Show how full each region is, its trend, and what is left after the loss of nodes.

    Exit code 1 when a region is full within `capacity.warn_days`, or could not lose the nodes.

    \b
    Examples:
      stateroom capacity
      stateroom capacity --region us-west-2 --lose 3
      stateroom capacity --json | jq '.[] | select(.days_to_full != null)'
    """  # noqa: D301
    from ops.capacity import forecast_regions

    settings = load_settings()
    regions = sorted(one.name for one in settings.regions)
    if region is not None and region not in regions:
        raise NotFoundError(f"no region {region!r}; declared: {', '.join(regions)}")
    policy = declared_capacity(settings.capacity)
    if lose is not None:
        policy = CapacityPolicy(policy.history_days, policy.warn_days, policy.full_ratio, lose)
    found = forecast_regions(existing_lake(settings), regions, policy, datetime.now(UTC))
    rows = [row for row in found if region in {None, row.region}]
    if not rows:
        raise NotFoundError(
            "no cost report in the lake, from which capacity is taken",
            hint="`costs_job` makes one every hour; start it in the UI to have one now.",
        )
    click.echo(to_json([row._asdict() for row in rows]) if as_json else capacity_text(rows, policy))
    wrong = any(is_finding(row, policy) for row in rows)
    ctx.exit(exit_codes.FINDING if wrong else exit_codes.OK)


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
