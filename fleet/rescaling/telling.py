"""A decision as it is written down and told: one sentence, figures, and the way that led to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from fleet.rescaling.decision import AppliedRule, Proposal, ReplicaDecision
from fleet.rescaling.metric_words import unobtainable
from fleet.rescaling.pods import NO_NODE_WORDS
from fleet.rescaling.policy import ScalingMode
from fleet.rescaling.spec import AutoscalerSpec, MetricSpec, TargetType
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


VERDICTS = (
    Verdict.BLIND,
    Verdict.HELD,
    Verdict.ORDERED,
    Verdict.DOWN,
    Verdict.UP,
    Verdict.UNCHANGED,
)
"""All of them, in order of the words."""


class Frame(NamedTuple):
    """What a decision is written down with, beside itself."""

    workload: str
    region: str
    mode: ScalingMode
    min_replicas: int
    max_replicas: int
    ready: int


def log_decision(frame: Frame, decision: ReplicaDecision, spec: AutoscalerSpec) -> LoggedDecision:
    """The decision as a row of the log.

    Args:
        frame: what it is about.
        decision: of the engine.
        spec: that it was asked to follow.
    """
    decision = _plain(decision, spec)
    changed = [one for one in limits_of(decision.rules) if one.before != one.after]
    limited_by = changed[-1].rule if changed else ""
    return _row(
        frame,
        decision.at,
        (decision.current, decision.desired),
        load_of(decision.proposals),
        limited_by,
        _verdict(decision),
        sentence(decision),
        detail_of(decision.proposals, decision.rules, spec.metrics),
    )


def _plain(decision: ReplicaDecision, spec: AutoscalerSpec) -> ReplicaDecision:
    """The decision, its faults in the words of the source: the controller's repeat the metric."""
    proposals = tuple(
        proposal
        if proposal.fault is None
        else proposal._replace(
            fault=proposal.fault._replace(
                message=proposal.fault.message.removeprefix(unobtainable(spec, metric, ""))
            )
        )
        for metric, proposal in zip(spec.metrics, decision.proposals, strict=False)
    )
    missing = any(one.fault is not None for one in proposals)
    rules = tuple(
        rule._replace(reason="no metric can be trusted")
        if missing and rule.reason == decision.error
        else rule
        for rule in decision.rules
    )
    return replace(decision, proposals=proposals, rules=rules)


METRICS_RULE = "metrics"
"""The rule that takes the highest proposal: the proposals themselves say it better."""


def limits_of(rules: Iterable[AppliedRule]) -> list[AppliedRule]:
    """The rules that did something to what the metrics asked for."""
    return [one for one in rules if one.rule != METRICS_RULE]


def with_waiting(logged: LoggedDecision, words: str) -> LoggedDecision:
    """The row, and at its end who of those that are wanted has no node."""
    if not words:
        return logged
    kept = logged.reason[: REASON_MAX_CHARS - len(words) - 2]
    return logged._replace(reason=f"{kept}; {words}")


def waiting_part(reason: str) -> str:
    """What `with_waiting` has added; empty for nothing."""
    head, found, tail = reason.rpartition(f" {NO_NODE_WORDS}: ")
    return f"{head.rpartition('; ')[2]}{found}{tail}" if found else ""


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
    asked = "; ".join(map(_asked, decision.proposals))
    if decision.error:
        missing = any(one.fault is not None for one in decision.proposals)
        return f"stays at {decision.current}: {asked if missing else decision.error}"
    rules = "; ".join(f"{rule.rule}: {rule.reason}" for rule in limits_of(decision.rules))
    if decision.desired == decision.current:
        head = f"stays at {decision.current}"
    else:
        head = f"{decision.current} to {decision.desired}"
    return ": ".join(filter(None, (head, "; ".join(filter(None, (asked, rules))))))


_WORDS = re.compile(r"^(\w+ metric )?(.*?)\(nil\)$", re.DOTALL)
NAME_MAX_CHARS = 80


def short_name(metric: str) -> str:
    """A metric as a person names it: without the selector that is none, and not too long."""
    found = _WORDS.match(metric)
    name = found.group(2) if found else metric
    return name if len(name) <= NAME_MAX_CHARS else f"{name[: NAME_MAX_CHARS - 3]}..."


def _asked(one: Proposal) -> str:
    if one.replicas is None:
        why = one.fault.message if one.fault else one.note
        return f"{short_name(one.metric)} cannot be had ({why})"
    share = "" if one.ratio is None else f" at {100 * one.ratio:.0f} % of its target"
    note = f" ({one.note})" if one.note else ""
    return f"{short_name(one.metric)}{share} asks for {one.replicas}{note}"


def detail_of(
    proposals: Sequence[Proposal], rules: Sequence[AppliedRule], metrics: Sequence[MetricSpec]
) -> str:
    """Proposals and rules as JSON; values in the metric's own unit, or in percent."""
    percent = [one.target_type is TargetType.UTILIZATION for one in metrics]
    document = {
        "proposals": [
            {
                "metric": short_name(one.metric),
                "replicas": one.replicas,
                "value": _in_unit(one.value, is_percent=is_percent),
                "target": _in_unit(one.target, is_percent=is_percent),
                "unit": "%" if is_percent else "",
                "ratio": None if one.ratio is None else round(one.ratio, 4),
                "fault": None if one.fault is None else list(one.fault),
                "note": one.note,
            }
            for one, is_percent in zip(proposals, percent, strict=False)
        ],
        "rules": [rule._asdict() for rule in limits_of(rules)],
    }
    return json.dumps(document, separators=(",", ":"))


def _in_unit(value: int | None, *, is_percent: bool) -> float | None:
    return None if value is None else float(value) if is_percent else value / 1000


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
    measured, unit = "", each.get("unit", "")
    if each["value"] is not None and each["target"] is not None:
        measured = f"measured {each['value']:g}{unit}, target {each['target']:g}{unit}, "
    note = f" ({each['note']})" if each["note"] else ""
    return f"{each['metric']}: {measured}asks for {each['replicas']}{note}"
