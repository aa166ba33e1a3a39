"""Fixtures that more than one room's tests use."""

from hypothesis import HealthCheck, settings

from tests.servers.postgres import postgres_server as postgres_server  # noqa: PLC0414 - a fixture

# A deadline is a timed assertion: on a busy machine it fails what is right.
settings.register_profile("stateroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stateroom")
