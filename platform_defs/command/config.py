"""`stateroom config`: effective settings with their sources, a check, the reference table."""

from __future__ import annotations

import click

from platform_defs.command.output import table, to_json
from platform_defs.settings import load_settings
from platform_defs.settings_display import effective_rows, reference_table


@click.group()
def config() -> None:
    """Show and check the settings (stateroom.toml and STATEROOM_... variables).

    \b
    Examples:
      stateroom config show
      STATEROOM_WEB__PORT=3001 stateroom config show --json
      STATEROOM_CONFIG=other.toml stateroom config validate
    """  # noqa: D301


@config.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON list of key, value and source.")
def show(as_json: bool) -> None:
    """Print every key with its effective value and where that comes from; secrets are masked."""
    settings = load_settings()
    rows = effective_rows(settings)
    if as_json:
        click.echo(to_json([row._asdict() for row in rows]))
        return
    shown = [(row.key, _toml_text(row.value), row.source) for row in rows]
    click.echo(f"# {settings.path}")
    click.echo(table(("key", "value", "source"), shown))


def _toml_text(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(to_json(item) for item in value) + "]"
    return to_json(value)


@config.command()
def validate() -> None:
    """Check the settings; every problem is listed with key, value and line. Exit code 2 if any."""
    settings = load_settings()
    regions, nodes = len(settings.regions), sum(len(r.node_ids) for r in settings.regions)
    click.echo(
        f"{settings.path}: valid; {regions} regions, {nodes} nodes, "
        f"{len(settings.networks)} networks, {len(settings.workloads)} workloads"
    )


@config.command()
def keys() -> None:
    """Print the table of every key, as docs/settings.md holds it."""
    click.echo(reference_table(), nl=False)
