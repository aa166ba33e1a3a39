"""What happened in a simulated history: lines with times, and when each thing happened first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fleet.failover.explain import explain_action, explain_non_action, explain_transition
from fleet.failover.records import Action, ActionKind
from fleet.journal import JournalEntry
from ops.failover_controller import Tick

STEPS = ("recheck", "fence", "plan", "restore", "move", "start", "ready")


@dataclass
class Story:
    """Lines for people; milestones for bounds."""

    lines: list[str] = field(default_factory=list)
    firsts: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _missed: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    def say(self, at_s: float, who: str, text: str) -> None:
        """One line."""
        self.lines.append(f"{at_s:8.1f}  {who:<8} {text}")

    def mark(self, at_s: float, name: str) -> None:
        """Something that bounds are about."""
        self.firsts.setdefault(name, at_s)
        self.counts[name] = self.counts.get(name, 0) + 1

    def tell_tick(self, at_s: float, name: str, tick: Tick) -> None:
        """What a controller found, decided, and did not do; the latter once while it stays so."""
        for change in tick.decision.transitions:
            _kind, _, subject = change.subject.partition("/")
            self.mark(at_s, f"{change.after}:{subject or name}")
            self.say(at_s, name, f"{explain_transition(change)}")
        for action in tick.decision.actions:
            self.mark(at_s, _mark_of(action))
            self.say(at_s, name, explain_action(action))
        missed = {(one.action.key, one.rule.value) for one in tick.decision.non_actions}
        for one in tick.decision.non_actions:
            if (one.action.key, one.rule.value) not in self._missed.get(name, set()):
                self.mark(at_s, f"not:{one.rule}:{one.action.subject.partition('/')[2]}")
                self.say(at_s, name, explain_non_action(one))
        self._missed[name] = missed
        for fault in tick.faults:
            self.say(at_s, name, f"could not: {fault}")

    def tell_steps(self, at_s: float, entries: Sequence[JournalEntry]) -> None:
        """What runs have written down."""
        for entry in entries:
            verb = entry.step.partition("/")[0]
            if verb in STEPS and entry.status != "started":
                self.mark(at_s, f"{verb}:{entry.status}:{entry.subject}")
                self.say(at_s, "run", f"{entry.step} {entry.status}: {entry.reason}")


def _mark_of(action: Action) -> str:
    subject = action.subject.partition("/")[2] or action.subject
    if action.kind is ActionKind.ALERT:
        return f"alert:{action.rule}:{subject}"
    return f"{action.kind}:{subject}"
