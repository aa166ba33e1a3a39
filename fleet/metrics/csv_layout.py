"""How columns of a CSV file become series: declared, one record a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.metrics.labels import labels_of
from fleet.metrics.samples import MetricType

TIME_UNITS: Mapping[str, int] = {"s": 1000, "ms": 1}
"""Milliseconds in a unit of the time column."""


class CsvLayout(NamedTuple):
    """One file and the metric that it holds."""

    file: str
    """Its name in the folder; `.gz` behind it says that it is packed."""
    metric: str
    label_columns: tuple[tuple[str, str], ...] = ()
    """Column and the label that it becomes; an empty cell leaves the label out."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels that all series of the file get."""
    type: MetricType = MetricType.GAUGE
    unit: str = ""
    help: str = ""
    time_column: str = "timestamp"
    time_unit: str = "s"
    """`s` or `ms` since 1970 UTC."""
    value_column: str = "value"
    interval_ms: int | None = None
    """Between two samples of a series; None where it is not known."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that the file must have."""
        names = [self.time_column, self.value_column, *(name for name, _ in self.label_columns)]
        return tuple(names)


def validate_layout(layout: CsvLayout) -> CsvLayout:
    """The same layout when it keeps the rules.

    Raises:
        InvalidInputError: a name is not allowed, a column serves twice, or the unit is unknown.
    """
    if not layout.file or "/" in layout.file:
        raise InvalidInputError("file", layout.file, "the name of a file in the folder")
    if layout.time_unit not in TIME_UNITS:
        raise InvalidInputError("time_unit", layout.time_unit, ", ".join(TIME_UNITS))
    if layout.interval_ms is not None and layout.interval_ms < 1:
        raise InvalidInputError("interval_ms", layout.interval_ms, "1 or more")
    if len(set(layout.columns)) < len(layout.columns):
        raise InvalidInputError("columns", layout.columns, "each column once")
    named = [*(label for _, label in layout.label_columns), *(name for name, _ in layout.labels)]
    labels_of(layout.metric, [(label, "x") for label in named])
    return layout


def layouts_of_document(rows: Sequence[Mapping[str, object]]) -> list[CsvLayout]:
    """Layouts as a document writes them: tables with the fields of `CsvLayout` as keys.

    Labels and `label_columns` are tables; `type` is a word of OpenMetrics.

    Raises:
        InvalidInputError: a key is missing, unknown or of another type, or a value is not allowed.
    """
    found = [_layout_of_row(row) for row in rows]
    if not found:
        raise InvalidInputError("layouts", "none", "at least one [[layout]]")
    files = [layout.file for layout in found]
    twice = next((name for name in files if files.count(name) > 1), None)
    if twice is not None:
        raise InvalidInputError("file", twice, "each file once")
    return found


def _layout_of_row(row: Mapping[str, object]) -> CsvLayout:
    values: dict[str, object] = {}
    for key, value in row.items():
        if key not in CsvLayout._fields:
            raise InvalidInputError("layout", key, ", ".join(CsvLayout._fields))
        if key in {"labels", "label_columns"}:
            values[key] = _pairs(key, value)
        elif key == "interval_ms":
            if not isinstance(value, int) or isinstance(value, bool):
                raise InvalidInputError(key, value, "a whole number of milliseconds")
            values[key] = value
        elif not isinstance(value, str):
            raise InvalidInputError(key, value, "a text")
        else:
            values[key] = _metric_type(value) if key == "type" else value
    for key in ("file", "metric"):
        if key not in values:
            raise InvalidInputError(key, "", "a text, in every [[layout]]")
    return validate_layout(CsvLayout(**values))  # type: ignore[arg-type]


def _pairs(key: str, value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value.values()):
        raise InvalidInputError(key, value, "a table of texts")
    return tuple((str(name), str(text)) for name, text in value.items())


def _metric_type(word: str) -> MetricType:
    try:
        return MetricType(word)
    except ValueError as error:
        raise InvalidInputError("type", word, ", ".join(MetricType)) from error


def _gentd26(file: str, metric: str, unit: str, text: str, **more: object) -> CsvLayout:
    columns = more.get("label_columns", (("container_ip", "container"),))
    assert isinstance(columns, tuple)
    return CsvLayout(
        file=f"{file}.csv.gz",
        metric=metric,
        label_columns=columns,
        labels=(("job", "gentd26"),),
        unit=unit,
        help=text,
        time_column="timestamp_anon",
        interval_ms=57_000,
    )


GENTD26 = (
    _gentd26("pod_gpu_duty_cycle_anon", "pod_gpu_duty_cycle_percent", "percent", "GPU duty cycle."),
    _gentd26(
        "pod_gpu_memory_used_bytes_anon", "pod_gpu_memory_used_bytes", "bytes", "GPU memory in use."
    ),
    _gentd26("pod_memory_util_anon", "pod_memory_utilization_ratio", "ratio", "Memory in use."),
    _gentd26(
        "qps",
        "serving_requests_per_second",
        "",
        "Requests in a second.",
        label_columns=(("container_ip", "container"), ("request_type", "request_type")),
    ),
    _gentd26("queue_size_raw_anon", "serving_queue_requests", "", "Requests that wait."),
    _gentd26("queue_rt_raw_anon", "serving_queue_milliseconds", "milliseconds", "Time in queue."),
    _gentd26(
        "model_predict_data_anon", "model_predict_milliseconds", "milliseconds", "Time of a model."
    ),
    _gentd26(
        "pipeline_inference_data_anon",
        "pipeline_inference_milliseconds",
        "milliseconds",
        "Time of an inference.",
    ),
)
"""The files of alibaba/clusterdata, cluster-trace-v2026-GenAI: one sample each 57 s of a serving
fleet, by a hash of the container's address."""
