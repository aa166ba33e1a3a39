"""Steps of an action as its journal tells them: begun, and then done or failed, with a duration."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fleet.journal import JournalEntry
from fleet.ports.clock import Clock
from fleet.ports.control_store import JournalStore

REASON_MAX_CHARS = 500
"""An error's whole text stands in the run's log."""


@dataclass(slots=True)
class Step:
    """What a step says of itself when it is over."""

    reason: str
    """In words, with figures."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What was seen and done; numbers that are losses are summed up by the incident."""


class StepJournal:
    """The journal of one action.

    Args:
        store: holds the journal.
        clock: dates the steps and measures them.
        action_id: of the action.
        subject: what all its steps are about.
    """

    def __init__(self, store: JournalStore, clock: Clock, action_id: str, subject: str) -> None:
        """Nothing is written yet."""
        self._store, self._clock = store, clock
        self.action_id, self.subject = action_id, subject

    @contextmanager
    def step(self, name: str, reason: str) -> Iterator[Step]:
        """Tell that a step begins, and how it ended; what it raises is told and raised on.

        A step that was told before is carried out again, and told only once.

        Args:
            name: `verb` or `verb/part`.
            reason: why it begins; the step may say something better when it is over.
        """
        began_s = self._clock.monotonic_s()
        step = Step(reason)
        self._tell(name, "started", step, None)
        try:
            yield step
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"[:REASON_MAX_CHARS]
            self._tell(name, "failed", Step(said), self._clock.monotonic_s() - began_s)
            raise
        self._tell(name, "done", step, self._clock.monotonic_s() - began_s)

    def record(self, steps: Mapping[str, Step]) -> None:
        """Tell of many steps that are done, by name: all of them or none."""
        self._store.append_journal(
            [self._entry(name, "done", step, None) for name, step in steps.items()]
        )

    def entries(self) -> list[JournalEntry]:
        """Everything that was told so far, in commit order."""
        return self._store.journal(self.action_id)

    def _tell(self, name: str, status: str, step: Step, duration_s: float | None) -> None:
        self._store.append_journal([self._entry(name, status, step, duration_s)])

    def _entry(self, name: str, status: str, step: Step, duration_s: float | None) -> JournalEntry:
        return JournalEntry(
            self.action_id,
            name,
            status,
            self.subject,
            step.reason,
            self._clock.now(),
            duration_s,
            json.dumps(step.detail, separators=(",", ":")),
        )
