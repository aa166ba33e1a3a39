"""Alerts of rules for a Prometheus Alertmanager, over its API v2, as Prometheus itself posts them.

Grouping, repeating, silences and routing are Alertmanager's then. Alerts are posted in bounded
batches; a batch that was taken and is posted again changes nothing, so a failure half-way is
answered by posting all of them again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from fleet.alerts.sending import SentAlert
from resources.circuit_breakers import CircuitBreaker
from resources.notifiers.posting import TIMEOUT_S, parse_address, post_json

BATCH_MAX = 1000
"""Alerts of one post: about a megabyte."""
_PATH = "/api/v2/alerts"


class AlertmanagerReceiver:
    """Posts to `<url>/api/v2/alerts`, behind a circuit breaker."""

    def __init__(
        self,
        url: str,
        breaker: CircuitBreaker,
        *,
        generator_url: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: where Alertmanager serves, with its route prefix when it has one.
            breaker: stops asking what does not answer.
            generator_url: page on which an expression can be looked at; the expression is appended
                as `?expr=`. Empty: alerts name none.
            timeout_s: for connecting and for each wait on the answer.

        Raises:
            InvalidInputError: the URL is none.
        """
        self._address = parse_address("alertmanager.url", url, _PATH)
        self._breaker = breaker
        self._generator_url = generator_url
        self._timeout_s = timeout_s

    def take(self, alerts: Sequence[SentAlert], now_ms: int) -> str:
        """See the port; `CircuitOpenError` when Alertmanager was not asked."""
        del now_ms
        if not alerts:
            return "nothing is due"
        for start in range(0, len(alerts), BATCH_MAX):
            batch = [posted_alert(one, self._generator_url) for one in alerts[start:][:BATCH_MAX]]
            body = json.dumps(batch, ensure_ascii=False).encode()
            self._breaker.call(partial(self._post, body))
        return f"{len(alerts)} alerts posted to {self._address}"

    def _post(self, body: bytes) -> None:
        post_json("Alertmanager", self._address, body, {}, self._timeout_s)


def posted_alert(alert: SentAlert, generator_url: str = "") -> dict[str, Any]:
    """One alert as the API has it."""
    document: dict[str, Any] = {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": _moment(alert.starts_at_ms),
        "endsAt": _moment(alert.ends_at_ms),
    }
    if generator_url:
        document["generatorURL"] = f"{generator_url}?expr={quote(alert.expr)}"
    return document


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
