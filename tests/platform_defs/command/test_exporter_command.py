"""`stateroom exporter` as Prometheus and a person meet it."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.errors import AlreadyRunningError, PermanentError
from fleet.metrics.exported.table import BY_NAME
from platform_defs.exporting import open_exporter, serving
from platform_defs.settings import load_settings
from tests.platform_defs.command.conftest import Run


def test_one_page_is_printed_and_every_line_of_it_is_declared(run: Run, filled: object) -> None:
    """What a scraper would get; names and labels as the table says."""
    result = run("exporter", "--once")
    assert result.exit_code == 0, result.output
    samples = [s for f in text_string_to_metric_families(result.stdout) for s in f.samples]
    assert {s.name for s in samples} >= {"stateroom_nodes", "stateroom_agents"}
    for sample in samples:
        assert tuple(sample.labels) == BY_NAME[sample.name].labels


def test_how_far_rollups_are_is_exported_without_a_collector(
    run: Run, filled: object, fleet_dir: Path
) -> None:
    """Where Prometheus scrapes, no collector runs, and `RollupsLag` rests on it."""
    before = run("exporter", "--once").stdout
    assert "stateroom_rollup" not in before
    assert 'stateroom_exporter_source_up{source="rollups"} 1.0' in before
    (fleet_dir / "layout.toml").write_text('[[layout]]\nfile = "load.csv"\nmetric = "load"\n')
    (fleet_dir / "load.csv").write_text("timestamp,value\n1772323260,1\n")
    assert run("metrics", "import", "csv", str(fleet_dir / "layout.toml")).exit_code == 0
    after = run("exporter", "--once").stdout
    assert 'stateroom_rollup_dirty_partitions{level="1m"} 1.0' in after
    assert 'stateroom_rollup_lag_seconds{level="1d"}' in after
    assert "stateroom_late_samples_total 1.0" in after


def test_without_a_fleet_it_says_what_to_start(run: Run) -> None:
    """No empty page that looks like an empty fleet."""
    result = run("exporter", "--once")
    assert result.exit_code == 3
    assert "stateroom up" in result.stderr


def test_it_serves_until_it_is_left_and_refuses_a_port_in_use(
    fleet_dir: Path, filled: object
) -> None:
    """The error names port and key; afterwards the port is free again."""
    settings = load_settings()
    with open_exporter(settings) as exporter:
        with serving(exporter, "127.0.0.1", 0) as running:
            with urllib.request.urlopen(running.url, timeout=10) as answer:
                assert b'stateroom_exporter_source_up{source="fleet"} 1.0' in answer.read()
            port = int(running.url.rsplit(":", 1)[1].split("/")[0])
            with (
                pytest.raises(AlreadyRunningError, match=f"port {port}") as caught,
                serving(exporter, "127.0.0.1", port),
            ):
                pass
            assert "exporter.port" in caught.value.hint
        with socket.create_server(("127.0.0.1", port)):
            pass
        with (
            pytest.raises(PermanentError, match="cannot listen"),
            serving(exporter, "192.0.2.1", 1),
        ):
            pass
