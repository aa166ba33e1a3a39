"""The oracle starts, takes samples and answers."""

from pathlib import Path

import pytest

from tests.servers.prometheus import backfill, prometheus_programs, running_prometheus

__all__ = ["prometheus_programs"]


@pytest.mark.usefixtures("prometheus_programs")
def test_a_backfilled_server_answers_from_its_blocks(tmp_path: Path) -> None:
    """Text becomes blocks, blocks become answers."""
    lines = [f"x_total {i} {1_600_000_000 + 15 * i}" for i in range(40)]
    backfill("\n".join(["# TYPE x counter", *lines, "# EOF\n"]), tmp_path)
    with running_prometheus(tmp_path) as server:
        found = server.get("/api/v1/query", {"query": "x_total", "time": "1600000300"})
    assert found["result"][0]["value"] == [1_600_000_300, "20"]
