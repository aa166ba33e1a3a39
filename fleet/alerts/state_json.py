"""What alerts were and what was told of them, as documents that survive a restart.

Two documents: the states of rules (`states`), from which `for` is restored and the list of alerts
is shown; and the groups (`groups`), so that nobody is told twice. Both are rows of plain JSON, and
readable by the next version. A document that cannot be read raises: the store sets it aside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fleet.alerts.grouping import AlertGroup, GroupingState
from fleet.alerts.groups import GroupProgram, GroupState
from fleet.alerts.restoring import WaitedAlert
from fleet.alerts.rules import AlertingRule
from fleet.alerts.sending import SentAlert
from fleet.alerts.states import ActiveAlert, AlertState
from fleet.errors import InvalidInputError, TooLargeError
from fleet.metrics.labels import Labels

FORMAT = 1
ALERTS_KEPT_MAX = 1_000_000
"""Alerts that the document of states holds; over it nothing is kept, and the evaluator says so."""


class StoredAlert(NamedTuple):
    """An alert as it was at the last evaluation of its group."""

    group: str
    """Key of the group."""
    rule: str
    alert: ActiveAlert
    annotations: Labels
    """Empty where the rule fires for more than it shows words of."""


class StoredGroup(NamedTuple):
    """A group as it was."""

    key: str
    interval_ms: int
    evaluated_at_ms: int | None
    errors: tuple[tuple[str, str], ...]
    """Rule and what is wrong with it."""


class StoredStates(NamedTuple):
    """The document of states."""

    groups: tuple[StoredGroup, ...] = ()
    alerts: tuple[StoredAlert, ...] = ()

    def waited(self, group: str, rule: AlertingRule) -> dict[Labels, WaitedAlert]:
        """What a rule's alerts had waited for, by labels."""
        at_ms = {one.key: one.evaluated_at_ms for one in self.groups}.get(group)
        if at_ms is None:
            return {}
        return {
            one.alert.labels: WaitedAlert(at_ms, one.alert.active_at_ms)
            for one in self.alerts
            if (one.group, one.rule) == (group, rule.name)
            and one.alert.state is not AlertState.INACTIVE
        }


TOLD_MAX = 1000
"""Alerts of one rule whose words are kept; the list shows the others by their labels."""


def encode_states(programs: Sequence[GroupProgram], states: Sequence[GroupState]) -> str:
    """The document of states.

    Raises:
        TooLargeError: there are more than `ALERTS_KEPT_MAX` alerts.
    """
    groups, rows = [], []
    for program, state in zip(programs, states, strict=True):
        errors = []
        for rule, compiled, one in zip(
            program.group.rules, program.programs, state.rules, strict=True
        ):
            if one.error is not None:
                errors.append([rule.name, str(one.error)])
            if compiled is not None:
                kept = list(one.state.alerts.values())
                words = [compiled.tell(alert) for alert in kept[:TOLD_MAX]]
                words += [()] * (len(kept) - len(words))
                name, key = rule.name, program.group.key
                rows += [_row(key, name, *pair) for pair in zip(kept, words, strict=True)]
        group = program.group
        groups.append([group.key, group.interval_ms, state.evaluated_at_ms, errors])
    if len(rows) > ALERTS_KEPT_MAX:
        raise TooLargeError(
            f"{len(rows)} alerts; at most {ALERTS_KEPT_MAX} are kept over a restart",
            hint="Set `limit` on the group whose rule finds so many.",
        )
    document = {"format": FORMAT, "groups": groups, "alerts": rows}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _row(group: str, rule: str, alert: ActiveAlert, annotations: Labels) -> list[Any]:
    return [group, rule, dict(alert.labels), *alert[2:], dict(annotations)]


def decode_states(text: str | None) -> StoredStates:
    """The states of a document; none where there is no document.

    Raises:
        InvalidInputError: it is none of ours.
    """
    document = _document("states", text)
    if document is None:
        return StoredStates()
    try:
        groups = tuple(
            StoredGroup(key, interval_ms, at_ms, tuple((rule, why) for rule, why in errors))
            for key, interval_ms, at_ms, errors in document["groups"]
        )
        return StoredStates(groups, tuple(map(_stored, document["alerts"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _foreign("states", str(text)) from error


def _stored(row: list[Any]) -> StoredAlert:
    group, rule, labels, value, state, *times, annotations = row
    named = _labels(labels)
    alert = ActiveAlert(named, named, float(value), AlertState(state), *times)
    return StoredAlert(group, rule, alert, _labels(annotations))


def encode_groups(state: GroupingState) -> str:
    """The document of groups."""
    groups = []
    for key, group in state.groups.items():
        places = {labels: place for place, labels in enumerate(group.alerts)}
        groups.append(
            {
                "key": dict(key),
                "alerts": [_sent(one) for one in group.alerts.values()],
                "flush_at_ms": group.flush_at_ms,
                "told_firing": _names(group.told_firing, places),
                "told_resolved": _names(group.told_resolved, places),
                "told_at_ms": group.told_at_ms,
                "owed": list(group.owed),
                "flushed": group.flushed,
            }
        )
    document = {"format": FORMAT, "groups": groups}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _names(told: frozenset[Labels], places: Mapping[Labels, int]) -> list[Any]:
    """Alerts by their place in the group, those that have left it by their labels."""
    known = sorted(places[one] for one in told if one in places)
    return [*known, *(dict(one) for one in sorted(told) if one not in places)]


def _sent(one: SentAlert) -> list[Any]:
    return [dict(one.labels), dict(one.annotations), one.starts_at_ms, one.ends_at_ms, one.expr]


def decode_groups(text: str | None) -> GroupingState:
    """The groups of a document; none where there is no document.

    Raises:
        InvalidInputError: it is none of ours.
    """
    document = _document("groups", text)
    if document is None:
        return GroupingState()
    try:
        groups = {_labels(row["key"]): _group(row) for row in document["groups"]}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _foreign("groups", str(text)) from error
    return GroupingState(groups)


def _group(row: dict[str, Any]) -> AlertGroup:
    alerts = [
        SentAlert(_labels(labels), _labels(words), starts, ends, expr)
        for labels, words, starts, ends, expr in row["alerts"]
    ]

    def named(told: list[Any]) -> frozenset[Labels]:
        return frozenset(
            alerts[one].labels if isinstance(one, int) else _labels(one) for one in told
        )

    return AlertGroup(
        {one.labels: one for one in alerts},
        row["flush_at_ms"],
        named(row["told_firing"]),
        named(row["told_resolved"]),
        row["told_at_ms"],
        tuple(row["owed"]),
        bool(row["flushed"]),
    )


def _labels(named: Mapping[str, str]) -> Labels:
    return tuple(sorted((str(name), str(text)) for name, text in named.items()))


def _document(what: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        document = json.loads(text)
    except ValueError as error:
        raise _foreign(what, text) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _foreign(what, text)
    return document


def _foreign(what: str, text: str) -> InvalidInputError:
    return InvalidInputError(what, text[:80], f"a document of Stateroom, format {FORMAT}")
