"""What `up` writes for Dagster, and how it asks the webserver."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from fleet.errors import NotFoundError, PermanentError, TransientError
from platform_defs import dagster_processes
from platform_defs.settings import Settings, load_settings
from platform_defs.state_folder import StateFolder
from platform_defs.webserver_client import WebserverClient
from tests.platform_defs.settings_files import write_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a prepared state folder."""
    found = load_settings(write_settings(tmp_path), {})
    StateFolder(found.fleet.state_dir).prepare()
    return found


def test_the_instance_file_is_the_one_beside_the_settings_else_the_repositorys(
    settings: Settings,
) -> None:
    """A deployment has its own; each start copies it anew."""
    copied = settings.dagster_home / "dagster.yaml"
    assert dagster_processes.write_instance(settings) == dagster_processes.ROOT / "dagster.yaml"
    assert copied.read_text() == (dagster_processes.ROOT / "dagster.yaml").read_text()
    own = settings.path.parent / "dagster.yaml"
    own.write_text("telemetry: {enabled: false}\n")
    assert dagster_processes.write_instance(settings) == own
    assert copied.read_text() == own.read_text()


def test_no_instance_file_is_an_error_with_both_places(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An installation without a repository has to bring one."""
    monkeypatch.setattr(dagster_processes, "ROOT", tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="nowhere"):
        dagster_processes.write_instance(settings)


def test_the_workspace_names_the_same_socket_at_every_start(settings: Settings) -> None:
    """Dagster files the ticks of sensors under the address of their code server."""
    first = dagster_processes.write_workspace(settings).read_text()
    assert dagster_processes.write_workspace(settings).read_text() == first
    (entry,) = yaml.safe_load(first)["load_from"]
    assert entry == {
        "grpc_server": {
            "socket": str(dagster_processes.code_socket(settings)),
            "location_name": "stateroom",
        }
    }
    assert not dagster_processes.code_server_listens(settings)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3000"),
        ("::1", "http://[::1]:3000"),
        ("0.0.0.0", "http://127.0.0.1:3000"),
        ("::", "http://[::1]:3000"),
        ("host.example", "http://host.example:3000"),
    ],
)
def test_the_url_is_one_that_this_machine_can_open(tmp_path: Path, host: str, url: str) -> None:
    """An address to listen on everywhere is none to open."""
    settings = load_settings(write_settings(tmp_path), {"STATEROOM_WEB__HOST": host})
    assert dagster_processes.ui_url(settings, 3000) == url


class _Webserver(BaseHTTPRequestHandler):
    answer = (200, b"{}")

    def do_POST(self) -> None:
        """Answer what the test has set."""
        self.rfile.read(int(self.headers["Content-Length"]))
        code, body = self.answer
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def client() -> Iterator[WebserverClient]:
    """A client of a webserver that answers what `_Webserver.answer` says."""
    server = HTTPServer(("127.0.0.1", 0), _Webserver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield WebserverClient(f"http://127.0.0.1:{server.server_port}", timeout_s=5.0)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("code", "body", "error", "said"),
    [
        (200, b"not json", TransientError, "does not answer"),
        (500, b"broken", PermanentError, "HTTP 500: broken"),
        (200, b'{"errors": [{"message": "no such field"}]}', PermanentError, "no such field"),
    ],
)
def test_answers_that_are_none_become_the_houses_errors(
    client: WebserverClient,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    body: bytes,
    error: type[Exception],
    said: str,
) -> None:
    """Each says what the webserver said."""
    monkeypatch.setattr(_Webserver, "answer", (code, body))
    with pytest.raises(error, match=said):
        client.version()


def test_a_proxy_of_the_environment_is_not_asked(
    client: WebserverClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The UI of this machine is reached directly."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    body = json.dumps({"data": {"version": "1.2"}}).encode()
    monkeypatch.setattr(_Webserver, "answer", (200, body))
    assert client.version() == "1.2"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"__typename": "PythonError", "message": "no workspace"}, "no workspace"),
        ({"__typename": "Workspace", "locationEntries": []}, "no code location stateroom"),
        (
            {
                "__typename": "Workspace",
                "locationEntries": [
                    {"name": "stateroom", "loadStatus": "LOADING", "locationOrLoadError": None}
                ],
            },
            "loading",
        ),
        (
            {
                "__typename": "Workspace",
                "locationEntries": [
                    {
                        "name": "stateroom",
                        "loadStatus": "LOADED",
                        "locationOrLoadError": {"__typename": "PythonError", "message": "boom\n"},
                    }
                ],
            },
            "boom",
        ),
    ],
)
def test_a_location_that_is_not_loaded_says_why(
    client: WebserverClient,
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, object],
    problem: str,
) -> None:
    """Loading, failed, absent, or no workspace at all."""
    body = json.dumps({"data": {"workspaceOrError": data}}).encode()
    monkeypatch.setattr(_Webserver, "answer", (200, body))
    assert client.location_problem("stateroom") == problem


def test_a_refused_launch_says_what_dagster_says(
    client: WebserverClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example a job that does not exist."""
    found = {"__typename": "PipelineNotFoundError", "message": "Could not find job x"}
    body = json.dumps({"data": {"launchRun": found}}).encode()
    monkeypatch.setattr(_Webserver, "answer", (200, body))
    with pytest.raises(PermanentError, match="Could not find job x"):
        client.launch_job("stateroom", "x", {}, {})
