"""From zero and to zero: the first and the last replica, decided by whether there is any work.

Work is a metric above its threshold, apart from the target that decides between one and many. The
last replica goes after a quiet time, and only from one: what is above one is removed by the rules
for falling, as ever. A metric that cannot be had counts as work, so an error never removes the last
replica. A zero that somebody else has made stays.

Source: KEDA, `pkg/scaling/executor/scale_scaledobjects.go`, for threshold, cool-down and the error
that blocks; the way through one is ours (there N goes to 0 past the rates, kedacore/keda 7770).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.rescaling.memory import moment_in, moment_text, note, recall
from fleet.rescaling.observation import MetricFault, PodSamples, WorkloadObservation
from fleet.rescaling.policy import Activation
from fleet.rescaling.spec import AutoscalerSpec

RULE = "activation"


class Work(NamedTuple):
    """Whether there is anything to do, as far as it can be seen."""

    active: bool | None
    """None: a metric cannot be had, and no other one tells of work."""
    reason: str


class Quiet(NamedTuple):
    """What is remembered of a workload's quiet."""

    since: datetime | None
    """None: there is work, or nobody knows."""
    asleep: bool
    """The engine has removed the last replica, or wants to."""

    def is_over(self, cooldown_s: int, now: datetime) -> bool:
        """Whether it has been quiet for long enough for the last replica to go."""
        return self.since is not None and self.since + timedelta(seconds=cooldown_s) <= now

    def noted(self) -> str:
        """The text to remember."""
        return note({"quiet_since": moment_text(self.since), "asleep": self.asleep})


def see_work(spec: AutoscalerSpec, seen: WorkloadObservation, policy: Activation) -> Work:
    """Whether any metric is above the threshold; one that cannot be had says nothing.

    CPU and memory tell of no work: a process that idles uses some. Values of pods and series
    are added up, since the question is whether there is any work at all. At zero there are no pods
    to ask: only metrics from outside count then.

    Args:
        spec: with the metrics.
        seen: with the reading of each metric, in their order.
        policy: with the threshold.
    """
    if seen.fault is not None:
        return Work(None, seen.fault.message)
    quiet: list[str] = []
    unknown = ""
    for metric, reading in zip(spec.metrics, seen.readings, strict=True):
        if not seen.spec_replicas and not metric.kind.is_outside:
            continue
        if isinstance(reading, MetricFault):
            unknown = f"{metric.name} cannot be had: {reading.message}"
            continue
        if metric.kind.is_resource:
            continue
        total = _total(reading)
        compared = f"{metric.name} is {total / 1000:g}, threshold {policy.threshold_milli / 1000:g}"
        if total > policy.threshold_milli:
            return Work(active=True, reason=compared)
        quiet.append(compared)
    if unknown or not quiet:
        return Work(None, unknown or "no metric tells of work")
    return Work(active=False, reason="; ".join(quiet))


def _total(reading: PodSamples | Sequence[int]) -> int:
    if isinstance(reading, Mapping):
        return sum(sample.value_milli for sample in reading.values())
    return sum(reading)


def recall_quiet(details: Mapping[str, str], current: int) -> Quiet:
    """What is remembered; a workload that is first met at zero is taken to sleep.

    Raises:
        InvalidInputError: what was remembered is damaged.
    """
    memory = recall(details, RULE)
    if memory is None:
        return Quiet(None, asleep=current == 0)
    return Quiet(moment_in(RULE, memory, "quiet_since"), memory.get("asleep") is True)
