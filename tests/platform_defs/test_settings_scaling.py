"""Settings of rescaling: what becomes of them, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import InvalidSettingsError
from fleet.rescaling.policy import (
    Activation,
    CalendarWindow,
    CostCeiling,
    Fallback,
    FallbackBehavior,
    ScalingMode,
)
from fleet.rescaling.spec import MetricKind, MetricSpec, TargetType
from platform_defs.declared_fleet import declared_replicas
from platform_defs.declared_scaling import declared_scaling
from platform_defs.settings import load_settings
from platform_defs.settings_display import effective_rows
from tests.platform_defs.settings_files import SMALL, write_settings

HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 8
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}
"""


def scaled(lines: str, *tables: str) -> str:
    """The small fleet with one workload that is scaled."""
    inner = "".join(f"[workloads.w.scaling.{one}]\n" for one in tables)
    workload = "[workloads.w]\nnetwork = 'watch'\nfunction = 'm:f'\n"
    return f"{SMALL}{workload}[workloads.w.scaling]\n{lines}\n{inner}"


def _calendar(**changes: object) -> str:
    """A workload of at most two agents with one window."""
    window = {"name": "d", "start": "0 8 * * *", "end": "0 9 * * *", "timezone": "UTC"}
    inner = ", ".join(f"{k} = {v!r}" for k, v in ({"min_replicas": 1} | window | changes).items())
    return f"max_replicas=2\nmetric='cpu'\ntarget=5\ncalendar=[{{{inner}}}]"


def test_a_workload_is_scaled_by_a_few_keys_or_by_many(tmp_path: Path) -> None:
    """Every table becomes its record; what is absent is switched off."""
    text = scaled(
        "mode = 'auto'\nmin_replicas = 0\nmax_replicas = 9\nquery = 'sum(q{region=\"$region\"})'\n"
        "target = 2.5\ntolerance = 0.2\ncalendar = [{name='day', start='0 8 * * MON-FRI', "
        "end='0 18 * * 1-5', timezone='Europe/Berlin', min_replicas=3}]",
        "activation]\nthreshold = 0.5\n[workloads.w.scaling.fallback]\nfailures = 3\nreplicas = 4\n"
        "[workloads.w.scaling.cost_ceiling]\nper_hour = 12.5\n#",
    )
    settings = load_settings(write_settings(tmp_path, text), {})
    found = declared_scaling(settings).workloads["w"]
    assert found.mode is ScalingMode.AUTO
    assert found.spec.metrics == (
        MetricSpec(MetricKind.EXTERNAL, 'sum(q{region="$region"})', TargetType.AVERAGE_VALUE, 2500),
    )
    assert (found.spec.min_replicas, found.spec.max_replicas) == (0, 9)
    assert found.spec.behavior is not None
    assert found.spec.behavior.scale_down.tolerance_milli == 200
    assert found.activation == Activation(500, 300)
    assert found.fallback == Fallback(3, 4, FallbackBehavior.STATIC)
    assert found.cost_ceiling == CostCeiling(12.5)
    assert found.panic is None
    day = CalendarWindow("day", "0 8 * * MON-FRI", "0 18 * * 1-5", "Europe/Berlin", 3)
    assert found.calendar == (day,)
    shown = {row.key: row.value for row in effective_rows(settings)}
    assert shown["workloads.w.scaling.fallback.replicas"] == 4
    assert "workloads.w.scaling.panic.window_s" not in shown
    assert declared_replicas(settings)[-1].is_scaled


@pytest.mark.parametrize(
    ("metric", "target", "expected"),
    [
        ("cpu", 60, (MetricKind.RESOURCE, TargetType.UTILIZATION, 60)),
        ("queue_length", 5, (MetricKind.PODS, TargetType.AVERAGE_VALUE, 5000)),
    ],
)
def test_a_metric_means_what_its_name_says(
    tmp_path: Path, metric: str, target: int, expected: tuple[object, ...]
) -> None:
    """Of processes in percent of what is allocated; of agents for each of them."""
    text = scaled(f"max_replicas = 3\nmetric = '{metric}'\ntarget = {target}")
    found = declared_scaling(load_settings(write_settings(tmp_path, text), {})).workloads["w"]
    (only,) = found.spec.metrics
    assert (only.kind, only.target_type, only.target) == expected
    assert found.mode is ScalingMode.OBSERVE


def test_an_autoscaler_of_kubernetes_is_taken_as_it_is(tmp_path: Path) -> None:
    """From a file beside the settings."""
    (tmp_path / "web.yaml").write_text(HPA, encoding="utf-8")
    text = scaled("mode = 'approve'\nspec = 'web.yaml'")
    found = declared_scaling(load_settings(write_settings(tmp_path, text), {})).workloads["w"]
    assert (found.spec.min_replicas, found.spec.max_replicas) == (2, 8)
    assert found.spec.behavior is None


@pytest.mark.parametrize(
    ("lines", "key", "said"),
    [
        ("metric='cpu'\ntarget=5", "max_replicas", "required"),
        ("max_replicas=2\nmin_replicas=3\nmetric='cpu'\ntarget=5", "min_replicas", "at most"),
        ("max_replicas=2\ntarget=5", "metric", "one of `metric` and `query`"),
        ("max_replicas=2\nmetric='cpu'", "target", "above 0"),
        ("max_replicas=2\nquery='sum('\ntarget=1", "query", ""),
        ("max_replicas=2\nmetric='cpu'\ntarget=5\ntarget_type='value'", "target_type", "average"),
        ("spec='no.yaml'", "spec", "can be read"),
        ("spec='web.yaml'\nmax_replicas=3", "spec", "max_replicas"),
        ("max_replicas=2\nmetric='cpu'\ntarget=5\nwindow=3", "window", "unknown key"),
        (_calendar(start="0 8 * *"), "calendar", "cron of five fields"),
        (_calendar(end="0 8 30 2 *"), "calendar", "cron of five fields"),
        (_calendar(timezone="Mars/Base"), "calendar", "timezone"),
        (_calendar(min_replicas=3), "calendar", "more than 2"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_makes_no_sense_is_refused_with_its_key(
    tmp_path: Path, lines: str, key: str, said: str
) -> None:
    """One line for each problem, with the line of the file."""
    path = write_settings(tmp_path, scaled(lines))
    with pytest.raises(InvalidSettingsError) as caught:
        load_settings(path, {})
    (problem,) = caught.value.problems
    assert f"workloads.w.scaling.{key}" in problem
    assert said in problem
    assert "line" in problem


def test_an_unknown_key_of_an_inner_table_names_the_one_that_was_meant(tmp_path: Path) -> None:
    """Two levels below the workload's name."""
    text = scaled(
        "max_replicas=2\nmetric='cpu'\ntarget=5", "fallback]\nfailure = 3\nreplicas = 1\n#"
    )
    with pytest.raises(InvalidSettingsError) as caught:
        load_settings(write_settings(tmp_path, text), {})
    assert any("workloads.w.scaling.fallback.failures?" in one for one in caught.value.problems)


def test_the_environment_reaches_inner_tables(tmp_path: Path) -> None:
    """`STATEROOM_WORKLOADS__W__SCALING__FALLBACK__REPLICAS`."""
    text = scaled(
        "max_replicas=2\nmetric='cpu'\ntarget=5", "fallback]\nfailures = 3\nreplicas = 1\n#"
    )
    names = {"STATEROOM_WORKLOADS__W__SCALING__FALLBACK__REPLICAS": "2"}
    settings = load_settings(write_settings(tmp_path, text), names)
    found = declared_scaling(settings).workloads["w"].fallback
    assert found is not None
    assert found.replicas == 2
