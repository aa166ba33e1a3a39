"""Going home after an evacuation: by a person's word, rehearsed, in steps, and only in calm.

Nothing moves back by itself in the `manual` mode. A step is make-before-break (the executor starts
and warms the copy at home before it moves the epoch). A relapse of the home region ends a running
fail-back at once and restarts the calm.
"""

from __future__ import annotations

from fleet.failover.draft import Draft
from fleet.failover.limits import Limit, pause_limit
from fleet.failover.policy import FailBackMode
from fleet.failover.records import (
    Action,
    ActionKind,
    Reason,
    RegionMark,
    RegionState,
)
from fleet.failover.region_states import REHEARSAL
from fleet.failover.rules import Rule


def act_on_fail_backs(draft: Draft) -> None:
    """Judge each region that was evacuated."""
    for mark in sorted(draft.regions.values(), key=lambda mark: mark.region):
        if mark.evacuated_s is not None:
            _act_on_region(draft, mark)


def _act_on_region(draft: Draft, mark: RegionMark) -> None:
    abroad = draft.evidence.agents_abroad.get(mark.region, 0)
    if mark.fail_back_s is not None and mark.calm_s is None:
        draft.actions.append(_action(draft, mark, ActionKind.ABORT_FAIL_BACK, abroad))
        draft.regions[mark.region] = mark._replace(fail_back_s=None)
        return
    if mark.state is not RegionState.NORMAL:
        return
    if abroad == 0:
        if not mark.incident and _calm_s(draft, mark) >= draft.policy.fail_back_calm_s:
            draft.regions[mark.region] = mark._replace(
                evacuated_s=None, evacuation="", wave=0, fail_back_s=None
            )
        return
    action = _action(draft, mark, ActionKind.FAIL_BACK, abroad)
    limit = pause_limit(draft, action.subject) or _limit(draft, mark, action)
    if limit is not None:
        if limit.rule is Rule.FAIL_BACK_REHEARSAL and REHEARSAL not in mark.told:
            draft.actions.append(_action(draft, mark, ActionKind.REHEARSE_FAIL_BACK, abroad))
            draft.regions[mark.region] = mark._replace(told=(*mark.told, REHEARSAL))
        draft.refuse(action, limit.rule, limit.reasons, limit.wait_s, approvable=limit.approvable)
        return
    draft.actions.append(action)
    draft.regions[mark.region] = mark._replace(fail_back_s=draft.now_s)


def _action(draft: Draft, mark: RegionMark, kind: ActionKind, abroad: int) -> Action:
    count = draft.counts[mark.region]
    return Action(
        kind=kind,
        subject=f"region/{mark.region}",
        rule=Rule.FAIL_BACK_CALM,
        reasons=(
            Reason("agents_abroad", abroad),
            Reason("nodes_unhealthy", count.unhealthy, 0),
            Reason("calm_s", _calm_s(draft, mark), draft.policy.fail_back_calm_s),
        ),
        incident=mark.evacuation,
        term=draft.term,
        agents=abroad,
        agents_max=draft.policy.fail_back_step_agents,
    )


def _calm_s(draft: Draft, mark: RegionMark) -> float:
    return 0.0 if mark.calm_s is None else draft.now_s - mark.calm_s


def _limit(draft: Draft, mark: RegionMark, action: Action) -> Limit | None:
    """Calm, then mode, then rehearsal, then window, then rate."""
    return (
        _calm_limit(draft, mark)
        or _rehearsal_limit(draft, mark)
        or _mode_limit(draft, action)
        or _window_limit(draft, action)
        or _rate_limit(draft, mark)
    )


def _calm_limit(draft: Draft, mark: RegionMark) -> Limit | None:
    calm_s, needed_s = _calm_s(draft, mark), draft.policy.fail_back_calm_s
    calm = mark.calm_s is not None and calm_s >= needed_s
    if calm or not draft.keeps(Rule.FAIL_BACK_CALM):
        return None
    unhealthy = draft.counts[mark.region].unhealthy
    reasons = (Reason("calm_s", calm_s, needed_s), Reason("nodes_unhealthy", unhealthy, 0))
    wait_s = None if mark.calm_s is None else needed_s - calm_s
    return Limit(Rule.FAIL_BACK_CALM, reasons, wait_s)


def _rehearsal_limit(draft: Draft, mark: RegionMark) -> Limit | None:
    off = draft.policy.fail_back_mode is FailBackMode.OFF
    rehearsed = mark.region in draft.evidence.directives.rehearsed
    if off or rehearsed or not draft.keeps(Rule.FAIL_BACK_REHEARSAL):
        return None
    return Limit(Rule.FAIL_BACK_REHEARSAL, (Reason("rehearsed", "no"),))


def _mode_limit(draft: Draft, action: Action) -> Limit | None:
    mode = draft.policy.fail_back_mode
    if mode is FailBackMode.AUTO or not draft.keeps(Rule.FAIL_BACK_MODE):
        return None
    if mode is FailBackMode.MANUAL and draft.is_approved(action):
        return None
    reason = Reason("fail_back_mode", mode.value)
    return Limit(Rule.FAIL_BACK_MODE, (reason,), approvable=mode is FailBackMode.MANUAL)


def _window_limit(draft: Draft, action: Action) -> Limit | None:
    """Business hours; who approves by hand has chosen the hour."""
    first, last = draft.policy.fail_back_hours_utc
    at = draft.evidence.at
    inside = first <= at.hour < last and at.weekday() in draft.policy.fail_back_weekdays
    if inside or draft.is_approved(action) or not draft.keeps(Rule.FAIL_BACK_WINDOW):
        return None
    limit = f"{first} to {last} UTC on days {draft.policy.fail_back_weekdays}"
    return Limit(Rule.FAIL_BACK_WINDOW, (Reason("at", f"{at:%a %H:%M}", limit),), approvable=True)


def _rate_limit(draft: Draft, mark: RegionMark) -> Limit | None:
    if mark.fail_back_s is None or not draft.keeps(Rule.FAIL_BACK_RATE):
        return None
    left_s = mark.fail_back_s + draft.policy.fail_back_step_s - draft.now_s
    if left_s <= 0.0:
        return None
    reason = Reason("since_last_step_s", draft.now_s - mark.fail_back_s)
    return Limit(Rule.FAIL_BACK_RATE, (reason,), left_s)
