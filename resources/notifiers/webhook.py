"""Alerts as JSON to a web hook, signed when a secret is set.

Format 1: `{"format": 1, "key", "subject", "severity", "text", "raised_at", "escalation",
"facts": {name: value}}`. The signature is `X-Stateroom-Signature: sha256=<HMAC of the body>`; a
receiver recomputes it over the bytes as they came, before it parses them.
"""

from __future__ import annotations

import hashlib
import hmac
import json

from fleet.ports.notifier import Alert
from resources.notifiers.posting import TIMEOUT_S, parse_address, post_json

SIGNATURE_HEADER = "X-Stateroom-Signature"
FORMAT = 1


class WebhookNotifier:
    """Posts each alert to a URL."""

    def __init__(self, url: str, *, secret: str = "", timeout_s: float = TIMEOUT_S) -> None:
        """Connect to nothing yet.

        Args:
            url: may hold a token, which no error shows.
            secret: signs each body; '' sends it unsigned.
            timeout_s: for connecting and for each wait on the answer.

        Raises:
            InvalidInputError: the URL is none.
        """
        self._address = parse_address("webhook.url", url)
        self._secret = secret.encode()
        self._timeout_s = timeout_s

    def notify(self, alert: Alert) -> None:
        """Post it once."""
        body = encode_alert(alert)
        headers = {}
        if self._secret:
            digest = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
            headers[SIGNATURE_HEADER] = f"sha256={digest}"
        post_json("web hook", self._address, body, headers, self._timeout_s)


def encode_alert(alert: Alert) -> bytes:
    """The document of an alert."""
    document = {
        "format": FORMAT,
        "key": alert.identity,
        "subject": alert.subject,
        "severity": alert.severity,
        "text": alert.text,
        "raised_at": alert.raised_at.isoformat(),
        "escalation": alert.escalation,
        "facts": dict(alert.facts),
    }
    return json.dumps(document, ensure_ascii=False).encode()
