"""What backups and restores hold in memory: no library that they do not need, few manifests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.vault.packs.arrow_columns import (
    as_flags,
    as_numbers,
    empty,
    fixed_bytes,
    flags,
    number,
    numbers,
    one_chunk,
    same_text,
    strings,
    text,
)
from resources.vault.packs.manifest import manifest_schema
from resources.vault.snapshots.backup import back_up
from tests.fakes.crashing_store import CrashingStore
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import VaultFleet

BACKUPS = """
import sys
import resources.vault.snapshots.backup as backup
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import VaultFleet

backup.FULL_BELOW_ROWS = 4
fleet = VaultFleet(12)
store = InMemoryObjectStore(fleet.clock.now)
vault = fleet.vault(store)
kinds = []
for step in ("first", "changed", "same", "dropped", "full"):
    if step == "changed":
        fleet.change("agent-0001", "agent-0002")
    if step == "dropped":
        fleet.drop("agent-0003")
    kinds.append(backup.back_up(vault, fleet.store, full=step == "full").manifest)
fleet.change("agent-0004")
kinds.append(backup.back_up(fleet.vault(store), fleet.store).manifest)
assert kinds == ["full", "delta", "same", "delta", "full", "delta"], kinds
print(sorted({"pandas", "duckdb", "boto3"} & set(sys.modules)))
"""


RESTORES = """
import sys
import tempfile
from pathlib import Path

import resources.vault.snapshots.backup as backup
from fleet.backup import ArtefactDeclaration
from resources.vault.restores.restore import ControlStoreTarget, restore
from resources.vault.restores.restore_files import restore_artefact
from resources.vault.restores.restore_preview import preview_restore
from resources.vault.restores.targets import restore_into_directory
from resources.vault.retention.removal import forget
from resources.vault.verification.verify import verify_bytes, verify_content, verify_structure
from tests.fakes.journaled_fleet import JournaledFleet


def step(agent_id):
    fleet.change(agent_id)
    fleet.clock.advance(60)
    fleet.tick()


backup.FULL_BELOW_ROWS = 1
fleet = JournaledFleet(6)
fleet.objects.create("vault.json", b'{"format":1,"vault_id":"v"}')
folder = Path(tempfile.mkdtemp())
(folder / "data").mkdir()
(folder / "data" / "file").write_bytes(b"x" * 100)
declared = ArtefactDeclaration(name="data", path=str(folder / "data"), network_id="net")
first = fleet.snapshot().snapshot_id
vault = fleet.vault(fleet.objects)
backup.back_up(vault, fleet.store, artefacts=[declared])
step("agent-0001")
at = fleet.covered[-1]
fleet.change("agent-0002")
fleet.clock.advance(60)
fleet.snapshot()
step("agent-0003")
forget(vault, [first])
for moment in (None, at):
    for one in ("a", "b"):
        preview_restore(fleet.opened(), ControlStoreTarget(fleet.store), at=moment)
        restore_into_directory(fleet.opened(), folder / f"{one}{moment}", at=moment)
restore(fleet.opened(), ControlStoreTarget(fleet.store), at=at, newer="overwrite")
restore_artefact(fleet.opened(), "data", folder / "back")
for look in (verify_structure, verify_bytes, verify_content):
    assert look(fleet.opened()).ok
print(sorted({"pandas", "duckdb", "boto3"} & set(sys.modules)))
"""


@pytest.mark.parametrize("script", [BACKUPS, RESTORES], ids=["backups", "restores"])
def test_backups_and_restores_import_no_library_that_they_do_not_need(script: str) -> None:
    """Arrow would import pandas at the first value that it converts: 34 MB of every process."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@settings(deadline=None)
@given(st.lists(st.text(max_size=5), max_size=20))
def test_texts_are_those_that_arrow_would_convert(values: list[str]) -> None:
    """Of any alphabet, empty ones included."""
    found = strings(values)
    found.validate(full=True)
    assert found.equals(pa.array(values, pa.string()))


@settings(deadline=None)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20), st.integers(0, 5))
def test_numbers_and_moments_are_those_that_arrow_would_convert(
    values: list[int], skipped: int
) -> None:
    """In each width; and come back, also out of the middle of an array."""
    for kind in (pa.int64(), pa.int32(), pa.timestamp("us", tz="UTC")):
        found = numbers(values, kind)
        found.validate(full=True)
        assert found.equals(pa.array(values, pa.int64()).cast(kind))
        assert as_numbers(found.slice(skipped)).tolist() == values[skipped:]
        chunks = pa.chunked_array([found.slice(skipped), found.slice(0, skipped)])
        assert as_numbers(chunks).tolist() == values[skipped:] + values[:skipped]
    assert numbers(values).equals(pa.array(values, pa.int64()))


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(0, 20))
def test_flags_come_back_from_any_place(values: list[bool], skipped: int) -> None:
    """Bits are not aligned to bytes."""
    assert as_flags(pa.array(values, pa.bool_()).slice(skipped)).tolist() == values[skipped:]


@settings(deadline=None)
@given(st.integers(0, 20))
def test_columns_of_one_value_are_those_that_arrow_would_convert(count: int) -> None:
    """Text, flag, bytes; a scalar; a table without rows."""
    for value in (True, False):
        flags(value, count).validate(full=True)
        assert flags(value, count).equals(pa.array([value] * count, pa.bool_()))
    assert same_text("state", count).equals(pa.array(["state"] * count, pa.string()))
    width = fixed_bytes([b"12345678"] * count, 8)
    width.validate(full=True)
    assert width.equals(pa.array([b"12345678"] * count, pa.binary(8)))
    assert (text("é").as_py(), number(7, pa.int32()).as_py()) == ("é", 7)
    none = empty(manifest_schema())
    assert none.equals(manifest_schema().empty_table())
    assert one_chunk(pa.chunked_array([], pa.string())).equals(pa.array([], pa.string()))


@pytest.fixture
def small_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deltas also for small networks."""
    monkeypatch.setattr("resources.vault.snapshots.backup.FULL_BELOW_ROWS", 4)


def test_a_chain_that_went_on_is_resolved_from_what_was_read(small_manifests: None) -> None:
    """One request for each new delta, none for the rest; another chain is read anew, and right."""
    fleet = VaultFleet(60)
    inner = InMemoryObjectStore(fleet.clock.now)
    writer = fleet.vault(inner)
    taken = {}
    for day in range(7):
        fleet.clock.advance(60)
        fleet.change(f"agent-{day:04d}", "agent-0059")
        if day == 3:
            fleet.drop("agent-0000")
        taken[back_up(writer, fleet.store, full=day == 5).snapshot_id] = fleet.bodies()
    ids = list(taken)
    store = CrashingStore(inner)
    reader = fleet.vault(store)
    reader.log.refresh()

    def read(snapshot_id: str) -> tuple[dict[str, int], int]:
        store.counts.clear()
        table = reader.read_manifest(reader.snapshot(snapshot_id)).table
        held = zip(table["item_id"].to_pylist(), table["version"].to_pylist(), strict=True)
        return dict(held), store.counts["get"]

    cold = {}
    for snapshot_id in ids:
        fresh = fleet.vault(inner)
        fresh.log.refresh()
        table = fresh.read_manifest(fresh.snapshot(snapshot_id)).table
        held = zip(table["item_id"].to_pylist(), table["version"].to_pylist(), strict=True)
        cold[snapshot_id] = dict(held)
    requests = []
    for at in (0, 1, 1, 3, 4, 2, 4, 5, 6, 0):
        found, gets = read(ids[at])
        assert found == cold[ids[at]]
        requests.append(gets)
    assert requests == [1, 1, 0, 2, 1, 0, 2, 1, 1, 1]
