"""Waits for the end of a process that is not a child, on the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from resources.local.linux_processes import ProcessIdentity, open_pidfd


class Watch:
    """Calls back once when this very process has ended; at once when it has ended already."""

    def __init__(self, process: ProcessIdentity, on_end: Callable[[], None]) -> None:
        """Begin to watch; `on_end` is called on the loop's thread."""
        self._on_end = on_end
        self._pidfd = open_pidfd(process)
        if self._pidfd is None:
            on_end()
        else:
            asyncio.get_running_loop().add_reader(self._pidfd, self._end)

    def close(self) -> None:
        """Stop watching."""
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _end(self) -> None:
        self.close()
        self._on_end()
