"""Claims about rescaling, judged at the moment of the check on what the control store holds."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

import dagster as dg

from fleet.inventory_checks import CheckVerdict
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.judging import (
    check_flapping,
    check_limits,
    check_placed,
    check_quotas,
    check_sources,
    check_standings,
)
from fleet.rescaling.tables import SCALING_DECISIONS
from fleet.rescaling.telling import Verdict
from ops.evidence import check_result
from ops.outcomes import outcomes
from ops.rescaling_reports import PAGE_ROWS, newest_of

CLAIMS = {
    "decisions_are_within_limits": (
        "Every change that was decided within the last hour lies within minimum and maximum."
    ),
    "networks_are_within_quota": "No network is allocated more than its quota.",
    "nothing_flaps": "No workload goes up and down all the time.",
    "every_wanted_agent_has_a_node_or_a_reason": (
        "An agent that is wanted and has no node says why: no room, a quota, a failover."
    ),
    "no_workload_is_scaled_blindly": "Every workload's newest decision had its metrics.",
    "no_standing_is_damaged": (
        "What is remembered of every workload can be read; one whose standing cannot is held."
    ),
}
"""Claim -> what it means."""

JUDGED = timedelta(hours=1)


def build_rescaling_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of the group; none blocks."""

    @dg.multi_asset_check(
        specs=[
            dg.AssetCheckSpec(name, asset=SCALING_DECISIONS, description=meaning, blocking=False)
            for name, meaning in CLAIMS.items()
        ],
        can_subset=True,
        name=f"check_{SCALING_DECISIONS}",
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        control_store: dg.ResourceParam[ControlStore],
        rescaling_declaration: dg.ResourceParam[RescalingDeclaration],
        clock: dg.ResourceParam[Clock],
    ) -> Iterator[dg.AssetCheckResult]:
        with outcomes(context.op_execution_context.retry_number):
            verdicts = judge_rescaling(control_store, rescaling_declaration, clock)
        for name, verdict in verdicts.items():
            key = dg.AssetCheckKey(dg.AssetKey(SCALING_DECISIONS), name)
            if key in context.selected_asset_check_keys:
                yield check_result(key, verdict)

    return [check]


def judge_rescaling(
    store: ControlStore, declaration: RescalingDeclaration, clock: Clock
) -> Mapping[str, CheckVerdict]:
    """All claims, on one look at the log of the last hour.

    Args:
        store: holds log, standings and agents.
        declaration: says which workloads are scaled.
        clock: says until when.
    """
    now = clock.now()
    decisions = []
    after = (now - JUDGED, 0)
    while page := store.scaling_decisions_since(*after, PAGE_ROWS):
        decisions += page
        after = (page[-1].last_at, page[-1].decision_id)
    grown = {
        one.key
        for one in decisions
        if one.verdict in {Verdict.UP, Verdict.ORDERED}
        and (now - one.last_at).total_seconds() < declaration.ready_timeout_s
    }
    agents = store.scaled_agents(sorted(declaration.workloads))
    limits = store.network_limits()
    verdicts = (
        check_limits(decisions),
        check_quotas(limits, store.network_uses([one.network_id for one in limits])),
        check_flapping(decisions, now),
        check_placed(agents, grown),
        check_sources(newest_of(decisions)),
        check_standings(store.scaling_standings()),
    )
    return dict(zip(CLAIMS, verdicts, strict=True))
