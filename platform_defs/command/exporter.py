"""`stateroom exporter`: serves what the platform says of itself to Prometheus."""

from __future__ import annotations

import click

from platform_defs.settings import load_settings


@click.command()
@click.option("--host", help="Address to listen on; the settings' exporter.host otherwise.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port; the settings' exporter.port otherwise. 0 takes any free one.",
)
@click.option("--once", is_flag=True, help="Print the page once, and end.")
def exporter(host: str | None, port: int | None, once: bool) -> None:
    """Serve the platform's metrics at /metrics until Ctrl-C.

    docs/metrics.md lists them. `stateroom up` runs one of these beside the fleet.

    \b
    Examples:
      stateroom exporter --once
      stateroom exporter --port 9464
    """  # noqa: D301
    from platform_defs.exporting import open_exporter, page, serving, wait_for_end

    settings = load_settings()
    with open_exporter(settings) as opened:
        if once:
            click.echo(page(opened), nl=False)
            return
        chosen = settings.exporter.port if port is None else port
        with serving(opened, host or settings.exporter.host, chosen) as running:
            click.echo(f"metrics at {running.url}; Ctrl-C ends")
            wait_for_end()
