"""An absolute tolerance: changes of less than so many replicas are not worth a restart.

A relative tolerance of 10 % hides five replicas of fifty, and reacts to a tenth of one
(kubernetes/kubernetes 116984). What is compared is the change that the metric asks for, before it
is rounded and before the rates cut it: a long way down in steps of one is no small change.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleet.rescaling.decision import Proposal

RULE = "ignore-below"


def wished_change(proposals: Iterable[Proposal], current: int) -> float | None:
    """Replicas by which the leading metric is off, not rounded; None when none could be had."""
    valid = [one for one in proposals if one.replicas is not None]
    if not valid:
        return None
    leading = max(valid, key=lambda one: one.replicas or 0)
    assert leading.replicas is not None, "only valid ones are compared"
    change = float(abs(leading.replicas - current))
    exact = change if leading.ratio is None else abs(leading.ratio - 1) * current
    # a ratio is of the pods that were looked at; where that is another number the count is better
    return exact if abs(exact - change) <= 1 else change
