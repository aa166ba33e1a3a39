"""Alerts as messages in a Slack channel, through Dagster's Slack integration (an extra)."""

from __future__ import annotations

from typing import Any

from fleet.errors import PermanentError, ReceiverUnavailableError
from fleet.ports.notifier import Alert
from resources.notifiers.extras import missing_extra
from resources.notifiers.posting import TIMEOUT_S

_MARKS = {"error": ":red_circle:", "warn": ":large_yellow_circle:"}
_RESOLVED_MARK = ":large_green_circle:"
_AGAIN = frozenset({"ratelimited", "internal_error", "fatal_error", "service_unavailable"})
"""Errors of Slack that a later try may end."""


class SlackNotifier:
    """Posts each alert to one channel."""

    def __init__(
        self, token: str, channel: str, *, api_url: str = "", timeout_s: float = TIMEOUT_S
    ) -> None:
        """Connect to nothing yet.

        Args:
            token: of a bot that may write to the channel.
            channel: its name or id.
            api_url: another API than Slack's own, with its end slash; '' is Slack's own.
            timeout_s: for each call.

        Raises:
            PermanentError: the extra is not installed.
        """
        try:
            from dagster_slack import SlackResource
        except ImportError as error:
            raise missing_extra("Slack", "slack") from error
        self._client: Any = SlackResource(token=token).get_client()
        self._client.timeout = max(1, round(timeout_s))
        if api_url:
            self._client.base_url = api_url
        self._channel = channel

    def notify(self, alert: Alert) -> None:
        """Post one message.

        Raises:
            ReceiverUnavailableError: Slack was not reached or asks to wait.
            PermanentError: it refuses the token, the channel or the message.
        """
        from slack_sdk.errors import SlackApiError, SlackClientError

        try:
            self._client.chat_postMessage(channel=self._channel, text=slack_text(alert))
        except SlackApiError as error:
            found = error.response.get("error") if hasattr(error.response, "get") else None
            if found in _AGAIN or getattr(error.response, "status_code", 0) >= 500:
                raise ReceiverUnavailableError(f"Slack answered {found}") from error
            raise PermanentError(
                f"Slack refuses the message to {self._channel}: {found}",
                hint="Look at the token's rights and at the channel's name in the settings.",
            ) from error
        except (SlackClientError, OSError, ValueError) as error:
            raise ReceiverUnavailableError(f"Slack was not reached: {error}") from error


def slack_text(alert: Alert) -> str:
    """One message; Slack's three control characters are escaped, so nobody is pinged by a name."""
    level = f" (level {alert.escalation})" if alert.escalation else ""
    mark = _MARKS.get(alert.severity, _RESOLVED_MARK)
    text = f"{alert.subject}{level}: {alert.text}"
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(plain, escaped)
    return f"{mark} {text}"
