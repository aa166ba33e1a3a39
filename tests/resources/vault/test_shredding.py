"""A shredded network opens nowhere, its note says who did it, and other networks are untouched."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StateroomError,
    StoreUnavailableError,
)
from fleet.ports.object_store import ObjectStore
from fleet.vault_shred import ShredNote, decode_shred_note, encode_shred_note
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.journal.journal import append_segment
from resources.vault.keys.key_store import create_data_key, load_data_key
from resources.vault.keys.shredding import ShredResult, read_shred_note, shred_network
from resources.vault.network import NetworkVault
from resources.vault.replicas.replicate import replicate
from resources.vault.retention.key_rotation import key_status, rotate_data_key, rotate_kek
from resources.vault.snapshots.backup import back_up
from tests.fakes.crashing_store import Crashed, CrashingStore, count_operations
from tests.fakes.faulty_store import FaultyStore
from tests.fakes.vault_fleet import AT
from tests.resources.vault.test_key_rotation import BOTH, NEXT, REGION, KeyedFleet

WHEN = AT + timedelta(days=3)


def order(stores: dict[str, ObjectStore], network_id: str = "net") -> ShredResult:
    """The order, as an operator gives it."""
    return shred_network(
        stores, network_id, confirm=network_id, by="ada", reason="contract ended", at=WHEN
    )


class Regions:
    """Two regions with a network of two data keys and a neighbour whose name begins alike."""

    def __init__(self, root: Path) -> None:
        """Back both up in `eu`, and copy them to `us`."""
        self.stores: dict[str, ObjectStore] = {
            region: DirectoryObjectStore(root / region) for region in ("eu", "us")
        }
        self.fleets = [KeyedFleet(2, "net"), KeyedFleet(2, "net.0001")]
        for fleet in self.fleets:
            home = fleet.prepare(self.stores["eu"])
            vault = fleet.open(home)
            rotate_data_key(vault, BOTH)
            fleet.snapshot_id = back_up(vault, fleet.store).snapshot_id  # type: ignore[attr-defined]
            replicate(vault, NetworkVault(self.stores["us"], vault.keys, fleet.clock))
        self.net, self.neighbour = self.fleets

    def demand_shut(self, region: str) -> None:
        """Nothing opens the network in a region."""
        for keks in ([REGION], BOTH):
            with pytest.raises(PermanentError, match=r"shredded on 2026-11-23 14:00 UTC by ada"):
                self.net.open(self.stores[region], keks)
        assert not self.stores[region].list_objects("keys/net.0001/")
        assert not self.stores[region].list_objects("keys/net.0002/")

    def demand_neighbour(self) -> None:
        """The other network restores everywhere."""
        for store in self.stores.values():
            vault = self.neighbour.open(store, [REGION])
            held = self.neighbour.held(vault, self.neighbour.snapshot_id)  # type: ignore[attr-defined]
            assert held == self.neighbour.bodies()


@pytest.fixture
def regions(tmp_path: Path) -> Regions:
    """Two regions."""
    return Regions(tmp_path)


def test_a_shredded_network_opens_in_no_region_and_others_do(regions: Regions) -> None:
    """The error says who and when; the id cannot be taken again; repeating changes nothing."""
    result = order(regions.stores)
    assert result.remaining == ()
    assert [one.wraps_deleted for one in result.regions] == [4, 4]
    assert result.note.dek_ids == ("net.0001", "net.0002")
    assert "Take the network out of the settings" in result.advice[0]
    assert "Schedule the deletion" in result.advice[1]
    for region, store in regions.stores.items():
        regions.demand_shut(region)
        assert read_shred_note(store, "net") == result.note
        for verb in (
            lambda store=store: create_data_key(store, "net", BOTH),
            lambda store=store: rotate_kek(store, "net", BOTH, add=[NEXT]),
            lambda store=store: key_status(store, "net"),
        ):
            with pytest.raises(PermanentError, match="shredded"):
                verb()
    regions.demand_neighbour()
    again = shred_network(
        regions.stores, "net", confirm="net", by="eve", reason="x", at=WHEN + timedelta(1)
    )
    assert again.note == result.note
    assert [one.wraps_deleted for one in again.regions] == [0, 0]


@pytest.mark.parametrize(
    ("confirm", "by", "reason"),
    [("nett", "ada", "x"), ("", "ada", "x"), ("net", " ", "x"), ("net", "ada", "")],
)
def test_an_unconfirmed_order_touches_nothing(
    regions: Regions, confirm: str, by: str, reason: str
) -> None:
    """The network's id must be given twice, with author and reason."""
    with pytest.raises(InvalidInputError, match="not valid"):
        shred_network(regions.stores, "net", confirm=confirm, by=by, reason=reason, at=WHEN)
    with pytest.raises(NotFoundError, match="no data key in eu, us"):
        order(regions.stores, "nobody")
    assert all(load_data_key(one, "net", [REGION]) for one in regions.stores.values())
    assert not any(one.list_objects("shred/") for one in regions.stores.values())


def test_a_region_out_of_reach_remains_to_be_done(regions: Regions) -> None:
    """It is named; the next run completes it under the date and author of the first."""
    dead = FaultyStore(regions.stores["us"], 1, 1.0)
    result = order({"eu": regions.stores["eu"], "us": dead})
    assert result.remaining == ("us",)
    assert "injected" in result.regions[1].problem
    regions.demand_shut("eu")
    assert load_data_key(regions.stores["us"], "net", [REGION])
    with pytest.raises(StoreUnavailableError, match="no region can be asked"):
        order({"us": dead})
    late = shred_network(
        regions.stores, "net", confirm="net", by="bob", reason="y", at=WHEN + timedelta(days=9)
    )
    assert late.remaining == ()
    assert (late.note.by, late.note.shredded_at) == ("ada", WHEN)
    regions.demand_shut("us")
    regions.demand_neighbour()


@pytest.mark.parametrize("mode", ["before", "lost"])
def test_killed_at_any_step_shredding_is_completed(tmp_path: Path, mode: str) -> None:
    """Whatever remains in between, the same order ends with nothing that opens."""
    total = count_operations(Regions(tmp_path / "count").stores["us"], lambda us: order({"us": us}))
    assert total >= 8
    for number in range(1, total + 1):
        regions = Regions(tmp_path / str(number))
        failing = CrashingStore(regions.stores["us"], number, mode)
        try:
            result = order({"eu": regions.stores["eu"], "us": failing})
        except Crashed:
            assert mode == "before"
        else:
            assert result.remaining in {(), ("us",)}
        assert order(regions.stores).remaining == ()
        regions.demand_shut("eu")
        regions.demand_shut("us")
        regions.demand_neighbour()


def test_what_was_open_when_a_network_was_shredded_cannot_go_on(regions: Regions) -> None:
    """A backup reports no success, a replication brings no wraps back, no segment is written."""
    vault = regions.net.open(regions.stores["eu"])
    order({"us": regions.stores["us"]})
    with pytest.raises(PermanentError, match="shredded"):
        replicate(vault, NetworkVault(regions.stores["us"], vault.keys, vault.clock))
    assert not regions.stores["us"].list_objects("keys/net.0001/")
    order(regions.stores)
    regions.net.change("agent-0001")
    for attempt in (
        lambda: back_up(vault, regions.net.store),
        lambda: rotate_data_key(vault, BOTH),
        lambda: replicate(vault, NetworkVault(regions.stores["us"], vault.keys, vault.clock)),
        lambda: append_segment(vault, regions.net.store),
    ):
        with pytest.raises(StateroomError, match="shredded"):
            attempt()
    regions.demand_shut("eu")


@given(st.text(min_size=1), st.text(min_size=1), st.lists(st.text()))
def test_a_note_reads_back_and_damage_is_refused(by: str, reason: str, dek_ids: list[str]) -> None:
    """Any text; cut anywhere it is no note, and the network stays shut."""
    note = ShredNote("net", WHEN, by, reason, tuple(dek_ids))
    data = encode_shred_note(note)
    assert decode_shred_note(data, "k") == note
    cut = random.Random(by).randrange(len(data))
    for damaged in (data[:cut], data.replace(b'"format":1', b'"format":2'), b"[]", b"\xff"):
        with pytest.raises(CorruptObjectError, match="shred note k"):
            decode_shred_note(damaged, "k")
