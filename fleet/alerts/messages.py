"""A group of alerts in words, as the receivers of `fleet.ports.notifier` take them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b

from fleet.alerts.grouping import GroupMessage
from fleet.alerts.rules import ALERT_NAME
from fleet.alerts.sending import SentAlert
from fleet.metrics.labels import Labels
from fleet.ports.notifier import Alert

LISTED_MAX = 10
"""Alerts of a group that a message spells out; the rest is counted."""
SEVERITY = "severity"
_ERRORS = frozenset({"critical", "error", "page", "emergency"})
RESOLVED = "resolved"


def group_message(message: GroupMessage, now_ms: int) -> Alert:
    """What receivers are told of a group.

    The key is the same from the first word to the end. The severity is the worst that fires:
    `error` for critical ones, `warn` for all others, `resolved` when nothing fires.
    """
    named = dict(message.key)
    facts = tuple((name, text) for name, text in message.key if name != ALERT_NAME)
    return Alert(
        subject=_subject(message),
        severity=_severity(message.firing),
        text=_text(message),
        raised_at=datetime.fromtimestamp(now_ms / 1000, UTC),
        key=group_key(message.key),
        facts=((ALERT_NAME, named.get(ALERT_NAME, "")), *facts) if ALERT_NAME in named else facts,
    )


def group_key(key: Labels) -> str:
    """Names a group for receivers: short, and the same in every process."""
    text = "\xff".join(part for pair in key for part in pair)
    digest = blake2b(text.encode(), digest_size=8).hexdigest()
    return f"alerts-{dict(key).get(ALERT_NAME, 'group')}-{digest}"


def _severity(firing: Sequence[SentAlert]) -> str:
    if not firing:
        return RESOLVED
    worst = any(dict(one.labels).get(SEVERITY) in _ERRORS for one in firing)
    return "error" if worst else "warn"


def _subject(message: GroupMessage) -> str:
    names = {dict(one.labels).get(ALERT_NAME, "") for one in (*message.firing, *message.resolved)}
    name = names.pop() if len(names) == 1 else f"{len(names)} kinds of alerts"
    where = ", ".join(f"{key} {text}" for key, text in message.key if key != ALERT_NAME)
    count = len(message.firing)
    many = f" ({count} alerts)" if count > 1 else ""
    return f"{name}{many}{f' in {where}' if where else ''}"


def _text(message: GroupMessage) -> str:
    if message.is_over:
        return _listed("It is over.", message.resolved, ended=True)
    text = _listed("", message.firing, ended=False)
    if message.resolved:
        text += f" {len(message.resolved)} of the group ended."
    return text


def _listed(lead: str, alerts: Sequence[SentAlert], *, ended: bool) -> str:
    shown = sorted(alerts, key=lambda one: (one.starts_at_ms, one.labels))[:LISTED_MAX]
    parts = [lead] if lead else []
    parts += [_sentence(one, ended=ended) for one in shown]
    if len(alerts) > len(shown):
        parts.append(f"... and {len(alerts) - len(shown)} more.")
    return " ".join(parts)


def _sentence(alert: SentAlert, *, ended: bool) -> str:
    """An alert in one sentence: its summary, since when, and where the runbook has it."""
    words = dict(alert.annotations)
    summary = words.get("summary") or words.get("description") or dict(alert.labels)[ALERT_NAME]
    at_ms, verb = (alert.ends_at_ms, "until") if ended else (alert.starts_at_ms, "since")
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    runbook = words.get("runbook_url", "")
    tail = f" Runbook: {runbook}." if runbook and not ended else ""
    return f"{summary.rstrip('.')} ({verb} {at:%Y-%m-%d %H:%M:%S} UTC).{tail}"
