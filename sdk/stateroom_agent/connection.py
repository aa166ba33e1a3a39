"""A keep-alive HTTP/1.1 client over a unix socket, for one peer that always sends Content-Length.

Why not `http.client`: it parses headers with the email package, and using it after a fork makes
about 1.4 MiB of memory an agent's own, where this client and its agent make 0.8, or 0.6 in a
parent that ran `warm_up` (`benchmarks/agent_api.py` measures all three).
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import NamedTuple

_CHUNK_BYTES = 65536
_HEAD_BYTES = 4096
"""An ordinary answer fits; larger buffers would be memory of each agent's own."""


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

    def adopt(self, connected: socket.socket) -> None:
        """Use a connected socket instead of opening one."""
        self.close()
        connected.settimeout(self._timeout_s)
        self._socket = connected

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
            if len(received) > _CHUNK_BYTES:
                raise ConnectionError("the head of the answer does not end")
            received += _receive(connection, _HEAD_BYTES)
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
            chunks.append(_receive(connection, min(missing_bytes, _CHUNK_BYTES)))
            missing_bytes -= len(chunks[-1])
        if missing_bytes < 0:
            raise ConnectionError(f"the answer has {-missing_bytes} bytes more than it declared")
        return Response(status, headers, b"".join(chunks))


def _receive(connection: socket.socket, max_bytes: int) -> bytes:
    chunk = connection.recv(max_bytes)
    if not chunk:
        raise ConnectionResetError("the supervisor closed the connection")
    return chunk
