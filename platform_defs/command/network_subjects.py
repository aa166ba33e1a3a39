"""Networks that commands are about: names that exist, and their completion."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from fleet.errors import StateroomError
from platform_defs.command.operator_input import unknown
from platform_defs.settings import Settings, load_settings


def demand_network(settings: Settings, name: str) -> str:
    """The name of a network that is declared.

    Raises:
        NotFoundError: it is not; names the nearest one.
    """
    names = [one.name for one in settings.networks]
    if name not in names:
        raise unknown("network", name, names, f"Declared are: {', '.join(names) or 'none'}.")
    return name


def complete_network(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Declared networks."""
    del ctx, param
    try:
        networks = load_settings().networks
    except (StateroomError, OSError):
        return []  # a shell that completes must not print errors between the user's words
    return [CompletionItem(one.name) for one in networks if one.name.startswith(incomplete)]
