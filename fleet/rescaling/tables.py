"""The table of the lake about rescaling."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from fleet.rescaling.standing import LoggedDecision

SCALING_DECISIONS = "scaling_decisions"


class ScalingDecisionRow(NamedTuple):
    """One decision, or several in a row that said the same; the newest row of an id counts."""

    decision_id: int
    """Order in which they were written down first."""
    workload: str
    """What is scaled."""
    region: str
    """Where; each region is decided apart."""
    mode: str
    """Who acts: `observe` nobody, `approve` a person, `auto` the controller."""
    first_at: datetime
    """First look that said this."""
    last_at: datetime
    """Last look that said this."""
    times: int
    """Looks that said this."""
    current: int
    """Agents that were wanted."""
    desired: int
    """Agents that are to be wanted."""
    min_replicas: int
    """Fewest agents that there may be."""
    max_replicas: int
    """Most agents that there may be."""
    ready: int
    """Agents that worked at the last look."""
    load: float | None
    """Value by target of the leading metric: 1 is exactly the target; None without a value."""
    limited_by: str
    """Rule that changed the number last; empty for none."""
    verdict: str
    """`unchanged`, `scale-up`, `scale-down`, `held`, `blind` or `ordered`."""
    reason: str
    """One sentence with figures."""
    detail: str
    """JSON: proposals of the metrics, and the rules in order."""


def decision_row(one: LoggedDecision) -> ScalingDecisionRow:
    """A decision of the log as a row of the lake."""
    fields = one._asdict() | {"mode": one.mode.value}
    return ScalingDecisionRow(**{name: fields[name] for name in ScalingDecisionRow._fields})
