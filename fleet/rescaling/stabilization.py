"""What earlier proposals say against a change: the count follows only what has lasted.

Without rules of its own an autoscaler takes the highest proposal of the controller's window, so a
dip does not remove replicas. That also raises the count while all metrics are below their targets,
after somebody has lowered it by hand: a quirk that is kept. With rules, a rise must have lasted as
long as the window for up, a fall as long as the one for down.

A new proposal takes the place of the last one that no window reaches; the list grows only while
there is none. Whether a proposal at the very edge counts differs: without rules it does, with
rules it does not.

Source: Kubernetes v1.36, `pkg/controller/podautoscaler/horizontal.go`, `stabilizeRecommendation`,
`stabilizeRecommendationWithBehaviors`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.rescaling.observation import Recommendation

Recommendations = tuple[Recommendation, ...]


class Stabilized(NamedTuple):
    """A proposal as the past lets it through."""

    replicas: int
    kept: Recommendations
    """Proposals to remember, this one among them; as proposed, not as let through."""


def stabilize_by_window(
    proposed: int, recommendations: Recommendations, now: datetime, window_s: float
) -> Stabilized:
    """The highest proposal of a window.

    Args:
        proposed: by the metrics, now.
        recommendations: earlier proposals, in the order in which they are kept.
        now: time of the reconcile.
        window_s: how far to look back.
    """
    since = now - timedelta(seconds=window_s)
    highest = proposed
    slot = None
    for index, earlier in enumerate(recommendations):
        if earlier.at < since:
            slot = index
        elif earlier.replicas > highest:
            highest = earlier.replicas
    return Stabilized(highest, _with(recommendations, slot, Recommendation(now, proposed)))


def stabilize_by_rules(
    proposed: int,
    current: int,
    recommendations: Recommendations,
    now: datetime,
    window_s: tuple[int, int],
) -> Stabilized:
    """The change from `current` that all proposals of a direction's window agree to.

    Args:
        proposed: by the metrics, now.
        current: replicas wanted so far.
        recommendations: earlier proposals, in the order in which they are kept.
        now: time of the reconcile.
        window_s: how far to look back before a rise, and before a fall.
    """
    up_since = now - timedelta(seconds=window_s[0])
    down_since = now - timedelta(seconds=window_s[1])
    lowest = highest = proposed
    slot = None
    for index, earlier in enumerate(recommendations):
        if earlier.at > up_since and earlier.replicas < lowest:
            lowest = earlier.replicas
        if earlier.at > down_since and earlier.replicas > highest:
            highest = earlier.replicas
        if earlier.at < up_since and earlier.at < down_since:
            slot = index
    kept = _with(recommendations, slot, Recommendation(now, proposed))
    return Stabilized(min(max(current, lowest), highest), kept)


def _with(
    recommendations: Recommendations, slot: int | None, newest: Recommendation
) -> Recommendations:
    """The list with the newest in a slot that is no longer needed, else at its end."""
    if slot is None:
        return (*recommendations, newest)
    return (*recommendations[:slot], newest, *recommendations[slot + 1 :])
