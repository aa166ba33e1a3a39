"""What a new leader must know before it moves anybody: what others have moved a moment ago."""

from __future__ import annotations

from typing import Protocol

from fleet.decided_moves import DecidedMove


class DecidedMoveStore(Protocol):
    """Decisions to move nodes, read back from the journals of incidents."""

    def decided_moves(self, window_s: float) -> list[DecidedMove]:
        """Moves of single nodes that any leader has decided within the window, oldest first.

        Those count that were decided, whether or not they have been carried out since. One bounded
        look: the newest `WINDOW_ROWS_MAX` decisions, of incidents that have not ended or that began
        or ended within a day of the window (people's clocks may differ by so much).
        """
        ...
