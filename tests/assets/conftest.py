"""A small fleet behind real assets: in-memory or SQLite store, in-memory or Parquet lake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.assets.inventory_runs import InventoryRuns, open_runs


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(params=["in-memory", "on-disk"])
def runs(
    request: pytest.FixtureRequest, tmp_path: Path, instance: dg.DagsterInstance
) -> Iterator[InventoryRuns]:
    """Runs of the inventory, on fakes and on SQLite with a Parquet lake."""
    with open_runs(instance, tmp_path if request.param == "on-disk" else None) as made:
        yield made


@pytest.fixture
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr("ops.outcomes.RETRY_DELAY_S", 0.0)
