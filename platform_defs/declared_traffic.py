"""What the settings declare of traffic, as the core takes it. Imports no Dagster."""

from __future__ import annotations

from pathlib import Path

from fleet.traffic_declaration import RouterDeclaration, RouterKind, TrafficDeclaration

EMBEDDED_ROUTER = "embedded"
"""Name of the router of deployments that name none."""


def simple_traffic(state_dir: str | Path) -> TrafficDeclaration:
    """One embedded table under the state folder."""
    folder = str(Path(state_dir) / "routes")
    return TrafficDeclaration(
        (RouterDeclaration(name=EMBEDDED_ROUTER, kind=RouterKind.EMBEDDED, folder=folder),)
    )
