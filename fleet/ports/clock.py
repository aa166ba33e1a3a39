"""Where time comes from outside `fleet/`."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from outside `fleet/`."""

    def now(self) -> datetime:
        """Aware UTC wall clock; may jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...
