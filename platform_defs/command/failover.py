"""`stateroom failover`: a person gives a node or a region up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from platform_defs.command import exit_codes
from platform_defs.command.controller_standing import (
    NOBODY_LEADS,
    Standing,
    demand_controller,
    leader_text,
    read_standing,
)
from platform_defs.command.failover_preview import (
    Preview,
    preview_document,
    preview_failover,
    preview_lines,
)
from platform_defs.command.forced_orders import (
    GivenOrder,
    open_incident_of,
    order_failover,
    would_force,
)
from platform_defs.command.moments import utc_text
from platform_defs.command.operator_input import (
    KINDS,
    by_option,
    complete_subject,
    demand_reason,
    demand_subject,
    json_option,
    person,
)
from platform_defs.command.output import cell_text, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import load_settings

_options: tuple[Callable[..., Any], ...] = (
    click.argument("kind", type=click.Choice(KINDS)),
    click.argument("name", shell_complete=complete_subject),
    click.option("--dry-run", is_flag=True, help="Only show what would be done."),
    click.option("--approve", is_flag=True, help="Do not ask: order it."),
    click.option("--reason", default="ordered by hand", show_default=True, metavar="TEXT",
                 help="Why; it stands in the incident."),
    by_option,
    json_option,
)  # fmt: skip


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_options):
        function = option(function)
    return function


@click.command()
@_with_options
@click.pass_context
def failover(
    ctx: click.Context,
    kind: str,
    name: str,
    dry_run: bool,
    approve: bool,
    reason: str,
    by: str | None,
    as_json: bool,
) -> None:
    """Move the agents of a node or region elsewhere, because a person says so.

    Shows where each agent would go, by the planner of the live run, and asks. What is ordered
    passes every limit but fencing: nothing moves before nothing there can write any more. Where an
    incident waits for a person, exactly what it waits for is approved. The controller does it
    within seconds; `stateroom incident NAME` tells how far it is. With --dry-run the exit code is 1
    when agents would be parked or would wait, or nobody would act.

    \b
    Examples:
      stateroom failover node us-west-2-1 --dry-run
      stateroom failover node us-west-2-1 --approve --reason "smoke in the rack"
      stateroom failover region eu-central-1 --json --dry-run | jq .agents_parked
    """  # noqa: D301
    if dry_run and approve:
        raise click.UsageError("--dry-run and --approve exclude each other")
    settings = load_settings()
    home = demand_subject(settings, kind, name)
    who, said = person(by), demand_reason(reason, "it stands in the incident")
    with fleet_store(settings) as store:
        now = datetime.now(UTC)
        standing = read_standing(store, now)
        waiting = open_incident_of(store, kind, name)
        forced = would_force(store, waiting)
        preview = preview_failover(settings, store, kind, name, home, standing.view, forced=forced)
        waits_for = waiting.waits_for if waiting else ""
        if not as_json:
            click.echo("\n".join(_text(preview, standing, waits_for, now)))
        if not dry_run:
            demand_controller(standing, f"fail over {kind} {name}")
            if not approve:
                click.confirm(f"Fail over {kind} {name} now?", abort=True, err=as_json)
            order = order_failover(store, kind, name, home.name, who, said)
        else:
            order = None
    if as_json:
        click.echo(to_json(_document(preview, standing, waits_for, order)))
    elif order is not None:
        click.echo(ordered_text(order))
    doubtful = dry_run and bool(preview.parked or preview.waiting or not standing.leads)
    ctx.exit(exit_codes.FINDING if doubtful else exit_codes.OK)


def _text(preview: Preview, standing: Standing, waits_for: str, now: datetime) -> list[str]:
    lines = [f"failover of {preview.subject} would leave:", *preview_lines(preview, now)]
    if waits_for:
        lines.append(f"  an incident waits for a person to allow `{cell_text(waits_for)}`")
    return lines + standing_lines(standing, "what a person orders is done all the same")


def standing_lines(standing: Standing, when_paused: str) -> list[str]:
    """Who would do it, and what holds it back.

    Args:
        standing: as it was read.
        when_paused: what a pause means for this order.
    """
    lines = [f"controller: {cell_text(leader_text(standing))}"]
    if not standing.leads:
        lines.append(f"  -> {NOBODY_LEADS}")
    if standing.frozen is not None:
        why = cell_text(standing.frozen.reason)
        lines.append(f"  ! it is frozen ({why}): it does nothing until it trusts what it sees")
    if standing.automation.paused:
        who, why = cell_text(standing.automation.changed_by), cell_text(standing.automation.reason)
        lines.append(f"  ! automatic failover is paused ({who}: {why}); {when_paused}")
    return lines


def ordered_text(order: GivenOrder) -> str:
    """What was recorded, and how to follow it."""
    who = cell_text(order.by)
    if not order.is_new:
        said = f"{who} ordered it at {utc_text(order.at)} already; nothing was changed"
    else:
        said = f"ordered: {who} allows `{cell_text(order.action)}` of {order.incident_id}"
    return f"{said}\n  -> stateroom incident {order.incident_id}"


def _document(
    preview: Preview, standing: Standing, waits_for: str, order: GivenOrder | None
) -> dict[str, Any]:
    return {
        **preview_document(preview),
        "waits_for": waits_for,
        "leads": standing.leads,
        "paused": standing.automation.paused,
        "frozen": standing.frozen is not None,
        "order": None if order is None else order._asdict(),
    }
