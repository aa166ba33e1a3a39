"""nginx, the real one: requests follow the table, refused files are taken back, crashes heal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fleet.errors import PermanentError, StaleEpochError, TrafficUnavailableError
from fleet.routes import Backend, LiveRoutes, RouteTable
from resources.traffic import nginx as module
from resources.traffic.nginx import NginxRouter
from tests.servers.balancers import Balancer, answering, need, running_nginx


@pytest.fixture
def nginx() -> Iterator[Balancer]:
    """A running nginx, whose first worker answers."""
    with running_nginx() as balancer:
        assert balancer.ask("web") == "502"
        yield balancer


@pytest.fixture
def router(nginx: Balancer) -> NginxRouter:
    """Its adapter."""
    return adapter(nginx)


def adapter(nginx: Balancer, config: str = "nginx.conf", timeout_s: float = 15.0) -> NginxRouter:
    """An adapter of a running nginx."""
    folder = nginx.folder
    return NginxRouter(
        folder / "upstreams",
        config=folder / config,
        pid_file=folder / "nginx.pid",
        binary=need("nginx"),
        timeout_s=timeout_s,
    )


def table(ports: dict[str, int], revision: int = 1, service: str = "web") -> RouteTable:
    """A table whose agents are the little servers."""
    backends = tuple(
        Backend(name, "eu", "127.0.0.1", ports[name], 1, 100) for name in sorted(ports)
    )
    return RouteTable(service, 1, revision, backends)


def workers(nginx: Balancer) -> set[int]:
    """Process ids of the workers: one that serves, and those of before that still end."""
    return {child.pid for child in psutil.Process(nginx.process.pid).children()}


def test_requests_go_where_the_table_says(nginx: Balancer, router: NginxRouter) -> None:
    """One backend, two, none; each in force when the call returns."""
    with answering("a", "b") as ports:
        router.apply_routes([table({"a": ports["a"]})])
        assert nginx.ask("web") == "a"
        router.apply_routes([table(ports, 2)])
        assert {nginx.ask("web") for _ in range(8)} == {"a", "b"}
        router.apply_routes([table({}, 3)])
        assert nginx.ask("web") == "502"
        (result,) = router.apply_routes([table(ports, 2)])
        assert isinstance(result.error, StaleEpochError)
        assert nginx.ask("web") == "502"


def test_nothing_is_reloaded_when_no_backend_differs(nginx: Balancer, router: NginxRouter) -> None:
    """Many services are one reload; a newer fence alone is none."""
    before = workers(nginx)
    router.apply_routes([table({"a": 9}), table({"b": 9}, service="api")])
    loaded = workers(nginx)
    assert len(loaded - before) == 1
    router.apply_routes([table({"a": 9}, 2), table({"b": 9}, 2, service="api")])
    assert not workers(nginx) - loaded
    assert router.live_routes("api") == LiveRoutes("api", 1, 2, ("127.0.0.1",))


def test_a_refused_configuration_is_taken_back(nginx: Balancer, router: NginxRouter) -> None:
    """Two upstreams of one name: nginx's own words, the old files, the old routes."""
    with answering("a", "b") as ports:
        router.apply_routes([table({"a": ports["a"]})])
        config = nginx.folder / "nginx.conf"
        good = config.read_text()
        config.write_text(good.replace("http {", "http { upstream api { server 127.0.0.1:9; }"))
        wanted = [table({"b": ports["b"]}, 2), table({"b": ports["b"]}, service="api")]
        with pytest.raises(PermanentError, match='duplicate upstream "api"'):
            router.apply_routes(wanted)
        assert router.live_routes("web") == LiveRoutes("web", 1, 1, ("127.0.0.1",))
        assert router.live_routes("api") is None
        assert nginx.ask("web") == "a"
        config.write_text(good)
        assert [result.error for result in router.apply_routes(wanted)] == [None, None]
        assert (nginx.ask("web"), nginx.ask("api")) == ("b", "b")


@pytest.mark.parametrize("step", ["between files", "before the test", "before the reload", "mark"])
def test_a_crash_at_any_step_is_seen_and_completed_by_the_next_application(
    nginx: Balancer, router: NginxRouter, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever was written last, nobody is told that nginx has what it has not."""

    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    replace_file, calls = module.replace_file, []

    def crash_at_file(path: Path, data: bytes) -> None:
        calls.append(path.name)
        if (step == "between files" and len(calls) == 2) or (step == "mark" and ".l" in path.name):
            raise Crash
        replace_file(path, data)

    with answering("a", "b") as ports:
        first = [table({"a": ports["a"]}), table({"a": ports["a"]}, service="api")]
        router.apply_routes(first)
        second = [table({"b": ports["b"]}, 2), table({"b": ports["b"]}, 2, service="api")]
        with monkeypatch.context() as patch:
            patch.setattr(module, "replace_file", crash_at_file)
            if step == "before the test":
                patch.setattr(router, "_test", crash)
            if step == "before the reload":
                patch.setattr(router, "_reload", crash)
            with pytest.raises(Crash):
                router.apply_routes(second)
        with pytest.raises(TrafficUnavailableError, match="has not loaded"):
            router.live_routes("web")
        assert [result.error for result in router.apply_routes(second)] == [None, None]
        assert (nginx.ask("web"), nginx.ask("api")) == ("b", "b")
        assert router.live_routes("web") == LiveRoutes("web", 1, 2, ("127.0.0.1",))


def test_a_reload_that_nginx_does_not_take_is_an_error(nginx: Balancer) -> None:
    """The master is stopped; the test of the files passes all the same."""
    router = adapter(nginx, timeout_s=1.0)
    adapter(nginx).apply_routes([table({"a": 9})])
    psutil.Process(nginx.process.pid).suspend()
    try:
        with pytest.raises(TrafficUnavailableError, match="has not replaced its workers"):
            router.apply_routes([table({"a": 10}, 2)])
    finally:
        psutil.Process(nginx.process.pid).resume()
    assert adapter(nginx).apply_routes([table({"a": 10}, 2)])[0].error is None
    assert adapter(nginx).live_routes("web") == LiveRoutes("web", 1, 2, ("127.0.0.1",))


# A master whose worker comes late; each reload starts one, and the old one ends a while later.
LATE_MASTER = """
import os, pathlib, signal, subprocess, sys, time

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(0.5)
old = subprocess.Popen(["sleep", "30"])
while signal.sigwait([signal.SIGHUP]):
    new = subprocess.Popen(["sleep", "30"])
    time.sleep(0.3)
    old.kill()
    old.wait()
    old = new
"""


def test_the_first_worker_of_a_master_that_has_just_started_does_not_pass_for_a_new_one(
    tmp_path: Path,
) -> None:
    """It is awaited before the signal, and the call returns when it has ended."""
    (tmp_path / "upstreams").mkdir()
    pid_file = tmp_path / "pid"
    master = psutil.Popen([sys.executable, "-c", LATE_MASTER, str(pid_file)])
    try:
        while not (pid_file.exists() and pid_file.read_text()):
            time.sleep(0.01)
        router = NginxRouter(
            tmp_path / "upstreams", config=tmp_path / "conf", pid_file=pid_file, binary="true"
        )
        router.apply_routes([table({"a": 9})])
        (worker,) = (child for child in master.children() if child.status() != "zombie")
        assert worker.create_time() - master.create_time() > 0.5
        router.apply_routes([table({"a": 10}, 2)])
        assert worker.pid not in {child.pid for child in master.children()}
    finally:
        for process in [*master.children(), master]:
            process.kill()
        master.wait()


def test_an_nginx_that_does_not_run_is_an_error_and_is_loaded_later(nginx: Balancer) -> None:
    """No pid file, a pid of nobody, no program."""
    router = adapter(nginx)
    (nginx.folder / "nginx.pid").rename(nginx.folder / "pid")
    for text in (None, "", "4194304"):
        if text is not None:
            (nginx.folder / "nginx.pid").write_text(text)
        with pytest.raises(TrafficUnavailableError, match="cannot be told to reload"):
            router.apply_routes([table({"a": 9})])
    (nginx.folder / "pid").rename(nginx.folder / "nginx.pid")
    router.apply_routes([table({"a": 9})])
    assert router.live_routes("web") == LiveRoutes("web", 1, 1, ("127.0.0.1",))
    gone = NginxRouter(
        nginx.folder / "upstreams",
        config=nginx.folder / "nginx.conf",
        pid_file=nginx.folder / "nginx.pid",
        binary="/nowhere/nginx",
    )
    with pytest.raises(TrafficUnavailableError, match="No such file"):
        gone.apply_routes([table({"a": 10}, 2)])


def test_both_families_and_host_names_are_written_as_nginx_wants_them(
    nginx: Balancer, router: NginxRouter
) -> None:
    """And read back without brackets."""
    backends = (
        Backend("a", "eu", "::1", 80, 1, 1),
        Backend("b", "eu", "localhost", 80, 1, 1),
    )
    router.apply_routes([RouteTable("web", 1, 1, backends)])
    assert router.live_routes("web") == LiveRoutes("web", 1, 1, ("::1", "localhost"))
