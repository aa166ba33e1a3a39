"""Settings of notification: who is told of incidents, beside the log."""

from __future__ import annotations

from dataclasses import dataclass

from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings:
    """Receivers of alerts; docs/notifications.md says what each gets, and when."""

    webhook_url: str = key(
        kinds.optional_url(), "Web hook that every alert is posted to as JSON.", default=""
    )
    webhook_secret: str = key(
        kinds.optional_text(), "Signs what the web hook gets (HMAC-SHA-256).", default=""
    )
    alertmanager_url: str = key(
        kinds.optional_url(), "Prometheus Alertmanager, with its route prefix.", default=""
    )
    slack_token: str = key(
        kinds.optional_text(), "Bot token of Slack; needs the extra `slack`.", default=""
    )
    slack_channel: str = key(kinds.optional_text(), "Slack channel of every alert.", default="")
    pagerduty_routing_key: str = key(
        kinds.optional_text(),
        "Integration key of a PagerDuty service; needs the extra `pagerduty`.",
        default="",
    )
    pagerduty_from_level: int = key(
        kinds.whole(0, 10),
        "PagerDuty is told of alerts that nobody has answered so often; 0: of all.",
        default=0,
    )
