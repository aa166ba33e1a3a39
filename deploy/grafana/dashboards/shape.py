"""The shape of a dashboard: panels in order, and what can be chosen above them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Panel(NamedTuple):
    """One panel."""

    title: str
    targets: Sequence[tuple[str, str]]
    """PromQL and the legend of each line."""
    unit: str = "short"
    """Grafana's name of it."""
    kind: str = "timeseries"
    """`timeseries`, `stat` or `table`."""
    width: int = 8
    thresholds: tuple[float, float] | None = None
    """Where it turns orange and red."""
    description: str = ""


class Dashboard(NamedTuple):
    """One file."""

    name: str
    title: str
    panels: Sequence[Panel]
    variables: Sequence[tuple[str, str]] = ()
    """Name, and the query that gives its values."""


REGION = ("region", "label_values(stateroom_nodes, region)")
NETWORK = ("network", "label_values(agent_tasks_total, network)")
