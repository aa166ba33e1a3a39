"""`stateroom chaos`: deliberate damage to a local or simulated fleet; asks first."""

from __future__ import annotations

from collections.abc import Iterable

import click

from fleet.errors import NotFoundError, PermanentError
from platform_defs.fault_orders import FaultOrder
from platform_defs.settings import Settings, load_settings
from platform_defs.state_folder import StateFolder

_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_duration = click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(0.1, 86_400),
    default=30.0,
    show_default=True,
    help="Seconds.",
)


@click.group()
def chaos() -> None:
    """Damage nodes on purpose, to see what the platform does about it.

    Only local and simulated fleets can be damaged; each command asks first.

    \b
    Examples:
      stateroom chaos kill-node us-west-2-1
      stateroom chaos kill-region eu-central-1 --yes
      stateroom chaos pause-node us-west-2-1 --duration 20
      stateroom chaos slow-node us-west-2-1 --delay 8 --duration 60
      stateroom chaos start-node us-west-2-1
    """  # noqa: D301


@chaos.command("kill-node")
@click.argument("name")
@_yes
def kill_node(name: str, yes: bool) -> None:
    """End a node and its agents without warning (SIGKILL)."""
    settings = _settings_with_node(name)
    _confirm(yes, f"Kill node {name} of fleet {settings.fleet.name} with its agents?")
    _order(settings, [FaultOrder("kill_node", name)])


@chaos.command("kill-region")
@click.argument("name")
@_yes
def kill_region(name: str, yes: bool) -> None:
    """End every node of a region without warning."""
    settings = load_settings()
    regions = {region.name: region for region in settings.regions}
    if name not in regions:
        raise NotFoundError(f"no region {name!r}; declared: {', '.join(regions)}")
    node_ids = regions[name].node_ids
    _confirm(yes, f"Kill all {len(node_ids)} nodes of region {name} with their agents?")
    _order(settings, [FaultOrder("kill_node", node_id) for node_id in node_ids])


@chaos.command("pause-node")
@click.argument("name")
@_duration
@_yes
def pause_node(name: str, duration_s: float, yes: bool) -> None:
    """Freeze a node: it neither works nor fails, then goes on as if nothing had been."""
    settings = _settings_with_node(name)
    _confirm(yes, f"Freeze node {name} for {duration_s:g} s?")
    _order(settings, [FaultOrder("pause_node", name, duration_s=duration_s)])


@chaos.command("slow-node")
@click.argument("name")
@click.option("--delay", "delay_s", type=click.FloatRange(0.1, 3600), default=5.0,
              show_default=True, help="Seconds by which each heartbeat is late.")  # fmt: skip
@_duration
@_yes
def slow_node(name: str, delay_s: float, duration_s: float, yes: bool) -> None:
    """Delay a node's heartbeats."""
    settings = _settings_with_node(name)
    _confirm(yes, f"Delay heartbeats of node {name} by {delay_s:g} s for {duration_s:g} s?")
    _order(settings, [FaultOrder("slow_node", name, delay_s, duration_s)])


@chaos.command("start-node")
@click.argument("name")
@_yes
def start_node(name: str, yes: bool) -> None:
    """Bring a killed node back."""
    settings = _settings_with_node(name)
    _confirm(yes, f"Start node {name}?")
    _order(settings, [FaultOrder("start_node", name)])


def _settings_with_node(name: str) -> Settings:
    settings = load_settings()
    known = {node_id for region in settings.regions for node_id in region.node_ids}
    if name not in known:
        raise NotFoundError(f"no node {name!r} is declared", hint="`stateroom nodes` lists them.")
    return settings


def _confirm(yes: bool, question: str) -> None:
    if not yes:
        click.confirm(question, abort=True)


def _order(settings: Settings, orders: list[FaultOrder]) -> None:
    """Carry out orders and say what was done."""
    if StateFolder(settings.fleet.state_dir).holder_pid() is None:
        raise PermanentError("the fleet is not running", hint="Start it with `stateroom up`.")
    for done in _send(settings, orders):
        click.echo(done)


def _send(settings: Settings, orders: list[FaultOrder]) -> Iterable[str]:
    if settings.fleet.cluster == "simulated":
        from platform_defs.fault_orders import FaultOrders

        return FaultOrders(settings.fleet.state_dir).send(orders)
    from platform_defs.local_nodes import send_to_local_nodes

    return send_to_local_nodes(settings, orders)
