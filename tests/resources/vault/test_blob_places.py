"""Where blobs lie: as a dictionary would say it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.vault.packs import blob_places
from resources.vault.packs.blob_places import BlobPlaces, StoredBlob

BLOB_IDS = st.integers(0, 40).map(lambda n: (n % 3).to_bytes(8, "little") + n.to_bytes(24, "big"))
"""Many begin alike, so that the table has to look on."""
STEPS = st.lists(st.tuples(BLOB_IDS, st.none() | st.integers(0, 99)), max_size=80)


@settings(deadline=None)
@given(STEPS)
def test_blobs_are_found_as_in_a_dictionary(steps: list[tuple[bytes, int | None]]) -> None:
    """Claimed once each, found where they were put last, numbered in the order they came."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blob_places, "_SLOTS_LEAST", 4)
        places = BlobPlaces()
    twin: dict[bytes, StoredBlob | None] = {}
    for blob_id, number in steps:
        if number is None:
            assert places.claim(blob_id) == (blob_id not in twin)
            twin.setdefault(blob_id, None)
        else:
            twin[blob_id] = StoredBlob(f"pack-{number % 5}", number, number, number, number)
            places.put(blob_id, StoredBlob(f"pack-{number % 5}", number, number, number, number))
    assert [places.number(blob_id) for blob_id in twin] == list(range(len(twin)))
    put = {blob_id: place for blob_id, place in twin.items() if place is not None}
    assert {blob_id: places.find(blob_id) for blob_id in put} == put
    chosen = np.array([places.number(blob_id) for blob_id in put], np.int64)
    columns = {name: column.to_pylist() for name, column in places.columns(chosen).items()}
    wanted = {name: [getattr(one, name) for one in put.values()] for name in StoredBlob._fields}
    if put:
        assert columns == {"blob_id": list(put), **wanted}
    with pytest.raises(KeyError):
        places.number(b"\xff" * 32)
