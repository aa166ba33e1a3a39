"""One receiver that fails stops no other, and is named."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event

import pytest

from fleet.errors import InvalidInputError, PermanentError, ReceiverUnavailableError
from fleet.ports.notifier import Alert, FailedReceiver
from resources.notifiers.fan_out import FanOutNotifier, Receiver
from resources.notifiers.log import LOGGER, LogNotifier
from resources.notifiers.resource import NotifierResource
from resources.notifiers.webhook import WebhookNotifier
from tests.resources.notifiers.alerts import alert_of
from tests.servers.http_receiver import HttpReceiver, receiving


class Inbox:
    """A receiver in this process: keeps alerts, or fails as it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        """Fail with `error`, when there is one."""
        self.error = error
        self.alerts: list[Alert] = []

    def notify(self, alert: Alert) -> None:
        """Keep it or fail."""
        if self.error is not None:
            raise self.error
        self.alerts.append(alert)


def test_every_receiver_is_told_whatever_the_others_do(receiver: HttpReceiver) -> None:
    """Down, refusing, broken: each is named with its reason, and whether to try again."""
    good = Inbox()
    with receiving() as refusing:
        refusing.status = 401
        fan_out = FanOutNotifier(
            {
                "a_hook": Receiver(WebhookNotifier(receiver.url)),
                "broken": Receiver(Inbox(ValueError("a defect"))),
                "down": Receiver(WebhookNotifier("http://127.0.0.1:1", timeout_s=5)),
                "good": Receiver(good),
                "refusing": Receiver(WebhookNotifier(refusing.url)),
            }
        )
        alert = alert_of()
        delivery = fan_out.deliver(alert)
    assert delivery.reached == ("a_hook", "good")
    assert good.alerts == [alert]
    assert len(receiver.posted) == 1
    failed = {one.name: one for one in delivery.failed}
    assert failed["broken"] == FailedReceiver("broken", "ValueError: a defect", again=False)
    assert (failed["down"].again, failed["refusing"].again) == (True, False)
    assert "was not reached" in failed["down"].reason
    fan_out.notify(alert)


def test_a_receiver_that_hangs_costs_the_deadline() -> None:
    """It is named as one to try again; the others have the alert at once."""
    release, good = Event(), Inbox()

    class Hanging:
        def notify(self, alert: Alert) -> None:
            release.wait(60)

    fan_out = FanOutNotifier({"good": Receiver(good), "h": Receiver(Hanging())}, deadline_s=0.3)
    delivery = fan_out.deliver(alert_of())
    release.set()
    assert delivery.reached == ("good",)
    assert delivery.failed == (FailedReceiver("h", "no end within 0.3 s", again=True),)


def test_only_those_who_are_owed_an_alert_get_it() -> None:
    """A name that is not configured any more is nobody."""
    one, two = Inbox(), Inbox()
    fan_out = FanOutNotifier({"one": Receiver(one), "two": Receiver(two)})
    assert fan_out.deliver(alert_of(), ("two", "gone")).reached == ("two",)
    assert (len(one.alerts), len(two.alerts)) == (0, 1)
    assert fan_out.deliver(alert_of(), ("gone",)) == ((), ())


def test_a_later_level_is_told_when_nobody_has_answered() -> None:
    """And of the end of what it was told."""
    first, second = Inbox(), Inbox()
    fan_out = FanOutNotifier({"first": Receiver(first), "second": Receiver(second, from_level=1)})
    for severity, level in (("error", 0), ("error", 1), ("resolved", 1), ("resolved", 0)):
        fan_out.notify(alert_of(severity, level))
    assert [alert.escalation for alert in first.alerts] == [0, 1, 1, 0]
    assert [alert.severity for alert in second.alerts] == ["error", "resolved"]
    with pytest.raises(InvalidInputError, match="level 0"):
        FanOutNotifier({"second": Receiver(second, from_level=1)})


def test_a_log_alone_wakes_nobody_unless_there_is_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else an alert that the pager has missed would count as told."""
    log = Receiver(LogNotifier(), wakes=False)
    pager = Inbox(ReceiverUnavailableError("no answer"))
    with caplog.at_level(logging.INFO, LOGGER):
        both = FanOutNotifier({"log": log, "pager": Receiver(pager)})
        assert both.deliver(alert_of()).reached == ()
        assert FanOutNotifier({"log": log}).deliver(alert_of()).reached == ("log",)
        late = FanOutNotifier({"log": log, "pager": Receiver(pager, from_level=1)})
        assert late.deliver(alert_of()).reached == ("log",)
    assert caplog.text.count("silent for 9 s") == 3
    assert "did not reach pager: no answer" in caplog.text


def test_reaching_nobody_says_whether_to_try_again() -> None:
    """One that may answer later is enough."""
    down, refused = Inbox(ReceiverUnavailableError("no answer")), Inbox(PermanentError("401"))
    with pytest.raises(ReceiverUnavailableError, match="down: no answer; refused: 401"):
        FanOutNotifier({"down": Receiver(down), "refused": Receiver(refused)}).notify(alert_of())
    with pytest.raises(PermanentError, match="nobody was reached"):
        FanOutNotifier({"refused": Receiver(refused)}).notify(alert_of())


def test_the_resource_builds_what_is_configured(
    receiver: HttpReceiver, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The log always; nothing is opened before the first alert."""
    quiet = NotifierResource()
    with caplog.at_level(logging.INFO, LOGGER):
        assert quiet.create_resource(None).deliver(alert_of()).reached == ("log",)  # type: ignore[arg-type]
    told = NotifierResource(
        webhook_url=f"{receiver.url}/hook", alertmanager_url=receiver.url, webhook_secret="s"
    )
    delivery = told.create_resource(None).deliver(alert_of())  # type: ignore[arg-type]
    assert delivery.reached == ("alertmanager", "webhook")
    assert {posted.path for posted in receiver.posted} == {"/hook", "/api/v2/alerts"}
    with pytest.raises(InvalidInputError, match=r"alertmanager\.url"):
        NotifierResource(alertmanager_url="no url").create_resource(None)  # type: ignore[arg-type]
