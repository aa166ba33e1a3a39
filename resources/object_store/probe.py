"""The capability self-test that every store must pass before a vault trusts it.

Weakly consistent or S3-like stores that ignore conditional writes have destroyed backups before
(kopia #2227, #5423), so the test is run when a vault is made and daily afterwards.
"""

from __future__ import annotations

from fleet.ports.object_store import ObjectStore


def probe_store(store: ObjectStore, nonce: str) -> list[str]:
    """Run the self-test with a fresh key; an empty list means that the store is fit.

    Args:
        store: the store to test.
        nonce: makes the key unique; never used before.
    """
    key = f"probe/{nonce}"
    content = b"0123456789"
    faults = []
    try:
        if not store.create(key, content):
            faults.append(f"create of the fresh key {key} answered that it exists")
        if store.create(key, b"another"):
            faults.append("a second create of one key was accepted: create-only is not enforced")
        if store.get(key) != content:
            faults.append("reading did not give the first content back")
        if store.get(key, 3, 4) != content[3:7]:
            faults.append("a ranged read gave other bytes than the range")
        listed = [(one.key, one.size_bytes) for one in store.list_objects("probe/")]
        if (key, len(content)) not in listed:
            faults.append("a listing right after the create does not show the object")
    finally:
        store.delete([key])
    if key in [one.key for one in store.list_objects("probe/")]:
        faults.append("a listing right after the delete still shows the object")
    return faults
