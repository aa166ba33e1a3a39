"""The handle on the declared store: nothing is opened, and nothing listed, before it must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import NotFoundError
from fleet.vectors.declaration import VectorDeclaration
from resources.vectors.network_indexes import NetworkIndexes
from tests.fakes.clock import ManualClock


def test_whether_there_is_a_store_costs_no_listing_of_it(tmp_path: Path) -> None:
    """A folder is there or not; a bucket is not asked, even where nobody answers."""
    folder = tmp_path / "vectors"
    indexes = NetworkIndexes(VectorDeclaration(path=str(folder)), ManualClock())
    assert not indexes.exists()
    with pytest.raises(NotFoundError, match="no embeddings and no index at"):
        indexes.demand_store()
    assert not folder.exists()
    folder.mkdir()
    assert indexes.exists()
    nobody = VectorDeclaration(bucket="vectors", endpoint_url="http://127.0.0.1:9")
    assert NetworkIndexes(nobody, ManualClock()).exists()
