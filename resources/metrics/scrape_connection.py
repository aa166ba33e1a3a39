"""One connection to a scraped endpoint, kept open from scrape to scrape.

Whatever the endpoint does ends in an answer or in `ScrapeFailedError` with the reason in words: a
body has a greatest size, packed and unpacked, redirects are not followed, and the caller's deadline
holds for everything together.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from typing import NamedTuple, cast

import httptools

from fleet.errors import SourceUnavailableError
from fleet.metrics.targets import Endpoint

BODY_MAX_BYTES = 64 * 1024 * 1024
"""Largest answer, also unpacked: about 600,000 samples, six times what a target may expose."""
HEAD_MAX_BYTES = 64 * 1024
_INTERIM = frozenset({100, 102, 103})
"""Answers before the answer."""
GZIP_MEMBERS_MAX = 4096
"""Of one body; endpoints write one. An empty member costs as much as 20,000 bytes of content."""
_PACKED_BYTES = 64 * 1024
"""Unpacked at a time: what lies behind a member is copied, so it must not be the whole body."""
ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""As Prometheus asks, without its protobuf."""


class ScrapeFailedError(SourceUnavailableError):
    """A scrape gave no body; the message is the reason."""


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    content_type: str
    encoding: str
    body: bytes
    """As it was sent; see `unpacked`."""


def unpacked(answer: Answer, limit_bytes: int = BODY_MAX_BYTES) -> bytes:
    """The body without its gzip.

    Raises:
        ScrapeFailedError: it is broken, longer than the limit, or packed in another way.
    """
    if answer.encoding in {"", "identity"}:
        return answer.body
    if answer.encoding != "gzip":
        raise ScrapeFailedError(f"answers in the encoding {answer.encoding!r}, not asked for")
    parts: list[bytes] = []
    members, room_bytes = 0, limit_bytes + 1
    unpacker = None
    for start in range(0, len(answer.body), _PACKED_BYTES):
        fed = answer.body[start : start + _PACKED_BYTES]
        while fed:
            if unpacker is None:
                unpacker, members = zlib.decompressobj(zlib.MAX_WBITS | 16), members + 1
            if members > GZIP_MEMBERS_MAX:
                raise ScrapeFailedError(f"answers gzip of more than {GZIP_MEMBERS_MAX} members")
            try:
                parts.append(unpacker.decompress(fed, room_bytes))
            except zlib.error as error:
                raise ScrapeFailedError(f"answers with broken gzip: {error}") from error
            room_bytes -= len(parts[-1])
            if room_bytes < 1:
                raise ScrapeFailedError(f"answers more than {limit_bytes} bytes, unpacked")
            fed, unpacker = unpacker.unused_data, None if unpacker.eof else unpacker
    if unpacker is not None:
        raise ScrapeFailedError("answers with gzip that breaks off")
    return b"".join(parts)


class ScrapeConnection:
    """The connection to one endpoint; one request at a time.

    Args:
        endpoint: where.
        timeout_s: told to the endpoint, as Prometheus does.
        limit_bytes: of a body as it is sent.
    """

    def __init__(
        self, endpoint: Endpoint, timeout_s: float, limit_bytes: int = BODY_MAX_BYTES
    ) -> None:
        """Remember where; nothing is connected before the first request."""
        self._endpoint = endpoint
        self._limit_bytes = limit_bytes
        self._protocol: _Exchange | None = None
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        self._request = (
            f"GET {endpoint.path} HTTP/1.1\r\nHost: {host}:{endpoint.port}\r\n"
            f"User-Agent: stateroom\r\nAccept: {ACCEPT}\r\nAccept-Encoding: gzip\r\n"
            f"X-Prometheus-Scrape-Timeout-Seconds: {timeout_s:g}\r\n\r\n"
        ).encode()

    async def get(self) -> Answer:
        """Ask once; over a kept connection that turns out to be closed, once more over a new one.

        Cancelling it, for example by a deadline, closes the connection.

        Raises:
            ScrapeFailedError: no whole answer came.
        """
        kept = self._protocol
        if kept is not None and kept.usable:
            try:
                return await self._ask(kept)
            except _ClosedBeforeAnswerError:
                self.close()
        self.close()
        try:
            return await self._ask(await self._connect())
        except _ClosedBeforeAnswerError as error:
            raise ScrapeFailedError("closes the connection without an answer") from error

    def close(self) -> None:
        """End the connection at once."""
        if self._protocol is not None:
            self._protocol.abort()
            self._protocol = None

    async def _connect(self) -> _Exchange:
        loop, end = asyncio.get_running_loop(), self._endpoint

        def protocol() -> _Exchange:
            return _Exchange(self._limit_bytes)

        try:
            if end.socket_path:
                _, made = await loop.create_unix_connection(protocol, end.socket_path)
            else:
                _, made = await loop.create_connection(protocol, end.host, end.port)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise ScrapeFailedError(f"cannot be reached: {reason}") from error
        self._protocol = made
        return made

    async def _ask(self, protocol: _Exchange) -> Answer:
        try:
            return await protocol.ask(self._request)
        finally:
            if not protocol.usable:
                self.close()


class _ClosedBeforeAnswerError(Exception):
    """The other side closed before the first byte of an answer."""


class _Exchange(asyncio.Protocol):
    """The bytes of one connection."""

    def __init__(self, limit_bytes: int) -> None:
        self.usable = False
        self._limit_bytes = limit_bytes
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._received_bytes = self._size_bytes = 0
        self._head_complete = self._began = False

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its whole answer."""
        self._reset()
        if self._transport is None or self._transport.is_closing():
            raise _ClosedBeforeAnswerError
        self._waiting = asyncio.get_running_loop().create_future()
        self.usable = False
        self._transport.write(request)
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def abort(self) -> None:
        """Close without saying goodbye."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # -- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._waiting.done():
            self.abort()  # nobody asked: what comes cannot be the answer to the next request
            return
        self._began = True
        self._received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(ScrapeFailedError(f"answers what is no HTTP: {error}"))
            return
        # what is no content: headers, lengths of chunks, trailers; chunks have 5 bytes and more
        if self._received_bytes - self._size_bytes > HEAD_MAX_BYTES + self._size_bytes:
            self._fail(ScrapeFailedError(f"answers more than {HEAD_MAX_BYTES} bytes of headers"))
        elif self._size_bytes > self._limit_bytes:
            self._fail(ScrapeFailedError(f"answers more than {self._limit_bytes} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._transport = None
        if not self._began:
            self._fail(_ClosedBeforeAnswerError())
        elif exc is None and self._head_complete and not self._is_framed():
            self._finish()
        else:
            self._fail(ScrapeFailedError("breaks off in the middle of its answer"))

    # -- httptools --------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._head_complete = True

    def on_body(self, body: bytes) -> None:
        self._size_bytes += len(body)
        if self._size_bytes <= self._limit_bytes:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() in _INTERIM:
            self._headers, self._head_complete = {}, False
            return
        self.usable = self._parser.should_keep_alive()
        self._finish()

    def _is_framed(self) -> bool:
        return b"content-length" in self._headers or b"transfer-encoding" in self._headers

    def _finish(self) -> None:
        if self._waiting is None or self._waiting.done():
            return
        self._waiting.set_result(
            Answer(
                self._parser.get_status_code(),
                self._headers.get(b"content-type", b"").decode("latin-1"),
                self._headers.get(b"content-encoding", b"").decode("latin-1").strip().lower(),
                b"".join(self._body),
            )
        )

    def _fail(self, error: Exception) -> None:
        self.abort()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
