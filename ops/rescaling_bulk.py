"""Workloads with Kubernetes' rules alone, decided all at once in columns.

What their autoscalers remember stays in columns from look to look, as long as the store holds the
very texts that this process has written; whatever else stands there is read anew. Decisions are
those of one by one: what columns cannot hold, what changes, and what has to be told is worked out
by the code that decides one workload.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from fleet.errors import InvalidInputError
from fleet.rescaling.decision import ReplicaDecision
from fleet.rescaling.observation import AutoscalerState, WorkloadObservation
from fleet.rescaling.pods import waiting_words
from fleet.rescaling.rollout_watch import remembering, watch_rollout
from fleet.rescaling.spec import AutoscalerSpec
from fleet.rescaling.standing import FOLD_S, LoggedDecision
from fleet.rescaling.state_json import decode_autoscaler
from fleet.rescaling.telling import waiting_part
from ops.rescaling_case import Case, Key

if TYPE_CHECKING:
    from fleet.rescaling.batch import BatchDecision
    from fleet.rescaling.batch_specs import SpecBatch
    from fleet.rescaling.batch_states import StateBatch

TOLD_ALWAYS = 20
"""Decisions whose words are made at each look: as many as are shown, and the same ones (those that
are to change first, then by name)."""


class Written(NamedTuple):
    """A decision as it was last told, and when it was written down."""

    logged: LoggedDecision
    at: datetime


class BulkAnswers:
    """What one look has decided in columns."""

    def __init__(self, places: dict[Key, int], decided: "BatchDecision", texts: list[str]) -> None:
        """By workload and region, the place in the columns."""
        self._places, self._decided, self._texts = places, decided, texts
        self._desired: list[int] = decided.desired.tolist()
        self._told = decided.state.told.tolist()
        self._arguments = decided.state.argument.tolist()

    def __contains__(self, key: Key) -> bool:
        """Whether it was decided here."""
        return key in self._places

    def desired(self, key: Key) -> int:
        """Replicas."""
        return self._desired[self._places[key]]

    def state_json(self, key: Key) -> str:
        """What is remembered from now on, as long as no change is made."""
        return self._texts[self._places[key]]

    def before(self, key: Key) -> AutoscalerState:
        """What was remembered."""
        return self._decided.before.state(self._decided.specs, self._places[key])

    def decision(self, key: Key) -> ReplicaDecision:
        """All that led to it, in words."""
        return self._decided.decision(self._places[key])

    def signature(self, key: Key) -> tuple[object, ...] | None:
        """What makes two decisions say the same; None: ask for the words.

        The codes of the conditions say which metric leads and which rule limits the number.
        """
        from fleet.rescaling.batch_states import Told

        place = self._places[key]
        told = self._told[place]
        if Told.TEXT in told:
            return None
        fault = self._decided.state.faults.get(place) if Told.UNOBTAINABLE in told else None
        return (self._desired[place], fault, *told, *self._arguments[place])


class BulkEngine:
    """Decides the plain ones of all cases; keeps columns between looks."""

    def __init__(self, sample_age_max_s: float) -> None:
        """Remember nothing."""
        self._sample_age = timedelta(seconds=sample_age_max_s)
        self._keys: tuple[Key, ...] = ()
        self._wished: tuple[AutoscalerSpec, ...] = ()
        self._specs: SpecBatch | None = None
        self._state: StateBatch | None = None
        self._texts: list[str] = []
        self._settled: dict[Key, str] = {}
        """Revision under which nothing is rolled out, as the texts say."""
        self._told: dict[Key, tuple[object, ...]] = {}

    def decide(self, cases: Sequence[Case], now: datetime) -> BulkAnswers | None:
        """Decide those cases that need no rule beyond Kubernetes'; None where there are none.

        Args:
            cases: each workload and region once, in any order.
            now: moment of the look.
        """
        from fleet.rescaling.agent_columns import LazyRecords, Look, agent_batch
        from fleet.rescaling.batch import decide_many, unapplied_all
        from fleet.rescaling.batch_json import encode_states

        known = dict(zip(self._keys, self._texts, strict=True))
        chosen: list[Case] = []
        fresh: dict[Key, AutoscalerState] = {}
        for case in sorted(cases, key=lambda one: one.key):
            if not _is_candidate(case):
                continue
            if known.get(case.key) != case.standing.state_json or (
                self._settled.get(case.key) != case.revision
            ):
                read = self._read(case, now)
                if read is None:
                    continue
                fresh[case.key] = read
            chosen.append(case)
        if not chosen:
            return None
        specs, state = self._columns(chosen, fresh)
        seen = agent_batch(
            specs,
            [one.seen.agents for one in chosen],
            [one.seen.column_readings() for one in chosen],
            LazyRecords([_maker(one) for one in chosen]),
            Look(now, now - self._sample_age),
        )
        decided = decide_many(specs, seen, state, now)
        kept = unapplied_all(decided)  # a change is made later, if at all
        texts = encode_states(specs, kept)
        places = {one.key: place for place, one in enumerate(chosen)}
        self._state, self._texts = kept, list(texts)
        return BulkAnswers(places, decided, texts)

    def _read(self, case: Case, now: datetime) -> AutoscalerState | None:
        """What is remembered of a case; None: it is rolled out, or columns cannot hold it."""
        from fleet.rescaling.batch_states import TYPES

        state = decode_autoscaler(case.standing.state_json)
        self._settled.pop(case.key, None)
        if any(one.type not in TYPES for one in state.conditions):
            return None
        try:
            rolled = watch_rollout(state.details, case.revision, case.seen.agents, now)
        except InvalidInputError:  # told by who decides it alone
            return None
        if rolled.rollout is not None:
            return None
        self._settled[case.key] = case.revision
        return remembering(state, rolled.details)

    def _columns(
        self, chosen: Sequence[Case], fresh: dict[Key, AutoscalerState]
    ) -> "tuple[SpecBatch, StateBatch]":
        """Autoscalers and what they remember, in the order of the cases."""
        from fleet.rescaling.batch_specs import spec_batch
        from fleet.rescaling.batch_states import copy_of, replace_states, state_batch

        keys = tuple(one.key for one in chosen)
        wished = tuple(one.scaling.spec for one in chosen)
        same = keys == self._keys and all(map(_is_same, wished, self._wished))
        if self._specs is None or self._state is None or not same:
            states = [
                fresh[one.key] if one.key in fresh else decode_autoscaler(one.standing.state_json)
                for one in chosen
            ]
            self._specs, self._keys, self._wished = spec_batch(wished), keys, wished
            self._texts = [""] * len(keys)
            return self._specs, state_batch(states)
        stale = [place for place, key in enumerate(keys) if key in fresh]
        state = copy_of(self._state) if stale else self._state
        replace_states(state, stale, [fresh[keys[place]] for place in stale])
        return self._specs, state

    def forget(self, keys: Sequence[Key]) -> None:
        """What these remember is not what the columns say; it is read anew with the next look."""
        gone = set(keys)
        if not gone:
            return
        for place, key in enumerate(self._keys):
            if key in gone:
                self._texts[place] = ""
                self._settled.pop(key, None)

    def known_words(
        self, answers: BulkAnswers, case: Case, written: Written | None, now: datetime
    ) -> LoggedDecision | None:
        """The decision as it was told before, where it says the same; None: make the words."""
        signature = answers.signature(case.key)
        frame = case.frame(now)
        if signature is not None:
            signature = (*signature, case.current, *frame[:-1])
        before = self._told.pop(case.key, None)
        if signature is None:
            return None
        self._told[case.key] = signature
        if before != signature or written is None:
            return None
        counts = (written.logged.current, written.logged.desired)
        if counts != (case.current, answers.desired(case.key)):
            return None
        if (now - written.at).total_seconds() >= FOLD_S:
            return None
        if waiting_part(written.logged.reason) != waiting_words(case.seen.agents):
            return None
        return written.logged._replace(last_at=now, ready=frame.ready)


def _is_same(one: AutoscalerSpec, other: AutoscalerSpec) -> bool:
    return one is other


def _maker(case: Case) -> Callable[[], WorkloadObservation]:
    return lambda: case.seen.observation


def _is_candidate(case: Case) -> bool:
    """Whether Kubernetes' rules alone decide it, quota aside."""
    if case.damaged is not None or case.brake or case.hold is not None:
        return False
    if not case.scaling.spec.metrics:
        return False
    wanted = case.seen.agents.wanted
    return case.scaling.is_plain and not (wanted and wanted[0].agent.gpu_milli > 0)
