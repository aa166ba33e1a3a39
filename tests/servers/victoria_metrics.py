"""A real VictoriaMetrics on loopback: a peer that benchmarks measure against."""

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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = "victoria-metrics"
MISSING = f"{PROGRAM} is not installed (Debian: apt install victoria-metrics)"
_START_S = 60.0


@dataclass
class VictoriaMetrics:
    """A running server; `url` has no path."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str, parameters: Mapping[str, str]) -> Any:
        """`data` of an answer of the Prometheus API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=300) as answer:
            return json.load(answer)["data"]

    def import_lines(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Store series: each document has `metric`, `values` and `timestamps` (milliseconds).

        They are visible when the call returns.
        """
        body = "\n".join(json.dumps(one) for one in documents).encode()
        for path, data in (("/api/v1/import", body), ("/internal/force_flush", b"")):
            request = urllib.request.Request(f"{self.url}{path}", data or None)
            with urllib.request.urlopen(request, timeout=300) as answer:
                assert answer.status // 100 == 2, answer.status

    def size_bytes(self) -> int:
        """Of its files now."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files)


@contextmanager
def running_victoria_metrics() -> Iterator[VictoriaMetrics | None]:
    """A server that is ready, ended when the block is left; None where none is installed."""
    if shutil.which(PROGRAM) is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="victoria-"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [PROGRAM, f"-storageDataPath={folder / 'data'}", "-retentionPeriod=100y"]
    command += [f"-httpListenAddr=127.0.0.1:{port}", "-search.disableCache"]
    command += ["-search.latencyOffset=0s", "-search.maxUniqueTimeseries=3000000"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = VictoriaMetrics(f"http://127.0.0.1:{port}", folder / "data", process)
    try:
        _wait_until_ready(server, folder / "log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(server: VictoriaMetrics, log: Path) -> None:
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends:
        assert server.process.poll() is None, log.read_text()
        with (
            suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{server.url}/health", timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())
