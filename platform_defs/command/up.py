"""`stateroom up`: starts the fleet and the UI, and stays in the foreground."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import click

from platform_defs.settings import Settings, load_settings
from platform_defs.state_folder import StateFolder

LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@click.command()
@click.option("--no-ui", is_flag=True, help="The nodes only: no Dagster, no UI.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, 3600),
    default=120.0,
    show_default=True,
    help="Seconds that each step of starting may take.",
)
def up(no_ui: bool, timeout_s: float) -> None:
    """Start the fleet and the Dagster UI, materialize everything once, and watch over it.

    Stays in the foreground; Ctrl-C (or `stateroom down` in another terminal) stops every process
    that it started. The next `up` continues with the same agents, states and history.

    \b
    Examples:
      stateroom up
      STATEROOM_WEB__PORT=3001 stateroom up
      stateroom up --no-ui
    """  # noqa: D301
    from platform_defs.keeping import split_front_from_keeper
    from platform_defs.nodes_of_fleet import nodes_of
    from platform_defs.ports_check import check_port_free, free_port
    from platform_defs.running import FleetRun

    say = elapsed_lines(time.monotonic())
    settings = load_settings()
    folder = StateFolder(settings.fleet.state_dir)
    folder.prepare()
    with folder.exclusive():
        port = None if no_ui else _ui_port(settings, check_port_free, free_port)
        say(f"fleet {settings.fleet.name} from {settings.path}, state in {folder.root}")
        if port is not None and settings.web.host not in LOOPBACK:
            say(f"the UI on {settings.web.host} has no login: who reaches it can start any job")
        front_pid = os.getpid()
        split_front_from_keeper()
        FleetRun(
            settings,
            folder,
            nodes_of(settings),
            ui_port=port,
            front_pid=front_pid,
            timeout_s=timeout_s,
            say=say,
        ).run()


def _ui_port(
    settings: Settings, check: Callable[[str, int], None], free: Callable[[str], int]
) -> int:
    web = settings.web
    if web.port == 0:
        return free(web.host)
    check(web.host, web.port)
    return web.port


def elapsed_lines(started_s: float) -> Callable[[str], None]:
    """A `say` that puts the seconds since `started_s` (monotonic) before each line."""

    def say(line: str) -> None:
        click.echo(f"[{time.monotonic() - started_s:6.1f} s] {line}")

    return say
