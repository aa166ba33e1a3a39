"""An HTTP proxy on loopback that fails on purpose: what a store, a proxy or a network can do."""

from __future__ import annotations

import http.client
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import ClassVar, NamedTuple
from urllib.parse import urlsplit


class Request(NamedTuple):
    """A request as it came in."""

    number: int
    """1 for the first since the plan was set."""
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """An answer as the target gave it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Send = Callable[[Answer], None]
Plan = Callable[[Request], str | None]
"""The fault for a request; None passes it on."""

S3_ERRORS = {
    "internal": (500, "InternalError"),
    "slow_down": (503, "SlowDown"),
    "expired": (403, "ExpiredToken"),
    "denied": (403, "AccessDenied"),
    "conflict": (409, "ConditionalRequestConflict"),
    "no_space": (507, "InsufficientStorage"),
    "quota": (403, "QuotaExceeded"),
    "too_large": (400, "EntityTooLarge"),
    "missing": (404, "NotFound"),
    "throttled": (429, "TooManyRequests"),
    "skewed": (403, "RequestTimeTooSkewed"),
}


class FaultProxy:
    """Passes requests on to `target`, except those for which the plan names a fault."""

    def __init__(self, target: str) -> None:
        """Listen at once on a free port."""
        parts = urlsplit(target)
        self.address = (str(parts.hostname), int(parts.port or 80))
        self.plan: Plan = lambda _: None
        self.count = 0
        self.bytes_per_s = 4096
        self.store_clock = timedelta(0)
        self.drop_header = ""
        self.ended = Event()
        self._lock = Lock()
        proxy = self

        class Handler(_Handler):
            """Bound to this proxy."""

            owner: ClassVar[FaultProxy] = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def set_plan(self, plan: Plan) -> None:
        """Use a plan, and count requests from 1 again."""
        with self._lock:
            self.plan, self.count = plan, 0

    def next_fault(self, request: Request) -> tuple[Request, str | None]:
        """Number a request and ask the plan."""
        with self._lock:
            self.count += 1
            request = request._replace(number=self.count)
            return request, self.plan(request)

    def close(self) -> None:
        """End the server and what hangs in it."""
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: ClassVar[FaultProxy]
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Stay silent."""

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = Request(0, self.command, self.path, dict(self.headers), self.rfile.read(length))
        request, fault = self.owner.next_fault(raw)
        if fault is None:
            self._send(self._forward(request))
        elif fault in S3_ERRORS:
            self._send(_error(*S3_ERRORS[fault]))
        elif fault.startswith("json:"):
            self._send(_json_error(fault.removeprefix("json:")))
        else:
            getattr(self, f"_fault_{fault}")(request)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_any  # noqa: N815 - http.server's names

    def _fault_reset_before(self, _: Request) -> None:
        self._reset()

    def _fault_reset_after(self, request: Request) -> None:
        self._forward(request)
        self._reset()

    def _fault_timeout_before(self, _: Request) -> None:
        self.owner.ended.wait(5)
        self.close_connection = True

    def _fault_timeout_after(self, request: Request) -> None:
        self._forward(request)
        self._fault_timeout_before(request)

    def _fault_short_body(self, request: Request) -> None:
        """Half of the body, under the length of the whole."""
        answer = self._forward(request)
        self._send(answer, answer.body[: len(answer.body) // 2])
        self.close_connection = True

    def _fault_bit_flip(self, request: Request) -> None:
        """One bit of the body is another one."""
        answer = self._forward(request)
        body = bytearray(answer.body)
        if body:
            body[len(body) // 2] ^= 1
        self._send(answer._replace(body=bytes(body)))

    def _fault_wrong_etag(self, request: Request) -> None:
        """The answer to a write names other bytes."""
        answer = self._forward(request)
        kept = [one for one in answer.headers if one[0].lower() not in _CHECKSUMS]
        self._send(answer._replace(headers=[*kept, ("ETag", f'"{"0" * 32}"')]))

    def _fault_slow(self, request: Request) -> None:
        """The body trickles."""
        answer = self._forward(request)
        self._send(answer, trickle=True)

    def _forward(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(*self.owner.address, timeout=30)
        dropped = {self.owner.drop_header.lower(), "connection"}
        headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped}
        try:
            connection.request(request.method, request.path, request.body or None, headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        return Answer(answer.status, answer.getheaders(), self._with_store_clock(body))

    def _with_store_clock(self, body: bytes) -> bytes:
        shift = self.owner.store_clock
        if not shift:
            return body

        def moved(match: re.Match[bytes]) -> bytes:
            at = datetime.fromisoformat(match[1].decode()) + shift
            text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            return f"<LastModified>{text}</LastModified>".encode()

        return re.sub(rb"<LastModified>([^<]+)</LastModified>", moved, body)

    def _send(self, answer: Answer, body: bytes | None = None, *, trickle: bool = False) -> None:
        shown = answer.body if body is None else body
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = next((v for k, v in answer.headers if k.lower() == "content-length"), None)
        head_only = self.command == "HEAD" and length is not None
        self.send_header("Content-Length", str(length if head_only else len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        step = max(1, self.owner.bytes_per_s // 20) if trickle else max(1, len(shown))
        for start in range(0, len(shown), step):
            self.wfile.write(shown[start : start + step])
            if trickle:
                self.wfile.flush()
                if self.owner.ended.wait(0.05):
                    return

    def _reset(self) -> None:
        """End the connection with RST, as a crashed peer or a firewall does."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True


_HOP_BY_HOP = {"content-length", "connection", "transfer-encoding", "date", "server"}
_CHECKSUMS = {"etag", "x-amz-checksum-sha256", "x-amz-checksum-crc32"}


def _error(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>"
    return Answer(status, [("Content-Type", "application/xml")], body.encode())


def _json_error(code: str) -> Answer:
    body = f'{{"__type":"{code}","message":"injected"}}'
    status = 500 if code.endswith("InternalException") else 400
    return Answer(status, [("Content-Type", "application/x-amz-json-1.1")], body.encode())


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """A proxy that is always ended."""
    proxy = FaultProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()


def nth(number: int, fault: str) -> Plan:
    """A fault for one request."""
    return lambda request: fault if request.number == number else None


def since(number: int, fault: str) -> Plan:
    """A fault for every request from one on."""
    return lambda request: fault if request.number >= number else None
