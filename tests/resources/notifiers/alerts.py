"""Alerts as incidents raise them."""

from __future__ import annotations

from datetime import UTC, datetime

from fleet.ports.notifier import Alert


def alert_of(
    severity: str = "error", escalation: int = 0, key: str = "node-node-3-20260301T031204"
) -> Alert:
    """An alert of now: a server that judges times must hold it for fresh."""
    facts = (("incident", key), ("kind", "node"), ("region", "eu"))
    text = 'silent for 9 s, "3 of 4" observers say dead & <gone>; é'
    return Alert("Node node-3 in eu", severity, text, datetime.now(UTC), key, escalation, facts)
