"""A decision in sentences: what was done, what was not, which rule, which values.

For the log, the incident's timeline and the person at 3 a.m.; the sentences have no state of their
own, so two explanations of one decision are equal.
"""

from __future__ import annotations

from fleet.failover.records import (
    Action,
    ActionKind,
    ControllerState,
    Decision,
    NonAction,
    Reason,
    Transition,
)
from fleet.failover.rules import Rule

_VERBS = {
    ActionKind.ALERT: "tell people about",
    ActionKind.OPEN_INCIDENT: "open an incident for",
    ActionKind.END_INCIDENT: "end the incident of",
    ActionKind.FENCE_NODE: "ask to stop all copies on",
    ActionKind.MOVE_NODE: "move the agents of",
    ActionKind.EVACUATE_REGION: "evacuate",
    ActionKind.UNREGISTER_NODE: "take out of discovery",
    ActionKind.REGISTER_NODE: "put back into discovery",
    ActionKind.PARK_AGENT: "park",
    ActionKind.REHEARSE_FAIL_BACK: "rehearse the fail-back of",
    ActionKind.FAIL_BACK: "fail back",
    ActionKind.ABORT_FAIL_BACK: "abort the fail-back of",
}

RULE_TEXTS = {
    Rule.STORE_REACHABLE: "the control store cannot be reached",
    Rule.OBSERVER_MAJORITY: "no majority of the configured observers reports",
    Rule.MASS_LOSS: "nearly all nodes are silent at once, so the fault is rather ours",
    Rule.TICK_GAP: "this controller was paused itself, so all ages restart",
    Rule.CHANNEL_FAULT: "half of all nodes lost one channel while another carries",
    Rule.EARLIER_MOVES: "what earlier leaders have moved cannot be read, so no budget is known",
    Rule.LEADER_LEASE: "this controller does not lead",
    Rule.SILENCE: "silence counts by our own clock, against the node's own rhythm",
    Rule.CONTRARY_EVIDENCE: "fresh evidence contradicts, which never moves anything",
    Rule.CONFIRM_TIME: "a suspicion must last",
    Rule.VOTE_MAJORITY: "a majority of all configured observers must agree",
    Rule.VOTE_DOMAINS: "votes must come from several failure domains",
    Rule.VOTE_OUTSIDE: "a vote must come from outside the region",
    Rule.TERMINATED: "the infrastructure's `terminated` is definite",
    Rule.FENCING: "nothing there may be able to write any more",
    Rule.STATELESS: "stateless agents may run twice and need no fence",
    Rule.UNDECIDED: "no verdict after several windows needs a person",
    Rule.PROBATION: "a node that came back is on probation",
    Rule.STALE_EPOCHS: "a node that came back first stops its copies with lower epochs, by itself",
    Rule.FLAPPING: "a node that comes and goes gets no agents",
    Rule.GRAY: "a node that beats may still be unusable",
    Rule.MAINTENANCE: "maintenance is not watched",
    Rule.AGES_RESTART: "ages count from the end of the freeze",
    Rule.PAUSED: "the automation is paused",
    Rule.MODE: "the mode asks for a person",
    Rule.BLAST_RADIUS: "only so many agents may be moved within the window",
    Rule.MOVE_RATE: "only so many nodes may be moved at a time",
    Rule.COOL_DOWN: "the node was moved a short while ago",
    Rule.REGION_SUSPECT: "all nodes of the region are lost, so it is judged as a whole",
    Rule.REGION_PARTIAL: "so many nodes of the region are lost that the cause may be shared",
    Rule.REGION_VERDICT: "a region is given up only after its verdict time and with its votes",
    Rule.REGION_MODE: "the region's mode asks for a person",
    Rule.SECOND_REGION: "a second region is given up only by a person",
    Rule.CRASH_LOOP: "crash loops must not tour the fleet",
    Rule.FAIL_BACK_CALM: "agents go home only after a long calm",
    Rule.FAIL_BACK_MODE: "the fail-back mode asks for a person",
    Rule.FAIL_BACK_REHEARSAL: "the fail-back has not been rehearsed",
    Rule.FAIL_BACK_WINDOW: "fail-back happens in business hours",
    Rule.FAIL_BACK_RATE: "fail-back goes in steps",
    Rule.FORCED: "a person ordered it",
    Rule.PLACED_ELSEWHERE: "its agents are placed elsewhere",
}
"""What each rule says, as the second half of a sentence."""


def explain(decision: Decision) -> list[str]:
    """The whole decision, one sentence a line: controller, changes, actions, non-actions."""
    why = "; ".join(RULE_TEXTS[rule] for rule in decision.frozen_by)
    lines = [f"The controller is {decision.controller.value}" + (f": {why}." if why else ".")]
    if decision.ages_restarted:
        lines.append("All ages count from this tick on.")
    lines += [explain_transition(change) for change in decision.transitions]
    lines += [explain_action(action) for action in decision.actions]
    lines += [explain_non_action(missed) for missed in decision.non_actions]
    return lines


def explain_transition(change: Transition) -> str:
    """One change of state: `node/n1 went from suspect to confirmed: ... (silence_s 66, ...)`."""
    leads = change.after == ControllerState.ACTIVE
    why = "it leads, and it can trust what it sees" if leads else RULE_TEXTS[change.rule]
    values = _values(change.reasons)
    return f"{change.subject} went from {change.before} to {change.after}: {why}{values}."


def explain_action(action: Action) -> str:
    """One action: `Move the agents of node/n1, 12 agents: ... (...)`."""
    verb = _VERBS[action.kind]
    what = f"{verb[0].upper()}{verb[1:]} {action.subject}"
    if action.kind in {ActionKind.ALERT, ActionKind.END_INCIDENT}:
        return f"{what}: {action.summary}{_values(action.reasons)}."
    counted = f", {action.agents} agents" if action.agents else ""
    again = f", attempt {action.attempt}" if action.attempt > 1 else ""
    only = ", stateless ones only" if action.stateless_only else ""
    why = RULE_TEXTS[action.rule]
    return f"{what}{counted}{only}{again}: {why}{_values(action.reasons)}."


def explain_non_action(missed: NonAction) -> str:
    """One non-action: `Did not move the agents of node/n1: ... ; allowed in 30 s`."""
    verb, why = _VERBS[missed.action.kind], RULE_TEXTS[missed.rule]
    after = []
    if missed.wait_s is not None:
        after.append(f"allowed in {_number(missed.wait_s)} s")
    if missed.approvable:
        after.append(f"or approve {missed.action.key}" if after else f"approve {missed.action.key}")
    tail = f"; {', '.join(after)}" if after else ""
    return f"Did not {verb} {missed.action.subject}: {why}{_values(missed.reasons)}{tail}."


def _values(reasons: tuple[Reason, ...]) -> str:
    if not reasons:
        return ""
    return f" ({'; '.join(_value(reason) for reason in reasons)})"


def _value(reason: Reason) -> str:
    limit = "" if reason.limit is None else f", limit {_number(reason.limit)}"
    return f"{reason.fact} {_number(reason.seen)}{limit}"


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
