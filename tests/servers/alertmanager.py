"""A real Prometheus Alertmanager on loopback, for the tests that need one (Debian's package)."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_NAMES = ("prometheus-alertmanager", "alertmanager")
_START_S = 60.0

_CONFIG = """
route:
  receiver: hook
  group_by: ['...']
  group_wait: 10ms
  group_interval: 50ms
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs:
      - url: {hook}
        send_resolved: true
"""


class Alertmanager(NamedTuple):
    """A running server."""

    port: int

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that fire."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", "/api/v2/alerts")
            found = json.loads(connection.getresponse().read())
        assert isinstance(found, list)
        return found


@contextmanager
def running_alertmanager(folder: Path, hook: str) -> Iterator[Alertmanager]:
    """A server that passes every alert on to the web hook; ended afterwards.

    Skips the test where no Alertmanager is installed.
    """
    binary = next(filter(None, map(shutil.which, _NAMES)), None)
    if binary is None:
        pytest.skip("no prometheus-alertmanager on PATH (Debian's package of that name)")
    config = folder / "alertmanager.yml"
    config.write_text(_CONFIG.format(hook=hook))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [binary, f"--config.file={config}", f"--storage.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        _wait_until_ready(process, port, log)
        yield Alertmanager(port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", "/-/ready")
                if connection.getresponse().status == 200:
                    return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Alertmanager did not start: {log.read_text()}")
        time.sleep(0.02)
