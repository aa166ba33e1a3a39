"""Endpoints and a real Prometheus for the tests of sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.exposition import ExposingServer, exposing
from tests.servers.prometheus import prometheus_programs

__all__ = ["prometheus_programs"]


@pytest.fixture
def server() -> Iterator[ExposingServer]:
    """Endpoints on loopback."""
    with exposing() as opened:
        yield opened


@pytest.fixture(scope="session")
def metric_traces() -> Path:
    """Folder gentd26 of the published traces; see `tests/resources/simulated/conftest.py`."""
    named = os.environ.get("STATEROOM_TRACES")
    places = [Path(named)] if named else []
    repository = Path(__file__).resolve().parents[3]
    places += [repository.parent / "shared/data", repository.parent.parent / "shared/data"]
    for place in places:
        if (place / "gentd26").is_dir():
            return place / "gentd26"
    pytest.skip(f"no recorded metrics: no folder gentd26 in {', '.join(map(str, places))}")
