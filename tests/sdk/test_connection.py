"""The minimal HTTP client: whole answers or a clear error, and never the wrong answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stateroom_agent.connection import Connection
from tests.fakes.agent_server import AgentServer


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """A client and the other end of its connection."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    connection = Connection("/nobody/listens/here", 5.0)
    connection.adopt(near)
    yield connection, far
    connection.close()
    far.close()


def test_a_request_is_plain_http(pair: tuple[Connection, socket.socket]) -> None:
    """As any server reads it."""
    connection, far = pair
    far.sendall(b"HTTP/1.1 200 OK\r\nX-A: 1\r\ncontent-length: 2\r\n\r\nhi")
    response = connection.request("PUT", "/v1/x", "X-Epoch: 3\r\n", b"body")
    assert response == (200, {"x-a": "1", "content-length": "2"}, b"hi")
    assert far.recv(1000) == (
        b"PUT /v1/x HTTP/1.1\r\nHost: stateroom\r\nContent-Length: 4\r\nX-Epoch: 3\r\n\r\nbody"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"hello\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"x" * 200_000,
    ],
)
def test_half_or_foreign_answers_are_connection_errors(
    pair: tuple[Connection, socket.socket], answer: bytes
) -> None:
    """The connection is dropped, so that the rest is not taken for the next answer."""
    connection, far = pair

    def reply() -> None:
        # The client hangs up as soon as it has seen enough.
        with suppress(ConnectionError):
            far.sendall(answer)
            far.shutdown(socket.SHUT_WR)

    thread = Thread(target=reply)
    thread.start()
    with pytest.raises(ConnectionError):
        connection.request("GET", "/")
    thread.join()
    far.close()
    with pytest.raises(FileNotFoundError):
        connection.request("GET", "/")


def test_silence_is_a_timeout(pair: tuple[Connection, socket.socket]) -> None:
    """And the late answer is not taken for the next one."""
    connection, _ = pair
    connection._timeout_s = 0.05
    assert connection._socket is not None
    connection._socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        connection.request("GET", "/")
    with pytest.raises(FileNotFoundError):
        connection.request("GET", "/")


def test_a_closing_answer_ends_the_connection(pair: tuple[Connection, socket.socket]) -> None:
    """The next request opens another."""
    connection, far = pair
    far.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    assert connection.request("GET", "/").body == b""
    with pytest.raises(FileNotFoundError):
        connection.request("GET", "/")


@given(body=st.binary(max_size=3000), cuts=st.lists(st.integers(1, 400), max_size=20))
def test_an_answer_is_whole_however_it_is_cut(body: bytes, cuts: list[int]) -> None:
    """Packets of any size, in any split of head and body."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX: y\r\n\r\n%s" % (len(body), body)

    class Cut(socket.socket):
        """Receives at most as many bytes as the next cut says."""

        def recv(self, size: int, flags: int = 0) -> bytes:
            return super().recv(min(size, cuts.pop()) if cuts else size, flags)

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    connection = Connection("", 5.0)
    connection.adopt(Cut(fileno=near.detach()))
    try:
        far.sendall(answer)
        assert connection.request("GET", "/") == (
            200,
            {"content-length": str(len(body)), "x": "y"},
            body,
        )
    finally:
        connection.close()
        far.close()


def test_a_refusal_before_the_body_was_taken_is_heard(server: AgentServer) -> None:
    """The server answers 413 and closes while the client still sends."""
    connection = Connection(str(server.socket_path), 20.0)
    response = connection.request(
        "PUT",
        "/v1/agents/agent-1/state",
        "X-Epoch: 1\r\nIf-Match: 0\r\n",
        bytes(80 * 1024 * 1024),
    )
    connection.close()
    assert response.status == 413


def test_a_path_that_is_no_socket_is_an_os_error() -> None:
    """Whatever is there instead."""
    with TemporaryDirectory(prefix="sr-") as folder:
        path = Path(folder) / "f"
        path.write_text("")
        with pytest.raises(OSError, match="refused"):
            Connection(str(path), 1.0).request("GET", "/")
