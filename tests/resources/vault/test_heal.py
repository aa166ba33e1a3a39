"""Damage of any kind to any object is named, healed from another region, never returned as data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from fleet.backup_evidence import TaintEvidence, tainted_snapshots
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StateroomError,
    StoreUnavailableError,
)
from fleet.ports.key_wrapper import WrappedKey
from fleet.ports.object_store import ObjectStore
from fleet.vault_keys import KeyEncryptionKey, decode_wrap, encode_wrap, wrap_key
from fleet.vault_keyspace import VAULT_KEY, wrap_key_prefix
from fleet.vault_log import EvidenceRecord, SnapshotRecord
from resources.vault.keys.shredding import shred_network
from resources.vault.replicas.heal import HealResult, heal
from resources.vault.replicas.heal_log import compare_heads
from resources.vault.replicas.promote import promote
from resources.vault.replicas.replicate import replicate
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.retention.repack import repack
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.evidence import read_evidence, read_local, record_evidence
from resources.vault.verification.verified import evidence_of
from resources.vault.verification.verify import (
    Verification,
    verify_bytes,
    verify_content,
    verify_structure,
)
from tests.fakes.crashing_store import Crashed, CrashingStore, count_operations
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import AT, KEYS
from tests.resources.vault.test_promote import Gone, Regions
from tests.resources.vault.test_repack import EAGER, NOW

KEKS = [KeyEncryptionKey("kek-ams", b"a" * 32), KeyEncryptionKey("recovery", b"r" * 32)]
Damage = Callable[[bytes, bytes], bytes | None]


def flip(place: Callable[[int], int]) -> Damage:
    """One bit at a place."""

    def damage(data: bytes, other: bytes) -> bytes:
        at = place(len(data))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return damage


DAMAGES: dict[str, Damage] = {
    "bit at the start": flip(lambda n: 0),
    "bit in the middle": flip(lambda n: n // 2),
    "bit at the end": flip(lambda n: n - 1),
    "bit in the trailer": flip(lambda n: max(0, n - 6)),
    "cut to nothing": lambda data, other: b"",
    "cut by one": lambda data, other: data[:-1],
    "cut in half": lambda data, other: data[: len(data) // 2],
    "one byte too long": lambda data, other: data + b"\n",
    "garbage": lambda data, other: b"\x5a" * len(data),
    "another object's content": lambda data, other: other,
    "deleted": lambda data, other: None,
}


class Estate(Regions):
    """Three regions with wraps, a repacked pack and a promoted region: every kind of object."""

    def __init__(self, *names: str) -> None:
        """`fra` writes under epoch 1; `ams` has a branch."""
        super().__init__(names or ("ams", "fra", "nyc"))
        home = self.stores["ams"]
        home.delete([VAULT_KEY])
        created = AT.isoformat()
        text = f'{{"created_at":"{created}","format":1,"vault_id":"01M7W0000000000000000000VV"}}'
        home.create(VAULT_KEY, text.encode())
        for name in names[1:] or ("fra", "nyc"):
            self.stores[name].delete([VAULT_KEY])
        for kek in KEKS:
            wrap = wrap_key(KEYS.data_key, kek, KEYS.dek_id, "net", kek.key[:12])
            home.create(f"{wrap_key_prefix(KEYS.dek_id)}{kek.kek_id}.json", encode_wrap(wrap))
        for _ in range(2):
            self.back_up("ams")
        repack(self.vault("ams"), EAGER)
        self.back_up("ams")
        self.spread("ams")
        self.back_up("ams")
        promote(self.vault("fra"), self.stores)
        self.back_up("fra")
        self.spread("fra")

    def spread(self, source: str) -> None:
        """Replicate to all other regions."""
        for name in self.stores:
            if name != source:
                replicate(self.vault(source), self.vault(name))

    def others(self, region: str) -> dict[str, ObjectStore]:
        """The stores of the other regions."""
        return {name: store for name, store in self.stores.items() if name != region}

    def heal(self, region: str, store: ObjectStore | None = None, **options: object) -> HealResult:
        """Heal a region with the keys at hand."""
        vault = self.vault(region, store)
        return heal(vault, self.others(region), home="ams", keks=KEKS, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def template() -> Estate:
    """Built once; every test works on copies."""
    return Estate()


@contextlib.contextmanager
def copied(estate: Estate) -> Iterator[Estate]:
    """The same estate with stores of its own for the time of a test."""
    kept = estate.stores
    estate.stores = {name: store.copy() for name, store in kept.items()}
    try:
        yield estate
    finally:
        estate.stores = kept


def content_of(store: InMemoryObjectStore) -> dict[str, bytes]:
    """What belongs to the vault: neither evidence nor quarantine."""
    aside = ("local/", "quarantine/", "checkpoints/local/")
    return {key: data for key, data in store.objects.items() if not key.startswith(aside)}


def objects(estate: Estate, region: str) -> list[str]:
    """Every object that more than one region has."""
    elsewhere: set[str] = set()
    for name, store in estate.stores.items():
        elsewhere |= set(store.objects) if name != region else set()
    return [key for key in content_of(estate.stores[region]) if key in elsewhere]


def test_the_estate_has_every_kind_of_object(template: Estate) -> None:
    """So that the matrix below means what it says."""
    kinds = {key.split("/")[0] for key in objects(template, "fra")}
    assert kinds == {"vault.json", "keys", "packs", "manifests", "log", "checkpoints", "claims"}
    epochs = {key.split("/")[2] for key in objects(template, "fra") if key.startswith("log/")}
    assert epochs == {"0000", "0001"}


def chosen_objects(estate: Estate, region: str) -> list[str]:
    """A few of each kind: first, last and middle ones, live and dead, of both epochs."""
    found = [VAULT_KEY, needed_pack(estate, region)]
    logs = ("log/net/0000/", "log/net/0001/", "checkpoints/")
    for prefix in ("keys/", "packs/", "manifests/", *logs):
        keys = [one for one in objects(estate, region) if one.startswith(prefix)]
        found += [keys[0], keys[len(keys) // 2], keys[-1]] if prefix[0] != "p" else keys[:1]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("region", ["fra", "nyc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_each_kind_of_object_is_named_healed_and_never_returned(
    template: Estate, damage: str, region: str
) -> None:
    """In the region that writes and in a replica; afterwards the region is byte for byte whole."""
    damage_and_heal(template, damage, region, chosen_objects(template, region))


@pytest.mark.long
@pytest.mark.parametrize("region", ["fra", "nyc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_any_damage_to_any_object_is_named_healed_and_never_returned(
    template: Estate, damage: str, region: str
) -> None:
    """As above, for every object. Claims are settled by the promotion: nobody reads them again."""
    keys = [one for one in objects(template, region) if not one.startswith("claims/")]
    damage_and_heal(template, damage, region, keys)


def damage_and_heal(template: Estate, damage: str, region: str, keys: list[str]) -> None:
    """Damage one object after the other, look at it with every level, heal it."""
    with copied(template) as estate:
        store = estate.stores[region]
        good = content_of(store)
        for key in keys:
            kind = key.split("/")[0]
            other = next(
                (good[one] for one in good if one != key and one.split("/")[0] == kind), b"{}"
            )
            changed = DAMAGES[damage](good[key], other)
            store.delete([key])
            if changed is not None:
                store.create(key, changed)
            nothing_wrong_is_returned(estate, region)
            found_by_its_level(estate, region, key, changed)
            result = estate.heal(region)
            if changed is None and key.startswith(("packs/", "manifests/")):
                name = key.split("/")[-1].partition(".")[0]
                if not any(name in one.packs for one in live_records(estate, region)):
                    # Only gc waits for it; nobody misses it.
                    assert result.healed == ()
                    store.create(key, good[key])
                    continue
            if key.startswith("checkpoints/"):
                # Written again from the records, unless longer ones hold the same; a newest one
                # that is missing is the next commit's.
                assert changed is None or key in [one.key for one in result.healed], (key, result)
                assert result.ok, result
                assert store.objects.get(key, good[key]) == good[key]
                log = estate.vault(region).log
                log.refresh()
                places = log.checkpoints.list_all().places
                assert changed is None or log.checkpoints.missing(log.records, places) == []
                store.create(key, good[key])
                assert content_of(store) == good, key
                continue
            if changed is None and key == max(good_log(good)) and not result.healed:
                # A replica without the newest record, that no checkpoint holds, merely lags.
                assert region == "nyc"
                assert result.healed == ()
                replicate(estate.vault("fra"), estate.vault("nyc"))
                assert content_of(store) == good
                continue
            assert key in [one.key for one in result.healed], (key, result)
            assert result.ok, result
            assert content_of(store) == good, key
            healed = next(one for one in result.healed if one.key == key)
            assert healed.source in estate.others(region)
            assert (store.objects[healed.quarantine] if healed.quarantine else None) == changed
        assert estate.heal(region).healed == ()


def good_log(content: dict[str, bytes]) -> list[str]:
    """Keys of the log's records."""
    return [key for key in content if key.startswith("log/")]


def live_records(estate: Estate, region: str) -> list[SnapshotRecord]:
    """The live snapshots of a region."""
    return list(estate.vault(region).log.refresh().live.values())


def needed_pack(estate: Estate, region: str) -> str:
    """Key of a pack that the newest snapshot reads."""
    vault = estate.vault(region)
    newest = list(vault.log.refresh().live)[-1]
    name, info = next(iter(vault.read_manifest(vault.snapshot(newest)).packs.items()))
    name = info.moved.sha256 if info.moved else name
    return next(one for one in estate.stores[region].objects if name in one)


def nothing_wrong_is_returned(estate: Estate, region: str) -> None:
    """Each snapshot restores as it was, or fails; a damaged log may hide all of them."""
    vault = estate.vault(region)
    try:
        live = list(vault.log.refresh().live)
    except StateroomError:
        return
    for snapshot_id in {live[0], live[-1]}:
        try:
            restored = estate.fleet.restored(estate.stores[region], snapshot_id)
        except (CorruptObjectError, NotFoundError):
            continue
        assert restored == estate.bodies[snapshot_id]


def found_by_its_level(estate: Estate, region: str, key: str, changed: bytes | None) -> None:
    """Structure by V1, bytes by V2, a lost end of the log by comparison."""
    vault = estate.vault(region)
    structure, stored = verify_structure(vault), verify_bytes(vault)
    named = " ".join(f"{one.subject} {one.problem}" for one in structure.findings + stored.findings)
    if key.startswith(("packs/", "manifests/")):
        name = key.rsplit("/", maxsplit=1)[-1].partition(".")[0]
        needed = any(name in one.packs for one in live_records(estate, "ams"))
        if changed is not None:
            assert key in named
        elif needed:
            assert name in named
    elif key.startswith("log/") and key.split("/")[2] == "0000" and region != "ams":
        assert not structure.ok, key
    elif key.startswith("log/"):
        heads = compare_heads({one: estate.vault(one) for one in estate.stores}, "ams")
        behind = [one for one in heads if one.region == region and one.behind]
        assert not structure.ok or behind, key


@pytest.mark.parametrize("kind", ["packs", "manifests", "log"])
def test_exchanged_contents_are_put_right(template: Estate, kind: str) -> None:
    """Two objects of one kind with each other's bytes."""
    with copied(template) as estate:
        store = estate.stores["fra"]
        good = content_of(store)
        one, two = [key for key in objects(estate, "fra") if key.startswith(kind)][:2]
        for key, other in ((one, two), (two, one)):
            store.objects[key] = good[other]
        nothing_wrong_is_returned(estate, "fra")
        result = estate.heal("fra")
        assert {one, two} <= {healed.key for healed in result.healed}
        assert content_of(store) == good


@pytest.mark.parametrize(
    "key",
    [
        "packs/net/X/copy.pack",
        "log/net/0001/note.txt",
        "manifests/net/stray",
        "log/net/x.json",
        "checkpoints/log/net/0000/1.ckpt",
    ],
)
def test_what_no_vault_writes_is_set_aside(template: Estate, key: str) -> None:
    """Its bytes stay in quarantine; a duplicate under a true name does no harm at all."""
    with copied(template) as estate:
        store = estate.stores["fra"]
        good = content_of(store)
        store.create(key, b"stray")
        result = estate.heal("fra")
        assert [one.key for one in result.healed] == [key]
        assert store.objects[result.healed[0].quarantine] == b"stray"
        assert content_of(store) == good
        pack = next(one for one in good if one.startswith("packs/"))
        owner, name = pack.split("/")[2:]
        store.create(f"packs/net/{owner[:-1]}Z/{name}", good[pack])
        assert estate.heal("fra").healed == ()


LONG = pytest.mark.long
HEALED_WHILE_KILLED = [
    ("log", "after"),
    pytest.param("log", "before", marks=LONG),  # as good as `after` the operation before it
    ("packs", "lost"),
    pytest.param("log", "lost", marks=LONG),
    pytest.param("packs", "before", marks=LONG),
    pytest.param("packs", "after", marks=LONG),
    *(
        pytest.param(kind, mode, marks=LONG)
        for kind in ("manifests", "keys", VAULT_KEY)
        for mode in ("before", "after", "lost")
    ),
]


@pytest.mark.parametrize(("kind", "mode"), HEALED_WHILE_KILLED)
def test_a_heal_killed_at_any_operation_is_finished_by_the_next(
    template: Estate, kind: str, mode: str
) -> None:
    """Between deletion and creation the object is missing, and that is mended too."""
    with copied(template) as estate:
        key = next(one for one in objects(estate, "nyc") if one.startswith(kind))
        key = needed_pack(estate, "nyc") if kind == "packs" else key
        good = content_of(estate.stores["nyc"])
        estate.stores["nyc"].objects[key] = b"rotten"
        damaged = estate.stores["nyc"]
        total = count_operations(damaged.copy(), lambda one: estate.heal("nyc", one))
        for number in range(1, total + 1):
            store = damaged.copy()
            with contextlib.suppress(Crashed, StoreUnavailableError):
                estate.heal("nyc", CrashingStore(store, number, mode))
            estate.stores["nyc"] = store
            nothing_wrong_is_returned(estate, "nyc")
            result = estate.heal("nyc")
            assert result.ok
            assert content_of(store) == good
            recorded = [one.key for one in read_local(estate.vault("nyc"), "nyc")]  # type: ignore[union-attr]
            assert set(recorded) == {key}
            assert estate.heal("nyc").healed == ()


def test_what_no_region_has_is_tainted_and_the_next_backup_stores_it_again() -> None:
    """The whole circle: lost, named, distrusted, stored again from the live states, whole."""
    estate = Estate()
    vault = estate.vault("fra")
    newest = list(vault.log.refresh().live)[-1]
    key = needed_pack(estate, "fra")
    name = key.split("/")[-1].removesuffix(".pack")
    for store in estate.stores.values():
        store.objects[key] = b"rotten everywhere"
    result = estate.heal("fra")
    (lost,) = result.lost
    assert (lost.key, result.distrusted) == (key, {name})
    found = verify_content(estate.vault("fra"), list(estate.vault("fra").log.refresh().live))
    unreadable = {agent for one in found.findings for agent in one.agents}
    assert unreadable == set(lost.agents)
    assert newest in lost.snapshots
    assert tainted_snapshots(read_local(estate.vault("fra"), "fra")) == set(lost.snapshots)
    again = estate.heal("fra")
    assert [one.key for one in again.lost] == [key]
    taints = [one for one in read_local(vault, "fra") if isinstance(one, TaintEvidence)]
    assert len(taints) == 1
    fresh = back_up(estate.vault("fra"), estate.fleet.store, distrusted=result.distrusted)
    assert set(lost.agents) <= set(estate.fleet.bodies())
    assert fresh.rescued > 0
    assert estate.fleet.restored(estate.stores["fra"], fresh.snapshot_id) == estate.fleet.bodies()
    assert fresh.snapshot_id not in tainted_snapshots(read_local(vault, "fra"))


def test_a_taint_ends_when_a_region_that_was_away_gives_the_object_back(template: Estate) -> None:
    """First nobody has it; then the third region answers again."""
    with copied(template) as estate:
        key = needed_pack(estate, "fra")
        estate.stores["fra"].objects[key] = estate.stores["ams"].objects[key] = b"rotten"
        kept = estate.stores["nyc"]
        stores: dict[str, ObjectStore] = {"ams": estate.stores["ams"], "nyc": Gone(kept)}
        result = heal(estate.vault("fra"), stores, home="ams", keks=KEKS)
        assert [one.key for one in result.lost] == [key]
        assert (
            tainted_snapshots(read_local(estate.vault("fra"), "fra")) or not result.lost[0].agents
        )
        assert estate.heal("fra").ok
        assert tainted_snapshots(read_local(estate.vault("fra"), "fra")) == frozenset()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_log_that_lost_its_end_is_seen_beside_a_replica_and_gets_it_back(count: int) -> None:
    """By itself the shorter log is valid: V1 finds nothing."""
    estate = Estate()
    store = estate.stores["fra"]
    estate.back_up("fra")
    estate.spread("fra")
    good = content_of(store)
    log = sorted(key for key in store.objects if key.startswith("log/net/0001/"))
    store.delete(log[-min(count, len(log) - 1) :])
    # The copy alone shows it as far as a checkpoint goes.
    alone = verify_structure(estate.vault("fra")).findings
    assert all("which the log does not have" in one.problem for one in alone)
    vaults = {one: estate.vault(one) for one in estate.stores}
    findings = {one.region: one.finding for one in compare_heads(vaults, "ams")}
    assert "it lost them" in findings.pop("fra")
    assert set(findings.values()) == {""}
    assert estate.heal("fra").ok
    assert content_of(store) == good
    assert {one.finding for one in compare_heads(vaults, "ams")} == {""}


def test_records_that_a_checkpoint_holds_come_back_without_any_other_region() -> None:
    """Damaged, missing and lost at the end; what no checkpoint holds is lost."""
    estate = Estate()
    store, vault = estate.stores["fra"], estate.vault("fra")
    if vault.log.refresh().head % 2:
        vault.log.append(EvidenceRecord("note", "so that a checkpoint holds the end"), AT)
    keys = [vault.log.key_at(one) for one in vault.log.records]
    good = content_of(store)
    store.objects[keys[0]] = b"rotten"
    store.delete([keys[2], keys[-1]])
    assert not verify_structure(estate.vault("fra")).ok
    result = heal(estate.vault("fra"), {}, home="ams", keks=KEKS)
    assert (result.ok, [one.key for one in result.healed]) == (True, [keys[0], keys[2], keys[-1]])
    assert {(one.source, "a checkpoint" in one.cause) for one in result.healed} == {("", True)}
    assert content_of(store) == good
    store.delete([key for key in store.objects if key.startswith("checkpoints/log/")])
    store.objects[keys[1]] = b"rotten"
    result = heal(estate.vault("fra"), {}, home="ams", keks=KEKS)
    assert [one.key for one in result.lost] == [keys[1]]


def test_heads_that_differ_are_told_apart_from_heads_that_lag() -> None:
    """A lagging replica is no finding, a replica that was written to is one."""
    estate = Estate()
    estate.back_up("fra")
    reports = compare_heads({one: estate.vault(one) for one in estate.stores}, "ams")
    assert [(one.region, one.behind, one.finding) for one in reports] == [
        ("ams", 1, ""),
        ("fra", 0, ""),
        ("nyc", 1, ""),
    ]
    stray = estate.vault("nyc")
    stray.log.refresh()
    stray.log._region = "fra"  # as a mixed-up configuration would
    estate.fleet.clock.advance(1)
    back_up(stray, estate.fleet.store)
    reports = compare_heads({one: estate.vault(one) for one in estate.stores}, "ams")
    assert [bool(one.finding) for one in reports if one.region in {"fra", "nyc"}].count(True) == 1
    newest = max(key for key in estate.stores["ams"].objects if key.startswith("log/"))
    estate.stores["ams"].objects[newest] = b"rotten"
    reports = compare_heads({one: estate.vault(one) for one in estate.stores}, "ams")
    assert "cannot be read" in next(one.finding for one in reports if one.region == "ams")


def test_lost_wraps_come_back_and_a_shredded_network_does_not(template: Estate) -> None:
    """One or all missing is an accident; a note says that it was a decision, here or elsewhere."""
    with copied(template) as estate:
        store = estate.stores["fra"]
        wraps = sorted(key for key in store.objects if key.startswith("keys/"))
        for lost in (wraps[:1], wraps):
            store.delete(lost)
            assert [one.key for one in estate.heal("fra").healed] == lost
        order = {"confirm": "net", "by": "ops", "reason": "asked to", "at": AT}
        shred_network({"nyc": estate.stores["nyc"]}, "net", **order)  # type: ignore[arg-type]
        store.delete(wraps)
        assert estate.heal("fra").healed == ()
        with pytest.raises(PermanentError, match="shredded"):
            estate.heal("nyc")
        assert not [key for key in store.objects if key.startswith("keys/")]


class SilentKey:
    """A wrapping key whose service does not answer."""

    kek_id = "kek-ams"
    identity = "silent"

    def wrap(self, *_: object) -> WrappedKey:
        """Never."""
        raise StoreUnavailableError("no answer")

    def unwrap(self, wrap: WrappedKey) -> bytes:
        """Never."""
        raise StoreUnavailableError("no answer")


def test_a_key_service_that_does_not_answer_condemns_no_wrap(template: Estate) -> None:
    """Silence proves nothing: the wrap is judged by form and number, as without the key."""
    with copied(template) as estate:
        options = {"home": "ams", "keks": [SilentKey(), KEKS[1]]}
        result = heal(estate.vault("fra"), estate.others("fra"), **options)  # type: ignore[arg-type]
        assert (result.healed, result.ok) == ((), True)
        key = "keys/net.0001/kek-ams.json"
        store = estate.stores["fra"]
        wrap = decode_wrap(store.objects[key], key)
        store.objects[key] = encode_wrap(wrap._replace(wrapped=bytes(len(wrap.wrapped))))
        result = heal(estate.vault("fra"), estate.others("fra"), **options)  # type: ignore[arg-type]
        assert [one.key for one in result.healed] == [key]


def test_copies_of_an_unproven_object_that_differ_are_left_to_a_person() -> None:
    """With two regions nobody can tell which `vault.json` is right: named, and not changed."""
    estate = Estate("ams", "fra")
    store = estate.stores["fra"]
    changed = store.objects[VAULT_KEY].replace(b"VV", b"VW")
    store.objects[VAULT_KEY] = changed
    result = estate.heal("fra")
    assert (result.healed, result.ok) == ((), False)
    assert "vault.json: well-formed copies differ" in result.undecided[0]
    assert store.objects[VAULT_KEY] == changed


def test_a_heal_needs_its_region_and_refuses_to_lose_a_race(template: Estate) -> None:
    """Another record created in the gap is never overwritten; the operator compares heads."""
    with copied(template) as estate:
        with pytest.raises(InvalidInputError, match="region"):
            heal(estate.fleet.vault(estate.stores["fra"]), estate.others("fra"))
        store = estate.stores["fra"]
        key = max(one for one in store.objects if one.startswith("log/net/0001/"))

        class Racing(CrashingStore):
            def delete(self, keys: object) -> None:
                super().delete(list(keys))  # type: ignore[call-overload]
                if key not in store.objects:
                    store.create(key, b"somebody else's record")

        store.objects[key] = b"rotten"
        with pytest.raises(PermanentError, match="another one was created while it was healed"):
            estate.heal("fra", Racing(store))


def test_a_verification_is_recorded_with_all_it_found(template: Estate) -> None:
    """Level, counts, seconds and failures in words; the newest snapshot by default."""
    with copied(template) as estate:
        vault = estate.vault("nyc")
        live = list(vault.log.refresh().live)
        rotten = needed_pack(estate, "nyc")
        estate.stores["nyc"].objects[rotten] = b"rotten"
        done = [
            verify_structure(vault),
            verify_bytes(vault, parts=[3]),
            verify_content(vault, live[:1], sample_share=0.5, seed=4),
        ]
        for one in done:
            at = vault.clock.now()
            record_evidence(vault, "nyc", evidence_of(vault, one, at, detail={"seed": 4}))
        read = read_evidence(vault, "nyc")
        assert [one.level for one in read] == ["V1", "V2", "V3"]
        assert [(one.items, one.bytes_checked) for one in read] == [
            (one.items, one.size_bytes) for one in done
        ]
        assert {one.snapshot_id for one in read} == {live[-1]}
        assert rotten in read[0].failures[0]
        assert not read[0].ok
        empty = Verification("V1", 0, 0, 0.0, ())
        assert evidence_of(vault, empty, AT, snapshots=live[:1]).snapshot_id == live[0]


def test_a_backup_leaves_its_proof_where_its_region_is_known(template: Estate) -> None:
    """V0 stands beside the snapshot; a damaged evidence log is told and does not undo a backup."""
    with copied(template) as estate:
        vault = estate.vault("fra")
        count = len(read_evidence(vault, "fra"))
        result = back_up(vault, estate.fleet.store)
        proof = read_evidence(vault, "fra")[count]
        assert (proof.level, proof.snapshot_id, proof.ok) == ("V0", result.snapshot_id, True)
        assert result.evidence_fault == ""
        last = max(one for one in estate.stores["fra"].objects if one.startswith("local/"))
        estate.stores["fra"].objects[last] = b"rotten"
        result = back_up(vault, estate.fleet.store)
        assert "evidence log of region fra is damaged" in result.evidence_fault
        assert result.snapshot_id in vault.log.refresh().live


def test_a_week_of_slices_covers_every_object_once(template: Estate) -> None:
    """Each pack and manifest is re-hashed on one day of seven."""
    whole = verify_bytes(template.vault("fra"))
    parts = [verify_bytes(template.vault("fra"), [part]) for part in range(7)]
    assert sum(one.items for one in parts) == whole.items
    assert sum(one.size_bytes for one in parts) == whole.size_bytes


def test_a_sample_is_drawn_by_seed_and_never_empty(template: Estate) -> None:
    """The same seed reads the same states; a share of nothing is refused."""
    vault = template.vault("fra")
    assert verify_content(vault, sample_share=0.01).items == 1
    assert verify_content(vault, sample_share=0.5, seed=7).items == 2
    assert verify_content(vault).items == 4
    with pytest.raises(InvalidInputError, match="sample_share"):
        verify_content(vault, sample_share=0.0)


def test_healing_keeps_out_of_the_way_of_collection() -> None:
    """What was condemned and swept is not brought back from a region that still has it."""
    estate = Estate()
    vault = estate.vault("fra")
    forget(vault, list(vault.log.refresh().live)[:2])
    collect_garbage(vault, NOW)
    assert sweep(vault, NOW).objects
    before = content_of(estate.stores["fra"])
    assert estate.heal("fra").healed == ()
    assert content_of(estate.stores["fra"]) == before
