"""`stateroom nodes` and `stateroom agents`: lists with filters."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import click

from fleet.errors import NotFoundError
from fleet.inventory import Agent, AgentPhase, Node
from platform_defs.command.output import age, colours_wanted, size_text, table, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import Settings, load_settings

ROWS_SHOWN = 50
"""Rows of a table without --limit: one screen; the rest is counted."""

_region = click.option("--region", help="Only this region.")
_json = click.option("--json", "as_json", is_flag=True, help="A JSON list with every field.")
_limit = click.option(
    "--limit",
    type=click.IntRange(1),
    help=f"Show at most so many; default {ROWS_SHOWN} in a table, all with --json.",
)


@click.command()
@_region
@_limit
@_json
def nodes(region: str | None, limit: int | None, as_json: bool) -> None:
    """List nodes with their capacity and last heartbeat.

    \b
    Examples:
      stateroom nodes
      stateroom nodes --region us-west-2 --json
    """  # noqa: D301
    settings = load_settings()
    _check_region(settings, region)
    with fleet_store(settings) as store:
        found = store.nodes(region)
    if as_json:
        click.echo(to_json([node._asdict() for node in found[:limit]]))
        return
    limit = limit or ROWS_SHOWN
    now = datetime.now(UTC)
    headings = ("node", "region", "zone", "phase", "heartbeat", "agents", "failed", "cpu", "memory")
    rows = [_node_row(node, now) for node in found[:limit]]
    click.echo(table(headings, rows, colours=colours_wanted()))
    _rest(len(found), limit, "nodes")


def _node_row(node: Node, now: datetime) -> tuple[object, ...]:
    return (
        node.node_id,
        node.region,
        node.zone,
        node.phase.value,
        age(node.heartbeat_at, now),
        node.agents_running,
        node.agents_failed,
        None if node.cpu_percent is None else f"{node.cpu_percent:.0f} %",
        size_text(node.memory_used_bytes),
    )


@click.command()
@_region
@click.option("--network", help="Only this network.")
@click.option(
    "--phase", type=click.Choice([phase.value for phase in AgentPhase]), help="Only this phase."
)
@click.option("--node", "node_id", help="Only this node.")
@_limit
@_json
def agents(
    region: str | None,
    network: str | None,
    phase: str | None,
    node_id: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List agents: where each is placed, its phase and why.

    \b
    Examples:
      stateroom agents --region us-west-2 --limit 10
      stateroom agents --phase failed
      stateroom agents --network host-watch --json
    """  # noqa: D301
    settings = load_settings()
    _check_region(settings, region)
    with fleet_store(settings) as store:
        found = list(select_agents(store.agents(region), network, phase, node_id))
    if as_json:
        click.echo(to_json([agent._asdict() for agent in found[:limit]]))
        return
    limit = limit or ROWS_SHOWN
    now = datetime.now(UTC)
    headings = ("agent", "network", "node", "epoch", "phase", "heartbeat", "restarts", "reason")
    rows = [
        (
            agent.agent_id,
            agent.network_id,
            agent.node_id,
            agent.epoch,
            agent.phase.value,
            age(agent.heartbeat_at, now),
            agent.restarts,
            agent.reason,
        )
        for agent in found[:limit]
    ]
    click.echo(table(headings, rows, colours=colours_wanted()))
    _rest(len(found), limit, "agents")


def select_agents(
    found: Iterable[Agent], network: str | None, phase: str | None, node_id: str | None
) -> Iterable[Agent]:
    """The agents that match every given filter, in the same order."""
    return (
        agent
        for agent in found
        if (network is None or agent.network_id == network)
        and (phase is None or agent.phase == phase)
        and (node_id is None or agent.node_id == node_id)
    )


def _check_region(settings: Settings, region: str | None) -> None:
    known = [known.name for known in settings.regions]
    if region is not None and region not in known:
        raise NotFoundError(
            f"no region {region!r}; declared: {', '.join(known)}",
            hint="`stateroom status` lists the regions.",
        )


def _rest(count: int, limit: int, what: str) -> None:
    if count > limit:
        click.echo(f"... {count - limit} more {what} (--limit {count} shows all)")
