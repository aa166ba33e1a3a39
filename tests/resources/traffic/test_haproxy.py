"""HAProxy, the real one: requests follow the table, the runtime API's edges, restarts, crashes."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Sequence

import pytest

from fleet.errors import (
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StaleEpochError,
    TrafficUnavailableError,
)
from fleet.routes import Backend, LiveRoutes, RouteTable
from resources.traffic.haproxy import HaproxyRouter
from resources.traffic.haproxy_client import HaproxyClient
from tests.servers.balancers import Balancer, answering, need, running, running_haproxy


@pytest.fixture
def haproxy() -> Iterator[Balancer]:
    """A running HAProxy that knows two services."""
    with running_haproxy(["web", "a.b_c-d"]) as balancer:
        yield balancer


@pytest.fixture
def router(haproxy: Balancer) -> HaproxyRouter:
    """Its adapter."""
    return HaproxyRouter(client(haproxy))


def client(haproxy: Balancer) -> HaproxyClient:
    """Of its admin socket."""
    return HaproxyClient(str(haproxy.folder / "admin.sock"))


def table(ports: dict[str, int], revision: int = 1, epoch: int = 1, **weights: int) -> RouteTable:
    """A table of the service `web` whose agents are the little servers."""
    backends = tuple(
        Backend(name, "eu", "127.0.0.1", ports[name], epoch, weights.get(name, 100))
        for name in sorted(ports)
    )
    return RouteTable("web", 1, revision, backends)


def test_requests_go_where_the_table_says(haproxy: Balancer, router: HaproxyRouter) -> None:
    """One backend, two, the other, none."""
    assert haproxy.ask("web") == "503"
    with answering("a", "b") as ports:
        router.apply_routes([table({"a": ports["a"]})])
        assert haproxy.ask("web") == "a"
        router.apply_routes([table(ports, 2)])
        assert {haproxy.ask("web") for _ in range(8)} == {"a", "b"}
        router.apply_routes([table({"b": ports["b"]}, 3)])
        assert [haproxy.ask("web") for _ in range(4)] == ["b"] * 4
        router.apply_routes([table({}, 4)])
        assert haproxy.ask("web") == "503"


def test_a_moved_agent_answers_from_its_new_place(haproxy: Balancer, router: HaproxyRouter) -> None:
    """And its old copy's table cannot bring it back."""
    with answering("old", "new") as ports:
        before = table({"a": ports["old"]})
        router.apply_routes([before])
        router.apply_routes([table({"a": ports["new"]}, 2, epoch=2)])
        assert haproxy.ask("web") == "new"
        (result,) = router.apply_routes([before])
        assert isinstance(result.error, StaleEpochError)
        assert haproxy.ask("web") == "new"


def test_weights_reach_haproxy(haproxy: Balancer, router: HaproxyRouter) -> None:
    """And changes of an address under the same epoch (a restart on another port)."""
    router.apply_routes([table({"a": 9, "b": 9}, a=7)])
    router.apply_routes([table({"a": 10, "b": 9}, a=255, b=1)])
    (text,) = client(haproxy).run(["show servers state web"])
    rows = [line.split() for line in text.splitlines()[2:]]
    assert {(row[3], row[7], row[18]) for row in rows} == {
        ("a.e1", "255", "10"),
        ("b.e1", "1", "9"),
    }


def test_a_server_with_open_connections_is_deleted_once_they_end(
    haproxy: Balancer, router: HaproxyRouter
) -> None:
    """It gets nothing new meanwhile, and its request is not cut."""
    with socket.create_server(("127.0.0.1", 0)) as slow:
        slow.settimeout(10)
        router.apply_routes([table({"a": slow.getsockname()[1]})])
        asking = http.client.HTTPConnection("127.0.0.1", haproxy.port, timeout=10)
        asking.request("GET", "/", headers={"X-Service": "web"})
        connection, _ = slow.accept()
        connection.settimeout(10)
        assert connection.recv(65536)
        assert router.open_connections("web") == {"a": 1}
        assert router.apply_routes([table({}, 2)])[0].changed
        live = router.live_routes("web")
        assert live is not None
        assert live.addresses == ()
        assert router.open_connections("web") == {"a": 1}
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        connection.close()
        assert asking.getresponse().read() == b"late"
        asking.close()
    assert not router.apply_routes([table({}, 3)])[0].changed
    assert router.open_connections("web") == {}


def test_servers_of_the_file_are_left_alone(haproxy: Balancer, router: HaproxyRouter) -> None:
    """Only names with an epoch are ours."""
    client(haproxy).run(["add server web/spare 127.0.0.9:9 weight 1"])
    router.apply_routes([table({})])
    (text,) = client(haproxy).run(["show servers state web"])
    assert "spare" in text
    live = router.live_routes("web")
    assert live is not None
    assert live.addresses == ()


def test_a_restarted_haproxy_is_filled_again(haproxy: Balancer, router: HaproxyRouter) -> None:
    """It has forgotten servers and fence; the same table brings both back."""
    router.apply_routes([table({"a": 9}, 5)])
    haproxy.end()
    with pytest.raises(TrafficUnavailableError, match=r"does not answer"):
        router.apply_routes([table({"a": 9}, 6)])
    (haproxy.folder / "admin.sock").unlink(missing_ok=True)
    command = [need("haproxy"), "-db", "-f", str(haproxy.folder / "haproxy.cfg")]
    with running(command, haproxy.folder, haproxy.port, haproxy.folder / "admin.sock"):
        assert router.live_routes("web") == LiveRoutes("web", 0, 0, ())
        assert router.apply_routes([table({"a": 9}, 5)])[0].changed
        assert router.live_routes("web") == LiveRoutes("web", 1, 5, ("127.0.0.1",))


class _CutOff(HaproxyClient):
    """A client whose connection breaks after a number of changes."""

    def __init__(self, address: str, after: int) -> None:
        super().__init__(address)
        self._left = after

    def run(self, commands: Sequence[str]) -> list[str]:
        """Reads pass; of changes only the first ones arrive."""
        if not commands or commands[0] != "experimental-mode on":
            return super().run(commands)
        super().run(commands[: 1 + self._left])
        raise TrafficUnavailableError("cut off")


@pytest.mark.parametrize("after", range(6))
def test_an_application_cut_off_at_any_command_is_completed_by_the_next(
    haproxy: Balancer, router: HaproxyRouter, after: int
) -> None:
    """Fence, add, enable, maintenance, delete: whichever was the last that arrived."""
    router.apply_routes([table({"a": 8, "b": 9})])
    newer = table({"a": 7, "b": 9}, 2, epoch=2)
    broken = HaproxyRouter(_CutOff(str(haproxy.folder / "admin.sock"), after))
    with pytest.raises(TrafficUnavailableError):
        broken.apply_routes([newer])
    assert router.apply_routes([newer])[0].error is None
    (text,) = client(haproxy).run(["show servers state web"])
    rows = {(row[3], row[6], row[18]) for row in map(str.split, text.splitlines()[2:])}
    assert rows == {("a.e2", "0", "7"), ("b.e2", "0", "9")}


def test_names_with_every_allowed_character_have_fences_of_their_own(
    router: HaproxyRouter,
) -> None:
    """Variables take fewer characters than services."""
    odd = RouteTable("a.b_c-d", 2, 3, (Backend("x.e7", "eu", "::1", 80, 4, 9),))
    assert router.apply_routes([odd])[0].error is None
    assert router.live_routes("a.b_c-d") == LiveRoutes("a.b_c-d", 2, 3, ("::1",))
    assert not router.apply_routes([odd])[0].changed


def test_what_haproxy_cannot_hold_is_refused_by_name(router: HaproxyRouter) -> None:
    """No backend, a static algorithm, a host name; the others of the batch are applied."""
    host = RouteTable("a.b_c-d", 1, 1, (Backend("x", "eu", "node.example", 80, 1, 1),))
    nowhere = host._replace(service="nowhere")
    static = RouteTable("static-algorithm", 1, 1, (Backend("x", "eu", "::1", 80, 1, 1),))
    results = router.apply_routes([host, nowhere, static, table({"a": 9})])
    kinds = [type(result.error) for result in results]
    assert kinds == [InvalidInputError, NotFoundError, InvalidInputError, type(None)]
    assert "backend nowhere" in str(getattr(results[1].error, "hint", ""))
    assert router.live_routes("nowhere") is None
    with pytest.raises(NotFoundError):
        router.open_connections("nowhere")


def test_an_admin_port_works_as_an_admin_socket_does(haproxy: Balancer) -> None:
    """`host:port`; a wrong address, nobody there and a line break are told apart."""
    with pytest.raises(InvalidInputError, match="haproxy address"):
        HaproxyClient("relative/path")
    with pytest.raises(InvalidInputError, match="haproxy command"):
        client(haproxy).run(["show info\nshutdown sessions"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(TrafficUnavailableError):
        HaproxyClient(f"127.0.0.1:{port}").run(["show info"])
    assert client(haproxy).run([]) == []


def test_a_socket_without_the_right_to_change_is_an_error(haproxy: Balancer) -> None:
    """`level operator` reads and changes nothing."""
    file = (haproxy.folder / "haproxy.cfg").read_text()
    weak = haproxy.folder / "weak.cfg"
    weak.write_text(
        file.replace("admin.sock", "weak.sock").replace("level admin", "level operator")
    )
    with running(
        [need("haproxy"), "-db", "-f", str(weak)],
        haproxy.folder,
        haproxy.port,
        haproxy.folder / "weak.sock",
    ):
        router = HaproxyRouter(HaproxyClient(str(haproxy.folder / "weak.sock")))
        with pytest.raises(PermanentError, match="lets nothing be changed: Permission denied"):
            router.apply_routes([table({"a": 9})])


def test_an_answer_that_is_not_understood_is_an_error(
    haproxy: Balancer, router: HaproxyRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else adds the server between our look and our command."""
    read = router._read

    def late(services: Sequence[str]) -> object:
        found = read(services)
        client(haproxy).run(["add server web/a.e1 127.0.0.9:9"])
        return found

    monkeypatch.setattr(router, "_read", late)
    with pytest.raises(TrafficUnavailableError, match="Already exists a server"):
        router.apply_routes([table({"a": 9})])
    monkeypatch.undo()
    assert router.apply_routes([table({"a": 9})])[0].error is None
