"""Thousands of autoscalers in columns: built once, used by every reconcile until one changes.

Importing this module loads NumPy: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidInputError
from fleet.rescaling.go_integers import INT64_MIN
from fleet.rescaling.proposals import tolerance_of
from fleet.rescaling.spec import (
    AutoscalerSpec,
    ControllerOptions,
    MetricKind,
    PolicyType,
    ScalingRules,
    SelectPolicy,
    TargetType,
)

Int64s: TypeAlias = npt.NDArray[np.int64]
Int32s: TypeAlias = npt.NDArray[np.int32]
Int8s: TypeAlias = npt.NDArray[np.int8]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Places: TypeAlias = npt.NDArray[np.intp]
"""Indices of workloads, slots or rows."""

KINDS = tuple(MetricKind)
TARGETS = tuple(TargetType)
SELECTS = tuple(SelectPolicy)
MICROS = 1_000_000
NONE_US = INT64_MIN
"""A moment that is not there, before all others."""
_DEFAULTS = ControllerOptions()
_NO_RULES = ScalingRules(policies=())


@dataclass(frozen=True, slots=True, eq=False)
class RulesColumns:
    """The rules of one direction for each workload; policies stand in rows of one width."""

    select: Int8s
    """Index in SELECTS."""
    window_us: Int64s
    longest_us: Int64s
    """Longest period of the policies."""
    is_percent: Bools
    """Workload x policy."""
    value: Int32s
    """Workload x policy; 0 where there are fewer."""
    period_us: Int64s
    """Workload x policy; 0 where there are fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class SpecBatch:
    """Autoscalers and the controller's flags, as `spec_batch` builds them.

    A slot is one metric of one workload; slots stand in the order of workloads, then of metrics.
    """

    specs: tuple[AutoscalerSpec, ...]
    options: ControllerOptions
    min_replicas: Int32s
    max_replicas: Int32s
    has_rules: Bools
    has_outside: Bools
    """Whether a metric exists that does not need pods."""
    tolerance_low: Floats
    """1 - tolerance for falling."""
    tolerance_high: Floats
    up: RulesColumns
    down: RulesColumns
    slot_offsets: Int64s
    """Slots of workload i: from the i-th to the next; one more than workloads."""
    slot_workload: Int64s
    slot_kind: Int8s
    """Index in KINDS."""
    slot_target_type: Int8s
    """Index in TARGETS."""
    slot_target: Int64s
    """Thousandths or percent."""
    slot_is_cpu: Bools
    """Whether readiness counts: CPU of pods or containers."""
    slot_has_target: Bools

    def __len__(self) -> int:
        """Number of workloads."""
        return len(self.specs)


def spec_batch(
    specs: Sequence[AutoscalerSpec], options: ControllerOptions = _DEFAULTS
) -> SpecBatch:
    """Autoscalers in columns.

    Args:
        specs: in any order, which all other columns then follow.
        options: the controller's flags, the same for all.

    Raises:
        InvalidInputError: a spec has no metric.
    """
    for spec in specs:
        if not spec.metrics:
            raise InvalidInputError(f"metrics of {spec.name}", (), "at least one metric")
    metrics = [metric for spec in specs for metric in spec.metrics]
    counts = [len(spec.metrics) for spec in specs]
    tolerances = [tolerance_of(spec.behavior, options) for spec in specs]
    outside = {MetricKind.OBJECT, MetricKind.EXTERNAL}
    down_default_s = int(options.downscale_stabilization_s)
    ups = [_NO_RULES if spec.behavior is None else spec.behavior.scale_up for spec in specs]
    downs = [_NO_RULES if spec.behavior is None else spec.behavior.scale_down for spec in specs]
    return SpecBatch(
        specs=tuple(specs),
        options=options,
        min_replicas=np.array([spec.min_replicas for spec in specs], np.int32),
        max_replicas=np.array([spec.max_replicas for spec in specs], np.int32),
        has_rules=np.array([spec.behavior is not None for spec in specs], np.bool_),
        has_outside=np.array(
            [any(metric.kind in outside for metric in spec.metrics) for spec in specs], np.bool_
        ),
        tolerance_low=np.array([1.0 - one.down for one in tolerances], np.float64),
        tolerance_high=np.array([1.0 + one.up for one in tolerances], np.float64),
        up=_rules_columns(ups, 0),
        down=_rules_columns(downs, down_default_s),
        slot_offsets=np.array([0, *accumulate(counts)], np.int64),
        slot_workload=np.repeat(np.arange(len(specs), dtype=np.int64), counts),
        slot_kind=np.array([KINDS.index(metric.kind) for metric in metrics], np.int8),
        slot_target_type=np.array(
            [TARGETS.index(metric.target_type) for metric in metrics], np.int8
        ),
        slot_target=np.array([metric.target for metric in metrics], np.int64),
        slot_is_cpu=np.array(
            [metric.name == "cpu" and metric.kind is not MetricKind.PODS for metric in metrics],
            np.bool_,
        ),
        slot_has_target=np.array([metric.has_target for metric in metrics], np.bool_),
    )


def _rules_columns(rules: Sequence[ScalingRules], default_window_s: int) -> RulesColumns:
    """One direction's rules in columns."""
    width = max((len(one.policies) for one in rules), default=0)
    shape = (len(rules), width)
    is_percent, value = np.zeros(shape, np.bool_), np.zeros(shape, np.int32)
    period_us = np.zeros(shape, np.int64)
    for row, one in enumerate(rules):
        for column, policy in enumerate(one.policies):
            is_percent[row, column] = policy.type is PolicyType.PERCENT
            value[row, column] = policy.value
            period_us[row, column] = policy.period_s * MICROS
    windows = [
        default_window_s if one.stabilization_window_s is None else one.stabilization_window_s
        for one in rules
    ]
    return RulesColumns(
        select=np.array([SELECTS.index(one.select_policy) for one in rules], np.int8),
        window_us=np.array(windows, np.int64) * MICROS,
        longest_us=period_us.max(axis=1, initial=0),
        is_percent=is_percent,
        value=value,
        period_us=period_us,
    )
