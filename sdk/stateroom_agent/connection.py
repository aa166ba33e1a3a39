"""A keep-alive HTTP/1.1 client over a unix socket, for one peer that always sends Content-Length.

Why not `http.client`: it parses headers with the email package, and after a fork its use dirties
about 0.9 MiB of memory an agent, this one about 0.3 (`benchmarks/agent_api.py` measures both).
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import NamedTuple

_CHUNK_BYTES = 65536


class Response(NamedTuple):
    """An answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """Connects when first used, and again after any failure; not thread-safe."""

    def __init__(self, socket_path: str, timeout_s: float) -> None:
        """Remember the address; `timeout_s` bounds each wait for the peer."""
        self._socket_path = socket_path
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def request(self, method: str, path: str, headers: str = "", body: bytes = b"") -> Response:
        r"""Send one request, once, and read its answer.

        Args:
            method: `GET`, `PUT` or `POST`.
            path: absolute, already escaped.
            headers: further header lines, each ended by `\r\n`.
            body: may be empty.

        Raises:
            OSError: no connection, or it broke; whether the peer acted on the request is unknown.
        """
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: stateroom\r\n"
            f"Content-Length: {len(body)}\r\n{headers}\r\n"
        )
        try:
            connection = self._connected()
            # A peer that refuses a request early answers, then closes: the answer is there to read.
            with suppress(BrokenPipeError, ConnectionResetError):
                if len(body) <= _CHUNK_BYTES:
                    connection.sendall(head.encode("latin-1") + body)
                else:
                    connection.sendall(head.encode("latin-1"))
                    connection.sendall(body)
            response = self._read(connection)
        except BaseException:
            self.close()
            raise
        if response.headers.get("connection", "").lower() == "close":
            self.close()
        return response

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket = opened
            opened.settimeout(self._timeout_s)
            opened.connect(self._socket_path)
        return self._socket

    def _read(self, connection: socket.socket) -> Response:
        received = b""
        while b"\r\n\r\n" not in received:
            received += _receive(connection)
        head, _, start = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        try:
            status = int(status_line.split(" ", 2)[1])
            size_bytes = 0 if status == 204 else int(headers["content-length"])
        except (LookupError, ValueError) as error:
            raise ConnectionError(f"not an answer of a supervisor: {status_line!r}") from error
        chunks, missing_bytes = [start], size_bytes - len(start)
        while missing_bytes > 0:
            chunks.append(_receive(connection))
            missing_bytes -= len(chunks[-1])
        return Response(status, headers, b"".join(chunks))


def _receive(connection: socket.socket) -> bytes:
    chunk = connection.recv(_CHUNK_BYTES)
    if not chunk:
        raise ConnectionResetError("the supervisor closed the connection")
    return chunk
