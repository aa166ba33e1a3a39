"""`stateroom down`: asks the running `stateroom up` to stop, and waits until it has."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import click

from fleet.errors import TransientError
from platform_defs.settings import load_settings
from platform_defs.state_folder import StateFolder


@click.command()
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds to wait.",
)
def down(timeout_s: float) -> None:
    """Stop the fleet and the UI that `stateroom up` started; waits until all has ended.

    Stopping what does not run is fine (exit code 0). Exit code 3 when the time is over.

    \b
    Examples:
      stateroom down
      stateroom down --timeout 60
    """  # noqa: D301
    folder = StateFolder(load_settings().fleet.state_dir)
    pid = folder.holder_pid()
    if pid is None:
        click.echo(f"nothing is running on {folder.root}")
        return
    started_s = time.monotonic()
    if pid:
        # when the front was killed, the keeper holds the folder and is stopping already
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    click.echo(f"stopping (pid {pid}) ...")
    while folder.is_held():
        if time.monotonic() - started_s > timeout_s:
            raise TransientError(
                f"pid {pid} has not stopped within {timeout_s:g} s",
                hint=f"Wait, or end it at once: kill -KILL {pid} (its processes end with it).",
            )
        time.sleep(0.1)
    click.echo(f"stopped in {time.monotonic() - started_s:.1f} s")
