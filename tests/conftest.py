"""Fixtures that more than one room's tests use."""

import gc
import signal

from tests.examples import register_profiles
from tests.servers.postgres import postgres_server as postgres_server  # noqa: PLC0414 - a fixture
from tests.temporary_files import use_memory

register_profiles()
use_memory()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so. Dagster does with SIGTERM as with SIGINT, and
    # every server that a test starts would inherit that and have to be killed after 10 s.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Collecting has imported everything, which stays: no later collection of garbage walks it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries look for leaks when the process ends, and what is frozen looks like one."""
    gc.unfreeze()
