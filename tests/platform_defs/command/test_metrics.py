"""`stateroom metrics` on a real store: queries, plots, what is not there, how rollups stand."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.levels import HOUR_MS, MINUTE_MS, Level
from fleet.metrics.rollup_plan import find_dirty
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.metrics.store_facts import MetricsDeclaration
from platform_defs.command import exit_codes
from platform_defs.command.metric_access import opened_metric_store
from platform_defs.settings import load_settings
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.part_files import PartFiles
from resources.metrics.rolling import roll_up_partition
from resources.object_store.directory import DirectoryObjectStore
from tests.platform_defs.command.conftest import Run
from tests.servers.prometheus import backfill, prometheus_programs, running_prometheus

__all__ = ["prometheus_programs"]

DAY = datetime(2026, 3, 1, tzinfo=UTC)
DAY_MS = round(DAY.timestamp() * 1000)
REGIONS = ("eu", "us")


@pytest.fixture
def store(fleet_dir: Path) -> ObjectMetricStore:
    """Two counters and a gauge for three hours of the first of March, where the command looks."""
    folder = fleet_dir / "state" / "metrics"
    folder.mkdir(parents=True)
    objects = DirectoryObjectStore(folder)
    shards = MetricsDeclaration("").shards
    store = ObjectMetricStore(
        objects, PartFiles(objects, folder), shards=shards, now=lambda: datetime.now(UTC)
    )
    times = np.arange(DAY_MS + 15_000, DAY_MS + 3 * HOUR_MS + 1, 15_000, dtype=np.int64)
    series: dict[int, SeriesInfo] = {}
    columns: list[tuple[int, Any]] = []
    for n, region in enumerate(REGIONS):
        labels = labels_of("agent_tasks_total", {"region": region, "agent": f"a{n}"})
        series[series_id(labels)] = SeriesInfo(labels, MetricType.COUNTER, interval_ms=15_000)
        columns.append((series_id(labels), np.arange(len(times)) * (n + 1.0)))
    gauge = labels_of("load", {"region": "eu"})
    series[series_id(gauge)] = SeriesInfo(gauge, MetricType.GAUGE, interval_ms=15_000)
    columns.append((series_id(gauge), np.sin(np.arange(len(times)) / 50)))
    batch = SampleBatch(
        np.concatenate([np.full(len(times), identity, np.int64) for identity, _ in columns]),
        np.concatenate([times for _ in columns]),
        np.concatenate([values for _, values in columns]),
        series,
    )
    store.append(batch, "one")
    return store


def roll_up_all(store: ObjectMetricStore) -> None:
    """Build every level."""
    for level in Level:
        with store.log.reading() as state:
            dirty = find_dirty(state, level, store.open_from_ms())
        for one in dirty:
            roll_up_partition(store, level, one.partition_ms)


RANGE = ("--from", "2026-03-01T01:00:00Z", "--to", "2026-03-01T03:00:00Z", "--step", "1h")


def test_a_range_is_a_table_and_names_the_level(run: Run, store: ObjectMetricStore) -> None:
    """Before and after the rollups are made the answer is the same; what answered is not."""
    query = "sum by (region) (increase(agent_tasks_total[1h]))"
    raw = run("metrics", "query", query, *RANGE)
    assert raw.exit_code == 0, raw.output
    roll_up_all(store)
    rolled = run("metrics", "query", query, *RANGE)
    assert raw.stdout.replace("raw samples", "rollups of 1h") == rolled.stdout
    assert rolled.stdout == (
        "time                    a    b\n"
        "2026-03-01T01:00:00Z  239  478\n"
        "2026-03-01T02:00:00Z  240  480\n"
        "2026-03-01T03:00:00Z  240  480\n"
        'a  {region="eu"}\n'
        'b  {region="us"}\n'
        "agent_tasks_total: 2 series, answered by rollups of 1h, exact\n"
    )


def test_what_is_read_again_from_finer_levels_is_told(run: Run, store: ObjectMetricStore) -> None:
    """A gauge falls several times in every bucket: only its samples say `increase` to the bit."""
    roll_up_all(store)
    done = run("metrics", "query", 'sum(increase({__name__=~"agent.*|load"}[1h]))', *RANGE)
    assert done.stdout.splitlines()[-1] == (
        '{__name__=~"agent.*|load"}: 3 series, answered by '
        "rollups of 1h until 2026-03-01T03:00:00Z, exact; "
        "(of 1) rollups of 5m until 2026-03-01T03:00:00Z, exact; "
        "(of 1) rollups of 1m until 2026-03-01T03:00:00Z, exact; "
        "(of 1) raw samples until 2026-03-01T03:00:00Z, exact"
    )


def test_an_instant_answer_has_a_line_for_each_element(run: Run, store: ObjectMetricStore) -> None:
    """Labels are columns; --limit counts what is left out."""
    done = run(
        "metrics", "query", "agent_tasks_total", "--at", "2026-03-01T01:00:10Z", "--limit", "1"
    )
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["__name__", "agent", "region", "value"]
    assert lines[2] == "... 1 more elements (--limit 2 shows all)"
    assert lines[3] == "agent_tasks_total: 2 series, answered by raw samples, exact"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("582158336", "582158336"),
        ("10001", "10001"),
        ("0 - 12345.6", "-12346"),
        ("1234.56", "1235"),
        ("0.0123456", "0.01235"),
        ("1e15", "1e+15"),
        ("1 / 0", "+Inf"),
    ],
)
def test_a_table_keeps_every_digit_before_the_point(
    run: Run, store: ObjectMetricStore, value: str, shown: str
) -> None:
    """Bytes and counts are no powers of ten; an instant and a range write alike."""
    at_once = run("metrics", "query", value, "--at", "2026-03-01T02:00:00Z")
    assert at_once.stdout.split() == ["value", shown]
    over_time = run("metrics", "query", value, *RANGE)
    assert [line.split()[1] for line in over_time.stdout.splitlines()[1:4]] == [shown] * 3


def test_json_holds_the_answer_and_what_it_stands_on(run: Run, store: ObjectMetricStore) -> None:
    """Values that JSON cannot write are texts, as in the API of Prometheus."""
    done = run("metrics", "query", "load / 0 or load", *RANGE, "--json")
    found = json.loads(done.stdout)
    assert found["exact"]
    assert [use["level"] for use in found["selectors"]] == ["raw", "raw"]
    assert {value for row in found["result"] for _, value in row["values"]} <= {
        "+Inf",
        "-Inf",
        "NaN",
    }


def test_a_plot_is_as_wide_as_the_terminal(run: Run, store: ObjectMetricStore) -> None:
    """Braille dots, a scale, times and a legend; no colour where there is no terminal."""
    done = run("metrics", "query", "load", "--from", "2026-03-01T00:00:00Z", "--to",
               "2026-03-01T03:00:00Z", "--plot", COLUMNS="72")  # fmt: skip
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "load"
    drawn = [line for line in lines if any("⠀" < mark <= "⣿" for mark in line)]
    assert len(drawn) == 16
    assert max(map(len, lines)) <= 72
    assert "\x1b" not in done.stdout
    assert any(line.startswith("a  load{") and "max 1" in line for line in lines)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("agent_task_total", "no metric agent_task_total; near are agent_tasks_total"),
        ('load{region="us"}', "there is 'eu'"),
        ('load{zone="us"}', "no series of it has a label zone"),
        ("load", ("1 series, but no samples at that time; the last sample before is at "
                 "2026-03-01T03:00:00Z")),
    ],
)  # fmt: skip
def test_what_is_not_there_is_an_error_that_says_what_is(
    run: Run, store: ObjectMetricStore, query: str, said: str
) -> None:
    """An unknown metric, a label that none has, a time without data."""
    done = run("metrics", "query", query, "--at", "2026-03-02T00:00:00Z")
    assert done.exit_code == exit_codes.USAGE
    assert said in done.stderr


def test_an_expression_that_leaves_nothing_is_no_error(run: Run, store: ObjectMetricStore) -> None:
    """The selectors have samples; the comparison drops them."""
    done = run("metrics", "query", "load > 5", "--at", "2026-03-01T02:00:00Z")
    assert done.exit_code == 0
    assert "the expression leaves none" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rate(load)",), "expected type matrix"),
        (("holt_winters(load[5m], 0.1, 0.1)",), "position 0"),
        (("sum(mad_over_time(load[5m]))",), "'mad_over_time' at position 4"),
        (("load", "--at", "yesterday"), "--at"),
        (("load", "--from", "1 hour ago", "--to", "2 hours ago"), "--from"),
        (("load", "--from", "1 hour ago", "--step", "0s"), "--step"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_place(
    run: Run, store: ObjectMetricStore, words: tuple[str, ...], said: str
) -> None:
    """Syntax, functions that are not answered, times that are none."""
    done = run("metrics", "query", *words)
    assert done.exit_code == exit_codes.USAGE
    assert said in done.stderr


def test_series_are_listed_by_metric_or_by_selector(run: Run, store: ObjectMetricStore) -> None:
    """Without a selector metrics with their counts; with one the series."""
    every = run("metrics", "series").stdout.splitlines()
    assert [line.split()[:3] for line in every[1:]] == [
        ["agent_tasks_total", "2", "counter"],
        ["load", "1", "gauge"],
    ]
    some = json.loads(run("metrics", "series", 'agent_tasks_total{region=~"u."}', "--json").stdout)
    assert [row["labels"]["region"] for row in some] == ["us"]
    assert run("metrics", "series", "nothing").exit_code == exit_codes.USAGE


def test_status_says_how_far_levels_are_built(run: Run, store: ObjectMetricStore) -> None:
    """What waits is counted, and is none when all is made."""
    before = json.loads(run("metrics", "status", "--json").stdout)
    assert before["raw_samples"] == 3 * 3 * HOUR_MS // 15_000
    waiting = {level["level"]: level["dirty"] for level in before["levels"]}
    assert waiting["1m"] == 3
    assert before["levels"][0]["built_to_ms"] == DAY_MS
    roll_up_all(store)
    text = run("metrics", "status").stdout
    assert "3 series in 1 commits" in text
    assert [line.split()[0] for line in text.splitlines()[3:]] == ["1m", "5m", "1h", "1d"]
    after = json.loads(run("metrics", "status", "--json").stdout)
    assert all(level["dirty"] == 0 for level in after["levels"])
    assert math.isclose(after["levels"][0]["records"], 3 * 3 * HOUR_MS / MINUTE_MS)


def test_without_a_store_none_is_made(run: Run, fleet_dir: Path) -> None:
    """Asking creates nothing."""
    done = run("metrics", "query", "up")
    assert done.exit_code != 0
    assert "no metrics at" in done.stderr
    assert not (fleet_dir / "state" / "metrics").exists()


LAYOUT = """
[[layout]]
file = "load.csv"
metric = "load"
label_columns = {machine = "node"}
"""


def test_csv_files_are_imported_once_however_often_it_is_run(run: Run, fleet_dir: Path) -> None:
    """The store is made by it; the second run changes nothing."""
    (fleet_dir / "layout.toml").write_text(LAYOUT)
    start = DAY_MS // 1000
    rows = [f"{start + 60 * n},m{n % 2},{n}" for n in range(1, 61)]
    (fleet_dir / "load.csv").write_text("\n".join(["timestamp,machine,value", *rows, ""]))
    for _ in range(2):
        done = run("metrics", "import", "csv", str(fleet_dir / "layout.toml"))
        assert done.exit_code == 0, done.output
        assert done.stdout == (
            "60 samples in 1 pieces, of 2026-03-01T00:01:00Z to 2026-03-01T01:00:00Z\n"
        )
        assert json.loads(run("metrics", "status", "--json").stdout)["raw_samples"] == 60
    layout = str(fleet_dir / "layout.toml")
    none = run("metrics", "import", "csv", layout, "--to", "2026-01-01T00:00:00Z")
    assert none.stdout == (
        "0 samples in 0 pieces, nothing from 1970-01-01T00:00:00Z to 2026-01-01T00:00:00Z\n"
    )
    found = run("metrics", "query", "sum(load)", "--at", "2026-03-01T01:00:00Z", "--json")
    (row,) = json.loads(found.stdout)["result"]
    assert row["values"] == [["2026-03-01T01:00:00Z", 59.0 + 60.0]]


def test_quantiles_of_gauges_that_the_settings_name_come_from_sketches(
    run: Run, fleet_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 1 % of the value, as is said; what is no name of a metric is refused at once."""
    monkeypatch.setenv("STATEROOM_METRICS__SKETCHED", "load other")
    (fleet_dir / "layout.toml").write_text(LAYOUT)
    start = DAY_MS // 1000
    rows = [f"{start + 60 * n},m,{n}" for n in range(1, 1001)]
    (fleet_dir / "load.csv").write_text("\n".join(["timestamp,machine,value", *rows, ""]))
    assert run("metrics", "import", "csv", str(fleet_dir / "layout.toml")).exit_code == 0
    roll_up_all(opened_metric_store(load_settings()))
    query = (
        "metrics",
        "query",
        "quantile_over_time(0.9, load[1d])",
        "--at",
        "2026-03-02T00:00:00Z",
    )
    found = json.loads(run(*query, "--json").stdout)
    ((_, value),) = found["result"][0]["values"]
    assert value != 900.1
    assert math.isclose(value, 900.1, rel_tol=0.01)
    assert "within 1 %" in run(*query).stdout
    for wrong in ("lo-ad", "load load"):
        monkeypatch.setenv("STATEROOM_METRICS__SKETCHED", wrong)
        done = run(*query)
        assert done.exit_code == exit_codes.USAGE
        assert "metrics.sketched" in done.stderr


def test_samples_that_the_store_refuses_are_no_success(run: Run, fleet_dir: Path) -> None:
    """History from before the first day: nothing is stored, and the key that decides is named."""
    (fleet_dir / "layout.toml").write_text(LAYOUT)
    (fleet_dir / "load.csv").write_text("timestamp,machine,value\n1662859176,m1,1\n")
    done = run("metrics", "import", "csv", str(fleet_dir / "layout.toml"))
    assert done.exit_code == 1
    assert "1 samples in 1 pieces" in done.stdout
    assert "0 are stored" in done.stdout
    assert "metrics.first_day (2025-01-01)" in done.stderr


def test_a_server_is_imported_and_answers_as_before(
    run: Run, fleet_dir: Path, tmp_path: Path, prometheus_programs: None
) -> None:
    """What Prometheus says of its samples is what the imported ones say, by our command."""
    start = DAY_MS // 1000
    lines = [f'work_total{{pod="p{n % 3}"}} {n * n} {start + 20 * n}' for n in range(1, 180)]
    lines.sort(key=lambda line: line.split("{")[1][:8])
    backfill("\n".join(["# TYPE work_total unknown", *lines, "# EOF\n"]), tmp_path / "data")
    query = "sum by (pod) (increase(work_total[10m]))"
    with running_prometheus(tmp_path / "data") as server:
        done = run("metrics", "import", "prometheus", server.url, "--series", "work_total",
                   "--from", "2026-03-01T00:00:00Z", "--to", "2026-03-01T02:00:00Z")  # fmt: skip
        said = server.get("/api/v1/query", {"query": query, "time": f"{start + 2409}"})
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("179 samples in ")
    at = datetime.fromtimestamp(start + 2409, UTC).isoformat()
    found = json.loads(run("metrics", "query", query, "--at", at, "--json").stdout)["result"]
    ours = {row["labels"]["pod"]: row["values"][0][1] for row in found}
    assert {row["metric"]["pod"] for row in said["result"]} == set(ours)
    for row in said["result"]:
        assert math.isclose(ours[row["metric"]["pod"]], float(row["value"][1]), rel_tol=1e-9)


def test_what_breaks_off_says_how_to_go_on(run: Run, fleet_dir: Path) -> None:
    """A server that is not there, a layout with a bad row: nothing is stored, and it is said."""
    done = run("metrics", "import", "prometheus", "http://127.0.0.1:9")
    assert done.exit_code == exit_codes.TRANSIENT
    (fleet_dir / "layout.toml").write_text(LAYOUT)
    (fleet_dir / "load.csv").write_text("timestamp,machine,value\n1,m,x\n")
    done = run("metrics", "import", "csv", str(fleet_dir / "layout.toml"))
    assert done.exit_code == exit_codes.USAGE
    assert "load.csv line 2" in done.stderr
