"""Consul's HTTP API as far as the registry needs it: reads and transactions, errors translated."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from fleet.errors import InvalidInputError, PermanentError, RegistryUnavailableError

_SHOWN_CHARS = 300
"""Of an answer that an error quotes."""


class ConsulClient:
    """One Consul agent or server; safe for threads: each call has a connection of its own.

    Args:
        url: `http://127.0.0.1:8500` or `https://...`.
        token: ACL token; '' for none. It needs `key:write`, `node:write`, `service:write`.
        timeout_s: of silence.
    """

    def __init__(self, url: str, *, token: str = "", timeout_s: float = 5.0) -> None:
        """Remember where; nothing is asked before the first call."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            raise InvalidInputError("consul url", url, "http://host:port or https://host:port")
        self.address = f"{parts.scheme}://{parts.netloc}"
        self._host, self._port = parts.hostname, parts.port
        self._secure = parts.scheme == "https"
        self._headers = {"X-Consul-Token": token} if token else {}
        self._timeout_s = timeout_s

    def get(self, path: str) -> list[Any] | None:
        """A list from a read by the leader, or None where Consul says 404: there is nothing.

        Raises:
            RegistryUnavailableError: no answer, or no leader.
            PermanentError: Consul refuses the request.
        """
        status, body = self._call("GET", f"{path}&consistent", None)
        if status == http.HTTPStatus.NOT_FOUND:
            return None
        if status != http.HTTPStatus.OK:
            raise self._failure(status, body)
        answer = self._parsed(body)
        if not isinstance(answer, list):
            raise self._unreadable(body)
        return answer

    def transact(self, operations: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
        """Apply operations together or not at all.

        Returns:
            The KV results in order; None when an index was stale: somebody else was first.

        Raises:
            RegistryUnavailableError: no answer (then it may have been applied), or no leader.
            PermanentError: Consul refuses the request.
        """
        body = json.dumps(list(operations)).encode()
        status, answered = self._call("PUT", "/v1/txn", body)
        if status == http.HTTPStatus.CONFLICT:
            self._demand_stale_index(answered)
            return None
        if status != http.HTTPStatus.OK:
            raise self._failure(status, answered)
        answer = self._parsed(answered)
        if not isinstance(answer, dict):
            raise self._unreadable(answered)
        return [result["KV"] for result in answer.get("Results") or [] if "KV" in result]

    def _demand_stale_index(self, body: bytes) -> None:
        """A conflict about anything but an index is no race, and would come back for ever."""
        answer = self._parsed(body)
        errors = answer.get("Errors") if isinstance(answer, dict) else None
        texts = [str(error.get("What")) for error in errors or []]
        if not texts or not all("index is stale" in text for text in texts):
            raise PermanentError(
                f"Consul {self.address} rolled the change back: {'; '.join(texts)[:_SHOWN_CHARS]}",
                hint="See the message; an ACL may lack service:write or node:write.",
            )

    def _call(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request(method, path, body, self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise RegistryUnavailableError(
                f"Consul {self.address} does not answer ({str(error) or type(error).__name__})",
                hint="Check that the Consul agent runs and can be reached from here.",
            ) from error
        finally:
            connection.close()

    def _failure(self, status: int, body: bytes) -> Exception:
        text = body.decode(errors="replace").strip()[:_SHOWN_CHARS]
        message = f"Consul {self.address} answered {status}: {text}"
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or status in {
            http.HTTPStatus.TOO_MANY_REQUESTS,
            http.HTTPStatus.REQUEST_TIMEOUT,
        }:
            return RegistryUnavailableError(message, hint="`consul operator raft list-peers`.")
        if status == http.HTTPStatus.FORBIDDEN:
            return PermanentError(message, hint="Check the ACL token and its policy.")
        return PermanentError(message, hint="Check the version and the limits of this Consul.")

    def _parsed(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError as error:
            raise self._unreadable(body) from error

    def _unreadable(self, body: bytes) -> RegistryUnavailableError:
        text = body.decode(errors="replace")[:_SHOWN_CHARS]
        return RegistryUnavailableError(
            f"Consul {self.address}: an answer cannot be read: {text!r}",
            hint="Something else may listen at that address.",
        )
