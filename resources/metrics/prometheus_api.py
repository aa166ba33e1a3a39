"""Calls of Prometheus' HTTP API, bounded in time and size; errors translated."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing, suppress
from threading import Timer
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from fleet.errors import (
    InvalidInputError,
    NotFoundError,
    PermanentError,
    SourceUnavailableError,
)

ANSWER_MAX_BYTES = 256 * 1024 * 1024
"""Largest answer; what is asked for is divided so that usual ones have a tenth."""
_SHOWN_CHARS = 300
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_AGAIN = frozenset({408, 425, 429})
_TOO_MUCH = ("too many samples", "sample limit", "too large", "max-samples", "maximum")
"""What refusals of a query that would read too much have in their text."""


class TooMuchAskedError(Exception):
    """The server, or the limit on answers, wants a smaller question."""


class ApiAnswer(NamedTuple):
    """`data` of a successful answer, and what the server remarks."""

    data: Any
    warnings: tuple[str, ...]


class PrometheusApi:
    """One server; every call has a connection of its own.

    Args:
        url: `http://host:port`, maybe with the path under which the API lies.
        headers: sent with each request, for example `Authorization`.
        timeout_s: for a whole call.
        answer_max_bytes: of one answer.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        answer_max_bytes: int = ANSWER_MAX_BYTES,
    ) -> None:
        """Remember where; nothing is asked before the first call.

        Raises:
            InvalidInputError: it is no such URL.
        """
        allowed = "http://host:port or https://host:port, without user and password"
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError as error:
            raise InvalidInputError("url", "(not a URL)", allowed) from error
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise InvalidInputError("url", f"{parts.scheme}://...", allowed)
        self.address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.answer_max_bytes = answer_max_bytes
        self._host, self._base = parts.hostname, parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._headers = {"User-Agent": "stateroom", **(headers or {})}
        self._timeout_s = timeout_s

    def get(self, path: str, parameters: Mapping[str, str]) -> ApiAnswer:
        """Ask for a document, by a form, so that long selections fit.

        Raises:
            SourceUnavailableError: no answer in time, a broken one, 429, or 5xx.
            TooMuchAskedError: the question is too large.
            NotFoundError: the server has no such endpoint.
            PermanentError: it refuses the question.
        """
        form = urlencode(parameters).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._document(*self._call("POST", path, form, headers))

    def list(self, path: str, parameters: Mapping[str, str]) -> ApiAnswer:
        """Ask an endpoint that takes no form; raises as `get` does."""
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        return self._document(*self._call("GET", target, None, {}))

    def remote_read(self, request: bytes) -> bytes:
        """Ask for samples; the body is a snappy block. Raises as `get` does."""
        headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "snappy",
            "X-Prometheus-Remote-Read-Version": "0.1.0",
        }
        status, body = self._call("POST", "/api/v1/read", request, headers)
        if status != 200:
            raise self._refusal(status, body)
        return body

    def broken(self, reason: str) -> SourceUnavailableError:
        """The error about an answer that is not what it should be."""
        return SourceUnavailableError(
            f"{self.address} answers what cannot be read: {reason}",
            hint="It may have been cut off on its way; the same piece is asked for again.",
        )

    def _document(self, status: int, body: bytes) -> ApiAnswer:
        if status != 200:
            raise self._refusal(status, body)
        try:
            answer = json.loads(body)
            if _SURROGATE.search(body):
                json.dumps(answer, ensure_ascii=False).encode()  # raises for half a character
        except (ValueError, RecursionError) as error:
            raise self.broken(f"no JSON, {error}") from error
        if not isinstance(answer, dict) or answer.get("status") != "success":
            raise self.broken("JSON without status 'success'")
        remarks = [*(answer.get("warnings") or ()), *(answer.get("infos") or ())]
        return ApiAnswer(answer.get("data"), tuple(str(remark) for remark in remarks))

    def _call(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        with closing(self._connection()) as connection:
            watch = _Watch(connection, self._timeout_s)
            try:
                with closing(watch):
                    connection.connect()
                    watch.look()
                    connection.request(
                        method, f"{self._base}{path}", body, {**self._headers, **headers}
                    )
                    response = connection.getresponse()
                    return response.status, self._body(response)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
                if watch.expired or isinstance(error, TimeoutError):
                    reason = f"no whole answer within {self._timeout_s:g} s"
                raise SourceUnavailableError(
                    f"{self.address} does not answer {path.partition('?')[0]}: {reason}",
                    hint="Look whether it runs; what was read before stays valid.",
                ) from error

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        body = response.read(self.answer_max_bytes + 1)
        if len(body) > self.answer_max_bytes:
            raise TooMuchAskedError(f"an answer of more than {self.answer_max_bytes} bytes")
        length = response.length
        if length:
            raise http.client.IncompleteRead(body, length)
        return body

    def _connection(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout_s, context=context
        )

    def _refusal(self, status: int, body: bytes) -> Exception:
        said = " ".join(body.decode("utf-8", "replace").split())[:_SHOWN_CHARS]
        text = f"{self.address} answers {status}: {said or '(nothing)'}"
        if status in {400, 413, 422, 503} and any(part in said.lower() for part in _TOO_MUCH):
            return TooMuchAskedError(text)
        if status >= 500 or status in _AGAIN:
            return SourceUnavailableError(text, hint="It is asked again from the same piece on.")
        if status in {404, 405, 501}:
            return NotFoundError(text, hint="Is this the address of a Prometheus HTTP API?")
        return PermanentError(text, hint="Look at the selection, and at the headers it needs.")


class _Watch:
    """Ends a connection when its time is over, however slowly bytes still come."""

    def __init__(self, connection: http.client.HTTPConnection, timeout_s: float) -> None:
        self.expired = False
        self._connection = connection
        self._sock: socket.socket | None = None
        self._timer = Timer(timeout_s, self._end)
        self._timer.daemon = True
        self._timer.start()

    def look(self) -> None:
        """Watch the connection from now on, which is made; the time may be over already."""
        self._sock = self._connection.sock
        if self.expired:
            raise TimeoutError

    def close(self) -> None:
        """The call is over."""
        self._timer.cancel()
        self._timer.join()
        if self.expired:
            raise TimeoutError

    def _end(self) -> None:
        self.expired = True
        if self._sock is not None:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)


def seconds_text(ts_ms: int) -> str:
    """A time as the API takes it, to the millisecond."""
    sign = "-" if ts_ms < 0 else ""
    whole, rest = divmod(abs(ts_ms), 1000)
    return f"{sign}{whole}.{rest:03d}"
