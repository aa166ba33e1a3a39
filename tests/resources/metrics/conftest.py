"""Endpoints and a real Prometheus for the tests of sources."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.exposition import ExposingServer, exposing
from tests.servers.prometheus import prometheus_programs

__all__ = ["prometheus_programs"]


@pytest.fixture
def server() -> Iterator[ExposingServer]:
    """Endpoints on loopback."""
    with exposing() as opened:
        yield opened
