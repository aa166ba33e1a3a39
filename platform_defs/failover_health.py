"""What `stateroom doctor` says of failover: is there somebody who would act, and may they?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from platform_defs.health_finding import Context, Finding


def check_failover(context: Context) -> Iterator[Finding]:
    """A controller leads, trusts what it sees, and is not paused."""
    from platform_defs.command.controller_standing import (
        NOBODY_LEADS,
        leader_text,
        read_standing,
    )
    from platform_defs.command.store_access import fleet_store, has_store

    if not has_store(context.settings):
        yield Finding("failover", "skipped", "the fleet was never started")
        return
    with fleet_store(context.settings) as store:
        standing = read_standing(store, datetime.now(UTC))
    if standing.automation.paused:
        switch = standing.automation
        said = f"paused by {switch.changed_by}: {switch.reason}"
        yield Finding("failover", "warn", said, "stateroom resume, once that is over")
    if standing.frozen is not None:
        remedy = 'See "The controller is frozen" in docs/runbook.md.'
        yield Finding("failover", "wrong", standing.frozen.reason, remedy)
    if not context.settings.failover.enabled:
        said = "switched off (failover.enabled): a lost node's agents stay lost"
        yield Finding("failover", "warn", said, "Set failover.enabled, then `stateroom up` again.")
    elif standing.leads:
        yield Finding("failover", "ok", leader_text(standing))
    elif context.running is None:
        yield Finding("failover", "skipped", "the fleet is not running")
    else:
        verdict = "wrong" if context.running.url else "warn"  # started without Dagster, as asked
        yield Finding("failover", verdict, leader_text(standing), NOBODY_LEADS)
