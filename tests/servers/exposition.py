"""Endpoints with metrics on loopback: what they answer is set by the test, also what is wrong."""

from __future__ import annotations

import gzip
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import ClassVar

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Behaviour = Callable[["ExposingHandler"], None]


class ExposingServer:
    """Paths and what they answer."""

    def __init__(self) -> None:
        """Nothing is served yet: every path answers 404."""
        self.behaviours: dict[str, Behaviour] = {}
        self.fallback: Behaviour = lambda handler: handler.answer(404, b"no such path\n", {})
        self.url = ""
        self.connections = 0
        self.requests = 0
        self.headers: dict[str, str] = {}
        """Of the last request."""
        self.ended = Event()
        self.lock = Lock()

    def expose(
        self, path: str, body: str | bytes, kind: str = TEXT_TYPE, *, packed: bool = False
    ) -> None:
        """Answer a path with a body from now on."""
        content = body.encode() if isinstance(body, str) else body
        content = gzip.compress(content) if packed else content

        headers = {"Content-Type": kind} | ({"Content-Encoding": "gzip"} if packed else {})

        def answer(handler: ExposingHandler) -> None:
            handler.answer(200, content, headers)

        self.behaviours[path] = answer

    def behave(self, path: str, behaviour: Behaviour) -> None:
        """Let a function answer a path."""
        self.behaviours[path] = behaviour


class ExposingHandler(BaseHTTPRequestHandler):
    """One connection; behaviours use `answer`, or the socket itself."""

    owner: ClassVar[ExposingServer]
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Count the connection."""
        connection: socket.socket = self.request
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()
        with self.owner.lock:
            self.owner.connections += 1

    def handle(self) -> None:
        """Serve it; who hangs up is no error."""
        with suppress(ConnectionError):
            super().handle()

    def address_string(self) -> str:
        """A unix socket's peer has no address."""
        return "peer"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Stay silent."""

    def do_GET(self) -> None:
        """Behave as the path says."""
        with self.owner.lock:
            self.owner.requests += 1
            self.owner.headers = dict(self.headers)
        self.owner.behaviours.get(self.path, self.owner.fallback)(self)

    do_POST = do_GET  # noqa: N815 - http.server's names

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """A whole answer."""
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self, length: int | None = None) -> None:
        """The head of an answer; without a length the body ends with the connection."""
        self.send_response_only(200)
        self.send_header("Content-Type", TEXT_TYPE)
        if length is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def reset(self) -> None:
        """End the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.connection.close()

    def finish(self) -> None:
        """Let go of it, which a behaviour may have done."""
        with suppress(OSError, ValueError):
            super().finish()


class _UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        """A unix socket has no name to look up."""
        self.socket.bind(self.server_address)  # type: ignore[arg-type]
        self.server_name, self.server_port = "localhost", 80


class _TcpServer(ThreadingHTTPServer):
    request_queue_size = 1024


@contextmanager
def exposing(socket_path: Path | None = None) -> Iterator[ExposingServer]:
    """A server on a free port, or on a unix socket; ended with all connections afterwards."""
    server = ExposingServer()

    class Handler(ExposingHandler):
        """Bound to this server."""

        owner: ClassVar[ExposingServer] = server

    if socket_path is None:
        http = _TcpServer(("127.0.0.1", 0), Handler)
        server.url = f"http://127.0.0.1:{http.server_port}"
    else:
        http = _UnixServer(str(socket_path), Handler)  # type: ignore[arg-type]
        server.url = f"unix:{socket_path}:"
    http.daemon_threads = True
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        http.shutdown()
        thread.join()
        http.server_close()
