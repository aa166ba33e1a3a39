"""Asks a node whether it is there: one small HTTP request on a connection of its own.

A new connection each time, because accepting one is part of what is probed. No error of the network
is raised: what went wrong is the answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

from fleet.probe_reports import NodeContact

ANSWER_MAX_BYTES = 65_536
"""An answer longer than this is no node's."""


class Reply(NamedTuple):
    """What came back."""

    status: int
    """HTTP status; 0 when nothing that is HTTP came."""
    body: dict[str, Any]
    """Its JSON object; empty when it was none."""
    elapsed_s: float
    """Until it was complete, or given up."""
    reason: str
    """Why `status` is 0, in words; else empty."""


class Sight(NamedTuple):
    """What one look at a node found."""

    answered: bool
    """The node that was looked for answered."""
    boot_id: str
    """Of the boot that answered; empty when none did."""
    elapsed_s: float
    reason: str
    """Why it counts as no answer; empty when it is one."""
    something: bool = False
    """Something did answer, though not as this node should."""


async def fetch(address: str, path: str, timeout_s: float) -> Reply:
    """GET a path of a node; never raises for what the network does.

    Args:
        address: host:port.
        path: with its query, already quoted.
        timeout_s: for connection and answer together.
    """
    started_s = time.monotonic()
    status, reason = 0, ""
    body: dict[str, Any] = {}
    try:
        async with asyncio.timeout(timeout_s):
            status, body = _parse(await _exchange(address, path))
    except TimeoutError:
        reason = f"no answer within {timeout_s:g} s"
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else f"{type(error).__name__} {error}"
    except (ValueError, IndexError) as error:
        reason = f"answers what is no HTTP with JSON: {error}"
    return Reply(status, body, time.monotonic() - started_s, reason)


async def look(contact: NodeContact, timeout_s: float) -> Sight:
    """Ask a node for its health; only itself counts, not whoever has its port now."""
    reply = await fetch(contact.address, "/health", timeout_s)
    if not reply.status:
        return Sight(False, "", reply.elapsed_s, reply.reason)
    name, boot_id = reply.body.get("node_id"), reply.body.get("boot_id")
    if reply.status != 200 or name != contact.node_id or not isinstance(boot_id, str):
        who = f"{contact.address} answers {reply.status} as {name or 'no node'}"
        # Another node has taken the port: this one is not there. Anything else may be this one.
        return Sight(False, "", reply.elapsed_s, who, something=name in {None, contact.node_id})
    return Sight(True, boot_id, reply.elapsed_s, "")


async def look_through(helper: NodeContact, node_id: str, timeout_s: float) -> Sight | None:
    """Let a helper look at a node; None when the helper does not answer, or cannot tell."""
    reply = await fetch(helper.address, f"/probe?node={quote(node_id)}", timeout_s)
    body = reply.body
    if reply.status != 200 or body.get("observer_id") != helper.node_id:
        return None
    if body.get("node_id") != node_id or body.get("answered") not in {True, False}:
        return None
    return Sight(
        body["answered"],
        str(body.get("boot_id", "")),
        reply.elapsed_s,
        str(body.get("reason", "")),
    )


async def _exchange(address: str, path: str) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    complete = False
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        answer = b""
        while chunk := await reader.read(ANSWER_MAX_BYTES):
            answer += chunk
            if len(answer) > ANSWER_MAX_BYTES:
                raise ValueError(f"more than {ANSWER_MAX_BYTES} bytes")
        complete = True
    finally:
        if complete:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        else:
            writer.transport.abort()
    return answer


def _parse(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, rest = answer.partition(b"\r\n\r\n")
    status_line = head.partition(b"\r\n")[0].split(b" ", 2)
    if not status_line[0].startswith(b"HTTP/1."):
        raise ValueError(repr(answer[:20]))
    body = json.loads(rest)
    if not isinstance(body, dict):
        raise ValueError(f"a {type(body).__name__}")  # noqa: TRY004 - it is what came, not a type of ours
    return int(status_line[1]), body
