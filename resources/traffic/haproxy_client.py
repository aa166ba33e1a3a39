"""HAProxy's runtime API: many commands over one connection, each with its answer.

In its interactive mode (`prompt`) HAProxy takes one command a line and ends each answer with a line
that begins with `> `. Source: HAProxy 2.6 Management Guide, section 9.3.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from fleet.errors import InvalidInputError, TrafficUnavailableError

_BATCH = 200
"""Commands sent before their answers are read: well below the socket's buffers, both ways."""
_PROMPT = b"\n> "


class HaproxyClient:
    """One HAProxy process; each call has a connection of its own.

    Args:
        address: `/path/to/socket` or `host:port`, as in `stats socket ... level admin`.
        timeout_s: of silence.
    """

    def __init__(self, address: str, *, timeout_s: float = 5.0) -> None:
        """Remember where; nothing is asked before the first call."""
        host, _, port = address.rpartition(":")
        if not address.startswith("/") and not (host and port.isdecimal()):
            raise InvalidInputError("haproxy address", address, "/path/to/socket or host:port")
        self.address = address
        self._timeout_s = timeout_s

    def run(self, commands: Sequence[str]) -> list[str]:
        """Run commands in order, and return the answer of each, without blank lines around it.

        Raises:
            TrafficUnavailableError: HAProxy does not answer; commands may have been run.
        """
        if not commands:
            return []
        for command in commands:
            if not command.isascii() or not command.isprintable() or ";" in command:
                raise InvalidInputError("haproxy command", command, "one line of printable ASCII")
        try:
            with self._connect() as connection:
                reader = _Answers(connection)
                connection.sendall(b"prompt\n")
                reader.next()
                answers: list[str] = []
                for start in range(0, len(commands), _BATCH):
                    batch = commands[start : start + _BATCH]
                    connection.sendall("".join(f"{line}\n" for line in batch).encode())
                    answers += [reader.next() for _ in batch]
                return answers
        except OSError as error:
            raise TrafficUnavailableError(
                f"HAProxy at {self.address} does not answer ({str(error) or type(error).__name__})",
                hint="Check that HAProxy runs, and `stats socket ... level admin` in its file.",
            ) from error

    def _connect(self) -> socket.socket:
        if self.address.startswith("/"):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(self._timeout_s)
                connection.connect(str(Path(self.address)))
            except OSError:
                connection.close()
                raise
            return connection
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host, int(port)), self._timeout_s)


class _Answers:
    """Cuts the stream at its prompts."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def next(self) -> str:
        """The next whole answer."""
        while _PROMPT not in self._rest:
            chunk = self._connection.recv(65536)
            if not chunk:
                raise ConnectionResetError("the connection was closed in the middle of an answer")
            self._rest += chunk
        answer, _, self._rest = self._rest.partition(_PROMPT)
        return answer.decode(errors="replace").strip()
