"""What everything that takes part in one query knows of it."""

from __future__ import annotations

from typing import NamedTuple

from fleet.ports.metric_store import MetricReader
from fleet.promql.answer import SelectorUse
from fleet.promql.semantics import Semantics


class Context(NamedTuple):
    """What a query is evaluated with."""

    reader: MetricReader
    semantics: Semantics
    lookback_ms: int
    """How old the sample of an instant selector may be."""
    subquery_step_ms: int
    """Step of subqueries that name none."""
    points_max: int
    """Rows x steps of one intermediate result."""
    start_ms: int
    """Start of the whole query, for `@ start()`."""
    end_ms: int
    uses: list[SelectorUse]
    """Which level answered which selector; grows."""
