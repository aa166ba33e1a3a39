"""How `vault_v1` was made, by the code of format 1 before data keys could be rotated.

Kept as a record: the vault itself is the golden file and is never made again. It holds three
snapshots of six agents (a change, a removal and a return between them), one of them forgotten and
collected, a hold, an evidence record, and two wraps under keys that anybody may know.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fleet.vault_keys import KeyEncryptionKey
from fleet.vault_log import EvidenceRecord
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.keys.key_store import create_data_key, create_vault
from resources.vault.network import open_network
from resources.vault.retention.removal import GRACE, append_next, collect_garbage, forget, hold
from resources.vault.snapshots.backup import back_up
from tests.fakes.vault_fleet import AT, VaultFleet

KEKS = (KeyEncryptionKey("offline", b"o" * 32), KeyEncryptionKey("region", b"r" * 32))


def make(root: Path) -> None:
    """Write the vault and what each snapshot must give back."""
    store = DirectoryObjectStore(root / "objects")
    fleet = VaultFleet(6)
    create_vault(store, AT)
    create_data_key(store, "net", KEKS)
    vault = open_network(store, "net", KEKS, fleet.clock)
    expected = {}
    steps = [lambda: None, lambda: fleet.change("agent-0001"), lambda: fleet.drop("agent-0002")]
    for step in steps:
        step()
        fleet.clock.advance(3600)
        result = back_up(vault, fleet.store, workers=1)
        bodies = {agent_id: body.hex() for agent_id, body in fleet.bodies().items()}
        expected[result.snapshot_id] = {"at": result.taken_at.isoformat(), "bodies": bodies}
    first, second, _ = expected
    hold(vault, [second], "golden")
    forget(vault, [first])
    collect_garbage(vault, GRACE)
    append_next(vault, lambda state: None if state.head > 6 else EvidenceRecord("note", "golden"))
    del expected[first]
    (root / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
