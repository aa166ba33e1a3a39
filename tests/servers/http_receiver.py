"""An HTTP server on loopback that remembers what was posted to it, and answers as it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from typing import Any, ClassVar, NamedTuple

PATIENCE_S = 60.0


class Posted(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as a document."""
        return json.loads(self.body)


class HttpReceiver:
    """What was posted, and how to answer."""

    def __init__(self) -> None:
        """Answers 200 to everything."""
        self.status = 200
        self.answer = b"{}"
        self.headers: dict[str, str] = {}
        self.hangs = False
        self.posted: list[Posted] = []
        self.url = ""
        self.ended = Event()
        self._changed = Condition()

    def take(self, posted: Posted) -> None:
        """Remember a request."""
        with self._changed:
            self.posted.append(posted)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[Posted]:
        """The first `count` requests, once they are there."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.posted) >= count, PATIENCE_S), (
                f"{len(self.posted)} of {count} requests came"
            )
            return self.posted[:count]


@contextmanager
def receiving() -> Iterator[HttpReceiver]:
    """A receiver on a free port; ended, with every connection, afterwards."""
    receiver = HttpReceiver()

    class Handler(_Handler):
        """Bound to this receiver."""

        owner: ClassVar[HttpReceiver] = receiver

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: ClassVar[HttpReceiver]

    def do_POST(self) -> None:
        """Remember, and answer or hang."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.owner.take(Posted(self.path, dict(self.headers), body))
        if self.owner.hangs:
            self.owner.ended.wait(PATIENCE_S)
            return
        self.send_response(self.owner.status)
        for name, value in self.owner.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.owner.answer)))
        self.end_headers()
        self.wfile.write(self.owner.answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
