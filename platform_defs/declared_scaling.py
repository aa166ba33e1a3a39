"""What the settings declare of rescaling, as the core takes it. Imports no Dagster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fleet.errors import InvalidInputError, StateroomError
from fleet.rescaling.calendar import check_window, zone_of
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.metric_queries import expression_of, is_series
from fleet.rescaling.policy import (
    Activation,
    CalendarWindow,
    CostCeiling,
    Fallback,
    FallbackBehavior,
    Panic,
    PredictiveFloor,
    ScalingMode,
    WarmPool,
    WorkloadScaling,
)
from fleet.rescaling.spec import (
    AutoscalerSpec,
    Behavior,
    ControllerOptions,
    MetricKind,
    MetricSpec,
    PolicyType,
    ScalingPolicy,
    ScalingRules,
    TargetType,
)
from platform_defs.declared_costs import declared_prices
from platform_defs.settings_fleet import WorkloadSettings
from platform_defs.settings_records import Settings
from platform_defs.settings_rules import Violation
from platform_defs.settings_scaling import ScalingSettings

RESOURCES = ("cpu", "memory")
OPTIONS = ControllerOptions(scale_to_zero=True)
"""Zero is a number like others here; whether it is reached by itself says `activation`."""

_SPEC_INSTEAD = (
    "min_replicas", "max_replicas", "metric", "query", "target", "target_type", "up_window_s",
    "down_window_s", "tolerance",
)  # fmt: skip
_TYPES = {
    "utilization": TargetType.UTILIZATION,
    "average": TargetType.AVERAGE_VALUE,
    "value": TargetType.VALUE,
}
_UP = (ScalingPolicy(PolicyType.PODS, 4, 15), ScalingPolicy(PolicyType.PERCENT, 100, 15))
_DOWN = (ScalingPolicy(PolicyType.PERCENT, 100, 15),)
"""Kubernetes' own rates. Source: pkg/apis/autoscaling/v2/defaults.go."""


def declared_scaling(settings: Settings) -> RescalingDeclaration:
    """Everything that is declared of rescaling.

    Raises:
        InvalidInputError: a specification in a file is wrong; `scaling_violations` says it first.
    """
    folder = settings.path.parent
    return RescalingDeclaration(
        regions=tuple(sorted(region.name for region in settings.regions)),
        workloads={
            one.name: workload_scaling(one, folder) for one in settings.workloads if one.scaling
        },
        sample_age_max_s=max(60.0, 4 * settings.metrics.scrape_interval_s),
        prices=declared_prices(settings.costs, settings.prices),
        failover_enabled=settings.failover.enabled,
    )


def workload_scaling(workload: WorkloadSettings, folder: Path) -> WorkloadScaling:
    """One workload's policy.

    Args:
        workload: with a table `scaling`.
        folder: that the path of a specification starts at.

    Raises:
        InvalidInputError: names the key that is wrong, below `scaling`.
    """
    found = workload.scaling
    assert found is not None, "asked only for workloads that are scaled"
    return WorkloadScaling(
        workload=workload.name,
        spec=_spec(workload.name, found, folder),
        mode=ScalingMode(found.mode),
        activation=_activation(found),
        fallback=_fallback(found),
        calendar=tuple(map(_window, found.calendar)),
        predictive=_predictive(found),
        panic=_panic(found),
        warm_pool=_warm_pool(found),
        cost_ceiling=None
        if found.cost_ceiling is None
        else CostCeiling(found.cost_ceiling.per_hour),
        gpu_down_window_s=found.gpu_down_window_s,
        ignore_below=found.ignore_below,
    )


def _activation(found: ScalingSettings) -> Activation | None:
    one = found.activation
    return None if one is None else Activation(round(one.threshold * 1000), one.cooldown_s)


def _fallback(found: ScalingSettings) -> Fallback | None:
    one = found.fallback
    if one is None:
        return None
    return Fallback(one.failures, one.replicas, FallbackBehavior(one.behavior))


def _predictive(found: ScalingSettings) -> PredictiveFloor | None:
    one = found.predictive
    if one is None:
        return None
    try:
        zone_of(one.timezone)
    except InvalidInputError as error:
        raise InvalidInputError("predictive", error.value, error.allowed) from error
    return PredictiveFloor(one.quantile, one.weeks, one.weekly_decay, one.error_max, one.timezone)


def _panic(found: ScalingSettings) -> Panic | None:
    one = found.panic
    if one is None:
        return None
    return Panic(one.window_s, one.stable_window_s, one.threshold, one.rate_up_max)


def _warm_pool(found: ScalingSettings) -> WarmPool | None:
    one = found.warm_pool
    return None if one is None else WarmPool(one.size, one.gpu_model or None)


def _cost_ceiling(found: ScalingSettings) -> CostCeiling | None:
    one = found.cost_ceiling
    return None if one is None else CostCeiling(one.per_hour)


def _window(table: dict[str, object]) -> CalendarWindow:
    most = table.get("max_replicas")
    window = CalendarWindow(
        str(table["name"]),
        str(table["start"]),
        str(table["end"]),
        str(table["timezone"]),
        int(str(table["min_replicas"])),
        None if most is None else int(str(most)),
    )
    try:
        check_window(window)
    except InvalidInputError as error:
        raise InvalidInputError("calendar", error.value, error.allowed) from error
    return window


def _spec(workload: str, found: ScalingSettings, folder: Path) -> AutoscalerSpec:
    if found.spec:
        return _spec_of_file(found, folder)
    if found.max_replicas < 1:
        raise InvalidInputError("max_replicas", found.max_replicas, "1 or more; it is required")
    if found.min_replicas > found.max_replicas:
        allowed = f"at most max_replicas, {found.max_replicas}"
        raise InvalidInputError("min_replicas", found.min_replicas, allowed)
    return AutoscalerSpec(
        name=workload,
        metrics=(_metric(found),),
        min_replicas=found.min_replicas,
        max_replicas=found.max_replicas,
        behavior=_behavior(found),
        target_name=workload,
    )


def _spec_of_file(found: ScalingSettings, folder: Path) -> AutoscalerSpec:
    defaults = ScalingSettings()
    beside = [one for one in _SPEC_INSTEAD if getattr(found, one) != getattr(defaults, one)]
    if beside:
        raise InvalidInputError(
            "spec", found.spec, f"empty where the keys stand here ({', '.join(beside)})"
        )
    from fleet.rescaling.reading import parse_autoscaler

    path = folder / Path(found.spec).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise InvalidInputError("spec", found.spec, f"a file that can be read: {error}") from error
    specs = parse_autoscaler(text, OPTIONS, str(path))
    if len(specs) != 1:
        raise InvalidInputError("spec", found.spec, f"a file with one autoscaler, not {len(specs)}")
    return specs[0]


def _metric(found: ScalingSettings) -> MetricSpec:
    if bool(found.metric) == bool(found.query):
        which = "both" if found.query else "neither"
        raise InvalidInputError("metric", found.metric, f"one of `metric` and `query`, not {which}")
    if found.target <= 0:
        raise InvalidInputError("target", found.target, "above 0; it is required")
    name = found.query or found.metric
    kind = MetricKind.EXTERNAL if found.query else MetricKind.PODS
    if found.metric in RESOURCES:
        kind = MetricKind.RESOURCE
    usual = TargetType.UTILIZATION if kind is MetricKind.RESOURCE else TargetType.AVERAGE_VALUE
    target_type = _TYPES.get(found.target_type, usual)
    _check_type(kind, target_type, found.target_type)
    scale = 1 if target_type is TargetType.UTILIZATION else 1000
    metric = MetricSpec(kind, name, target_type, max(1, round(found.target * scale)))
    if kind is MetricKind.EXTERNAL:
        _check_query(metric)
    return metric


def _check_type(kind: MetricKind, target_type: TargetType, given: str) -> None:
    """Refuse a target that the API does not have for this kind of metric."""
    allowed = {
        MetricKind.RESOURCE: (TargetType.UTILIZATION, TargetType.AVERAGE_VALUE),
        MetricKind.PODS: (TargetType.AVERAGE_VALUE,),
        MetricKind.EXTERNAL: (TargetType.AVERAGE_VALUE, TargetType.VALUE),
    }[kind]
    if target_type not in allowed:
        words = [word for word, one in _TYPES.items() if one in allowed]
        raise InvalidInputError("target_type", given, " or ".join(map(repr, words)))


def _check_query(metric: MetricSpec) -> None:
    if is_series(metric.name):
        return
    from fleet.promql.parsing import parse

    try:
        parse(expression_of(metric, "workload", "region"))
    except InvalidInputError as error:
        raise InvalidInputError("query", metric.name, error.allowed) from error


def _behavior(found: ScalingSettings) -> Behavior:
    tolerance = round(found.tolerance * 1000)
    return Behavior(
        ScalingRules(_UP, stabilization_window_s=found.up_window_s, tolerance_milli=tolerance),
        ScalingRules(_DOWN, stabilization_window_s=found.down_window_s, tolerance_milli=tolerance),
    )


def scaling_violations(workloads: Sequence[WorkloadSettings], folder: Path) -> Iterator[Violation]:
    """What makes no sense in the tables `scaling`, each with its key.

    Args:
        workloads: that are valid by themselves.
        folder: that paths start at.
    """
    for one in workloads:
        if one.scaling is None:
            continue
        here = ("workloads", one.name, "scaling")
        try:
            workload_scaling(one, folder)
        except InvalidInputError as error:
            field = error.field if error.field in _KEYS else "spec"
            yield Violation(
                (*here, field), f"{error.value!r} is not valid; allowed: {error.allowed}"
            )
        except StateroomError as error:
            yield Violation((*here, "spec"), str(error))
        limit = one.scaling.max_replicas
        for window in one.scaling.calendar:
            most = window.get("max_replicas", limit if not one.scaling.spec else None)
            if most is not None and int(str(window["min_replicas"])) > int(str(most)):
                yield Violation(
                    (*here, "calendar"),
                    f"window {window['name']}: min_replicas {window['min_replicas']} is more than "
                    f"{most}",
                )


_KEYS = frozenset(ScalingSettings.__dataclass_fields__)
