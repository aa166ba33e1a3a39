"""`stateroom agent NAME`: everything about one agent, from the store and from its log."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from fleet.agents import Activity, AgentState, Note
from fleet.errors import NotFoundError
from fleet.inventory import Agent
from fleet.names import validate_name
from fleet.ports.control_store import ControlStore
from platform_defs.command.output import (
    age,
    cell_text,
    coloured,
    colours_wanted,
    size_text,
    to_json,
)
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import Settings, load_settings

TAIL_READ_BYTES = 64 * 1024
"""Read at most so much from the end of a log."""


class AgentDetails(NamedTuple):
    """What is known of one agent."""

    agent: Agent
    state: AgentState | None
    activities: list[Activity]
    notes: list[Note]
    log_path: Path
    log_lines: list[str]


@click.command()
@click.argument("name")
@click.option("--last", type=click.IntRange(0, 1000), default=5, show_default=True,
              help="So many activities, notes and log lines.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def agent(name: str, last: int, as_json: bool) -> None:
    """Show where an agent runs, its state, what it did last, and the end of its log.

    \b
    Examples:
      stateroom agent us-west-2-cpu-1
      stateroom agent us-west-2-cpu-1 --last 50 --json
    """  # noqa: D301
    validate_name("agent", name)
    settings = load_settings()
    with fleet_store(settings) as store:
        details = read_details(store, settings, name, last)
    if as_json:
        click.echo(to_json(details_document(details)))
    else:
        click.echo(details_text(details, datetime.now(UTC), colours=colours_wanted()))


def read_details(store: ControlStore, settings: Settings, name: str, last: int) -> AgentDetails:
    """Gather what is known.

    Raises:
        NotFoundError: no such agent; names similar ones.
    """
    found = store.agent(name)
    if found is None:
        raise NotFoundError(
            f"no agent {name!r} is declared", hint="`stateroom agents` lists the agents."
        )
    log_path = settings.log_dir / "agents" / found.node_id / f"{name}.log"
    return AgentDetails(
        agent=found,
        state=store.state(name),
        activities=store.activities(name, last),
        notes=store.agent_notes(name, last),
        log_path=log_path,
        log_lines=tail(log_path, last),
    )


def tail(path: Path, count: int) -> list[str]:
    """The last lines of a file; none when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_READ_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return list(deque(text.splitlines(), maxlen=count))


def details_document(details: AgentDetails) -> dict[str, Any]:
    """What `--json` prints; the state's bytes stay in the store."""
    state = details.state
    return {
        "agent": details.agent._asdict(),
        "state": None
        if state is None
        else {
            "version": state.version,
            "epoch": state.epoch,
            "size_bytes": len(state.body),
            "digest": state.digest,
            "updated_at": state.updated_at,
        },
        "activities": [activity._asdict() for activity in details.activities],
        "notes": [note._asdict() for note in details.notes],
        "log_path": str(details.log_path),
        "log_lines": details.log_lines,
    }


def details_text(details: AgentDetails, now: datetime, *, colours: bool) -> str:
    """The screen."""
    found = details.agent
    phase = coloured(found.phase.value, colours=colours)
    lines = [
        f"agent     {found.agent_id}  ({found.workload} of {found.network_id})",
        f"placement {found.node_id or 'none'} in {found.region}, epoch {found.epoch}",
        f"phase     {phase}: {cell_text(found.reason or 'no reason given')}",
        f"process   {_process_text(found, now)}",
        f"allocated {found.cpu_milli} mCPU {size_text(found.memory_bytes)} {found.gpu_milli} mGPU",
        f"state     {_state_text(details.state, now)}",
    ]
    lines += ["", "last activities:" if details.activities else "no activities"]
    lines += [_activity_text(activity, now) for activity in details.activities]
    lines += ["", "last notes:" if details.notes else "no notes"]
    lines += [f"  {age(note.at, now)} ago  {cell_text(note.text)}" for note in details.notes]
    lines += [
        "",
        f"log {details.log_path}:" if details.log_lines else f"no log at {details.log_path}",
    ]
    lines += [f"  {cell_text(line)}" for line in details.log_lines]
    return "\n".join(lines)


def _process_text(found: Agent, now: datetime) -> str:
    if found.pid is None:
        return "none reported"
    return (
        f"pid {found.pid}, started {age(found.started_at, now)} ago, "
        f"heartbeat {age(found.heartbeat_at, now)} ago, {found.restarts} restarts, "
        f"{size_text(found.rss_bytes)}"
    )


def _state_text(state: AgentState | None, now: datetime) -> str:
    if state is None:
        return "none stored"
    return (
        f"version {state.version} (epoch {state.epoch}), {size_text(len(state.body))}, "
        f"sha256 {state.digest}, {age(state.updated_at, now)} ago"
    )


def _activity_text(activity: Activity, now: datetime) -> str:
    took = "" if activity.duration_s is None else f" in {activity.duration_s:.3g} s"
    verdict = "ok" if activity.ok else "failed"
    when = f"{age(activity.at, now)} ago"
    return f"  {when}  {activity.kind}: {verdict}{took}  {cell_text(activity.detail)}".rstrip()
