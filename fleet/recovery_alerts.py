"""Which alerts of recovery points are raised: one for each change, none for each look."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fleet.ports.notifier import Alert
from fleet.recovery_rows import CopyFacts
from fleet.rpo_alert import Burn, RecoveryPoint, RpoAlert, decide_rpo_alert

SEVERITY = {Burn.MET: "resolved", Burn.ABOUT_TO_BURN: "warn", Burn.MISSED: "error"}

JOURNAL_SHARE = 1 / 6
"""Share of the objective that a journal may be silent before somebody is told: long enough for a
restart of everything, short enough to mend it before the objective is missed."""


def recovery_alert(
    copy: CopyFacts, rpo_max_s: float, journal_interval_s: float, now: datetime
) -> RpoAlert:
    """How the recovery point of one copy stands.

    Args:
        copy: what is known of it.
        rpo_max_s: the objective.
        journal_interval_s: time between two journal segments. Without a journal the objective
            itself is the only interval: nothing can be said before it is missed.
        now: the moment.
    """
    facts = copy.facts
    moments = [at for at in (facts.snapshot_at, facts.journal_at) if at is not None]
    points = [RecoveryPoint(at, at) for at in moments]
    interval_s = rpo_max_s
    if facts.journal_at is not None:
        interval_s = min(max(journal_interval_s, JOURNAL_SHARE * rpo_max_s), rpo_max_s)
    return decide_rpo_alert(points, rpo_max_s, interval_s, now)


def changed_alerts(
    before: Mapping[str, str], found: Mapping[str, RpoAlert], now: datetime
) -> tuple[list[Alert], dict[str, str]]:
    """Alerts for what stands otherwise than at the last look, and what to remember.

    Args:
        before: subject -> how it stood when it was told last; subjects that hold are absent.
        found: subject -> how it stands now.
        now: the moment.

    Returns:
        Alerts in order of subject, and the memory for the next look. A subject that is gone (its
        network is no longer declared) is forgotten without a word.
    """
    alerts = []
    memory: dict[str, str] = {}
    for subject in sorted(found):
        alert = found[subject]
        burn = alert.burn.value
        if burn != before.get(subject, Burn.MET.value):
            alerts.append(Alert(subject, SEVERITY[alert.burn], alert.reason, now))
        if alert.burn != Burn.MET:
            memory[subject] = burn
    return alerts, memory
