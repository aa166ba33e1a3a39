"""Fixtures that more than one room's tests use."""

import gc

from tests.examples import register_profiles
from tests.servers.postgres import postgres_server as postgres_server  # noqa: PLC0414 - a fixture
from tests.temporary_files import use_memory

register_profiles()
use_memory()


def pytest_collection_finish() -> None:
    """Collecting has imported everything, which stays: no later collection of garbage walks it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries look for leaks when the process ends, and what is frozen looks like one."""
    gc.unfreeze()
