"""Routes in a running HAProxy, through its runtime API: no file is written, nothing is reloaded.

Each backend of a table is a dynamic server named `<agent_id>.e<epoch>` in the HAProxy backend that
has the service's name; servers of other names are left alone. An agent that was moved is a new
server, added before the old one is taken out. (term, revision) is the variable
`proc.stateroom_<service>` of the process, set before the servers: a call that breaks off leaves a
mixture of old and new servers, and is completed by the next with the same or a newer table.

The check of the variable and its change are two commands. Two processes at the very same moment can
both pass it; that only one acts is the leader lease's part, and the variable stops whoever comes
late. A HAProxy that was started anew has forgotten servers and variable: apply again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet.errors import (
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StateroomError,
    TrafficUnavailableError,
)
from fleet.names import validate_name
from fleet.ports.traffic import RouteResult
from fleet.routes import Backend, LiveRoutes, RouteTable, judge_table, validate_tables
from fleet.services import is_ip_address
from resources.traffic.haproxy_client import HaproxyClient

_SERVER = re.compile(r"(?P<agent_id>.+)\.e(?P<epoch>[1-9][0-9]*)")
_FENCE = re.compile(r"value=<(?P<term>[0-9]+)\.(?P<revision>[0-9]+)>")
_TAKEN_OUT = 0x01 | 0x08
"""Bits of `srv_admin_state`: forced maintenance, forced drain."""


class _Server(NamedTuple):
    """A server of ours as HAProxy has it."""

    name: str
    address: str
    port: int
    weight: int
    taking: bool
    """It gets new requests."""


class _Live(NamedTuple):
    """A HAProxy backend as it is; `servers` is None when there is no such backend."""

    fence: tuple[int, int] | None
    servers: Mapping[str, _Server] | None


class HaproxyRouter:
    """`fleet.ports.traffic.TrafficRouter` on one HAProxy (2.5 or newer).

    The backends must exist in its file and use a dynamic algorithm (`balance leastconn`).

    Args:
        client: of its runtime API.
    """

    name = "haproxy"

    def __init__(self, client: HaproxyClient) -> None:
        """Remember where; nothing is asked before the first call."""
        self._client = client

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[RouteResult]:
        """Add, change and take out servers, of all tables over two connections."""
        validate_tables(tables)
        lives = self._read([table.service for table in tables])
        plans = [_plan(table, live) for table, live in zip(tables, lives, strict=True)]
        commands = [command for plan in plans if plan.error is None for command in plan.commands]
        answers = iter(self._client.run(["experimental-mode on", *commands] if commands else []))
        refused = next(answers, "")
        if refused:
            raise PermanentError(
                f"HAProxy at {self._client.address} lets nothing be changed: {refused}",
                hint="Its `stats socket` needs `level admin`.",
            )
        results = []
        for table, plan in zip(tables, plans, strict=True):
            error = plan.error
            if error is None:
                heard = [next(answers) for _ in plan.commands]
                error = self._judge_answers(table.service, plan.commands, heard)
            results.append(RouteResult(table.service, plan.changed and error is None, error))
        return results

    def live_routes(self, service: str) -> LiveRoutes | None:
        """What HAProxy has in force."""
        (live,) = self._read([validate_name("service", service)])
        if live.servers is None:
            return None
        addresses = sorted({server.address for server in live.servers.values() if server.taking})
        term, revision = live.fence or (0, 0)
        return LiveRoutes(service, term, revision, tuple(addresses))

    def open_connections(self, service: str) -> dict[str, int]:
        """Open connections by agent_id, as HAProxy counts them: for least-connections weights.

        Raises:
            NotFoundError: HAProxy has no such backend.
        """
        (text,) = self._client.run([f"show stat {validate_name('service', service)} 4 -1"])
        if not text.startswith("#"):
            raise _no_backend(service)
        counts: dict[str, int] = {}
        for row in csv.DictReader(io.StringIO(text.removeprefix("# "))):
            match = _SERVER.fullmatch(row["svname"])
            if match is not None:
                agent_id = match["agent_id"]
                counts[agent_id] = counts.get(agent_id, 0) + int(row["scur"] or 0)
        return counts

    def _read(self, services: Sequence[str]) -> list[_Live]:
        commands = []
        for service in services:
            commands += [f"get var {_variable(service)}", f"show servers state {service}"]
        answers = self._client.run(commands)
        return [
            _Live(_fence(fence), _servers(state))
            for fence, state in zip(answers[::2], answers[1::2], strict=True)
        ]

    def _judge_answers(
        self, service: str, commands: Sequence[str], answers: Sequence[str]
    ) -> StateroomError | None:
        for command, answer in zip(commands, answers, strict=True):
            if "dynamic load balancing" in answer:
                return InvalidInputError(
                    f"haproxy backend {service}",
                    answer,
                    "a backend with a dynamic algorithm, for example `balance leastconn`",
                )
            if not _is_fine(command, answer):
                raise TrafficUnavailableError(
                    f"HAProxy at {self._client.address} answered {command!r} with {answer!r}",
                    hint="Apply the routes again; they are completed from where they stand.",
                )
        return None


class _Plan(NamedTuple):
    commands: list[str]
    changed: bool
    error: StateroomError | None


def _plan(table: RouteTable, live: _Live) -> _Plan:
    """The commands that bring a table into force, in the order in which they must run."""
    if live.servers is None:
        return _Plan([], changed=False, error=_no_backend(table.service))
    error = judge_table(table, live.fence) or _unfit(table)
    if error is not None:
        return _Plan([], changed=False, error=error)
    wanted = {f"{backend.agent_id}.e{backend.epoch}": backend for backend in table.backends}
    changes: list[str] = []
    for name, backend in wanted.items():
        changes += _bring(f"{table.service}/{name}", backend, live.servers.get(name))
    gone = [server for name, server in live.servers.items() if name not in wanted]
    for server in gone:
        if server.taking:
            changes.append(f"set server {table.service}/{server.name} state maint")
    changed = bool(changes)
    # A server with connections stays in maintenance until the next application finds it idle.
    changes += [f"del server {table.service}/{server.name}" for server in gone]
    if table.fence != live.fence:
        variable = _variable(table.service)
        changes.insert(0, f"set var {variable} str({table.term}.{table.revision})")
    return _Plan(changes, changed, None)


def _bring(place: str, backend: Backend, known: _Server | None) -> list[str]:
    if known is None:
        address = f"[{backend.address}]" if ":" in backend.address else backend.address
        return [
            f"add server {place} {address}:{backend.port} weight {backend.weight}",
            f"enable server {place}",
        ]
    changes = []
    if (known.address, known.port) != (backend.address, backend.port):
        changes.append(f"set server {place} addr {backend.address} port {backend.port}")
    if known.weight != backend.weight:
        changes.append(f"set server {place} weight {backend.weight}")
    if not known.taking:
        changes.append(f"set server {place} state ready")
    return changes


def _unfit(table: RouteTable) -> InvalidInputError | None:
    for backend in table.backends:
        if not is_ip_address(backend.address):
            return InvalidInputError(
                f"address of {backend.agent_id}",
                backend.address,
                "an IP address: HAProxy's dynamic servers resolve no names",
            )
    return None


def _is_fine(command: str, answer: str) -> bool:
    if command.startswith("add server"):
        return answer == "New server registered."
    if command.startswith("del server"):
        return answer == "Server deleted." or "connections" in answer
    if command.startswith("set server") and " addr " in command:
        return "changed" in answer or "no need to change" in answer
    return answer == ""


def _variable(service: str) -> str:
    """Names of variables hold letters, digits, `_` and `.`; everything else is spelled in hex."""
    spelled = "".join(
        char if char.isalnum() and char.isascii() else f"_{ord(char):02x}" for char in service
    )
    return f"proc.stateroom_{spelled}"


def _fence(answer: str) -> tuple[int, int] | None:
    match = _FENCE.search(answer)
    return (int(match["term"]), int(match["revision"])) if match else None


def _servers(state: str) -> dict[str, _Server] | None:
    """Our servers in the answer to `show servers state`; None when there is no such backend."""
    lines = state.splitlines()
    if len(lines) < 2 or not lines[1].startswith("# "):
        return None
    names = lines[1].removeprefix("# ").split()
    servers = {}
    for line in lines[2:]:
        row = dict(zip(names, line.split(), strict=False))
        if _SERVER.fullmatch(row["srv_name"]):
            servers[row["srv_name"]] = _Server(
                row["srv_name"],
                row["srv_addr"],
                int(row["srv_port"]),
                int(row["srv_uweight"]),
                not int(row["srv_admin_state"]) & _TAKEN_OUT,
            )
    return servers


def _no_backend(service: str) -> NotFoundError:
    return NotFoundError(
        f"HAProxy has no backend named {service}",
        hint=f"Add `backend {service}` with `balance leastconn` to its file and reload it.",
    )
