"""`stateroom maintenance`: nodes and regions that are being worked on, and are not watched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from fleet.errors import InvalidInputError, NotFoundError
from fleet.operator_orders import MAINTENANCE_MAX, Maintenance, maintenance_subject
from platform_defs.command.moments import parse_moment, parse_span, utc_text
from platform_defs.command.operator_input import (
    KINDS,
    by_option,
    complete_subject,
    demand_reason,
    demand_subject,
    json_option,
    person,
)
from platform_defs.command.output import age, cell_text, table, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import load_settings

_kind = click.argument("kind", type=click.Choice(KINDS))
_name = click.argument("name", shell_complete=complete_subject)


@click.group()
def maintenance() -> None:
    """Mark nodes or regions that are being worked on: their silence is expected.

    What is marked is not watched, gets no agents, and opens no incident. The mark does not move
    anybody away: `stateroom failover node NAME --approve` does.

    \b
    Examples:
      stateroom maintenance start node us-west-2-1 --for "2 hours" --reason "new disks"
      stateroom maintenance start region eu --until 2026-11-22T04:00:00Z --reason "power work"
      stateroom maintenance list
      stateroom maintenance end node us-west-2-1
    """  # noqa: D301


@maintenance.command()
@_kind
@_name
@click.option("--until", metavar="TIME", help="When it ends: 2026-11-22T04:00:00Z.")
@click.option("--for", "span", metavar="SPAN", help='How long: "90 minutes", "2 hours", "1 day".')
@click.option("--reason", default=None, metavar="TEXT", help="Why (required).")
@by_option
@json_option
def start(
    kind: str,
    name: str,
    until: str | None,
    span: str | None,
    reason: str | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Begin a maintenance, or give the one that is there another end."""
    said = demand_reason(reason, "who finds the node silent must know why")
    end_at = read_end(until, span, datetime.now(UTC))
    settings = load_settings()
    demand_subject(settings, kind, name)
    with fleet_store(settings) as store:
        mark = store.start_maintenance(maintenance_subject(kind, name), end_at, person(by), said)
    click.echo(to_json(mark._asdict()) if as_json else f"{_mark_text(mark)}; it is not watched")


def read_end(until: str | None, span: str | None, now: datetime) -> datetime:
    """When a maintenance ends, by one of its two options.

    Raises:
        click.UsageError: neither or both are given.
        InvalidInputError: no moment or length, one that is over, or one that is too far away.
    """
    if (until is None) == (span is None):
        raise click.UsageError("one of --until and --for is needed: a mark must end by itself")
    field, text = ("--until", until) if until is not None else ("--for", span)
    assert text is not None
    left = parse_moment(field, text, now) - now if span is None else parse_span(field, text)
    if left <= timedelta(0):
        raise InvalidInputError(
            field, text, f"a moment that is still to come; it is {utc_text(now)}"
        )
    if left > MAINTENANCE_MAX - timedelta(minutes=1):
        raise InvalidInputError(field, text, f"less than {MAINTENANCE_MAX.days} days from now")
    return now + left


@maintenance.command()
@_kind
@_name
@click.option("--reason", default="it is done", show_default=True, metavar="TEXT", help="Why.")
@by_option
@json_option
def end(kind: str, name: str, reason: str, by: str | None, as_json: bool) -> None:
    """End a maintenance; the ages of its nodes count from now on."""
    said = demand_reason(reason, "it stands in the journal")
    settings = load_settings()
    subject = maintenance_subject(kind, name)
    with fleet_store(settings) as store:
        ended = store.end_maintenance(subject, person(by), said)
        if not ended:
            demand_subject(settings, kind, name)
            raise NotFoundError(
                f"{subject} is not under maintenance",
                hint="`stateroom maintenance list` lists the marks.",
            )
    document = {"subject": subject, "ended": True}
    click.echo(to_json(document) if as_json else f"{subject} is watched again")


@maintenance.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list with every field.")
def list_maintenances(as_json: bool) -> None:
    """List the marks, also those whose time is over."""
    with fleet_store(load_settings()) as store:
        marks = store.maintenances()
    now = datetime.now(UTC)
    if as_json:
        rows = [{**mark._asdict(), "counts": now < mark.until} for mark in marks]
        click.echo(to_json(rows))
    elif marks:
        click.echo(_marks_text(marks, now))
    else:
        click.echo("nothing is under maintenance")


def _marks_text(marks: list[Maintenance], now: datetime) -> str:
    rows = [
        (
            mark.subject,
            f"{age(mark.started_at, now)} ago",
            utc_text(mark.until) if now < mark.until else f"over since {utc_text(mark.until)}",
            mark.started_by,
            mark.reason,
        )
        for mark in marks
    ]
    return table(("subject", "began", "until", "by", "reason"), rows)


def _mark_text(mark: Maintenance) -> str:
    who, why = cell_text(mark.started_by), cell_text(mark.reason)
    return f"{mark.subject} is under maintenance until {utc_text(mark.until)} ({who}: {why})"
