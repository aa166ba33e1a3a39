"""How subcommands reach the control store: only one that exists, and always closed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import StoreUnavailableError
from platform_defs.settings import Settings

if TYPE_CHECKING:
    from resources.control_store.store import SqlControlStore


def has_store(settings: Settings) -> bool:
    """Whether anything was ever started here; one on a server is always taken to be there."""
    url = settings.control_store.url
    return not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).exists()


@contextmanager
def fleet_store(settings: Settings) -> Iterator[SqlControlStore]:
    """The control store of these settings.

    Raises:
        StoreUnavailableError: it cannot be reached, or nothing has ever been started here (an
            inspection must not create an empty store).
    """
    url = settings.control_store.url
    if not has_store(settings):
        raise StoreUnavailableError(
            f"no control store at {url.removeprefix('sqlite:///')}",
            hint="Start the fleet with `stateroom up`.",
        )
    from resources.clock import SystemClock
    from resources.control_store.opening import open_control_store

    store = open_control_store(url, clock=SystemClock())
    try:
        yield store
    finally:
        store.close()
