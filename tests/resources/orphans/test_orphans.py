"""What readers find left behind, in real stores; and rows of the lake removed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fleet.agents import StatePut
from fleet.errors import InvalidInputError, VersionConflictError
from platform_defs.declared_backup import simple_backup
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from resources.orphans.lake_partitions import LakePartitions
from resources.orphans.retired_states import RetiredStates
from resources.orphans.undeclared_backups import UndeclaredBackups
from resources.vault.region_vaults import RegionVaults
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.fleet import SeededFleet, declare_fleet


def test_states_of_agents_that_are_not_declared_are_found() -> None:
    """With size and last write; those of declared agents are not."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    SeededFleet(store, clock, declare_fleet()).write_states(b"four")
    assert list(RetiredStates(store).orphans()) == []
    written = clock.now()
    clock.advance(60)
    store.put_states([StatePut("us-2-a2", 1, 1, b"newer")])
    store.retire_agents(["eu-1-a1"])
    (found,) = RetiredStates(store).orphans()
    assert (found.kind, found.subject, found.size_bytes) == ("retired_state", "eu-1-a1", 4)
    assert found.newest_at == written
    assert found.region == "eu"


def test_backups_of_networks_that_are_not_declared_are_found_in_every_region(
    tmp_path: Path,
) -> None:
    """All their packs, manifests and journals add up; declared networks are not listed."""
    declaration = simple_backup(("eu", "us"), str(tmp_path))
    vaults = RegionVaults(declaration, ManualClock())
    known = declaration.vault_networks[0]
    store = vaults.store("us")
    for key in ("packs/gone/01/a.pack", "manifests/gone/01/b.manifest", "journal/gone/0001/1.seg"):
        assert store.create(key, b"12345")
    for name in ("gone", known):
        assert store.create(f"keys/{name}.0001/wrap.json", b"{}")
    assert store.create("claims/emptied/0001", b"{}")
    assert store.create(f"packs/{known}/01/a.pack", b"12345")
    (found,) = UndeclaredBackups(vaults).orphans()
    assert (found.kind, found.subject, found.region) == ("undeclared_backups", "gone", "us")
    assert (found.size_bytes, found.detail.split()[0]) == (15, "3")
    shredded = vaults.store("eu")
    assert shredded.create("shred/old.json", b"{}")
    assert shredded.create("packs/old/01/a.pack", b"1")
    subjects = [(one.subject, one.region) for one in UndeclaredBackups(vaults).orphans()]
    assert subjects == [("old", "eu"), ("gone", "us")]
    newest = max(one.modified_at for one in store.list_objects("packs/gone/"))
    assert found.newest_at >= newest


@pytest.fixture
def lake(tmp_path: Path) -> ParquetLake:
    """Two looks at a region that is gone, one at another, one table about everything."""
    made = ParquetLake(DirectoryStore(str(tmp_path / "lake")))
    clock = ManualClock()
    rows = pa.table({"n": [1, 2]})
    for table, partition in (
        ("nodes", "gone"), ("nodes", "eu"), ("nodes", "gone"), ("all", "all"), ("told", "fleet"),
    ):  # fmt: skip
        made.write(table, partition, rows, clock.now())
        clock.advance(60)
    return made


def test_rows_of_what_is_not_declared_are_found(lake: ParquetLake) -> None:
    """By table and partition; tables about everything are never left behind."""
    (found,) = LakePartitions(lake, ["eu"]).orphans()
    objects = lake.objects("nodes", "gone")
    assert (found.subject, found.size_bytes) == (
        "nodes/gone",
        sum(one.size_bytes for one in objects),
    )
    assert found.newest_at == ManualClock().now() + timedelta(seconds=120)


def test_only_rows_of_what_is_not_declared_are_removed(lake: ParquetLake) -> None:
    """A region that was declared again meanwhile keeps its rows, whatever was approved."""
    rows = LakePartitions(lake, ["eu"])
    (orphan,) = rows.orphans()
    for subject in ("nodes/eu", "all/all", "nodes", "nodes/"):
        with pytest.raises(InvalidInputError, match="not declared"):
            rows.remove(orphan._replace(subject=subject))
    with pytest.raises(InvalidInputError, match="not declared"):
        LakePartitions(lake, ["eu", "gone"]).remove(orphan)
    assert rows.remove(orphan) == orphan.size_bytes
    assert rows.remove(orphan) == 0
    assert lake.objects("nodes", "eu")
    assert lake.objects("all", "all")


def test_rows_that_were_written_since_they_were_looked_at_stay(lake: ParquetLake) -> None:
    """Somebody goes on writing them: all of them stay."""
    rows = LakePartitions(lake, ["eu"])
    (orphan,) = rows.orphans()
    lake.write("nodes", "gone", pa.table({"n": [3]}), orphan.newest_at + timedelta(seconds=1))
    with pytest.raises(VersionConflictError, match="has been written"):
        rows.remove(orphan)
    assert len(lake.objects("nodes", "gone")) == 3


def test_a_removal_that_is_cut_off_is_finished_by_the_next_call(lake: ParquetLake) -> None:
    """One object is gone, one is left: a crash between two deletions."""
    lake.remove(lake.objects("nodes", "gone")[:1])
    rows = LakePartitions(lake, ["eu"])
    (orphan,) = rows.orphans()
    assert rows.remove(orphan) == orphan.size_bytes
    assert lake.objects("nodes", "gone") == []
