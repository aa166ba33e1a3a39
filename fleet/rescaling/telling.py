"""A decision as it is written down and told: one sentence, figures, and the way that led to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fleet.rescaling.decision import AppliedRule, Proposal, ReplicaDecision
from fleet.rescaling.policy import ScalingMode
from fleet.rescaling.standing import LoggedDecision

REASON_MAX_CHARS = 500


class Verdict:
    """Words of `LoggedDecision.verdict`."""

    UNCHANGED = "unchanged"
    UP = "scale-up"
    DOWN = "scale-down"
    HELD = "held"
    """Nothing was decided: the region is being evacuated, the controller frozen, ..."""
    BLIND = "blind"
    """No metric could be had, so the number stays."""
    ORDERED = "ordered"
    """A person holds the number."""


class Frame(NamedTuple):
    """What a decision is written down with, beside itself."""

    workload: str
    region: str
    mode: ScalingMode
    min_replicas: int
    max_replicas: int
    ready: int


def log_decision(frame: Frame, decision: ReplicaDecision) -> LoggedDecision:
    """The decision as a row of the log."""
    changed = [rule for rule in decision.rules if rule.before != rule.after]
    limited_by = changed[-1].rule if changed else ""
    return _row(
        frame,
        decision.at,
        (decision.current, decision.desired),
        load_of(decision.proposals),
        limited_by,
        _verdict(decision),
        sentence(decision),
        detail_of(decision.proposals, decision.rules),
    )


def log_hold(frame: Frame, at: datetime, current: int, why: str, limited_by: str) -> LoggedDecision:
    """A look at which nothing may be decided."""
    return _row(frame, at, (current, current), None, limited_by, Verdict.HELD, why, "{}")


def log_order(frame: Frame, at: datetime, current: int, desired: int, why: str) -> LoggedDecision:
    """A look at which a person's word counts."""
    return _row(frame, at, (current, desired), None, "manual", Verdict.ORDERED, why, "{}")


def _row(
    frame: Frame,
    at: datetime,
    counts: tuple[int, int],
    load: float | None,
    limited_by: str,
    verdict: str,
    reason: str,
    detail: str,
) -> LoggedDecision:
    return LoggedDecision(
        workload=frame.workload,
        region=frame.region,
        mode=frame.mode,
        first_at=at,
        last_at=at,
        times=1,
        current=counts[0],
        desired=counts[1],
        min_replicas=frame.min_replicas,
        max_replicas=frame.max_replicas,
        ready=frame.ready,
        load=load,
        limited_by=limited_by,
        verdict=verdict,
        reason=reason[:REASON_MAX_CHARS],
        detail=detail,
    )


def _verdict(decision: ReplicaDecision) -> str:
    if decision.desired != decision.current:
        return Verdict.UP if decision.desired > decision.current else Verdict.DOWN
    return Verdict.BLIND if decision.error else Verdict.UNCHANGED


def load_of(proposals: Iterable[Proposal]) -> float | None:
    """Value by target of the metric that asks for most; None when none could be had."""
    valid = [one for one in proposals if one.replicas is not None and one.ratio is not None]
    if not valid:
        return None
    leading = max(valid, key=lambda one: (one.replicas or 0, one.ratio or 0.0))
    return leading.ratio


def sentence(decision: ReplicaDecision) -> str:
    """Why, in one sentence: what was asked for, and the rules that changed it."""
    if decision.error:
        return f"stays at {decision.current}: {decision.error}"
    asked = "; ".join(map(_asked, decision.proposals))
    rules = "; ".join(f"{rule.rule}: {rule.reason}" for rule in decision.rules)
    if decision.desired == decision.current:
        head = f"stays at {decision.current}"
    else:
        head = f"{decision.current} to {decision.desired}"
    return ": ".join(filter(None, (head, "; ".join(filter(None, (asked, rules))))))


def _asked(one: Proposal) -> str:
    if one.replicas is None:
        why = one.fault.message if one.fault else one.note
        return f"{one.metric} cannot be had ({why})"
    share = "" if one.ratio is None else f" at {100 * one.ratio:.0f} % of its target"
    note = f" ({one.note})" if one.note else ""
    return f"{one.metric}{share} asks for {one.replicas}{note}"


def detail_of(proposals: Sequence[Proposal], rules: Sequence[AppliedRule]) -> str:
    """Proposals and rules as JSON, for the table that a person reads."""
    document = {
        "proposals": [
            {
                "metric": one.metric,
                "replicas": one.replicas,
                "value": one.value,
                "target": one.target,
                "ratio": None if one.ratio is None else round(one.ratio, 4),
                "fault": None if one.fault is None else list(one.fault),
                "note": one.note,
            }
            for one in proposals
        ],
        "rules": [rule._asdict() for rule in rules],
    }
    return json.dumps(document, separators=(",", ":"))


def read_detail(text: str) -> Mapping[str, Any]:
    """What `detail_of` wrote; `{}` of a row without a decision."""
    found: Mapping[str, Any] = json.loads(text)
    return found


def explain_decision(one: LoggedDecision) -> list[str]:
    """One decision in sentences, the oldest fact first."""
    looks = "1 look" if one.times == 1 else f"{one.times} looks"
    lines = [
        f"{one.last_at:%Y-%m-%d %H:%M:%S}Z {one.verdict} ({one.mode}, {looks}): {one.reason}",
        f"  {one.ready} of {one.current} ready; limits {one.min_replicas} to {one.max_replicas}",
    ]
    detail = read_detail(one.detail)
    lines += [f"  {_told(each)}" for each in detail.get("proposals", ())]
    lines += [
        f"  {each['rule']}: {each['before']} to {each['after']}, {each['reason']}"
        for each in detail.get("rules", ())
    ]
    return lines


def _told(each: Mapping[str, Any]) -> str:
    if each["replicas"] is None:
        reason, message = each["fault"] or ("", each["note"])
        return f"{each['metric']}: cannot be had, {reason}: {message}"
    measured = (
        "" if each["value"] is None else f"measured {each['value']}, target {each['target']}, "
    )
    note = f" ({each['note']})" if each["note"] else ""
    return f"{each['metric']}: {measured}asks for {each['replicas']}{note}"
