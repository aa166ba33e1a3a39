"""Routes in nginx: one upstream file per service, and a reload.

nginx's file includes `<folder>/*.conf`, and proxies to `http://<service>`. Files are judged and
replaced under a lock of the folder. A reload is needed when the bodies of the files differ from
those that were loaded last; their digest is kept in `.loaded`, written after the reload has been
taken: a crash between file and reload is therefore seen and completed by the next application. A
configuration that nginx refuses (`nginx -t`) is taken back before anything is loaded.

nginx answers a signal with nothing, and goes on with the old configuration when the new one cannot
be had. A reload is over when there are new workers and every old one has ended or calls itself
"shutting down": until then an old one may still accept a request and send it to the old place. A
master that has just started has no worker yet; the first one is awaited, or it would pass for new.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from fleet.errors import PermanentError, TrafficUnavailableError
from fleet.names import validate_name
from fleet.ports.traffic import RouteResult
from fleet.routes import LiveRoutes, RouteTable, judge_table, validate_tables
from resources.traffic.atomic_files import only_writer, read_file, replace_file

_HEAD = re.compile(rb"# stateroom term=([0-9]+) revision=([0-9]+)[^\n]*\n")
_SERVER = re.compile(rb"^    server (\S+):[0-9]+ weight=", re.MULTILINE)
_LOADED = ".loaded"
_NOBODY = "    server 127.0.0.1:9 down;  # nobody answers for this service\n"
_POLL_S = 0.01


class NginxRouter:
    """`fleet.ports.traffic.TrafficRouter` on an nginx of this machine.

    Args:
        folder: of the upstream files; nginx's file has `include <folder>/*.conf;` in `http`.
        config: nginx's main file.
        pid_file: as nginx's `pid` says.
        binary: the nginx program.
        timeout_s: for the test of a configuration, and for a reload.
    """

    name = "nginx"

    def __init__(
        self,
        folder: Path,
        *,
        config: Path,
        pid_file: Path,
        binary: str = "nginx",
        timeout_s: float = 15.0,
    ) -> None:
        """Remember where; nothing is done before the first call."""
        self._folder = folder
        self._config = config
        self._pid_file = pid_file
        self._binary = binary
        self._timeout_s = timeout_s

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[RouteResult]:
        """Write the files of tables that are not older, and reload once when a body differs."""
        validate_tables(tables)
        if not tables:
            return []
        with only_writer(self._folder):
            results, written = [], {}
            for table in tables:
                path = self._path(table.service)
                old = read_file(path)
                refused = judge_table(table, _fence(old))
                new = _render(table)
                changed = refused is None and _body(old) != _body(new)
                results.append(RouteResult(table.service, changed, refused))
                if refused is None and old != new:
                    written[path] = (old, new)
            for path, (_, new) in written.items():
                replace_file(path, new)
            self._load({path: old for path, (old, _) in written.items()})
        return results

    def live_routes(self, service: str) -> LiveRoutes | None:
        """What the loaded file says; nginx itself cannot be asked.

        Raises:
            TrafficUnavailableError: the files were not loaded (a call broke off): apply again.
        """
        text = read_file(self._path(service))
        fence = _fence(text)
        if text is None or fence is None:
            return None
        if read_file(self._folder / _LOADED) != self._digest():
            raise TrafficUnavailableError(
                f"nginx has not loaded the files in {self._folder}",
                hint="Apply the routes again; that tests and loads them.",
            )
        addresses = sorted({_bare(found.decode()) for found in _SERVER.findall(text)})
        return LiveRoutes(service, *fence, tuple(addresses))

    def _load(self, before: dict[Path, bytes | None]) -> None:
        """Test and load what the folder holds, unless nginx has it already.

        Args:
            before: the files written now, with what they held, to be put back on a refusal.
        """
        digest = self._digest()
        if read_file(self._folder / _LOADED) == digest:
            return
        try:
            self._test()
        except PermanentError:
            for path, old in before.items():
                if old is None:
                    path.unlink()
                else:
                    replace_file(path, old)
            raise
        self._reload()
        replace_file(self._folder / _LOADED, digest)

    def _test(self) -> None:
        command = [self._binary, "-t", "-q", "-c", str(self._config)]
        try:
            done = subprocess.run(
                command, capture_output=True, check=False, timeout=self._timeout_s
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TrafficUnavailableError(
                f"{' '.join(command)}: {error}", hint="Check that nginx is installed."
            ) from error
        if done.returncode:
            text = done.stderr.decode(errors="replace").strip()
            raise PermanentError(
                f"nginx refuses the configuration; the files were put back: {text}",
                hint=f"Correct {self._config}; `{' '.join(command)}` checks it.",
            )

    def _reload(self) -> None:
        """Signal the master, and wait until new workers have taken over."""
        try:
            master = psutil.Process(int(self._pid_file.read_text()))
            ends_s = time.monotonic() + self._timeout_s
            while not (old := {child.pid for child in master.children()}):
                self._wait(master, ends_s)
            os.kill(master.pid, signal.SIGHUP)
            while not _is_taken_over(master, old):
                self._wait(master, ends_s)
        except (OSError, ValueError, psutil.Error) as error:
            raise TrafficUnavailableError(
                f"nginx cannot be told to reload ({error}); its pid file is {self._pid_file}",
                hint="Start nginx, then apply the routes again.",
            ) from error

    def _wait(self, master: psutil.Process, ends_s: float) -> None:
        if time.monotonic() > ends_s:
            raise TrafficUnavailableError(
                f"nginx (pid {master.pid}) has not replaced its workers within "
                f"{self._timeout_s:g} s; it goes on with the old routes",
                hint="Its error log says why; apply the routes again.",
            )
        time.sleep(_POLL_S)

    def _digest(self) -> bytes:
        """Of the bodies of all upstream files, in order."""
        digest = hashlib.sha256()
        for path in sorted(self._folder.glob("*.conf")):
            digest.update(path.name.encode() + b"\0" + (_body(read_file(path)) or b"") + b"\0")
        return digest.hexdigest().encode()

    def _path(self, service: str) -> Path:
        return self._folder / f"{validate_name('service', service)}.conf"


def _is_taken_over(master: psutil.Process, old: set[int]) -> bool:
    """Whether only workers of the new configuration accept requests."""
    workers = master.children()
    if {worker.pid for worker in workers} <= old:
        return False
    return all(worker.pid not in old or _is_leaving(worker) for worker in workers)


def _is_leaving(worker: psutil.Process) -> bool:
    try:
        return "shutting down" in " ".join(worker.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return True


def _render(table: RouteTable) -> bytes:
    lines = [
        f"    server {_host(backend.address)}:{backend.port} weight={backend.weight};"
        f"  # {backend.agent_id} epoch {backend.epoch}\n"
        for backend in table.backends
    ]
    head = f"# stateroom term={table.term} revision={table.revision}; written by Stateroom\n"
    body = f"upstream {table.service} {{\n    least_conn;\n{''.join(lines) or _NOBODY}}}\n"
    return (head + body).encode()


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]")


def _fence(text: bytes | None) -> tuple[int, int] | None:
    match = _HEAD.match(text or b"")
    return (int(match[1]), int(match[2])) if match else None


def _body(text: bytes | None) -> bytes | None:
    """The part that means something to nginx."""
    return None if text is None else _HEAD.sub(b"", text, count=1)
