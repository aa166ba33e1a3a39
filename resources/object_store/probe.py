"""The capability self-test that every store must pass before a vault trusts it.

Weakly consistent or S3-like stores that ignore conditional writes have destroyed backups before
(kopia #2227, #5423), so the test is run when a vault is made and daily afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fleet.ports.object_store import ObjectStore

NEEDED = ("create_only", "read_back", "range", "list_consistent", "delete")
"""Without these a store holds no vault; `lock` and `versioned` are worth having."""
_ADVICE = {
    "create_only": (
        "conditional PUT is not enforced: use a store with If-None-Match, and a proxy that passes "
        "the header on"
    ),
    "read_back": "it does not give back what was stored: do not use it",
    "range": "it gives other bytes than the range: use a store with ranged reads",
    "list_consistent": "its listing lags behind: use a strongly consistent store",
    "delete": "a deleted object is still listed: use a strongly consistent store",
}


class StoreProbe(NamedTuple):
    """Evidence of one self-test."""

    place: str
    capabilities: Mapping[str, bool]
    """`create_only, read_back, range, list_consistent, delete, lock, versioned`."""
    lock_days: int | None
    faults: tuple[str, ...]
    """What keeps a vault from it, in words; empty when it is fit."""

    @property
    def ok(self) -> bool:
        """Whether a vault may stand on it."""
        return not self.faults

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do about each capability that is needed and missing."""
        return tuple(_ADVICE[one] for one in NEEDED if not self.capabilities[one])


def examine_store(store: ObjectStore, nonce: str) -> StoreProbe:
    """Run the self-test and name what the store can do.

    Args:
        store: the store to test.
        nonce: makes the keys unique; never used before.

    Raises:
        PermanentError: it cannot be used at all, or cannot give the lock that is configured.
        StoreUnavailableError: it does not answer.
    """
    features = store.features()
    found, faults = _try_out(store, f"probe/{nonce}")
    found |= {"lock": features.lock_days is not None, "versioned": features.versioned}
    return StoreProbe(features.place, found, features.lock_days, tuple(faults))


def probe_store(store: ObjectStore, nonce: str) -> list[str]:
    """Run the self-test with a fresh key; an empty list means that the store is fit."""
    return list(examine_store(store, nonce).faults)


def _try_out(store: ObjectStore, key: str) -> tuple[dict[str, bool], list[str]]:
    content = b"0123456789"
    found: dict[str, bool] = {}
    faults = []

    def note(capability: str, holds: bool, fault: str) -> None:
        found[capability] = found.get(capability, True) and holds
        if not holds:
            faults.append(fault)

    try:
        created = store.create(key, content)
        note("create_only", created, f"create of the fresh key {key} answered that it exists")
        again = store.create(key, b"another")
        text = "a second create of one key was accepted: create-only is not enforced"
        note("create_only", not again, text)
        same = store.get(key) == content
        note("read_back", same, "reading did not give the first content back")
        part = store.get(key, 3, 4) == content[3:7]
        note("range", part, "a ranged read gave other bytes than the range")
        listed = [(one.key, one.size_bytes) for one in store.list_objects("probe/")]
        text = "a listing right after the create does not show the object"
        note("list_consistent", (key, len(content)) in listed, text)
    finally:
        store.delete([key])
    left = key in [one.key for one in store.list_objects("probe/")]
    note("delete", not left, "a listing right after the delete still shows the object")
    return found, faults
