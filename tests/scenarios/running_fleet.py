"""A real `stateroom up` for scenarios: its own state folder, free ports, always ended."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "platform_defs.command.main"]

START_TIMEOUT_S = 300
"""Of each step of a start: many times what a quiet machine takes."""

SETTINGS = """\
[fleet]
name = "scenario"
[web]
port = 0
[node]
heartbeat_interval_s = 0.5
lease_ttl_s = 3.0
[metrics]
scrape_interval_s = 1.0
[regions.us-west-2]
nodes = 1
[regions.eu-central-1]
nodes = 1
[networks.host-watch]
[workloads.cpu]
network = "host-watch"
function = "stateroom_agent.observers:observe_cpu"
replicas_per_node = 2
"""


class RunningFleet:
    """One state folder, and at most one `stateroom up` on it."""

    def __init__(self, folder: Path) -> None:
        """Write the settings; nothing is started."""
        self.folder = folder
        (folder / "stateroom.toml").write_text(SETTINGS, encoding="utf-8")
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("STATEROOM_")}
        self.environ |= {
            "STATEROOM_CONFIG": str(folder / "stateroom.toml"),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}",
        }
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        self.log_path = folder / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        """Of the UI, once everything is up."""

    def up(self, *options: str) -> str:
        """Start; returns the UI's URL (empty without a UI) once everything is up."""
        words = [*COMMAND, "up", "--timeout", f"{START_TIMEOUT_S}", *options]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                words, env=self.environ, cwd=self.folder, stdout=log, stderr=log
            )
        end_s = time.monotonic() + 2 * START_TIMEOUT_S
        while not (found := re.search(r" is up(?:: (\S+)| without a UI)", self.log())):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end_s, self.log()
            time.sleep(0.1)
        self.url = found.group(1) or ""
        return self.url

    def log(self) -> str:
        """What `up` has said so far."""
        return self.log_path.read_text(encoding="utf-8")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another `stateroom` command on the same fleet, in another process."""
        return subprocess.run(
            [*COMMAND, *words],
            env=self.environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *words: str) -> Any:
        """What a command prints with `--json`."""
        done = self.run(*words, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def processes(self) -> list[int]:
        """Every process that belongs to this fleet: its environment or command names the folder."""
        mark, found = os.fsencode(self.folder), []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                known = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if mark in known and not dead:
                found.append(int(entry.name))
        return found

    def wait_gone(self, timeout_s: float = 30.0) -> None:
        """Wait until no process is left."""
        end_s = time.monotonic() + timeout_s
        while left := self.processes():
            assert time.monotonic() < end_s, f"still there: {left}\n{self.log()}"
            time.sleep(0.1)

    def end(self) -> None:
        """Stop whatever still runs, for the end of a test."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            finally:
                self.process.kill()
        if self.process is not None:
            self.wait_gone()
