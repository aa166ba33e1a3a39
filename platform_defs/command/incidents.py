"""`stateroom incidents`, `incident` and `ack`: what has failed, its story, and who has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from click.shell_completion import CompletionItem

from fleet.errors import NotFoundError, StateroomError
from fleet.incident_story import tell_incident
from fleet.incident_timeline import Incident, read_incident
from fleet.incidents import IncidentHeader, IncidentState, require_open, select_incident
from fleet.ports.control_store import ControlStore
from platform_defs.command.moments import utc_text
from platform_defs.command.operator_input import by_option, json_option, person, unknown
from platform_defs.command.output import age, cell_text, colours_wanted, table, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import load_settings

SEARCHED = 1000
"""Newest incidents among which a subject or the beginning of an id is looked for."""


def complete_incident(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of open incidents that begin as typed."""
    del ctx, param
    try:
        with fleet_store(load_settings()) as store:
            found = store.incidents(open_only=True)
    except (StateroomError, OSError):
        return []  # a shell that completes must not print errors between the user's words
    ids = [one.incident_id for one in found]
    return [CompletionItem(one) for one in ids if one.startswith(incomplete)]


@click.command()
@click.option("--all", "with_ended", is_flag=True, help="Ended ones as well.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True,
              help="At most so many, newest first.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="A JSON list with every field.")
def incidents(with_ended: bool, limit: int, as_json: bool) -> None:
    """List incidents, newest first: what failed, since when, what it waits for, who has it.

    \b
    Examples:
      stateroom incidents
      stateroom incidents --all --limit 200
      stateroom incidents --json | jq '.[] | select(.waits_for != "")'
    """  # noqa: D301
    with fleet_store(load_settings()) as store:
        found = store.incidents(open_only=not with_ended, limit=limit)
    if as_json:
        click.echo(to_json([one._asdict() for one in found]))
    elif found:
        click.echo(incidents_text(found, datetime.now(UTC), colours=colours_wanted()))
    else:
        click.echo("no incident" if with_ended else "no open incident; --all lists ended ones")


def incidents_text(found: Sequence[IncidentHeader], now: datetime, *, colours: bool) -> str:
    """A row for each."""
    headings = ("incident", "subject", "state", "began", "lasted", "waits for", "had by", "reason")
    rows = [
        (
            one.incident_id,
            f"{one.kind.value}/{one.subject}",
            one.state.value,
            utc_text(one.opened_at),
            age(one.opened_at, one.ended_at or now),
            one.waits_for or "",
            one.acknowledged_by or "nobody",
            one.outcome or one.reason,
        )
        for one in found
    ]
    return table(headings, rows, colours=colours)


@click.command()
@click.argument("incident_id", metavar="ID", shell_complete=complete_incident)
@json_option
def incident(incident_id: str, as_json: bool) -> None:
    """Tell one incident: what failed, how it stands, what is wanted of you, what happened when.

    ID is an incident's id, the beginning of one, or the node or region that it is about (then its
    newest). Times are UTC.

    \b
    Examples:
      stateroom incident us-west-2-1
      stateroom incident node-us-west-2-1-20261121T0312
      stateroom incident us-west-2-1 --json | jq .losses
    """  # noqa: D301
    with fleet_store(load_settings()) as store:
        header = find_incident(store, incident_id)
        found = read_incident(header, store.journal(header.incident_id))
    now = datetime.now(UTC)
    click.echo(to_json(incident_document(found, now)) if as_json else incident_text(found, now))


def find_incident(store: ControlStore, wanted: str) -> IncidentHeader:
    """The incident that a person means.

    Raises:
        NotFoundError: none, or several; names the nearest one.
    """
    exact = store.incident(wanted)
    if exact is not None:
        return exact
    known = store.incidents(limit=SEARCHED)
    name = wanted.removeprefix("node/").removeprefix("region/")
    try:
        return select_incident(known, name)
    except NotFoundError as error:
        if any(one.incident_id.startswith(wanted) for one in known):
            raise
        names = [name for one in known for name in (one.subject, one.incident_id)]
        hint = "`stateroom incidents --all` lists them."
        raise unknown("incident", wanted, names, hint) from error


def incident_text(found: Incident, now: datetime) -> str:
    """The story, with the id above it."""
    lines = [found.header.incident_id, *tell_incident(found, now)]
    return "\n".join(cell_text(line) for line in lines)


def incident_document(found: Incident, now: datetime) -> dict[str, Any]:
    """What `--json` prints; docs/command.md describes it."""
    return {
        **found.header._asdict(),
        "losses": found.losses._asdict(),
        "timeline": [
            {**entry._asdict(), "losses": entry.losses._asdict()} for entry in found.timeline
        ],
        "story": tell_incident(found, now),
    }


@click.command()
@click.argument("incident_id", metavar="ID", shell_complete=complete_incident)
@by_option
@click.option("--note", default="", help="What you are going to do; the next one reads it.")
@json_option
def ack(incident_id: str, by: str | None, note: str, as_json: bool) -> None:
    """Acknowledge an incident: you have it, nobody else is paged.

    It also lifts the subject's cool-down and quarantine. The first one to acknowledge stays. ID as
    for `stateroom incident`.

    \b
    Examples:
      stateroom ack us-west-2-1
      stateroom ack us-west-2-1 --by ann --note "power of rack 7, electrician called"
    """  # noqa: D301
    with fleet_store(load_settings()) as store:
        before = find_incident(store, incident_id)
        if before.state == IncidentState.ENDED:
            require_open(before, before.incident_id)
        header = store.acknowledge(before.incident_id, person(by), note)
    if as_json:
        click.echo(to_json(header._asdict()))
        return
    at = utc_text(header.acknowledged_at)
    said = f": {cell_text(header.note)}" if header.note else ""
    already = before.acknowledged_at is not None
    verb = "had acknowledged" if already else "has acknowledged"
    click.echo(f"{cell_text(header.acknowledged_by)} {verb} {header.incident_id} at {at}{said}")
