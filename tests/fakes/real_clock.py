"""The clock of this machine, for tests of servers and threads."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class RealClock:
    """The `Clock` port."""

    def now(self) -> datetime:
        """Aware UTC wall clock."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
