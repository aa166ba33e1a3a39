"""Slack and PagerDuty: through Dagster's integrations where installed, a clear error where not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from fleet.errors import PermanentError, ReceiverUnavailableError
from resources.notifiers.pagerduty import PagerDutyNotifier, pager_key
from resources.notifiers.slack import SlackNotifier, slack_text
from tests.resources.notifiers.alerts import alert_of
from tests.servers.http_receiver import HttpReceiver


@pytest.mark.parametrize(
    ("module", "extra", "configure"),
    [
        ("dagster_slack", "slack", lambda: SlackNotifier("token", "#ops")),
        ("dagster_pagerduty", "pagerduty", lambda: PagerDutyNotifier("key")),
    ],
)
def test_a_receiver_whose_library_is_missing_says_what_to_install(
    module: str,
    extra: str,
    configure: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When the process starts, not when the alert is due."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PermanentError, match="not installed") as caught:
        configure()
    assert caught.value.hint == f"pip install 'stateroom[{extra}]'"


def test_slack_gets_one_message_that_pings_nobody_by_accident(receiver: HttpReceiver) -> None:
    """Names and reasons come from outside; Slack's control characters are escaped."""
    pytest.importorskip("dagster_slack")
    receiver.answer = b'{"ok": true}'
    SlackNotifier("xoxb-1", "#ops", api_url=f"{receiver.url}/api/").notify(alert_of(escalation=1))
    (posted,) = receiver.posted
    assert posted.path == "/api/chat.postMessage"
    assert posted.headers["Authorization"] == "Bearer xoxb-1"
    assert b"ops" in posted.body


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (200, {"ok": False, "error": "invalid_auth"}, PermanentError),
        (200, {"ok": False, "error": "channel_not_found"}, PermanentError),
        (429, {"ok": False, "error": "ratelimited"}, ReceiverUnavailableError),
        (503, {"ok": False, "error": "anything"}, ReceiverUnavailableError),
    ],
)
def test_slack_s_refusals_are_told_from_its_troubles(
    receiver: HttpReceiver, status: int, answer: dict[str, object], error: type[Exception]
) -> None:
    """A wrong token needs a person, a full queue needs a minute."""
    pytest.importorskip("dagster_slack")
    receiver.status, receiver.answer = status, json.dumps(answer).encode()
    with pytest.raises(error):
        SlackNotifier("xoxb-1", "#ops", api_url=f"{receiver.url}/api/").notify(alert_of())
    with pytest.raises(ReceiverUnavailableError, match="not reached"):
        SlackNotifier("xoxb-1", "#ops", api_url="http://127.0.0.1:1/").notify(alert_of())


def test_pagerduty_joins_the_words_of_an_alert_by_its_key(receiver: HttpReceiver) -> None:
    """A trigger, and a resolve of the same key."""
    pytest.importorskip("dagster_pagerduty")
    receiver.status = 202
    notifier = PagerDutyNotifier("routing", events_url=receiver.url)
    notifier.notify(alert_of())
    notifier.notify(alert_of("resolved"))
    trigger, resolve = (posted.json() for posted in receiver.posted)
    assert (trigger["event_action"], resolve["event_action"]) == ("trigger", "resolve")
    assert trigger["dedup_key"] == resolve["dedup_key"] == alert_of().key
    assert trigger["routing_key"] == "routing"
    assert (trigger["payload"]["severity"], trigger["payload"]["source"]) == ("critical", "eu")
    receiver.status = 400
    with pytest.raises(PermanentError, match="refuses"):
        notifier.notify(alert_of())
    for status in (429, 503):
        receiver.status = status
        with pytest.raises(ReceiverUnavailableError):
            notifier.notify(alert_of())


def test_texts_and_keys_fit_their_receivers() -> None:
    """Escaped for Slack, at most 255 characters for PagerDuty, and still told apart."""
    assert slack_text(alert_of(escalation=1)) == (
        ":red_circle: Node node-3 in eu (level 1): silent for 9 s, "
        '"3 of 4" observers say dead &amp; &lt;gone&gt;; é'
    )
    assert slack_text(alert_of("resolved")).startswith(":large_green_circle:")
    long = ["x" * 300, "x" * 299 + "y"]
    keys = {pager_key(alert_of(key=key)) for key in long}
    assert len(keys) == 2
    assert max(map(len, keys)) == 255
    assert pager_key(alert_of(key="k" * 255)) == "k" * 255
