"""`stateroom completion`: scripts that let a shell complete subcommands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      eval "$(stateroom completion bash)"
      stateroom completion fish > ~/.config/fish/completions/stateroom.fish
    """  # noqa: D301
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    click.echo(kind(root, {}, "stateroom", "_STATEROOM_COMPLETE").source())
