"""TCP ports of this machine: is one free, who has it, which one could be taken."""

from __future__ import annotations

import errno
import socket

from fleet.errors import AlreadyRunningError, InvalidInputError


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def check_port_free(host: str, port: int) -> None:
    """Make sure that a server could listen.

    Raises:
        AlreadyRunningError: the port is in use; names the process when it can be seen.
        InvalidInputError: the address is not of this machine, or the port needs privileges.
    """
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AlreadyRunningError(
                    f"port {port} on {host} is in use{_by_whom(port)}",
                    hint=f"Stop that program, or take another port: STATEROOM_WEB__PORT={port + 1}",
                ) from error
            raise InvalidInputError(
                "web.host, web.port",
                f"{host}:{port}",
                f"an address to listen on ({error.strerror})",
            ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _by_whom(port: int) -> str:
    """` by pid 12 (nginx)`; empty when the kernel does not tell (another user's process)."""
    import psutil

    try:
        found = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return ""
    for connection in found:
        local = connection.laddr
        if connection.status == psutil.CONN_LISTEN and local and local.port == port:
            if connection.pid is None:
                return " by a process of another user"
            try:
                return f" by pid {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.NoSuchProcess:
                return f" by pid {connection.pid}"
    return ""
