"""`stateroom pause` and `stateroom resume`: the one switch of automatic failover."""

from __future__ import annotations

import click

from fleet.operator_orders import Automation
from platform_defs.command.moments import utc_text
from platform_defs.command.operator_input import by_option, demand_reason, json_option, person
from platform_defs.command.output import cell_text, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import load_settings


@click.command()
@click.option("--reason", default=None, metavar="TEXT", help="Why; everybody reads it (required).")
@by_option
@json_option
def pause(reason: str | None, by: str | None, as_json: bool) -> None:
    """Pause automatic failover: everything is watched and told, nothing is moved.

    It holds until `stateroom resume`, whatever restarts. What a person orders with
    `stateroom failover ... --approve` is still done; nodes still fence themselves.

    \b
    Examples:
      stateroom pause --reason "network work in us-west-2 until 04:00"
      stateroom pause --reason "..." --by ann --json
    """  # noqa: D301
    said = demand_reason(reason, "who is woken meanwhile must know why nothing is moved")
    with fleet_store(load_settings()) as store:
        switch = store.set_automation(paused=True, by=person(by), reason=said)
    click.echo(to_json(switch._asdict()) if as_json else automation_text(switch))


@click.command()
@click.option("--reason", default="resumed by hand", show_default=True, metavar="TEXT", help="Why.")
@by_option
@json_option
def resume(reason: str, by: str | None, as_json: bool) -> None:
    """Let automatic failover act again; what was held back is done at once if it still holds.

    \b
    Examples:
      stateroom resume
      stateroom resume --by ann --reason "network work is done"
    """  # noqa: D301
    said = demand_reason(reason, "it stands in the journal")
    with fleet_store(load_settings()) as store:
        before = store.automation()
        switch = before
        if before.paused:
            switch = store.set_automation(paused=False, by=person(by), reason=said)
    if as_json:
        click.echo(to_json(switch._asdict()))
    elif before.paused:
        click.echo(automation_text(switch))
    else:
        click.echo("automatic failover was not paused; nothing was changed")


def automation_text(switch: Automation) -> str:
    """The switch in a sentence."""
    if switch.changed_at is None:
        return "automatic failover is on"
    word = "paused" if switch.paused else "on"
    who, why = cell_text(switch.changed_by), cell_text(switch.reason)
    return f"automatic failover is {word}: {who} at {utc_text(switch.changed_at)}: {why}"
