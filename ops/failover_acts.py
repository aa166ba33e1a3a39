"""What a decision asks for beside moves: incidents opened and ended, agents parked, people told.

Of incidents people are told by `sensors.notifications`, which escalates until somebody has it; what
is told here belongs to no incident: a frozen controller, a node that looks dead on one channel.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fleet.decided_moves import FACT, move_fact
from fleet.errors import StateroomError, TransientError, VersionConflictError
from fleet.failover.explain import explain_action, explain_non_action
from fleet.failover.records import Action, ActionKind, NonAction
from fleet.incident_timeline import SILENT, EntryKind, fact_entry
from fleet.incidents import IncidentHeader, IncidentKind, IncidentOpening, IncidentState
from fleet.moments import microseconds
from fleet.placement.parking import NO_NODE
from fleet.ports.control_store import ControlStore
from fleet.ports.notifier import Alert, Notifier

REASON_MAX_CHARS = 500
"""Of a timeline's line; the run's log has everything."""

_SILENCE_MAX_S = 30 * 86_400.0
"""A node that was never heard of has been silent for ever, which has no date."""


class Outcome(NamedTuple):
    """What has become of an action."""

    told: bool
    """All of it is done, and written down where it is written down."""
    over: bool
    """Done, or refused for good; else it can be tried again."""


class DecisionActs:
    """Does what a decision asks for, as far as it needs no run.

    Args:
        store: holds incidents, journal and placements.
        notifier: whom alerts reach.
        at: moment of the decision.
        regions: node -> region.
        store_at: the same moment by the store's clock; None where nobody knows it.
    """

    def __init__(
        self,
        store: ControlStore,
        notifier: Notifier,
        at: datetime,
        regions: Mapping[str, str],
        store_at: datetime | None = None,
    ) -> None:
        """Nothing has been done yet."""
        self._store, self._notifier, self._at = store, notifier, at
        self._regions, self._store_at = regions, store_at
        self.faults: list[str] = []

    def carry_out(self, action: Action, *, moves: bool = False) -> Outcome:
        """One action; a failure is told and keeps no other from being done.

        Args:
            action: to do, as far as it needs no run, and to write down.
            moves: whether an order to move agents follows from it.
        """
        try:
            if action.kind is ActionKind.OPEN_INCIDENT:
                action = action._replace(incident=self._open(action))
            elif action.kind is ActionKind.END_INCIDENT:
                self._end(action)
            elif action.kind is ActionKind.PARK_AGENT:
                self._park(action)
            elif action.kind is ActionKind.ALERT:
                self._notifier.notify(
                    Alert(action.subject, "error", explain_action(action), self._at)
                )
            self._write_down(action, moves=moves)
        except StateroomError as error:
            self.faults.append(f"{action.key}: {error}")
            return Outcome(told=False, over=not isinstance(error, TransientError))
        return Outcome(told=True, over=True)

    def tell_waiting(self, missed: Sequence[NonAction]) -> None:
        """Let incidents say which of their actions wait for a person."""
        for one in missed:
            if not one.approvable or not one.action.incident:
                continue
            try:
                self._let_wait(one)
            except StateroomError as error:
                self.faults.append(f"{one.action.key}: {error}")

    def _let_wait(self, missed: NonAction) -> None:
        header = self._store.incident(missed.action.incident)
        if header is None or header.state == IncidentState.ENDED:
            return
        if header.waits_for == missed.action.key:
            return
        self._store.update_incident(
            header._replace(waits_for=missed.action.key, term=max(header.term, missed.action.term))
        )
        text = explain_non_action(missed)
        entry = fact_entry(
            missed.action.incident,
            EntryKind.DECIDED,
            f"not-{missed.action.kind}-{missed.rule}",
            header.subject,
            text[:REASON_MAX_CHARS].rstrip("."),
            self._at,
            rule=missed.rule.value,
        )
        self._store.append_journal([entry])

    def _open(self, action: Action) -> str:
        """Id of the subject's incident: another than the action's when somebody has opened one."""
        kind, _, name = action.subject.partition("/")
        region = name if kind == "region" else self._regions.get(name, "")
        text = explain_action(action)
        opening = IncidentOpening(
            IncidentKind(kind),
            name,
            region,
            text.partition(": ")[2].rstrip(".")[:REASON_MAX_CHARS],
            self._at,
            action.term,
            incident_id=action.incident,
        )
        incident_id = self._store.open_incident(opening).incident_id
        self._date_silence(action._replace(incident=incident_id), name)
        return incident_id

    def _date_silence(self, action: Action, name: str) -> None:
        """When the last sign of life was seen: what a detection time is counted from."""
        silent_s = next((one.seen for one in action.reasons if one.fact == "silence_s"), None)
        if not isinstance(silent_s, (int, float)) or not 0 <= silent_s < _SILENCE_MAX_S:
            return
        entry = fact_entry(
            action.incident,
            EntryKind.SEEN,
            SILENT,
            name,
            "this was the last sign of life",
            self._at - timedelta(seconds=silent_s),
        )
        self._store.append_journal([entry])

    def _end(self, action: Action) -> None:
        header = self._store.incident(action.incident)
        if header is None or header.state == IncidentState.ENDED:
            return
        self._store.update_incident(_ended(header, action, self._at))

    def _park(self, action: Action) -> None:
        """Take an agent that crashes again and again off its node, where it lies."""
        agent_id = action.subject.partition("/")[2]
        placed = [
            one
            for node_id in action.nodes
            for one in self._store.placements(node_id)
            if one.agent_id == agent_id
        ]
        wanted = [
            one._replace(
                node_id=NO_NODE,
                desired="parked",
                term=action.term,
                reason=f"parked: {explain_action(action)}"[:REASON_MAX_CHARS],
                updated_at=self._at,
            )
            for one in placed
        ]
        self._store.place_agents(wanted, leader_term=action.term)

    def _write_down(self, action: Action, *, moves: bool) -> None:
        """What was decided, in the journal of its incident; actions without one are only told."""
        if not action.incident or action.kind is ActionKind.END_INCIDENT:
            return
        told = EntryKind.SEEN if action.kind is ActionKind.OPEN_INCIDENT else EntryKind.DECIDED
        kind, _, name = action.subject.partition("/")
        facts = {}
        if moves and kind == IncidentKind.NODE:
            if self._store.incident(action.incident) is None:  # it could not be opened then
                self._demand_own(action, self._open(action))
            facts = {FACT: self._move_fact(action, name)}
        entry = fact_entry(
            action.incident,
            told,
            _word(action),
            name,
            explain_action(action).rstrip(".")[:REASON_MAX_CHARS],
            self._at,
            rule=action.rule.value,
            facts=facts,
        )
        [is_new] = self._store.append_journal([entry])
        if facts and not is_new:  # decided anew in the same incident: by another leader, or later
            again = f"{entry.step}.{self._stamp()}"
            self._store.append_journal([entry._replace(step=again)])

    @staticmethod
    def _demand_own(action: Action, opened: str) -> None:
        if opened != action.incident:
            raise VersionConflictError(
                f"{action.subject} has the open incident {opened} already",
                hint="The next decision takes it over, and orders the move under it.",
            )

    def _stamp(self) -> int:
        """Names the moment, so that the same decision is written down once."""
        return microseconds(self._at if self._store_at is None else self._store_at)

    def _move_fact(self, action: Action, name: str) -> dict[str, Any]:
        """What the next leader's budget must know (`fleet.decided_moves`)."""
        decided_us = None if self._store_at is None else microseconds(self._store_at)
        region = self._regions.get(name, "")
        return move_fact(
            action.agents, region, decided_us,
            early=action.stateless_only, attempt=action.attempt,
        )  # fmt: skip


def _word(action: Action) -> str:
    """Names what is written down: once in its incident, once for each node of a shared one."""
    if action.kind is ActionKind.ALERT:
        return f"alert-{action.rule}"
    word = f"{action.kind}-early" if action.stateless_only else str(action.kind)
    if action.attempt > 1:
        word = f"{word}-{action.attempt}"
    kind, _, name = action.subject.partition("/")
    shared = kind == IncidentKind.NODE and action.incident.startswith(f"{IncidentKind.REGION}-")
    return f"{word}/{name}" if shared else word


def _ended(header: IncidentHeader, action: Action, at: datetime) -> IncidentHeader:
    return header._replace(
        state=IncidentState.ENDED,
        ended_at=at,
        outcome=action.summary,
        waits_for="",
        term=max(header.term, action.term),
    )
