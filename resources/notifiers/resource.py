"""Whom alerts reach, as a Dagster resource."""

import dagster as dg
from pydantic import Field

from resources.notifiers.fan_out import FanOutNotifier, Receiver


class NotifierResource(dg.ConfigurableResource[FanOutNotifier]):
    """The log, and every receiver that is configured; ops take `dg.ResourceParam[Notifier]`."""

    webhook_url: str = Field(default="", description="Web hook for every alert; '' for none.")
    webhook_secret: str = Field(default="", description="Signs what the web hook gets.")
    alertmanager_url: str = Field(default="", description="Prometheus Alertmanager; '' for none.")
    slack_token: str = Field(default="", description="Bot token of Slack; '' for none.")
    slack_channel: str = Field(default="", description="Slack channel for every alert.")
    pagerduty_routing_key: str = Field(
        default="", description="Integration key of a PagerDuty service; '' for none."
    )
    pagerduty_from_level: int = Field(
        default=0, ge=0, description="PagerDuty is told of alerts nobody answered so often."
    )

    def create_resource(self, context: dg.InitResourceContext) -> FanOutNotifier:
        """All receivers as one; nothing is connected to before the first alert.

        Raises:
            InvalidInputError: an address is no URL.
            PermanentError: a receiver's library is not installed.
        """
        del context
        return build_notifier(self)


def build_notifier(settings: NotifierResource) -> FanOutNotifier:
    """The receivers that the settings name."""
    from resources.notifiers.alertmanager import AlertmanagerNotifier
    from resources.notifiers.log import LogNotifier
    from resources.notifiers.webhook import WebhookNotifier

    receivers = {"log": Receiver(LogNotifier(), wakes=False)}
    if settings.webhook_url:
        hook = WebhookNotifier(settings.webhook_url, secret=settings.webhook_secret)
        receivers["webhook"] = Receiver(hook)
    if settings.alertmanager_url:
        receivers["alertmanager"] = Receiver(AlertmanagerNotifier(settings.alertmanager_url))
    if settings.slack_token:
        from resources.notifiers.slack import SlackNotifier

        receivers["slack"] = Receiver(SlackNotifier(settings.slack_token, settings.slack_channel))
    if settings.pagerduty_routing_key:
        from resources.notifiers.pagerduty import PagerDutyNotifier

        pager = PagerDutyNotifier(settings.pagerduty_routing_key)
        receivers["pagerduty"] = Receiver(pager, settings.pagerduty_from_level)
    return FanOutNotifier(receivers)
