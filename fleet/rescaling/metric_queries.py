"""What is asked of the metric store for one metric of an autoscaler, and what its answer means.

A name is either that of a series, narrowed by the metric's selector, or PromQL itself; `$workload`
and `$region` stand for what is scaled. What pods report is asked for all workloads at once and
dealt by the label `agent`, so that a look costs a query for each metric, not for each workload.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from fleet.errors import InvalidInputError
from fleet.metrics.vectors import InstantVector
from fleet.rescaling.observation import MetricFault, PodSample, PodSamples
from fleet.rescaling.spec import MetricKind, MetricSpec

REPORTED = "agent_reported_value"
"""Series of the values of their own choice that agents report, by the label `name`."""
AGENT_LABEL = "agent"

_SERIES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_OWN = re.compile(r"agent_[a-z0-9_]+", re.ASCII)
"""Series that nodes export about each agent, such as `agent_active_sessions`."""
_REQUIREMENT = re.compile(r",(?![^(]*\))")
_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)

FAULTS = {
    MetricKind.PODS: "FailedGetPodsMetric",
    MetricKind.OBJECT: "FailedGetObjectMetric",
    MetricKind.EXTERNAL: "FailedGetExternalMetric",
}
"""As the controller names the condition's reason."""


def expression_of(metric: MetricSpec, workload: str, region: str) -> str:
    """The PromQL that answers a Pods, Object or External metric.

    Raises:
        InvalidInputError: a selector that is none, or one beside PromQL, where it says nothing.
    """
    matchers = matchers_of(metric.selector)
    if metric.kind is MetricKind.PODS:
        if not _OWN.fullmatch(metric.name):
            matchers = [f"name={json.dumps(metric.name)}", *matchers]
        name = metric.name if _OWN.fullmatch(metric.name) else REPORTED
        return _selected(name, matchers)
    if is_series(metric.name):
        return _filled(_selected(metric.name, matchers), workload, region)
    if matchers:
        raise InvalidInputError(
            "metric.selector",
            metric.selector,
            "none beside a PromQL expression",
            hint="Write the labels into the expression.",
        )
    return _filled(metric.name, workload, region)


def is_series(name: str) -> bool:
    """Whether a metric's name is that of a series, and no expression."""
    return _SERIES.fullmatch(name) is not None


def _selected(name: str, matchers: Sequence[str]) -> str:
    return f"{name}{{{','.join(matchers)}}}" if matchers else name


def _filled(expression: str, workload: str, region: str) -> str:
    return expression.replace("$workload", workload).replace("$region", region)


def matchers_of(selector: str) -> list[str]:
    """A label selector as `kubectl` writes it, as matchers of PromQL.

    Raises:
        InvalidInputError: it is none, or names a label that PromQL cannot.
    """
    return [_matcher(part.strip(), selector) for part in _REQUIREMENT.split(selector) if part]


def _matcher(part: str, selector: str) -> str:
    if (match := _SET.fullmatch(part)) is not None:
        label, operator, values = match.groups()
        any_of = "|".join(re.escape(value.strip()) for value in values.split(","))
        sign, value = ("=~" if operator == "in" else "!~"), any_of
    elif "!=" in part:
        label, _, value = part.partition("!=")
        sign = "!="
    elif "=" in part:
        label, _, value = part.partition("=")
        sign, value = "=", value.removeprefix("=")
    elif part.startswith("!"):
        label, sign, value = part[1:], "=", ""
    else:
        label, sign, value = part, "!=", ""
    label = label.strip()
    if not _LABEL.fullmatch(label):
        raise InvalidInputError(
            "metric.selector", selector, "requirements such as queue=inbox, tier!=test, a in (x, y)"
        )
    return f"{label}{sign}{json.dumps(value.strip(), ensure_ascii=False)}"


def values_of(metric: MetricSpec, answer: InstantVector) -> list[int] | MetricFault:
    """The answer for an Object or External metric, in thousandths, in no order.

    An Object is one thing: several series are a fault. No series at all is one, too, never 0; a
    source that is idle says 0, or `... or vector(0)`.
    """
    reason = FAULTS[metric.kind]
    if len(answer) == 0:
        return MetricFault(reason, f"no series answers {metric.name}")
    if metric.kind is MetricKind.OBJECT and len(answer) > 1:
        return MetricFault(reason, f"{len(answer)} series answer {metric.name}, one is needed")
    found = [milli_of(float(value)) for value in answer.values]
    wrong = [value for value in found if value is None]
    if wrong:
        return MetricFault(reason, f"{metric.name} is not a number: {len(wrong)} of {len(found)}")
    return [value for value in found if value is not None]


def samples_by_agent(answer: InstantVector, at: datetime) -> dict[str, PodSample]:
    """The answer for a Pods metric by the agent that it is about; several of one are added up.

    A value that is no number is no sample: its agent is missing.
    """
    found: dict[str, PodSample] = {}
    for labels, value in zip(answer.labels, answer.values, strict=True):
        agent = dict(labels).get(AGENT_LABEL, "")
        milli = milli_of(float(value))
        if agent and milli is not None:
            before = found[agent].value_milli if agent in found else 0
            found[agent] = PodSample(before + milli, at)
    return found


def samples_of(
    metric: MetricSpec, all_samples: PodSamples, agent_ids: Iterable[str]
) -> PodSamples | MetricFault:
    """The samples of these agents; a fault when none of them has one."""
    mine = {one: all_samples[one] for one in agent_ids if one in all_samples}
    if not mine:
        return MetricFault(FAULTS[MetricKind.PODS], f"no agent reports {metric.name}")
    return mine


def milli_of(value: float) -> int | None:
    """Whole thousandths, rounded up as Kubernetes rounds; None for what is no number.

    What a double cannot hold exactly (0.1) is not rounded up for that alone.
    """
    if not math.isfinite(value):
        return None
    return math.ceil(round(value * 1000.0, 6))
