"""`stateroom scale`: a person says how many agents a workload is to have, or lets it be decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from fleet.errors import InvalidInputError
from fleet.rescaling.standing import HOLD, HOLD_MAX, ScalingOrder
from platform_defs.command.moments import parse_span, utc_text
from platform_defs.command.operator_input import by_option, demand_reason, json_option, person
from platform_defs.command.output import cell_text, to_json
from platform_defs.command.scaling_damage import damage_documents, damage_lines, damaged_of
from platform_defs.command.scaling_subjects import complete_workload, demand_keys
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import load_settings


@click.command()
@click.argument("workload", shell_complete=complete_workload)
@click.option(
    "--replicas", type=click.IntRange(0, 1_000_000), metavar="N", help="So many, in each region."
)
@click.option("--auto", is_flag=True, help="Let it be decided again: lifts the number.")
@click.option("--region", metavar="REGION", help="In this region alone; default: in each.")
@click.option("--for", "span", metavar="SPAN", help='How long it holds: "2 hours", "1 day".')
@click.option("--reason", default="ordered by hand", show_default=True, metavar="TEXT", help="Why.")
@by_option
@json_option
def scale(
    workload: str,
    replicas: int | None,
    auto: bool,
    region: str | None,
    span: str | None,
    reason: str,
    by: str | None,
    as_json: bool,
) -> None:
    """Set the number of a workload's agents by hand, or hand it back.

    The number stands above the autoscaler, its mode and its limits, until `--auto` or the end of
    `--for`. The controller of rescaling sees it within seconds and has it done; `stateroom scaling
    explain` tells how. Who goes when there are to be fewer: docs/rescaling.md.

    \b
    Examples:
      stateroom scale chat --replicas 12 --for "2 hours" --reason "a launch"
      stateroom scale chat --replicas 0 --region eu-central-1
      stateroom scale chat --auto
    """  # noqa: D301
    if (replicas is None) == (not auto):
        raise click.UsageError("give --replicas N or --auto, one of them")
    if auto and span is not None:
        raise click.UsageError("--for belongs to --replicas: --auto has no end")
    settings = load_settings()
    keys = demand_keys(settings, workload, region)
    who, why = person(by), demand_reason(reason, "it stands in the journal")
    now = datetime.now(UTC)
    with fleet_store(settings) as store:
        if replicas is None:
            lifted = store.lift_scaling(keys, HOLD, who, why)
            document: dict[str, Any] = {"workload": workload, "lifted": lifted}
            text = _lifted_text(workload, lifted)
        else:
            until = None if span is None else now + _held_for(span)
            orders = [ScalingOrder(*key, HOLD, replicas, who, why, now, until) for key in keys]
            store.order_scaling(orders)
            document = {"orders": [one._asdict() for one in orders]}
            text = _ordered_text(orders)
        damaged = damaged_of(store.scaling_standings(), keys)
    if as_json:
        click.echo(to_json({**document, "damaged": damage_documents(damaged)}))
        return
    click.echo("\n".join([text, *damage_lines(damaged)]))


def _held_for(span: str) -> timedelta:
    left = parse_span("--for", span)
    if not timedelta(0) < left <= HOLD_MAX:
        raise InvalidInputError("--for", span, f"more than nothing, at most {HOLD_MAX.days} days")
    return left


def _ordered_text(orders: list[ScalingOrder]) -> str:
    first = orders[0]
    where = ", ".join(one.region for one in orders)
    until = "until `--auto`" if first.until is None else f"until {utc_text(first.until)}"
    who = cell_text(first.ordered_by)
    return (
        f"{first.workload} is to have {first.replicas} agents in {where}, {until} ({who})\n"
        f"  -> stateroom scaling explain {first.workload}"
    )


def _lifted_text(workload: str, lifted: int) -> str:
    if not lifted:
        return f"nobody held a number of {workload}; nothing was changed"
    return f"the number of {workload} is decided again ({lifted} lifted)"
