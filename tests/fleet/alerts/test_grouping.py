"""Who is told of groups of alerts, and when: the rules of Alertmanager, one by one."""

from __future__ import annotations

import pytest

from fleet.alerts.grouping import (
    GroupingPolicy,
    GroupingState,
    GroupMessage,
    note_message,
    plan_messages,
    take_alerts,
)
from fleet.alerts.messages import LISTED_MAX, group_key, group_message
from fleet.alerts.sending import SentAlert
from fleet.alerts.state_json import decode_groups, encode_groups
from fleet.errors import InvalidInputError
from fleet.metrics.labels import Labels
from fleet.ports.notifier import Delivery, FailedReceiver
from tests.fleet.alerts.alerts import MINUTE_MS, labels, sent

POLICY = GroupingPolicy()
REACHED = Delivery(("webhook",))


class Telling:
    """A state that passes through JSON at each step, and what was told of it."""

    def __init__(self, policy: GroupingPolicy = POLICY) -> None:
        """Begin with nothing."""
        self.state = GroupingState()
        self.policy = policy
        self.delivery = REACHED
        self.muted: set[str] = set()

    def look(self, minute: float, *alerts: SentAlert) -> list[GroupMessage]:
        """Take alerts, and tell what is to be told."""
        now_ms = int(minute * MINUTE_MS)
        state = take_alerts(self.state, alerts, now_ms, self.policy)
        state, messages = plan_messages(state, self._mutes, now_ms, self.policy)
        for message in messages:
            state = note_message(state, message, self.delivery, now_ms, self.policy)
        self.state = decode_groups(encode_groups(state))
        assert self.state == state
        return messages

    def _mutes(self, found: Labels) -> bool:
        return dict(found)["job"] in self.muted


def jobs(alerts: tuple[SentAlert, ...]) -> list[str]:
    """Whom alerts are about."""
    return sorted(dict(one.labels)["job"] for one in alerts)


def test_the_first_alerts_of_a_group_wait_for_each_other_and_are_one_message() -> None:
    """`group_wait`, and one message by `group_by`."""
    telling = Telling()
    assert telling.look(0, sent("a", 0, 99)) == []
    assert telling.look(0.4, sent("b", 0.4, 99)) == []
    (message,) = telling.look(0.5)
    assert jobs(message.firing) == ["a", "b"]
    assert message.key == labels(alertname="A")


def test_an_alert_that_has_waited_long_enough_elsewhere_is_told_at_once() -> None:
    """As after a restart: it began long ago."""
    (message,) = Telling().look(10, sent("a", 1, 99))
    assert jobs(message.firing) == ["a"]


def test_a_group_that_grows_is_told_again_after_its_interval_and_not_before() -> None:
    """`group_interval`; what has not changed is not told."""
    telling = Telling()
    telling.look(0, sent("a", 0, 99))
    assert len(telling.look(0.5)) == 1
    assert telling.look(1, sent("b", 1, 99)) == []
    assert telling.look(5) == []
    (message,) = telling.look(5.5)
    assert jobs(message.firing) == ["a", "b"]
    assert telling.look(10.5) == []
    assert telling.look(11, sent("a", 0, 199), sent("b", 1, 199)) == []


def test_what_goes_on_is_repeated_after_the_repeat_interval() -> None:
    """Four hours, at the next look of the group behind them."""
    telling = Telling()
    told = [minute for minute in range(300) if telling.look(minute, sent("a", 0, minute + 4))]
    assert told == [1, 246]


def test_an_end_is_told_once_and_the_group_is_forgotten() -> None:
    """Also when nobody sends the alert any more: its end had been told with it."""
    for last in ((sent("a", 0, 3),), ()):
        telling = Telling()
        telling.look(0, sent("a", 0, 4))
        assert len(telling.look(1)) == 1
        assert telling.look(3.5, *last) == []
        (message,) = telling.look(6)
        assert message.is_over
        assert jobs(message.resolved) == ["a"]
        assert telling.state.groups == {}
        assert telling.look(7, *last) == []


def test_an_alert_that_ends_before_it_is_told_is_told_to_nobody() -> None:
    """A group that only ever ended is no news."""
    telling = Telling()
    telling.look(0, sent("a", 0, 99))
    assert telling.look(0.4, sent("a", 0, 0.4)) == []
    assert telling.look(1) == []
    assert telling.state.groups == {}


def test_a_silenced_alert_is_told_when_the_silence_ends_and_it_still_fires() -> None:
    """It stays in its group meanwhile."""
    telling = Telling()
    telling.muted = {"a"}
    telling.look(0, sent("a", 0, 99))
    assert telling.look(1) == []
    telling.muted = set()
    (message,) = telling.look(6)
    assert jobs(message.firing) == ["a"]


def test_when_nobody_is_reached_the_same_is_told_again_until_somebody_is() -> None:
    """Every quarter of a minute, and nothing is noted as told."""
    telling = Telling()
    telling.delivery = Delivery((), (FailedReceiver("webhook", "down", again=True),))
    telling.look(0, sent("a", 0, 99))
    assert len(telling.look(0.5)) == 1
    assert telling.look(0.6) == []
    assert len(telling.look(0.75)) == 1
    telling.delivery = REACHED
    assert len(telling.look(1)) == 1
    assert telling.look(6.5) == []


def test_a_receiver_that_was_missed_gets_it_alone_and_not_for_ever() -> None:
    """Others are not told twice; after an hour it is given up."""
    telling = Telling()
    telling.delivery = Delivery(("log",), (FailedReceiver("webhook", "down", again=True),))
    telling.look(0, sent("a", 0, 9999))
    (first,) = telling.look(0.5)
    assert first.only == ()
    told = [message.only for minute in range(1, 120) for message in telling.look(minute)]
    assert set(told) == {("webhook",)}
    assert len(told) == 60
    telling = Telling()
    telling.delivery = Delivery(("log",), (FailedReceiver("webhook", "no key", again=False),))
    telling.look(0, sent("a", 0, 9999))
    telling.look(0.5)
    assert telling.look(1) == []


def test_groups_are_told_apart_by_the_labels_that_are_asked_for() -> None:
    """`...` makes every alert a group of its own, nothing makes one of all."""
    for by, count in ((("...",), 2), (("job",), 2), (("alertname",), 1), ((), 1)):
        telling = Telling(GroupingPolicy(group_by=by))
        assert len(telling.look(9, sent("a", 0, 99), sent("b", 0, 99))) == count


def test_a_message_says_what_since_when_and_where_the_runbook_has_it() -> None:
    """In words, bounded; the key is the same from first to last."""
    many = tuple(sent(f"job-{place:02}", 1, 99) for place in range(LISTED_MAX + 5))
    message = GroupMessage(labels(alertname="A", region="eu"), many, (sent("z", 0, 1),))
    alert = group_message(message, 2 * MINUTE_MS)
    assert alert.subject == "A (15 alerts) in region eu"
    assert alert.text.startswith(
        "job-00 fails (since 1970-01-01 00:01:00 UTC). Runbook: docs/x.md."
    )
    assert "... and 5 more. 1 of the group ended." in alert.text
    assert (alert.severity, dict(alert.facts)) == ("warn", {"alertname": "A", "region": "eu"})
    over = group_message(message._replace(firing=()), 3 * MINUTE_MS)
    assert over.severity == "resolved"
    assert over.text == "It is over. z fails (until 1970-01-01 00:01:00 UTC)."
    assert over.key == alert.key == group_key(message.key)
    critical = many[0]._replace(labels=labels(alertname="A", job="a", severity="critical"))
    assert group_message(message._replace(firing=(critical, *many)), 0).severity == "error"


def test_a_document_that_is_not_ours_is_refused() -> None:
    """The caller sets it aside; nothing is guessed."""
    for text in ("", "[]", '{"format": 2}', '{"format": 1, "groups": [{"key": 5}]}'):
        with pytest.raises(InvalidInputError, match="groups"):
            decode_groups(text)
    assert decode_groups(None) == GroupingState()


@pytest.mark.parametrize("field", ["group_wait_ms", "group_interval_ms", "repeat_interval_ms"])
def test_a_policy_without_sense_is_refused(field: str) -> None:
    """Names the field."""
    with pytest.raises(InvalidInputError, match=field):
        GroupingPolicy(**{field: -1})


def test_an_end_within_a_group_that_goes_on_is_told_once() -> None:
    """The others still fire; the one that ended leaves the group."""
    telling = Telling()
    telling.look(0, sent("a", 0, 99), sent("b", 0, 99))
    assert len(telling.look(1)) == 1
    telling.look(3, sent("b", 0, 3))
    (message,) = telling.look(6)
    assert (jobs(message.firing), jobs(message.resolved)) == (["a"], ["b"])
    assert telling.look(11) == []
