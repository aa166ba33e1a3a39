"""Measuring the steps of a restore test or drill, and naming what stopped one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fleet.drill_plan import DrillPhase
from fleet.errors import StateroomError
from fleet.ports.clock import Clock


class PhaseTimer:
    """Measures named steps by the monotonic clock; a step that raises is measured as well."""

    def __init__(self, clock: Clock, on_phase: Callable[[DrillPhase], None] | None = None) -> None:
        """Begin with no step; `on_phase` is told of each as it ends."""
        self._clock = clock
        self._on_phase = on_phase
        self.phases: list[DrillPhase] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """One step."""
        began_s = self._clock.monotonic_s()
        try:
            yield
        finally:
            phase = DrillPhase(name, round(self._clock.monotonic_s() - began_s, 6))
            self.phases.append(phase)
            if self._on_phase is not None:
                self._on_phase(phase)


def in_words(error: StateroomError | OSError) -> str:
    """An error as evidence names it, with its hint."""
    hint = getattr(error, "hint", "")
    return f"{error} {hint}".strip()
