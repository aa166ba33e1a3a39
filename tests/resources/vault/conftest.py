"""The suites of the vault run with a checkpoint of the log every two records, and longer ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet.vault_checkpoint import Spacing
from resources.vault.log import checkpoints

DENSE = Spacing(every=2, fan_out=2)


@pytest.fixture(scope="package", autouse=True)
def dense_checkpoints() -> Iterator[None]:
    """Small logs have checkpoints of several lengths; a writer makes one at every second commit."""
    shipped = checkpoints.SPACING
    checkpoints.SPACING = DENSE
    yield
    checkpoints.SPACING = shipped


@pytest.fixture
def shipped_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As shipped: a small log has no checkpoint, so each of its records is read and looked at."""
    monkeypatch.setattr(checkpoints, "SPACING", Spacing())
