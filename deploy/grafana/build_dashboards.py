"""Writes the dashboards beside it: `python deploy/grafana/build_dashboards.py`.

One entry in `dashboards/` is one panel there, so that a dashboard is reviewed as what it shows. Grafana imports
the JSON as it is; the data source is chosen at the top of each dashboard. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dashboards.agents import AGENTS
from dashboards.automation import AUTOMATION
from dashboards.backups import BACKUPS
from dashboards.fleet import FLEET
from dashboards.gpus import GPUS
from dashboards.shape import Dashboard, Panel
from dashboards.vectors import VECTORS

HERE = Path(__file__).parent
WIDTH = 24
"""Columns of Grafana's grid."""
HEIGHT = 8
SCHEMA_VERSION = 39
"""Of Grafana 10 and later; newer ones migrate it when they load it."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
DASHBOARDS = (FLEET, AGENTS, GPUS, BACKUPS, AUTOMATION, VECTORS)


def document(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana imports."""
    return {
        "uid": f"stateroom-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["stateroom"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_datasource(), *map(_variable, dashboard.variables)]},
        "panels": _placed(dashboard.panels),
    }


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }


def _variable(variable: tuple[str, str]) -> dict[str, Any]:
    name, query = variable
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "hide": 0,
    }


def _placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Left to right, then down; a row is as high as any panel."""
    found, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        found.append(_panel(panel, number, x, y))
        x += panel.width
    return found


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.thresholds is not None:
        orange, red = panel.thresholds
        if orange < red:
            steps.append({"color": "orange", "value": orange})
        steps.append({"color": "red", "value": red})
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": DATASOURCE,
                "expr": expr,
                "legendFormat": legend,
                "instant": panel.kind != "timeseries",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for place, (expr, legend) in enumerate(panel.targets)
        ],
    }


def text(dashboard: Dashboard) -> str:
    """The file's text."""
    return json.dumps(document(dashboard), indent=2) + "\n"


def main() -> None:
    """Write every file."""
    for dashboard in DASHBOARDS:
        (HERE / f"{dashboard.name}.json").write_text(text(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
