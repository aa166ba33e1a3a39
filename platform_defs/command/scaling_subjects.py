"""Workloads and regions that commands of rescaling are about."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from fleet.errors import StateroomError
from platform_defs.command.operator_input import demand_region, unknown
from platform_defs.settings import Settings, load_settings


def demand_keys(settings: Settings, workload: str, region: str | None) -> list[tuple[str, str]]:
    """A declared workload in one declared region, or in all of them.

    Raises:
        NotFoundError: it, or the region, is not declared; names the nearest one.
    """
    names = [one.name for one in settings.workloads]
    if workload not in names:
        raise unknown("workload", workload, names, "`stateroom scaling status` lists them.")
    if region is not None:
        return [(workload, demand_region(settings, region).name)]
    return [(workload, one.name) for one in settings.regions]


def complete_workload(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Declared workloads."""
    del ctx, param
    try:
        workloads = load_settings().workloads
    except (StateroomError, OSError):
        return []  # a shell that completes must not print errors between the user's words
    return [CompletionItem(one.name) for one in workloads if one.name.startswith(incomplete)]
