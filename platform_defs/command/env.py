"""`stateroom env`: what a shell needs so that `dagster` and `dg` find the running instance."""

from __future__ import annotations

import os.path
import shlex
import sys

import click

from platform_defs.settings import instance_environment, load_settings


@click.command()
@click.option("--shell", type=click.Choice(["sh", "fish"]), default="sh", show_default=True)
def env(shell: str) -> None:
    """Print `export` lines for the running instance; evaluate them in your shell.

    \b
    Examples:
      eval "$(stateroom env)"
      dagster run list
      stateroom env --shell fish | source
    """  # noqa: D301
    variables = instance_environment(load_settings())
    for name, value in variables.items():
        click.echo(f"{assign(name, value, shell)}")
    folder = os.path.dirname(sys.executable)  # noqa: PTH120 - symbolic links must stay as they are
    path = f"{shlex.quote(folder)}:$PATH" if shell == "sh" else f"{shlex.quote(folder)} $PATH"
    click.echo(f"export PATH={path}" if shell == "sh" else f"set -gx PATH {path}")


def assign(name: str, value: str, shell: str) -> str:
    """One assignment in the syntax of a shell, quoted."""
    quoted = shlex.quote(value)
    return f"export {name}={quoted}" if shell == "sh" else f"set -gx {name} {quoted}"
