"""What holds while metrics are missing: a number of replicas, never the last one's removal.

Failures are counted for each metric apart. While all are missing for long enough the fallback
decides, within the limits on rates; while some are there it can only raise what they ask for.

Source: KEDA, `pkg/fallback/fallback.go`, for the behaviors; the maximum with other metrics is ours
(there a fallback overrode a higher need, kedacore/keda 6659).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet.rescaling.memory import damaged, note, recall
from fleet.rescaling.policy import Fallback, FallbackBehavior

RULE = "fallback"


class Failures(NamedTuple):
    """How often in a row each metric could not be had."""

    by_metric: tuple[int, ...]

    def is_due(self, policy: Fallback) -> bool:
        """Whether a metric has been missing for long enough."""
        return max(self.by_metric, default=0) >= policy.failures

    @property
    def is_blind(self) -> bool:
        """Whether no metric can be had now."""
        return bool(self.by_metric) and min(self.by_metric) > 0

    def noted(self) -> str:
        """The text to remember."""
        return note({"failures": list(self.by_metric)})


def count_failures(details: Mapping[str, str], failed: Sequence[bool]) -> Failures:
    """The failures up to now.

    Args:
        details: what the rules remember.
        failed: whether each metric could not be had now.

    Raises:
        InvalidInputError: what was remembered is damaged.
    """
    memory = recall(details, RULE)
    before = [] if memory is None else memory.get("failures")
    if not isinstance(before, list) or any(type(one) is not int or one < 0 for one in before):
        raise damaged(RULE, before)
    if len(before) != len(failed):  # the metrics of the autoscaler have changed
        before = [0] * len(failed)
    return Failures(
        tuple(count + 1 if now else 0 for count, now in zip(before, failed, strict=True))
    )


def fallback_replicas(policy: Fallback, current: int) -> int:
    """The number that holds; the last replica stays, whatever the policy says.

    Args:
        policy: number and behavior.
        current: replicas that are wanted so far.
    """
    wished = {
        FallbackBehavior.STATIC: policy.replicas,
        FallbackBehavior.CURRENT: current,
        FallbackBehavior.CURRENT_IF_HIGHER: max(current, policy.replicas),
        FallbackBehavior.CURRENT_IF_LOWER: min(current, policy.replicas),
    }[policy.behavior]
    return max(wished, min(current, 1))
