"""Posts JSON to a receiver of alerts, once, bounded in time; errors never show a secret of the URL.

Redirects are not followed and proxies of the environment not used: an alert goes where the settings
say, or its failure is seen.
"""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing
from typing import NamedTuple
from urllib.parse import urlsplit

from fleet.errors import InvalidInputError, PermanentError, ReceiverUnavailableError

TIMEOUT_S = 5.0
"""For connecting, and for each wait on the answer: a page that takes longer is a page too late."""

_ANSWER_MAX_BYTES = 65_536
_SHOWN_CHARS = 200
_AGAIN = frozenset({408, 425, 429})
"""Statuses below 500 that a later try may end."""


class Address(NamedTuple):
    """Where a receiver listens."""

    scheme: str
    host: str
    port: int | None
    target: str
    """Path and query; may hold a secret, so it is never shown."""

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def parse_address(field: str, url: str, path: str = "") -> Address:
    """Take a URL apart.

    Args:
        field: what an error calls it.
        url: `http://` or `https://`, without user and password.
        path: appended to the URL's own.

    Raises:
        InvalidInputError: it is none; the message shows no more of it than its scheme.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInputError(field, "(not a URL)", "an http:// or https:// URL") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        shown = f"{parts.scheme}://..." if parts.scheme else "(not a URL)"
        raise InvalidInputError(
            field, shown, "an http:// or https:// URL without user and password"
        )
    target = (parts.path.rstrip("/") + path) if path else parts.path
    query = f"?{parts.query}" if parts.query else ""
    return Address(parts.scheme, parts.hostname, port, (target or "/") + query)


def post_json(
    name: str, address: Address, body: bytes, headers: dict[str, str], timeout_s: float
) -> None:
    """Post a document; a status of 200 to 299 is success.

    Raises:
        ReceiverUnavailableError: no connection, no answer in time, or a status that may pass.
        PermanentError: it is refused.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "stateroom", **headers}
    with closing(_connection(address, timeout_s)) as connection:
        try:
            connection.request("POST", address.target, body, headers)
            response = connection.getresponse()
            status, answer = response.status, response.read(_ANSWER_MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise ReceiverUnavailableError(
                f"{name} at {address} was not reached: {str(error) or type(error).__name__}",
                hint="Look whether it runs, and whether its address in the settings is right.",
            ) from error
    if not 200 <= status < 300:
        raise _refusal(name, address, status, answer)


def _connection(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    if address.scheme == "http":
        return http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(
        address.host, address.port, timeout=timeout_s, context=context
    )


def _refusal(
    name: str, address: Address, status: int, answer: bytes
) -> ReceiverUnavailableError | PermanentError:
    said = " ".join(answer.decode("utf-8", "replace").split())[:_SHOWN_CHARS]
    text = f"{name} at {address} answered {status}: {said or '(nothing)'}"
    if status >= 500 or status in _AGAIN:
        return ReceiverUnavailableError(text, hint="It is tried again.")
    return PermanentError(text, hint="Look at its address and its key in the settings.")
