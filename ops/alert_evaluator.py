"""Evaluates the rules that are due, passes alerts on, and remembers: one tick of the collector.

Crash points: alerts are passed on before their state is committed, so a crash between the two
passes them on once more and loses none. `for` goes on after a restart as Prometheus lets it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fleet.alerts.groups import (
    EvaluatedRule,
    GroupProgram,
    GroupState,
    compile_group,
    ended_alerts,
    evaluate_group,
    fresh_state,
)
from fleet.alerts.restoring import RESTORE_AT_EVALUATION, RestorePolicy, restore_waiting
from fleet.alerts.rules import AlertingRule, RuleGroup
from fleet.alerts.sending import SendPolicy, SentAlert, due_alerts, mark_sent, outgoing
from fleet.alerts.state_json import StoredStates, decode_states, encode_states
from fleet.alerts.states import ActiveAlert
from fleet.alerts.templates import Outside
from fleet.errors import CorruptObjectError, InvalidInputError, StateroomError
from fleet.ports.alert_receiver import AlertReceiver
from fleet.ports.alert_store import STATES, AlertStore
from fleet.ports.clock import Clock
from fleet.ports.query_engine import QueryEngine, SampleSink

SAVED_EVERY_MS = 60_000
"""How often the states are written while nothing changes and they are many."""
FEW_ALERTS = 1000
"""Up to so many are written with each tick."""


class AlertTick(NamedTuple):
    """What one tick has done."""

    evaluated: tuple[str, ...]
    """Keys of the groups that were due."""
    alerts: int
    """Pending and firing ones, of all groups."""
    firing: int
    passed_on: int
    """Alerts that the receiver took."""
    told: str
    """The receiver's own words."""
    problems: tuple[str, ...]
    """Rules that failed, and what was not delivered or kept; each in a sentence."""
    delivered: bool = True
    """Whether the receiver took what was due."""


class _Due(NamedTuple):
    """Alerts of one rule that are to be passed on."""

    group: int
    rule: int
    alerts: list[ActiveAlert]
    sent: list[SentAlert]


class AlertEvaluator:
    """Holds the states of all groups between ticks; one thread, one process."""

    def __init__(
        self,
        groups: Sequence[RuleGroup],
        engine: QueryEngine,
        sink: SampleSink,
        receiver: AlertReceiver,
        store: AlertStore,
        clock: Clock,
        *,
        flush: Callable[[], None] | None = None,
        outside: Outside | None = None,
        send_policy: SendPolicy | None = None,
        restore_policy: RestorePolicy | None = None,
    ) -> None:
        """Parse the rules; nothing is read or asked before the first tick.

        Args:
            groups: of `fleet.alerts.loading`.
            engine: answers their expressions, and sees what `sink` has taken.
            sink: keeps the series that rules leave behind.
            receiver: takes alerts.
            store: keeps the states.
            clock: says when groups are due.
            flush: makes what `sink` has taken durable, after each tick that evaluated anything;
                what it cannot keep now it keeps with the next.
            outside: labels and address of this deployment, put on every alert.
            send_policy: how often alerts are passed on again.
            restore_policy: how long an outage may be for `for` to go on.

        Raises:
            InvalidInputError: a template does not parse, or two groups have one key.
        """
        self._programs = [compile_group(group, outside) for group in groups]
        keys = [program.group.key for program in self._programs]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise InvalidInputError("groups", twice, "each group of a file once")
        self._states: list[GroupState] = []
        self._before = StoredStates()
        self._engine, self._sink = engine, sink
        self._receiver, self._store, self._clock = receiver, store, clock
        self._send = send_policy or SendPolicy()
        self._restore = restore_policy or RestorePolicy()
        self._flush = flush
        self._saved_at_ms: int | None = None

    def tick(self) -> AlertTick:
        """Evaluate what is due, pass on what is news, commit the states."""
        now_ms = int(self._clock.now().timestamp() * 1000)
        problems: list[str] = []
        if not self._states:
            self._start(problems)
            self._end_removed(now_ms, problems)
        evaluated, changed = self._evaluate(now_ms, problems)
        failed_before = len(problems)
        passed_on, told = self._pass_on(evaluated, now_ms, problems)
        delivered = len(problems) == failed_before
        if evaluated:
            self._keep_samples(problems)
            self._commit(now_ms, problems, urgent=changed or passed_on > 0)
        live = [
            alert for state in self._states for rule in state.rules for alert in rule.state.live()
        ]
        return AlertTick(
            tuple(self._programs[place].group.key for place in evaluated),
            len(live),
            sum(alert.fired_at_ms is not None for alert in live),
            passed_on,
            told,
            tuple(problems),
            delivered,
        )

    def programs(self) -> Sequence[tuple[GroupProgram, GroupState]]:
        """Every group with its state, for pages and metrics; empty before the first tick."""
        return list(zip(self._programs, self._states, strict=False))

    def _start(self, problems: list[str]) -> None:
        """Take up what was known; a document that cannot be read is set aside, and said so."""
        try:
            self._before = decode_states(self._store.read(STATES))
        except (CorruptObjectError, InvalidInputError) as error:
            problems.append(f"{error}; set aside as {self._store.set_aside(STATES)}")
        known = {one.key: one.evaluated_at_ms for one in self._before.groups}
        self._states = [
            fresh_state(program.group, restored=known.get(program.group.key) is None)._replace(
                evaluated_at_ms=known.get(program.group.key)
            )
            for program in self._programs
        ]

    def _end_removed(self, now_ms: int, problems: list[str]) -> None:
        """End the series of alerts whose rule was there before the start, and is no more.

        Those of recording rules end by themselves when nobody looks back so far: what they wrote
        last is not kept.
        """
        kept = {(one.group.key, rule.name) for one in self._programs for rule in one.group.rules}
        gone = [one.alert for one in self._before.alerts if (one.group, one.rule) not in kept]
        if not gone:
            return
        try:
            self._sink.write(ended_alerts(gone, now_ms))
        except StateroomError as error:
            problems.append(f"the series of {len(gone)} alerts of removed rules go on: {error}")

    def _evaluate(self, now_ms: int, problems: list[str]) -> tuple[list[int], bool]:
        """Evaluate the groups whose slot has come; which, and whether any alert has moved."""
        evaluated, changed = [], False
        for place, program in enumerate(self._programs):
            state, slot_ms = self._states[place], program.slot_ms(now_ms)
            last_ms = state.evaluated_at_ms
            if last_ms is not None and last_ms > now_ms + program.group.interval_ms:
                # Rules cannot go back: their alerts would have begun in the future.
                problems.append(f"group {program.group.name}: the clock is behind its last time")
            if last_ms is not None and slot_ms <= last_ms:
                continue
            after = evaluate_group(program, state, self._engine, self._sink, slot_ms)
            after = self._restored(program, after, slot_ms)
            changed |= _moved(state, after)
            problems += [
                f"rule {rule.name}: {one.error}"
                for rule, one in zip(program.group.rules, after.rules, strict=True)
                if one.error is not None
            ]
            self._states[place] = after
            evaluated.append(place)
        return evaluated, changed

    def _restored(self, program: GroupProgram, state: GroupState, now_ms: int) -> GroupState:
        """After the second evaluation since the start, alerts get back what they had waited."""
        if state.restored or state.evaluations < RESTORE_AT_EVALUATION:
            return state
        rules: list[EvaluatedRule] = []
        for rule, one in zip(program.group.rules, state.rules, strict=True):
            if isinstance(rule, AlertingRule):
                waited = self._before.waited(program.group.key, rule)
                after = restore_waiting(rule, one.state, waited, now_ms, self._restore)
                rules.append(one._replace(state=after))
            else:
                rules.append(one)
        return state._replace(rules=tuple(rules), restored=True)

    def _pass_on(
        self, evaluated: Sequence[int], now_ms: int, problems: list[str]
    ) -> tuple[int, str]:
        """Hand what is due to the receiver; what it does not take is due again."""
        due = [one for place in evaluated for one in self._due(place)]
        alerts = [alert for one in due for alert in one.sent]
        try:
            told = self._receiver.take(alerts, now_ms)
        except StateroomError as error:
            problems.append(f"{len(alerts)} alerts were not passed on: {error}")
            return 0, ""
        for one in due:
            state = self._states[one.group]
            at_ms = state.evaluated_at_ms
            assert at_ms is not None, "only what was evaluated is due"
            rules = list(state.rules)
            was = rules[one.rule]
            rules[one.rule] = was._replace(state=mark_sent(was.state, one.alerts, at_ms))
            self._states[one.group] = state._replace(rules=tuple(rules))
        return len(alerts), told

    def _due(self, place: int) -> list[_Due]:
        program, state = self._programs[place], self._states[place]
        at_ms = state.evaluated_at_ms
        assert at_ms is not None, "only what was evaluated is asked"
        found = []
        for number, (compiled, one) in enumerate(zip(program.programs, state.rules, strict=True)):
            if compiled is None:
                continue
            alerts = due_alerts(one.state, at_ms, self._send)
            if alerts:
                interval_ms = program.group.interval_ms
                sent = outgoing(compiled, alerts, at_ms, interval_ms, self._send)
                found.append(_Due(place, number, alerts, sent))
        return found

    def _keep_samples(self, problems: list[str]) -> None:
        if self._flush is None:
            return
        try:
            self._flush()
        except StateroomError as error:
            problems.append(f"the series of rules were not kept: {error}")

    def _commit(self, now_ms: int, problems: list[str], *, urgent: bool) -> None:
        """Write the states, unless nothing has changed and they are many."""
        count = sum(len(rule.state.alerts) for state in self._states for rule in state.rules)
        recent = self._saved_at_ms is not None and now_ms - self._saved_at_ms < SAVED_EVERY_MS
        if recent and not urgent and count > FEW_ALERTS:
            return
        try:
            self._store.write(STATES, encode_states(self._programs, self._states))
        except StateroomError as error:
            problems.append(f"the states of alerts were not kept: {error}")
            return
        self._saved_at_ms = now_ms


def _moved(before: GroupState, after: GroupState) -> bool:
    """Whether an alert came, went or changed its state."""
    return any(
        {key: one.state for key, one in old.state.alerts.items()}
        != {key: one.state for key, one in new.state.alerts.items()}
        for old, new in zip(before.rules, after.rules, strict=True)
    )
