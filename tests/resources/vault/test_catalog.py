"""The catalogue is a cache: drop it, build it again, and it is the same."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.backup_evidence import VerificationEvidence
from fleet.retention import RetentionPolicy
from fleet.snapshot_fitness import GuardPolicy
from fleet.vault_keyspace import VAULT_KEY
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.network import chain_of
from resources.vault.packs.manifest import manifest_schema
from resources.vault.retention.removal import collect_garbage, forget, hold, undelete
from resources.vault.retention.retention_plan import plan_vault
from resources.vault.snapshots.backup import back_up
from resources.vault.snapshots.catalog import (
    catalogue_items,
    catalogue_snapshots,
    item_schema,
    snapshot_schema,
)
from resources.vault.snapshots.catalog_runs import (
    Items,
    Runs,
    extend_runs,
    no_runs,
    shrink_runs,
    sort_runs,
)
from resources.vault.verification.evidence import record_evidence
from tests.fakes.crashing_store import CrashingStore
from tests.fakes.vault_fleet import VaultFleet

Holding = dict[str, tuple[int, int]]
"""What a snapshot holds: version and content of each item."""
Row = tuple[str, int, int, int, int]
"""Item, version, content, first and last snapshot."""

holdings = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(st.integers(1, 2), st.integers(0, 1)), max_size=4
)


def items_from(holding: Holding) -> Items:
    """As a manifest gives them."""
    names = sorted(holding)
    digest = np.array([[holding[one][1]] * 4 for one in names], np.uint64).reshape(-1, 4)
    version = np.array([holding[one][0] for one in names], np.int64)
    return Items(pa.array(names, pa.string()), version, digest, version * 10)


def rows_of(runs: Runs) -> list[Row]:
    """Sorted runs as plain rows."""
    runs = sort_runs(runs)
    columns = (runs.items.version, runs.items.digest[:, 0], runs.first, runs.last)
    return list(
        zip(runs.items.names.to_pylist(), *(column.tolist() for column in columns), strict=True)
    )


def twin(history: list[Holding]) -> list[Row]:
    """The runs, item by item and snapshot by snapshot."""
    found: list[Row] = []
    for item in sorted({one for holding in history for one in holding}):
        run: Row | None = None
        for number, holding in enumerate(history):
            held = holding.get(item)
            if run and held == run[1:3] and run[4] == number - 1:
                run = (*run[:4], number)
                found[-1] = run
            elif held:
                run = (item, *held, number, number)
                found.append(run)
    return found


@settings(deadline=None)
@given(st.lists(holdings, max_size=8), st.integers(0, 8))
def test_runs_are_those_of_a_plain_twin_however_they_are_built(
    history: list[Holding], cut: int
) -> None:
    """At once, or in two parts."""
    snapshots = [items_from(one) for one in history]
    whole = extend_runs(no_runs(), snapshots, 0)
    assert rows_of(whole) == twin(history)
    cut = min(cut, len(snapshots))
    parts = extend_runs(extend_runs(no_runs(), snapshots[:cut], 0), snapshots[cut:], cut)
    assert rows_of(parts) == rows_of(whole)


@settings(deadline=None)
@given(st.lists(st.tuples(holdings, st.booleans()), min_size=1, max_size=8))
def test_taking_snapshots_away_equals_never_having_seen_them(
    history: list[tuple[Holding, bool]],
) -> None:
    """Runs end earlier, vanish, or join when what lay between them is gone."""
    runs = extend_runs(no_runs(), [items_from(one) for one, _ in history], 0)
    kept = np.array([keep for _, keep in history])
    assert rows_of(shrink_runs(runs, kept)) == twin([one for one, keep in history if keep])


class Vault:
    """A vault with five agents, in a folder."""

    def __init__(self, root: Path) -> None:
        """Nothing is backed up yet."""
        self.fleet = VaultFleet(5)
        self.store = DirectoryObjectStore(root)
        self.store.create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
        self.ids: list[str] = []

    def back_up(self, *changed: str) -> str:
        """A minute later."""
        self.fleet.clock.advance(60)
        self.fleet.change(*changed)
        result = back_up(self.fleet.vault(self.store), self.fleet.store, workers=1)
        self.ids.append(result.snapshot_id)
        return result.snapshot_id

    def items(self, previous: Any = None) -> Any:
        """The table of items, by a fresh process."""
        return catalogue_items(self.fleet.vault(self.store), previous)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """Empty."""
    return Vault(tmp_path / "vault")


def test_an_interval_says_which_snapshots_hold_a_version(vault: Vault) -> None:
    """One row for a version however many snapshots hold it."""
    first, second, third = vault.back_up(), vault.back_up("agent-0001"), vault.back_up()
    table = vault.items()
    assert table.schema.remove_metadata() == item_schema()
    rows = [one for one in table.to_pylist() if one["item_id"] == "agent-0001"]
    assert [(r["version"], r["first_snapshot_id"], r["last_snapshot_id"]) for r in rows] == [
        (1, first, first),
        (2, second, third),
    ]
    assert [one["snapshots"] for one in rows] == [1, 2]
    live = vault.fleet.vault(vault.store).log.refresh().live
    assert rows[1]["first_taken_at"] == live[second].taken_at
    assert rows[1]["last_taken_at"] == live[third].taken_at
    state = vault.fleet.store.state("agent-0001")
    assert state is not None
    assert (rows[1]["digest"].hex(), rows[1]["size_bytes"]) == (state.digest, len(state.body))
    assert table.num_rows == 6


@pytest.mark.parametrize("seed", range(8))
def test_the_catalogue_kept_up_to_date_equals_the_one_built_anew(vault: Vault, seed: int) -> None:
    """Through changes, losses, forgets, undeletes and gc, whenever it is brought up to date."""
    chance = random.Random(seed)
    table = None
    vault.back_up()
    for _ in range(14):
        act = chance.choice(["back_up", "back_up", "forget", "undelete", "drop", "gc"])
        handle = vault.fleet.vault(vault.store)
        state = handle.log.refresh()
        if act == "back_up":
            vault.back_up(*chance.sample(sorted(vault.fleet.bodies()), 2))
        elif act == "drop" and len(vault.fleet.bodies()) > 3:
            vault.fleet.drop(chance.choice(sorted(vault.fleet.bodies())))
            vault.back_up()
        elif act == "forget" and len(state.live) > 2:
            forget(handle, chance.sample(list(state.live), 2))
        elif act == "undelete" and state.forgotten:
            one = chance.choice(list(state.forgotten))
            if not state.forgotten[one].packs & state.condemned:
                undelete(handle, one)
        elif act == "gc":
            collect_garbage(handle, timedelta(0))
        if chance.random() < 0.6:
            table = vault.items(table)
            assert table.equals(vault.items(), check_metadata=True)
    assert vault.items(table).equals(vault.items(), check_metadata=True)


def test_bringing_it_up_to_date_reads_no_manifest_twice(vault: Vault) -> None:
    """Nothing new: the log only. A forget: no manifest. One snapshot: its chain."""
    for _ in range(4):
        vault.back_up("agent-0002")
    table = vault.items()

    def manifests_read(previous: Any) -> int:
        keys: list[str] = []

        class Noting(CrashingStore):
            def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
                keys.append(key)
                return super().get(key, offset, length)

        catalogue_items(vault.fleet.vault(Noting(vault.store)), previous)
        return sum(key.startswith("manifests/") for key in keys)

    assert manifests_read(None) == 4
    assert manifests_read(table) == 0
    forget(vault.fleet.vault(vault.store), vault.ids[1:3])
    assert manifests_read(table) == 0
    vault.back_up("agent-0003")
    assert manifests_read(table) == 1


def test_a_table_of_another_network_or_without_its_metadata_is_not_built_upon(
    vault: Vault,
) -> None:
    """It is built anew."""
    vault.back_up()
    whole = vault.items()
    bare = whole.slice(0, 2).replace_schema_metadata()
    assert vault.items(bare).equals(whole)
    foreign = whole.replace_schema_metadata(
        {b"stateroom": b'{"network_id":"other","snapshots":[]}'}
    )
    assert vault.items(foreign.slice(0, 1)).equals(whole)


def test_an_empty_vault_has_an_empty_catalogue(vault: Vault) -> None:
    """With its columns."""
    assert vault.items().num_rows == 0
    snapshots = catalogue_snapshots(vault.fleet.vault(vault.store), "eu")
    assert (snapshots.num_rows, snapshots.schema) == (0, snapshot_schema())


def test_chunks_of_one_item_are_one_row(vault: Vault) -> None:
    """A file of three chunks, its size added up, beside a whole one."""
    from resources.vault.snapshots.catalog_runs import items_of

    rows = [("file", "a/big", n, 100 + n) for n in range(3)] + [("file", "a/small", 0, 7)]
    schema = manifest_schema()
    zero = {one.name: 0 for one in schema}
    filled = {"blob_id": bytes(32), "pack": "p", "digest": b"\1" * 32, "removed": False}
    filled |= {"updated_at": None, "attributes": None}
    table = pa.Table.from_pylist(
        [
            {**zero, **filled, "kind": k, "item_id": i, "chunk": c, "plain_length": length}
            for k, i, c, length in rows
        ],
        schema=schema,
    )
    items = items_of(table)
    assert items.names.to_pylist() == ["file\0a/big", "file\0a/small"]
    assert items.size_bytes.tolist() == [303, 7]
    assert len(items.version) == len(items.digest) == 2


def test_the_table_of_snapshots_says_what_became_of_each(vault: Vault) -> None:
    """State, manifest, verification, hold and fate, from log, evidence and plan."""
    first, second = vault.back_up(), vault.back_up()
    third, fourth = vault.back_up("agent-0001"), vault.back_up("agent-0001")
    handle = vault.fleet.vault(vault.store)
    forget(handle, [third])
    collect_garbage(handle, timedelta(0))
    forget(handle, [second])
    hold(handle, [first], "legal")
    now = vault.fleet.clock.now()
    done = VerificationEvidence("net", "eu", "V3", fourth, now, 0.1, 5, 9, (), "test")
    record_evidence(handle, "eu", done)
    policy = RetentionPolicy(last=1, hourly=0, daily=0, weekly=0, monthly=0, yearly=0)
    decided = plan_vault(handle, "eu", policy, GuardPolicy(), now=now)
    table = catalogue_snapshots(handle, "eu", decided)
    assert table.schema == snapshot_schema()
    rows = {one["snapshot_id"]: one for one in table.to_pylist()}
    assert list(rows) == [first, second, third, fourth]
    assert [one["state"] for one in rows.values()] == ["live", "forgotten", "condemned", "live"]
    assert [one["manifest"] for one in rows.values()] == ["full", "same", "full", "full"]
    assert [one["packs"] for one in rows.values()] == [1, 1, 2, 2]
    assert [one["changed"] for one in rows.values()] == [5, 0, 1, 1]
    assert [one["fate"] for one in rows.values()] == ["held", None, None, "keep"]
    assert rows[first]["hold"] == "legal"
    assert rows[first]["verified_level"] is None
    assert (rows[fourth]["verified_level"], rows[fourth]["verified_at"]) == ("V3", now)
    assert rows[fourth]["reason"].startswith("keep: number 1 by age (last 1 of 1)")
    stored = handle.snapshot(fourth)
    assert rows[fourth]["bytes_stored"] == stored.extra["bytes_stored"]
    assert len(chain_of(stored)) == 1
