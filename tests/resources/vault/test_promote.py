"""Another region takes over writing: one winner, no record lost, the old writer stops."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import (
    CorruptObjectError,
    FencedError,
    InvalidInputError,
    PermanentError,
    StoreUnavailableError,
)
from fleet.pack_keys import derive_key
from fleet.ports.object_store import ObjectStore
from fleet.vault_epochs import (
    Claim,
    Promotion,
    Slot,
    decide_claims,
    decode_claim,
    decode_promotion,
    encode_claim,
    select_chain,
)
from fleet.vault_keyspace import VAULT_KEY, claim_key
from fleet.vault_log import EvidenceRecord
from resources.vault.network import NetworkVault
from resources.vault.replicas.promote import branch_of, promote
from resources.vault.replicas.replicate import replicate
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_bytes, verify_content, verify_structure
from tests.fakes.crashing_store import CRASHES, Crashed, CrashingStore, count_operations
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import KEYS, VaultFleet
from tests.resources.vault.test_repack import NOW

REGIONS = ("ams", "fra", "nyc")
claimants = st.none() | st.sampled_from(["", *REGIONS])


class Regions:
    """A fleet whose vaults lie in several regions; `ams` is the home."""

    def __init__(self, names: Iterable[str] = REGIONS) -> None:
        """Two snapshots at home, replicated to all."""
        self.fleet = VaultFleet(4)
        self.stores = {name: InMemoryObjectStore() for name in names}
        self.stores["ams"].create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
        self.bodies: dict[str, dict[str, bytes]] = {}
        for _ in range(2):
            self.back_up("ams")
        for name in list(self.stores)[1:]:
            replicate(self.vault("ams"), self.vault(name))

    def vault(self, region: str, store: ObjectStore | None = None) -> NetworkVault:
        """As a fresh process of the region opens it."""
        return NetworkVault(store or self.stores[region], KEYS, self.fleet.clock, region=region)

    def back_up(self, region: str, vault: NetworkVault | None = None) -> str:
        """Change two agents and back up."""
        self.fleet.clock.advance(60)
        self.fleet.change("agent-0001", "agent-0002")
        result = back_up(vault or self.vault(region), self.fleet.store, workers=1)
        self.bodies[result.snapshot_id] = self.fleet.bodies()
        return result.snapshot_id

    def check(self, region: str) -> None:
        """Every live snapshot of a region restores byte for byte."""
        vault = self.vault(region)
        live = list(vault.log.refresh().live)
        assert live
        for snapshot_id in live:
            restored = self.fleet.restored(self.stores[region], snapshot_id)
            assert restored == self.bodies[snapshot_id]
        assert verify_structure(vault).findings == ()
        assert verify_content(vault, live).findings == ()


class Gone(CrashingStore):
    """A region that does not answer."""

    def _run(self, name, work):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        raise StoreUnavailableError(f"{name}: no route to the region")


class Closed(CrashingStore):
    """A region whose bucket is gone."""

    def _run(self, name, work):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        raise PermanentError(f"{name}: NoSuchBucket")


@given(st.lists(claimants, min_size=1, max_size=7), st.booleans())
def test_two_regions_never_both_win_an_epoch_by_votes(
    claims: list[str | None], operator: bool
) -> None:
    """Whatever stands in the vaults; and an operator's word wins only where nobody else claims."""
    names = [f"r{number}" for number in range(len(claims))]
    held = dict(zip(names, claims, strict=True))
    verdicts = {
        mine: decide_claims(held, names, mine, operator_decides=operator) for mine in REGIONS
    }
    winners = [one for one, verdict in verdicts.items() if verdict.action == "won"]
    assert len(winners) <= 1
    for mine, verdict in verdicts.items():
        assert verdict.reason
        if verdict.action == "won":
            by_votes = 2 * len(verdict.votes) > len(names)
            assert by_votes != verdict.operator
            assert by_votes or not {one for one in claims if one not in {None, mine}}
        if verdict.action == "lost":
            assert max(claims.count(one) for one in REGIONS if one != mine) * 2 > len(names)


@given(st.lists(claimants, min_size=1, max_size=6), st.data())
def test_a_verdict_stands_however_silent_regions_answer_later(
    claims: list[str | None], data: st.DataObject
) -> None:
    """Won, lost and tie are final: an answer that was missing cannot turn them."""
    names = [f"r{number}" for number in range(len(claims))]
    before = decide_claims(
        dict(zip(names, claims, strict=True)), names, "ams", operator_decides=False
    )
    later = [data.draw(claimants) if one is None else one for one in claims]
    after = decide_claims(
        dict(zip(names, later, strict=True)), names, "ams", operator_decides=False
    )
    if before.action != "undecided":
        assert after.action == before.action


def test_a_claim_comes_back_and_a_forged_or_foreign_one_claims_for_nobody() -> None:
    """Whoever can write to a bucket cannot vote there."""
    claim = Claim("fra", 0, 7)
    data = encode_claim(claim, "net", 1, b"k" * 32)
    assert decode_claim(data, "net", 1, b"k" * 32) == claim
    nobody = Claim("", 0, 0)
    assert decode_claim(data, "net", 2, b"k" * 32) == nobody
    assert decode_claim(data, "net-2", 1, b"k" * 32) == nobody
    assert decode_claim(data, "net", 1, b"w" * 32) == nobody
    for place in range(len(data)):
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert decode_claim(flipped, "net", 1, b"k" * 32) in {nobody, claim}
    for garbage in (b"", b"{}", b"[]", b"null", b"[" * 9999, b"\xff"):
        assert decode_claim(garbage, "net", 1, b"k" * 32) == nobody


@pytest.mark.parametrize("detail", ["", "[]", "{}", '{"votes":1}', '{"votes":[],"x":1}'])
def test_a_promotion_that_cannot_be_read_is_named(detail: str) -> None:
    """Another record is no promotion; one that calls itself so must be one."""
    assert decode_promotion(EvidenceRecord("note", detail)) is None
    with pytest.raises(CorruptObjectError, match="promotion record"):
        decode_promotion(EvidenceRecord("promote", detail))


def test_the_chain_follows_the_forks_and_leaves_the_rest_aside() -> None:
    """Also when an epoch was superseded by a region that never saw it."""
    epochs = {0: range(1, 9), 1: range(6, 10), 2: range(8, 11)}
    slots = [Slot(epoch, seq) for epoch, seqs in epochs.items() for seq in seqs]
    unaware = select_chain(slots, {1: Slot(0, 5), 2: Slot(0, 7)})
    assert [tuple(one) for one in unaware] == [
        *((0, seq) for seq in range(1, 8)),
        *((2, seq) for seq in range(8, 11)),
    ]
    aware = select_chain(slots, {1: Slot(0, 5), 2: Slot(1, 7)})
    assert [tuple(one) for one in aware] == [
        *((0, seq) for seq in range(1, 6)),
        (1, 6),
        (1, 7),
        *((2, seq) for seq in range(8, 11)),
    ]
    assert select_chain([], {}) == ()


def test_a_promoted_region_goes_on_where_its_copy_ends() -> None:
    """Numbers and hashes continue; what the old home wrote since is its branch, whole."""
    world = Regions()
    stray = world.back_up("ams")
    promotion = promote(world.vault("fra"), world.stores)
    assert (promotion.epoch, promotion.region, promotion.from_seq) == (1, "fra", 2)
    assert (promotion.votes, promotion.operator) == (REGIONS, False)
    taken = world.back_up("fra")
    records = world.vault("fra")
    records.log.refresh()
    places = [(one.position.epoch, one.position.seq) for one in records.log.records]
    assert places == [(0, 1), (0, 2), (1, 3), (1, 4)]
    replicate(world.vault("fra"), world.vault("ams"))
    assert world.vault("ams").log.refresh() == world.vault("fra").log.refresh()
    (branch,) = branch_of(world.vault("ams"))
    assert [one.snapshot_id for one in branch.snapshots] == [stray]
    assert (branch.epoch, branch.first_seq) == (0, 3)
    assert branch_of(world.vault("fra")) == []
    for region in ("ams", "fra"):
        world.check(region)
    assert taken in world.vault("ams").log.refresh().live


def test_the_old_home_is_told_to_stop_and_nothing_it_wrote_is_lost() -> None:
    """Its running writer at the next backup, a new one as well, its replication at once."""
    world = Regions()
    running = world.vault("ams")
    stray = world.back_up("ams", running)
    promote(world.vault("fra"), world.stores)
    with pytest.raises(FencedError, match="epoch 1, written by region fra"):
        replicate(world.vault("ams"), world.vault("fra"))
    later = world.back_up("ams", running)
    replicate(world.vault("fra"), world.vault("ams"))
    for writer in (running, world.vault("ams")):
        with pytest.raises(FencedError, match="region fra writes since epoch 1"):
            world.back_up("ams", writer)
        with pytest.raises(FencedError):
            forget(writer, [next(iter(world.bodies))])
    (branch,) = branch_of(world.vault("ams"))
    assert [one.snapshot_id for one in branch.snapshots] == [stray, later]
    # Deletions of the new chain pass the branch by: each of its objects is still there.
    forget(world.vault("fra"), list(world.bodies)[:1])
    world.back_up("fra")
    collect_garbage(world.vault("fra"), NOW)
    sweep(world.vault("fra"), NOW)
    replicate(world.vault("fra"), world.vault("ams"))
    promote(world.vault("ams"), world.stores)
    collect_garbage(world.vault("ams"), NOW)
    sweep(world.vault("ams"), NOW)
    there = {key.split("/")[-1].split(".")[0] for key in world.stores["ams"].objects}
    assert all(one.packs <= there for one in branch.snapshots)


def test_of_two_regions_one_alone_needs_an_operators_word() -> None:
    """And even an operator does not overrule a claim that is seen."""
    world = Regions(("ams", "fra"))
    stores: dict[str, ObjectStore] = {**world.stores, "ams": Gone(world.stores["ams"])}
    with pytest.raises(StoreUnavailableError, match="1 of 2 regions, 2 are needed"):
        promote(world.vault("fra"), stores)
    stores["ams"] = Closed(world.stores["ams"])
    promotion = promote(world.vault("fra"), stores, operator_decides=True)
    assert (promotion.operator, promotion.votes) == (True, ("fra",))
    assert promote(world.vault("fra"), stores) == promotion
    world.back_up("fra")
    world.check("fra")
    with pytest.raises(InvalidInputError, match="region"):
        promote(world.vault("nyc", world.stores["fra"]), stores)


def test_a_winner_that_is_gone_is_superseded_and_its_tail_is_a_branch() -> None:
    """The region that takes over never saw the epoch of the one that was lost."""
    world = Regions()
    promote(world.vault("fra"), world.stores)
    lost = world.back_up("fra")
    with pytest.raises(FencedError, match="fra holds 3 of 3"):
        promote(world.vault("nyc"), world.stores)
    promotion = promote(world.vault("nyc"), world.stores, supersede=1)
    assert (promotion.epoch, promotion.from_epoch, promotion.from_seq) == (2, 0, 2)
    world.back_up("nyc")
    replicate(world.vault("nyc"), world.vault("fra"))
    (branch,) = branch_of(world.vault("fra"))
    assert [one.snapshot_id for one in branch.snapshots] == [lost]
    world.check("fra")
    with pytest.raises(FencedError, match="region nyc writes since epoch 2"):
        world.back_up("fra")


@pytest.mark.parametrize("seed", range(40))
def test_of_regions_that_claim_at_once_at_most_one_writes_each_epoch(seed: int) -> None:
    """Split brain: claims interleave region by region; some regions do not answer some of them."""
    chance = random.Random(seed)
    world = Regions(("ams", "fra", "nyc", "sin")[: chance.choice([2, 3, 4])])
    names = list(world.stores)
    outcomes: dict[str, Promotion | Exception] = {}
    # A rival's claims arrive first in a random part of the regions, as when both run at once.
    rival, mine = chance.sample(names, 2)
    first = [one for one in names if chance.random() < 0.5]
    log_key = derive_key(KEYS.data_key, b"", b"stateroom claim")
    for region in first:
        data = encode_claim(Claim(rival, 0, 2), "net", 1, log_key)
        world.stores[region].create(claim_key("net", 1), data)
    for region in (mine, rival):
        deaf = {one: Gone(world.stores[one]) for one in names if chance.random() < 0.2}
        deaf.pop(region, None)
        try:
            outcomes[region] = promote(world.vault(region), {**world.stores, **deaf})
        except (FencedError, StoreUnavailableError) as error:
            outcomes[region] = error
    won = [one for one in outcomes.values() if isinstance(one, Promotion)]
    assert len({one.epoch for one in won}) == len(won)
    for region in (mine, rival):
        if not isinstance(outcomes[region], Exception):
            world.back_up(region)
            world.check(region)
    # When all copy from the region of the highest epoch, all agree, and no record is gone.
    if won:
        newest = max(won)
        everything = {
            key: data
            for store in world.stores.values()
            for key, data in store.objects.items()
            if key.startswith("log/")
        }
        for region in names:
            if region != newest.region:
                replicate(world.vault(newest.region), world.vault(region))
                world.check(region)
                kept = {k: v for k, v in everything.items() if k in world.stores[region].objects}
                assert kept.items() <= world.stores[region].objects.items()


@pytest.mark.parametrize("mode", CRASHES)
@pytest.mark.parametrize("region", REGIONS[:2])
def test_a_promotion_killed_at_any_operation_goes_on(mode: str, region: str) -> None:
    """In its own vault or in another region's: run again, it is promoted exactly once."""
    world = Regions()

    def run(stores: dict[str, InMemoryObjectStore], failing: CrashingStore) -> None:
        handles: dict[str, ObjectStore] = {**stores, region: failing}
        promote(world.vault("fra", handles["fra"]), handles)

    def copies() -> dict[str, InMemoryObjectStore]:
        return {name: store.copy() for name, store in world.stores.items()}

    total = count_operations(world.stores[region].copy(), lambda one: run(copies(), one))
    assert total >= 1
    for number in range(1, total + 1):
        stores = copies()
        with contextlib.suppress(Crashed, StoreUnavailableError):
            run(stores, CrashingStore(stores[region], number, mode))
        promotion = promote(world.vault("fra", stores["fra"]), stores)
        assert promotion.region == "fra"
        log = world.vault("fra", stores["fra"]).log
        log.refresh()
        assert [one.position.epoch for one in log.records] == [0, 0, promotion.epoch]


@pytest.mark.parametrize("seed", range(30))
def test_the_home_dies_during_replication_and_a_replica_takes_over(seed: int) -> None:
    """At any operation: the replica restores its latest good, writes on, and the home rejoins."""
    chance = random.Random(seed)
    world = Regions(("ams", "fra"))
    for _ in range(chance.randrange(1, 4)):
        world.back_up("ams")
    if chance.random() < 0.5:
        forget(world.vault("ams"), list(world.vault("ams").log.refresh().live)[:1])
        collect_garbage(world.vault("ams"), NOW)
    total = count_operations(
        world.stores["ams"].copy(),
        lambda one: replicate(world.vault("ams", one), world.vault("fra", InMemoryObjectStore())),
    )
    dying = CrashingStore(world.stores["ams"], chance.randrange(1, total + 1), "before")
    with contextlib.suppress(Crashed):
        replicate(world.vault("ams", dying), world.vault("fra"))
    world.check("fra")
    latest = list(world.vault("fra").log.refresh().live)[-1]
    dead: dict[str, ObjectStore] = {**world.stores, "ams": Gone(world.stores["ams"])}
    promote(world.vault("fra"), dead, operator_decides=True)
    restored = world.fleet.restored(world.stores["fra"], latest)
    assert restored == world.bodies[latest]
    world.back_up("fra")
    had = set(world.vault("ams").log.refresh().committed)
    replicate(world.vault("fra"), world.vault("ams"))
    world.check("ams")
    kept = {one.snapshot_id for b in branch_of(world.vault("ams")) for one in b.snapshots}
    assert had <= kept | world.vault("ams").log.refresh().committed
    assert verify_bytes(world.vault("ams")).findings == ()


@pytest.mark.usefixtures("shipped_spacing")
def test_a_promotion_record_that_is_gone_or_damaged_stops_readers() -> None:
    """Rather than showing the old epoch's end as if nothing had happened."""
    world = Regions()
    promote(world.vault("fra"), world.stores)
    world.back_up("fra")
    store = world.stores["fra"]
    key = "log/net/0001/0000000003.json"
    content = store.objects.pop(key)
    with pytest.raises(CorruptObjectError, match="is no promotion"):
        world.vault("fra").log.refresh()
    for damaged in (content[:-9], content.replace(b"fra", b"nyc"), b"", b"{}", b"[]"):
        store.objects[key] = damaged
        with pytest.raises(CorruptObjectError):
            world.vault("fra").log.refresh()
    store.objects[key] = content
    world.check("fra")


def test_epochs_are_read_alike_in_one_go_and_in_steps() -> None:
    """A reader that was there from the beginning sees what a new one sees, at every moment."""
    world = Regions()
    readers = {name: world.vault(name) for name in REGIONS}
    for name in itertools.islice(itertools.cycle(["fra", "nyc", "ams"]), 6):
        promote(world.vault(name), world.stores, supersede=readers[name].log.epoch)
        world.back_up(name)
        for other in REGIONS:
            if other != name:
                replicate(world.vault(name), world.vault(other))
        for region, reader in readers.items():
            fresh = world.vault(region)
            assert reader.log.refresh() == fresh.log.refresh()
            assert reader.log.records == fresh.log.records
    world.check("ams")
