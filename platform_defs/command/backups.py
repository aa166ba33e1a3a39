"""`stateroom backups`: everything about the backups that are there."""

from __future__ import annotations

import click

from platform_defs.command.backups_list import find, list_snapshots, show
from platform_defs.command.backups_promote import promote
from platform_defs.command.backups_proof import heal, verify
from platform_defs.command.backups_removal import gc, hold, undelete
from platform_defs.command.backups_retention import plan


@click.group()
def backups() -> None:
    """Look at backups, prove them, keep them and thin them.

    \b
    Examples:
      stateroom backups list
      stateroom backups show 01JD
      stateroom backups verify --level V3
      stateroom backups plan
      stateroom backups find us-west-2-cpu-1
    """  # noqa: D301


for command in (list_snapshots, show, find, verify, heal, plan, hold, undelete, gc, promote):
    backups.add_command(command)
