"""A real Prometheus on loopback: the oracle of answers, and a source to read from."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_START_S = 60.0

CONFIGURATION = """\
global: {scrape_interval: 1s, evaluation_interval: 1s}
storage: {tsdb: {out_of_order_time_window: 5000d}}
"""


@dataclass
class PrometheusServer:
    """A running server; `url` has no path."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """`data` of an answer of the HTTP API, for example of `/api/v1/query`."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        with urllib.request.urlopen(f"{self.url}{path}{query}", timeout=60) as answer:
            return json.load(answer)["data"]

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Status of a POST, for example of a remote write."""
        request = urllib.request.Request(f"{self.url}{path}", body, dict(headers))
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)


def backfill(openmetrics: str, data: Path) -> None:
    """Make blocks of OpenMetrics text with timestamps (seconds) in a data folder; ends in `# EOF`.

    Without a start: give the folder to `running_prometheus` afterwards.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".om") as text:
        text.write(openmetrics)
        text.flush()
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
        command += ["--max-block-duration=48h", text.name, str(data)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


@contextmanager
def running_prometheus(
    data: Path | None = None, configuration: str = CONFIGURATION, flags: Sequence[str] = ()
) -> Iterator[PrometheusServer]:
    """A server that is ready; ended when the block is left.

    Args:
        data: its data folder, for example one that `backfill` filled; None for an empty one.
        configuration: YAML.
        flags: further arguments of its command line.
    """
    folder = Path(tempfile.mkdtemp(prefix="prometheus-"))
    (folder / "prometheus.yml").write_text(configuration)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = ["prometheus", f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={data or folder / 'data'}"]
    command += ["--storage.tsdb.retention.time=100y", "--web.enable-remote-write-receiver"]
    command += ["--web.enable-lifecycle", f"--web.listen-address=127.0.0.1:{port}", *flags]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = PrometheusServer(f"http://127.0.0.1:{port}", folder, process)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(server: PrometheusServer) -> None:
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends:
        assert server.process.poll() is None, (server.folder / "log").read_text()
        with (
            suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{server.url}/-/ready", timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.05)
    pytest.fail(f"Prometheus was not ready: {(server.folder / 'log').read_text()}")


@pytest.fixture(scope="session")
def prometheus_programs() -> None:
    """Skip where `prometheus` or `promtool` is not installed (Debian: `apt install prometheus`)."""
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: apt install prometheus)")
