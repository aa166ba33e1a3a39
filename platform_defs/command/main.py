"""Entry of the `stateroom` command: which subcommands exist, and how errors reach the operator.

Subcommands are imported when called, so that `stateroom --help` answers at once. An expected error
is one line and a hint; anything else is a defect and says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

import click

from fleet.errors import StateroomError
from platform_defs.command import exit_codes
from platform_defs.settings import read_switches


class Lazy:
    """Where a subcommand lives, and its line in the list."""

    def __init__(self, module: str, attribute: str, summary: str) -> None:
        """Remember; nothing is imported."""
        self.module = f"platform_defs.command.{module}"
        self.attribute = attribute
        self.summary = summary


SUBCOMMANDS = {
    "up": Lazy("up", "up", "Start the fleet and the Dagster UI; Ctrl-C stops everything."),
    "down": Lazy("down", "down", "Stop what `stateroom up` started, from another terminal."),
    "status": Lazy("status", "status", "The fleet on one screen."),
    "nodes": Lazy("fleet_lists", "nodes", "List nodes with their heartbeats."),
    "agents": Lazy("fleet_lists", "agents", "List agents: where they run, and how."),
    "agent": Lazy("agent", "agent", "Everything about one agent."),
    "incidents": Lazy("incidents", "incidents", "List what has failed and has not ended."),
    "incident": Lazy("incidents", "incident", "Tell one incident: what, what now, what is lost."),
    "ack": Lazy("incidents", "ack", "Say that you have an incident."),
    "failover": Lazy("failover", "failover", "Give a node or region up: move its agents away."),
    "fail-back": Lazy("fail_back", "fail_back", "Let the agents of a region go home again."),
    "scale": Lazy("scale", "scale", "Say how many agents a workload is to have."),
    "scaling": Lazy("scaling", "scaling", "How many agents each workload has, and why."),
    "pause": Lazy("automation", "pause", "Pause automatic failover and rescaling."),
    "resume": Lazy("automation", "resume", "Let automatic failover and rescaling act again."),
    "maintenance": Lazy("maintenance", "maintenance", "Mark what is being worked on."),
    "metrics": Lazy("metrics", "metrics", "Ask the fleet's numbers in PromQL; draw them."),
    "search": Lazy("search", "search", "Find what agents remember by its meaning."),
    "indexes": Lazy("indexes", "indexes", "List, rebuild, roll back and scrub vector indexes."),
    "capacity": Lazy("capacity", "capacity", "When regions are full; what a lost node leaves."),
    "rightsizing": Lazy("rightsizing", "rightsizing", "What each workload should be allocated."),
    "costs": Lazy("costs", "costs", "What the fleet costs, and what could be saved."),
    "sql": Lazy("sql", "sql", "Ask the lake in SQL (read-only)."),
    "backup": Lazy("backup_now", "backup", "Take a backup now."),
    "backups": Lazy("backups", "backups", "List, prove, keep, thin and search the backups."),
    "restore": Lazy("restore", "restore", "Bring agents back as they were at a moment."),
    "drill": Lazy("drill", "drill", "Rehearse a disaster, and measure what it would cost."),
    "keys": Lazy("keys", "keys", "List, exchange and destroy the keys of the backups."),
    "alerts": Lazy("alerts", "alerts", "List and silence alerts; test rules."),
    "exporter": Lazy("exporter", "exporter", "Serve the platform's metrics to Prometheus."),
    "config": Lazy("config", "config", "Show and check the settings."),
    "env": Lazy("env", "env", "Print what `dagster` and `dg` need to find the instance."),
    "doctor": Lazy("doctor", "doctor", "Check everything; each finding has its remedy."),
    "chaos": Lazy("chaos", "chaos", "Damage the fleet on purpose, for drills."),
    "completion": Lazy("completion", "completion", "Print shell completion for tab."),
}


class StateroomGroup(click.Group):
    """A group whose subcommands are imported when called, and whose errors become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order of a day's work, not of the alphabet."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one subcommand; None when there is none of that name."""
        if cmd_name not in SUBCOMMANDS:
            return None
        lazy = SUBCOMMANDS[cmd_name]
        found = getattr(import_module(lazy.module), lazy.attribute)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand; a typo names the nearest one."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in SUBCOMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(name, SUBCOMMANDS, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"no such command {name!r}.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in SUBCOMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and end the process with the exit code of what happened."""
        run = partial(super().main, args, prog_name, complete_var, standalone_mode=False, **extra)
        return _exit_with_outcome(run) if standalone_mode else run()


def _exit_with_outcome(run: Callable[[], Any]) -> NoReturn:
    """Run the command, and end the process with the exit code of what happened."""
    debug = read_switches().debug
    try:
        code = run()
    except click.ClickException as error:
        error.show()
        code = exit_codes.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = exit_codes.INTERRUPTED
    except StateroomError as error:
        if debug:
            raise
        show_error(error)
        code = exit_codes.exit_code_for(error)
    except BrokenPipeError:
        # the reader (`head`, `less`) has seen enough; Python must not complain at exit either
        sys.stdout = None
        code = exit_codes.OK
    sys.exit(code if isinstance(code, int) else exit_codes.OK)


def show_error(error: StateroomError) -> None:
    """Print what happened and what to do next, on standard error."""
    click.echo(f"stateroom: {error}", err=True)
    if error.hint:
        click.echo(f"  -> {error.hint}", err=True)


@click.group(
    cls=StateroomGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="STATEROOM_CONFIG names another settings file; STATEROOM_DEBUG=1 shows tracebacks.",
)
@click.version_option(package_name="stateroom", message="stateroom %(version)s")
def cli() -> None:
    """Run a fleet of AI agents as Dagster assets: inventory, state, evidence.

    \b
    Begin with:
      stateroom up        start this machine's fleet and the UI
      stateroom status    look at it from another terminal
      stateroom doctor    when something seems wrong
    """  # noqa: D301 - click's own mark for text that must not be wrapped


def main() -> None:
    """Entry point of the `stateroom` script."""
    cli(prog_name="stateroom")


if __name__ == "__main__":
    main()
