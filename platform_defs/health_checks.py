"""What `stateroom doctor` looks at: each check returns findings, each finding has its remedy.

A check never repairs and never raises: what it cannot find out is a finding too.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata, util
from pathlib import Path

from fleet.errors import StateroomError
from platform_defs.backup_health import check_vaults, check_wrapping_keys
from platform_defs.failover_health import check_failover
from platform_defs.gpu_health import check_gpu
from platform_defs.health_finding import Check, Context, Finding
from platform_defs.settings import Settings
from platform_defs.state_folder import StateFolder, UpRun
from platform_defs.vector_health import check_vectors

PYTHON_MIN, PYTHON_MAX = (3, 11), (3, 13)
DISK_WRONG_BYTES = 256 * 1024 * 1024
"""Less free space than this: SQLite and Parquet writes are about to fail."""
DISK_WARN_BYTES = 2 * 1024 * 1024 * 1024
CLOCK_SAMPLE_S = 0.2
CLOCK_DRIFT_MAX_S = 0.02
"""Wall and monotonic clock may differ by this over the sample; more means that it is being set."""
TICK_AGE_MAX_S = 60.0
"""The daemon looks at every sensor at least each 5 s; 30 s is its usual interval for assets."""
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronized."""


def run_checks(context: Context) -> list[Finding]:
    """All findings, in the order of the checks; an error inside a check is its finding."""
    found: list[Finding] = []
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        try:
            found += check(context)
        except StateroomError as error:
            found.append(Finding(name, "wrong", str(error), error.hint))
        except OSError as error:
            found.append(Finding(name, "wrong", str(error), "See the file or address it names."))
    return found


def check_python(context: Context) -> Iterator[Finding]:
    """The interpreter is one that is tested."""
    version = f"Python {sys.version.split()[0]}"
    if PYTHON_MIN <= sys.version_info[:2] <= PYTHON_MAX:
        yield Finding("python", "ok", version)
    else:
        yield Finding(
            "python", "wrong", version, "Use 3.11 to 3.13: make PYTHON=python3.12 install"
        )
    del context


def check_versions(context: Context) -> Iterator[Finding]:
    """Installed distributions are those of constraints.txt."""
    path = context.root / "constraints.txt"
    if not path.is_file():
        yield Finding("versions", "skipped", "no constraints.txt beside the package")
        return
    pinned = dict(read_constraints(path.read_text(encoding="utf-8")))
    others = []
    for name, version in pinned.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # constraints also pin what other platforms and extras need
        if installed != version:
            others.append(f"{name} {installed} instead of {version}")
    if others:
        yield Finding("versions", "warn", "; ".join(others), "make clean install")
    else:
        yield Finding("versions", "ok", f"as pinned ({len(pinned)} pins)")


def read_constraints(text: str) -> Iterator[tuple[str, str]]:
    """Name and version of each pin that holds on this platform."""
    from packaging.requirements import Requirement

    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement.name, next(iter(requirement.specifier)).version


def check_bytecode(context: Context) -> Iterator[Finding]:
    """Dagster is compiled; without bytecode every process starts three times slower."""
    for name in ("dagster", "dagster_webserver", "sqlalchemy"):
        spec = util.find_spec(name)
        if spec is None or spec.origin is None:
            yield Finding("bytecode", "wrong", f"{name} is not installed", "make clean install")
            return
        if not Path(util.cache_from_source(spec.origin)).exists():
            remedy = f"{sys.executable} -m compileall -q {Path(spec.origin).parent.parent}"
            yield Finding("bytecode", "warn", f"{name} is not compiled: slow starts", remedy)
            return
    yield Finding("bytecode", "ok", "compiled")
    del context


def check_state_folder(context: Context) -> Iterator[Finding]:
    """The state folder is ours, private and writable."""
    folder = context.settings.fleet.state_dir
    if not folder.exists():
        yield Finding("state_folder", "ok", f"{folder} will be created by `stateroom up`")
        return
    facts = folder.stat()
    mode = stat.S_IMODE(facts.st_mode)
    if not os.access(folder, os.W_OK | os.X_OK):
        remedy = f"chown -R {os.getuid()} {folder}"
        yield Finding("state_folder", "wrong", f"{folder} cannot be written", remedy)
    elif facts.st_uid != os.getuid():
        said = f"{folder} belongs to user {facts.st_uid}, this is user {os.getuid()}"
        yield Finding("state_folder", "warn", said, f"chown -R {os.getuid()} {folder}")
    elif mode & 0o022:
        said = f"{folder} can be written by others (mode {mode:o})"
        yield Finding("state_folder", "warn", said, f"chmod go-w {folder}")
    else:
        yield Finding("state_folder", "ok", f"{folder}, mode {mode:o}")


def check_disk(context: Context) -> Iterator[Finding]:
    """There is room for the stores."""
    folders = {context.settings.fleet.state_dir, context.settings.lake.path}
    for folder in sorted(folders):
        free = shutil.disk_usage(_existing(folder)).free
        said = f"{free // (1024 * 1024)} MiB free for {folder}"
        if free < DISK_WRONG_BYTES:
            yield Finding("disk", "wrong", said, "Free space, or move fleet.state_dir.")
        elif free < DISK_WARN_BYTES:
            yield Finding("disk", "warn", said, "Lower lake.keep_days, or move fleet.state_dir.")
        else:
            yield Finding("disk", "ok", said)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def check_clock(context: Context) -> Iterator[Finding]:
    """The wall clock runs evenly, and somebody keeps it right."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(CLOCK_SAMPLE_S)
    drift = (time.time() - wall) - (time.monotonic() - steady)
    if abs(drift) > CLOCK_DRIFT_MAX_S:
        said = f"the wall clock moved {drift:+.3f} s against the monotonic clock"
        yield Finding("clock", "warn", said, "Let one NTP client slew the clock, not step it.")
    else:
        yield Finding("clock", "ok", f"even ({drift * 1e6:+.0f} us in {CLOCK_SAMPLE_S} s)")
    synchronized = clock_is_synchronized()
    if synchronized is None:
        yield Finding("ntp", "skipped", "the kernel does not say whether the clock is kept right")
    elif synchronized:
        yield Finding("ntp", "ok", "synchronized")
    else:
        remedy = "Start chrony or systemd-timesyncd; leases and reports compare clocks of nodes."
        yield Finding("ntp", "warn", "the clock is not synchronized", remedy)
    del context


def clock_is_synchronized() -> bool | None:
    """What adjtimex(2) says; None where it is not available."""
    buffer = ctypes.create_string_buffer(512)  # struct timex is at most 208 bytes; modes = 0: read
    try:
        state = ctypes.CDLL(None).adjtimex(buffer)
    except AttributeError:
        return None
    return None if state < 0 else state != _TIME_ERROR


def check_ports(context: Context) -> Iterator[Finding]:
    """The UI's port is free, or the UI is ours."""
    web = context.settings.web
    if context.running is not None:
        yield Finding("ports", "ok", f"in use by this fleet: {context.running.url or 'no UI'}")
        return
    from platform_defs.ports_check import check_port_free

    if web.port:
        check_port_free(web.host, web.port)
    yield Finding("ports", "ok", f"{web.host}:{web.port} is free")
    if web.host not in {"127.0.0.1", "::1", "localhost"}:
        said = f"the UI will listen on {web.host}; it has no login, and can start any job"
        yield Finding("ports", "warn", said, "Use 127.0.0.1 behind a proxy that has a login.")


def check_store(context: Context) -> Iterator[Finding]:
    """The control store can be read and durably written, and has this version's schema."""
    from platform_defs.command.store_access import fleet_store, has_store

    if not has_store(context.settings):
        yield Finding("store", "ok", "will be created by `stateroom up`")
        return
    with fleet_store(context.settings) as store:
        store.ping()
        counts = store.fleet_counts()
    nodes, live = sum(c.nodes for c in counts), sum(c.nodes_live for c in counts)
    yield Finding("store", "ok", "reachable, durable, schema known")
    if context.running is None:
        yield Finding("supervisors", "skipped", "the fleet is not running")
    elif live < nodes:
        silent = ", ".join(c.region for c in counts if c.nodes_live < c.nodes)
        said = f"{nodes - live} of {nodes} nodes give no heartbeat ({silent})"
        yield Finding(
            "supervisors", "wrong", said, "stateroom nodes; stateroom chaos start-node NAME"
        )
    else:
        yield Finding("supervisors", "ok", f"{live} of {nodes} nodes alive")


def check_lake(context: Context) -> Iterator[Finding]:
    """The lake's folder can be written."""
    path = context.settings.lake.path
    if not path.exists():
        yield Finding("lake", "ok", f"{path} will be created by `stateroom up`")
        return
    probe = path / f".doctor-{os.getpid()}"
    try:
        probe.write_bytes(b"stateroom doctor")
    except OSError as error:
        remedy = f"Free space, or: chown -R {os.getuid()} {path}"
        yield Finding("lake", "wrong", f"{path} cannot be written: {error.strerror}", remedy)
        return
    probe.unlink()
    yield Finding("lake", "ok", f"{path} can be written")


def check_dagster(context: Context) -> Iterator[Finding]:
    """The UI answers, the code location is loaded, and the daemon looks at its sensors."""
    if context.running is None or not context.running.url:
        yield Finding("dagster", "skipped", "the UI is not running")
        return
    from platform_defs.dagster_processes import LOCATION
    from platform_defs.webserver_client import WebserverClient

    client = WebserverClient(context.running.url)
    yield Finding("dagster", "ok", f"Dagster {client.version()} answers at {client.url}")
    problem = client.location_problem(LOCATION)
    if problem is not None:
        logs = context.settings.log_dir / "code-server.log"
        yield Finding("code_location", "wrong", problem.splitlines()[0], f"See {logs}")
        return
    yield Finding("code_location", "ok", f"{LOCATION} is loaded")
    running, newest_s = client.newest_sensor_tick(LOCATION)
    yield daemon_finding(running, newest_s, datetime.now(UTC).timestamp(), context.settings)


def daemon_finding(
    sensors_running: int, newest_tick_s: float | None, now_s: float, settings: Settings
) -> Finding:
    """Judge the daemon by its newest tick: its own heartbeat counts as healthy for 30 minutes."""
    logs = settings.log_dir / "daemon.log"
    if not sensors_running:
        return Finding(
            "daemon", "warn", "no sensor is running", "Start them: Automation in the UI."
        )
    if newest_tick_s is None:
        return Finding("daemon", "warn", "no sensor has ticked yet", f"Look again; see {logs}")
    age_s = now_s - newest_tick_s
    said = f"newest of {sensors_running} sensors ticked {age_s:.0f} s ago"
    if age_s > TICK_AGE_MAX_S:
        return Finding("daemon", "wrong", said, f"See {logs}; restart `stateroom up`.")
    return Finding("daemon", "ok", said)


def running_in(settings: Settings) -> UpRun | None:
    """The `stateroom up` that owns the state folder."""
    return StateFolder(settings.fleet.state_dir).read_up()


CHECKS: tuple[Check, ...] = (
    check_python,
    check_versions,
    check_bytecode,
    check_state_folder,
    check_disk,
    check_clock,
    check_ports,
    check_store,
    check_failover,
    check_lake,
    check_vaults,
    check_wrapping_keys,
    check_gpu,
    check_vectors,
    check_dagster,
)
"""In the order of cause and effect: the first one that is wrong explains those after it."""
