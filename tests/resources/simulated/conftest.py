"""Recorded clusters for the tests of the loader, when they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def traces_dir() -> Path:
    """Folder with the published traces: STATEROOM_TRACES, else `shared/data` near the checkout."""
    named = os.environ.get("STATEROOM_TRACES")
    places = [Path(named)] if named else []
    places += [REPOSITORY.parent / "shared/data", REPOSITORY.parent.parent / "shared/data"]
    for place in places:
        if (place / "openb").is_dir():
            return place
    pytest.skip(f"no recorded cluster: no folder openb in {', '.join(map(str, places))}")
