"""Fixtures that more than one room's tests use."""

from tests.examples import register_profiles
from tests.servers.postgres import postgres_server as postgres_server  # noqa: PLC0414 - a fixture

register_profiles()
