"""The Dagster side of a running fleet: instance files, code server, daemon, webserver.

Three separate processes instead of `dagster dev`: each can die and be started again alone, and the
code server is the one that run workers are spawned from.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

from fleet.errors import NotFoundError
from platform_defs.processes import ProcessSpec
from platform_defs.settings import Settings, child_environment
from platform_defs.state_folder import StateFolder

LOCATION = "stateroom"
"""Name of the code location; sensor states are stored under it."""
ROOT = Path(__file__).resolve().parent.parent
"""Folder that holds the package, and in a checkout dagster.yaml and constraints.txt."""


def write_instance(settings: Settings) -> Path:
    """Put dagster.yaml into DAGSTER_HOME, anew at each start, so that edits of the original count.

    Returns:
        The file that was copied.

    Raises:
        NotFoundError: there is none beside stateroom.toml nor beside the package.
    """
    candidates = [settings.path.parent / "dagster.yaml", ROOT / "dagster.yaml"]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise NotFoundError(
            f"no dagster.yaml in {' or '.join(str(path.parent) for path in candidates)}",
            hint="Put one beside stateroom.toml; the repository's is a good start.",
        )
    target = settings.dagster_home / "dagster.yaml"
    partial = target.with_suffix(".new")
    shutil.copyfile(found, partial)
    partial.replace(target)
    return found


def code_socket(settings: Settings) -> Path:
    """Where the code server listens. The same at every start: Dagster files ticks under it."""
    return StateFolder(settings.fleet.state_dir).socket_path("code-server")


def write_workspace(settings: Settings) -> Path:
    """Tell webserver and daemon where the code server listens; returns the file."""
    path = settings.dagster_home / "workspace.yaml"
    partial = path.with_suffix(".new")
    partial.write_text(
        "# written by `stateroom up` at each start\n"
        "load_from:\n"
        "  - grpc_server:\n"
        f"      socket: {json.dumps(str(code_socket(settings)))}\n"
        f"      location_name: {LOCATION}\n",
        encoding="utf-8",
    )
    partial.replace(path)
    return path


def code_server_spec(settings: Settings) -> ProcessSpec:
    """The process that prepares the instance, holds the definitions and spawns run workers."""
    argv = [sys.executable, "-m", "platform_defs.code_server"]
    argv += ["--socket", str(code_socket(settings)), "--location-name", LOCATION]
    return own_process_spec(settings, "code-server", argv)


def daemon_spec(settings: Settings, workspace: Path) -> ProcessSpec:
    """The process that ticks sensors and schedules and dequeues runs."""
    return own_process_spec(
        settings, "daemon", [_script("dagster-daemon"), "run", "-w", str(workspace)]
    )


def webserver_spec(settings: Settings, workspace: Path, port: int) -> ProcessSpec:
    """The UI."""
    argv = [_script("dagster-webserver"), "-w", str(workspace)]
    argv += ["--host", settings.web.host, "--port", str(port)]
    return own_process_spec(settings, "webserver", argv)


def collector_spec(settings: Settings) -> ProcessSpec:
    """The process that scrapes the fleet, evaluates rules and serves the exporter."""
    argv = [sys.executable, "-m", "platform_defs.collector"]
    return replace(own_process_spec(settings, "collector", argv), vital=False)


def own_process_spec(settings: Settings, name: str, argv: list[str]) -> ProcessSpec:
    """A process of this installation: same code, same settings, its log beside the others."""
    environ = child_environment(settings)
    # the same code as this process, installed or not; the working directory adds nothing to it
    environ["PYTHONPATH"] = ":".join([str(ROOT), *filter(None, [environ.get("PYTHONPATH")])])
    return ProcessSpec(
        name=name,
        argv=argv,
        environ=environ,
        working_dir=settings.dagster_home,
        log_path=settings.log_dir / f"{name}.log",
    )


def _script(name: str) -> str:
    """A console script of this environment, which need not be on PATH."""
    return str(Path(sys.executable).parent / name)


def code_server_listens(settings: Settings) -> bool:
    """Whether the code server accepts connections, which it does once everything is loaded."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(code_socket(settings)))
        except OSError:
            return False
    return True


def ui_url(settings: Settings, port: int) -> str:
    """Where a person of this machine finds the UI."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.web.host, settings.web.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{port}"
