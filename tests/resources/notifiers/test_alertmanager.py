"""What Alertmanager makes of our posts: the real one, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import PermanentError, ReceiverUnavailableError
from fleet.ports.notifier import Alert
from resources.notifiers.alertmanager import AlertmanagerNotifier, posted_alerts
from tests.resources.notifiers.alerts import alert_of
from tests.servers.alertmanager import Alertmanager, running_alertmanager
from tests.servers.http_receiver import HttpReceiver


@pytest.fixture
def alertmanager(receiver: HttpReceiver, tmp_path: Path) -> Iterator[Alertmanager]:
    """Passes what it takes on to `receiver`."""
    with running_alertmanager(tmp_path, f"{receiver.url}/page") as server:
        yield server


def paged(receiver: HttpReceiver, count: int) -> list[tuple[str, str, str]]:
    """What people were sent: status, severity and level of each message, in order."""
    told = []
    for posted in receiver.wait_for(count):
        (alert,) = posted.json()["alerts"]
        labels = alert["labels"]
        told.append((alert["status"], labels["severity"], labels["escalation"]))
    return told


def test_an_alert_fires_and_its_end_resolves_it(
    alertmanager: Alertmanager, receiver: HttpReceiver
) -> None:
    """People get one message for each; a repeated post sends nobody anything."""
    notifier = AlertmanagerNotifier(alertmanager.url)
    alert = alert_of()
    notifier.notify(alert)
    assert paged(receiver, 1) == [("firing", "error", "0")]
    (firing,) = alertmanager.alerts()
    assert firing["labels"] == {
        "alertname": "StateroomIncident",
        "escalation": "0",
        "incident": alert.key,
        "key": alert.key,
        "kind": "node",
        "region": "eu",
        "severity": "error",
    }
    assert firing["annotations"] == {"summary": alert.subject, "description": alert.text}
    notifier.notify(alert)
    later = alert._replace(severity="resolved", raised_at=alert_of().raised_at)
    notifier.notify(later)
    assert paged(receiver, 2)[1:] == [("resolved", "error", "0")]
    assert alertmanager.alerts() == []
    assert len(receiver.posted) == 2


def test_an_escalation_pages_the_next_level_and_the_end_resolves_every_level(
    alertmanager: Alertmanager, receiver: HttpReceiver
) -> None:
    """The level is a label, so that routes can send it to somebody else."""
    notifier = AlertmanagerNotifier(alertmanager.url)
    notifier.notify(alert_of())
    paged(receiver, 1)
    notifier.notify(alert_of(escalation=1))
    assert paged(receiver, 2)[1:] == [("firing", "error", "1")]
    notifier.notify(alert_of("resolved", escalation=1))
    assert sorted(paged(receiver, 4)[2:]) == [
        ("resolved", "error", "0"),
        ("resolved", "error", "1"),
    ]
    assert alertmanager.alerts() == []


def test_a_warning_that_becomes_an_error_fires_as_one_alert(
    alertmanager: Alertmanager, receiver: HttpReceiver
) -> None:
    """The warning has ended, so nobody sees both."""
    notifier = AlertmanagerNotifier(alertmanager.url)
    notifier.notify(Alert("rpo of net in eu", "warn", "soon", alert_of().raised_at))
    assert paged(receiver, 1) == [("firing", "warn", "0")]
    notifier.notify(Alert("rpo of net in eu", "error", "missed", alert_of().raised_at))
    assert sorted(paged(receiver, 3)[1:]) == [("firing", "error", "0"), ("resolved", "warn", "0")]
    (firing,) = alertmanager.alerts()
    assert firing["labels"]["alertname"] == "StateroomAlert"
    assert firing["annotations"]["description"] == "missed"


def test_an_end_of_what_never_fired_sends_nobody_anything(
    alertmanager: Alertmanager, receiver: HttpReceiver
) -> None:
    """As after a restart of Alertmanager; the marker that follows is the first message."""
    notifier = AlertmanagerNotifier(alertmanager.url)
    notifier.notify(alert_of("resolved", key="node-a"))
    notifier.notify(alert_of(key="node-b"))
    (message,) = receiver.wait_for(1)
    assert message.json()["alerts"][0]["labels"]["key"] == "node-b"


def test_what_alertmanager_refuses_needs_a_person(alertmanager: Alertmanager) -> None:
    """Its own words are in the error."""
    broken = alert_of()._replace(facts=(("not a label", "x"),))
    with pytest.raises(PermanentError, match=r"answered 400: .*label"):
        AlertmanagerNotifier(alertmanager.url).notify(broken)
    assert alertmanager.alerts() == []


def test_a_wrong_address_is_told_from_a_server_in_trouble(receiver: HttpReceiver) -> None:
    """404 is a setting, 503 passes; the route prefix stays in front of the path."""
    receiver.status = 404
    with pytest.raises(PermanentError, match=r"Alertmanager at .* answered 404"):
        AlertmanagerNotifier(f"{receiver.url}/prefix/").notify(alert_of())
    receiver.status = 503
    with pytest.raises(ReceiverUnavailableError, match="answered 503"):
        AlertmanagerNotifier(receiver.url).notify(alert_of())
    assert [posted.path for posted in receiver.posted] == [
        "/prefix/api/v2/alerts",
        "/api/v2/alerts",
    ]


def test_a_post_is_the_whole_truth_about_an_alert() -> None:
    """Each severity and level once: what fires has a far end, all else has ended now."""
    alert = alert_of("warn", escalation=2)
    posted: list[dict[str, Any]] = posted_alerts(alert)
    assert len({tuple(sorted(one["labels"].items())) for one in posted}) == 6
    for one in posted:
        fires = one["labels"]["severity"] == "warn"
        ends_at = alert.raised_at + timedelta(days=30) if fires else alert.raised_at
        assert one["endsAt"] == ends_at.isoformat()
    over = alert_of("resolved", escalation=2)
    assert {one["endsAt"] for one in posted_alerts(over)} == {over.raised_at.isoformat()}
