"""What a check of `stateroom doctor` is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from platform_defs.settings import Settings
from platform_defs.state_folder import UpRun


class Finding(NamedTuple):
    """What one check found."""

    check: str
    verdict: str
    """`ok`, `skipped`, `warn` or `wrong`."""
    said: str
    remedy: str = ""


class Context(NamedTuple):
    """What the checks look at."""

    settings: Settings
    running: UpRun | None
    root: Path
    """Folder of constraints.txt."""


Check = Callable[[Context], Iterator[Finding]]
