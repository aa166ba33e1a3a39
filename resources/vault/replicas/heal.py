"""Scrub and heal: what is damaged or missing in one region comes back from another.

The bad bytes are kept under `quarantine/`, the good ones fetched, compared with the hash that names
them (or the HMAC that authenticates them), and put in place. A store can only create and delete, so
the bad object is deleted first: killed in between, it is missing, and the next heal mends that.
Every heal is evidence in the region's log. Nothing is ever replaced by bytes that are not proven.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from fleet.backup_evidence import (
    Evidence,
    HealEvidence,
    TaintEvidence,
    bound_list,
    tainted_objects,
)
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StateroomError,
)
from fleet.ports.key_wrapper import KeyWrapper
from fleet.ports.object_store import ObjectStore
from fleet.vault_keys import WRAPS_MIN
from fleet.vault_keyspace import VAULT_KEY, quarantine_key, wrap_key_prefix
from fleet.vault_log import restorable_snapshots
from resources.vault.keys.key_wraps import list_wraps
from resources.vault.keys.shredding import demand_unshredded, read_shred_note
from resources.vault.log.checkpoint_checks import check_checkpoints
from resources.vault.network import NetworkVault
from resources.vault.replicas.heal_checks import ObjectCheck, chain_objects
from resources.vault.replicas.heal_log import LogRepair
from resources.vault.verification.evidence import read_local, record_evidence
from resources.vault.verification.snapshot_objects import expected_objects
from resources.vault.verification.verify import verify_stored


class HealResult(NamedTuple):
    """What a heal found and did."""

    healed: tuple[HealEvidence, ...]
    lost: tuple[TaintEvidence, ...]
    """Damaged here, and no other region has a good copy."""
    undecided: tuple[str, ...]
    """In words: copies that differ and cannot be told apart; a person decides."""
    distrusted: frozenset[str]
    """Packs to hand to the next `back_up`, which stores what they held from the live states."""

    @property
    def ok(self) -> bool:
        """Whether the region is whole now."""
        return not (self.lost or self.undecided)


def heal(
    vault: NetworkVault,
    others: Mapping[str, ObjectStore],
    *,
    home: str = "",
    parts: Collection[int] | None = None,
    keks: Sequence[KeyWrapper] = (),
    evidence: Iterable[Evidence] | None = None,
) -> HealResult:
    """Find what is damaged or missing in a region, and bring it back from the others.

    Looks at everything V1 looks at, and re-hashes packs and manifests (V2). Safe to run again and
    at any time; readers may miss an object for a moment, never read a wrong one.

    Args:
        vault: the region's own, opened with its region; needs the right to delete.
        others: stores of the other regions, tried in this order.
        home: region that writes under epoch 0; a home that lost its newest records gets them back.
        parts: of `fleet.scrub_plan`; None re-hashes everything.
        keks: wrapping keys at hand, to prove wraps.
        evidence: what the region's log says, where the caller has read it; None reads it.

    Raises:
        InvalidInputError: the vault was opened without its region.
        PermanentError: the network was shredded here; nothing of it comes back.
        CorruptObjectError: the evidence log is damaged: mend it first.
        StoreUnavailableError: this region does not answer; what was healed stays.
    """
    if not vault.region:
        raise InvalidInputError("region", vault.region, "the region whose copy is healed")
    demand_unshredded(vault.store, vault.network_id)
    known = list(read_local(vault, vault.region) if evidence is None else evidence)
    return _Heal(vault.afresh(), others, keks, known).run(home, parts)


class _Heal:
    """One run over one region."""

    def __init__(
        self,
        vault: NetworkVault,
        others: Mapping[str, ObjectStore],
        keks: Sequence[KeyWrapper],
        known: Sequence[Evidence],
    ) -> None:
        self._vault = vault
        self._others = others
        self._check = ObjectCheck(vault, keks)
        self._known = known
        self._healed: list[HealEvidence] = []
        self._lost: list[TaintEvidence] = []
        self._undecided: list[str] = []

    def run(self, home: str, parts: Collection[int] | None) -> HealResult:
        self._mend_identity()
        repair = LogRepair(self._vault, self._others, self._check)
        for fault in repair.faults():
            if fault.foreign:
                self._set_aside(fault.key, fault.cause)
            elif not self._mend(fault.key, fault.cause, fault.fits, fault.held):
                self._taint(fault.key, fault.cause, (), (), 0)
        self._vault = self._vault.afresh()
        try:
            self._vault.log.read_whole()
        except (CorruptObjectError, NotFoundError) as error:
            self._undecided.append(f"the log cannot be read: {error}")
            return self._result()
        recovered, problems = repair.recover_tail(home)
        self._undecided += problems
        for key, region in recovered:
            self._record_heal(key, "missing from the end of the log", region, "")
        self._mend_checkpoints()
        self._mend_objects(parts)
        self._confess()
        return self._result()

    def _result(self) -> HealResult:
        lost = {one.key.split("/")[-1].partition(".")[0] for one in self._lost}
        return HealResult(
            tuple(self._healed), tuple(self._lost), tuple(self._undecided), frozenset(lost)
        )

    def _mend_identity(self) -> None:
        """`vault.json` and the wraps; copies that differ are decided by proof, then by number."""
        store = self._vault.store
        listed = list_wraps(store, self._vault.network_id).values()
        wraps = [one.key for names in listed for one in names.values()]
        for key in (VAULT_KEY, *wraps):
            cause = self._check.fault_of(key, _read(store, key))
            if cause is None:
                cause = self._outvoted(key)
            if cause is not None and not self._mend(key, cause):
                self._taint(key, cause, (), (), 0)
        # A wrap that was rotated away is missing by decision; one too few by accident.
        for dek_id, names in self._wraps_elsewhere().items():
            here = [one for one in wraps if one.startswith(wrap_key_prefix(dek_id))]
            if len(here) < WRAPS_MIN:
                for key in sorted(set(names) - set(wraps)):
                    self._mend(key, "missing")

    def _outvoted(self, key: str) -> str | None:
        """Well-formed copies that differ: the majority of the others is believed."""
        mine = _read(self._vault.store, key)
        if mine is None or self._check.is_proof(key):
            return None
        theirs = [data for data in (self._fetch(one, key) for one in self._others) if data]
        good = [data for data in theirs if self._check.fault_of(key, data) is None]
        if all(data == mine for data in good):
            return None
        if len(good) > 1 and len(set(good)) == 1:
            return "differs from every other region's copy"
        self._undecided.append(f"{key}: well-formed copies differ, and none is proven")
        return None

    def _wraps_elsewhere(self) -> dict[str, set[str]]:
        """Wraps of the other regions, by data key; none when one of them has shredded it."""
        found: dict[str, set[str]] = {}
        network_id = self._vault.network_id
        for store in self._others.values():
            try:
                if read_shred_note(store, network_id) is not None:
                    return {}
                for dek_id, names in list_wraps(store, network_id).items():
                    found.setdefault(dek_id, set()).update(one.key for one in names.values())
            except StateroomError:
                continue  # a region that does not answer or is damaged cannot help; another may
        return found

    def _mend_checkpoints(self) -> None:
        """Set aside what does not say what the records say, and write it again from them."""
        for log in self._vault.logs():
            try:
                faults = check_checkpoints(log)
            except (CorruptObjectError, NotFoundError) as error:
                self._undecided.append(f"{log.folder} cannot be read: {error}")
                continue
            for one in faults:
                (self._set_aside if one.present else self._note_gap)(one.key, one.problem)
            if faults:
                log.rewrite_checkpoints()

    def _note_gap(self, key: str, cause: str) -> None:
        self._record_heal(key, f"{cause}; written again", "", "")

    def _mend_objects(self, parts: Collection[int] | None) -> None:
        """Manifests before packs: which packs are needed stands in them."""
        vault = self._vault
        bad: dict[str, str] = {}
        for finding in verify_stored(vault.store, vault.network_id, parts=parts)[2]:
            bad[finding.subject] = finding.problem
        listed = {one.key: one.size_bytes for one in vault.list_packs()}
        readable: dict[str, dict[str, int]] = {}
        for snapshot_id, record in restorable_snapshots(vault.log.refresh()).items():
            chain = {one.key: one.size_bytes for one in chain_objects(vault, snapshot_id)}
            if self._mend_all(chain, listed, bad, [snapshot_id]):
                try:
                    readable[snapshot_id] = expected_objects(vault, record)
                except (CorruptObjectError, NotFoundError) as error:
                    self._undecided.append(f"snapshot {snapshot_id}: {error}")
        wanted: dict[str, tuple[int, list[str]]] = {}
        for snapshot_id, expected in readable.items():
            for key, size in expected.items():
                wanted.setdefault(key, (size, []))[1].append(snapshot_id)
        for key, (size, snapshots) in wanted.items():
            self._mend_all({key: size}, listed, bad, snapshots)
        for key in bad.keys() - wanted.keys() - {one.key for one in self._lost}:
            if _read(vault.store, key) is not None and not self._mend(key, bad[key]):
                self._set_aside(key, bad[key])

    def _mend_all(
        self,
        expected: Mapping[str, int],
        listed: dict[str, int],
        bad: dict[str, str],
        snapshots: Sequence[str],
    ) -> bool:
        """Heal those of some objects that are bad or missing; whether all are whole now."""
        whole = True
        for key, size in expected.items():
            cause = bad.get(key)
            if cause is None and listed.get(key) != size:
                found = f"{listed[key]} bytes" if key in listed else "missing"
                cause = f"recorded {size} bytes, listed {found}"
            if cause is None:
                continue
            if self._mend(key, cause):
                listed[key] = size
                bad.pop(key, None)
                continue
            whole = False
            needing = self._snapshots_needing(key, snapshots)
            agents = self._agents_of(key, needing)
            self._taint(key, cause, tuple(needing), agents, len(agents))
        return whole

    def _snapshots_needing(self, key: str, known: Sequence[str]) -> list[str]:
        name = key.rsplit("/", maxsplit=1)[-1].partition(".")[0]
        snapshots = restorable_snapshots(self._vault.log.refresh())
        return [one for one, record in snapshots.items() if name in record.packs or one in known]

    def _agents_of(self, key: str, snapshots: Sequence[str]) -> tuple[str, ...]:
        """Whose rows lie in a lost pack; nobody can say it of a lost manifest."""
        name = key.rsplit("/", maxsplit=1)[-1].removesuffix(".pack")
        agents: set[str] = set()
        for snapshot_id in snapshots:
            try:
                manifest = self._vault.read_manifest(self._vault.snapshot(snapshot_id))
            except (CorruptObjectError, NotFoundError):
                continue  # its own taint names it
            packs = {
                one
                for one, info in manifest.packs.items()
                if (info.moved.sha256 if info.moved else one) == name
            }
            columns = (manifest.table[one].to_pylist() for one in ("pack", "item_id"))
            agents |= {item for pack, item in zip(*columns, strict=True) if pack in packs}
        return tuple(sorted(agents))

    def _mend(self, key: str, cause: str, fits: object = None, held: bytes | None = None) -> bool:
        """Replace an object by a proven copy: another region's, else our own checkpoint's."""
        copies = [(region, self._fetch(region, key)) for region in self._others]
        for source, good in [*copies, ("", held)]:
            if good is None or self._check.fault_of(key, good) is not None:
                continue
            if callable(fits) and not fits(good):
                continue
            quarantine = self._replace(key, good)
            how = cause if source else f"{cause}; a checkpoint of this region held it"
            self._record_heal(key, how, source, quarantine)
            return True
        return False

    def _replace(self, key: str, good: bytes) -> str:
        """Quarantine, delete, create, read back; the quarantine's key, '' for a missing object."""
        store = self._vault.store
        quarantine = self._quarantine(key)
        store.delete([key])
        store.create(key, good)
        if _read(store, key) != good:
            raise PermanentError(
                f"object {key}: another one was created while it was healed",
                hint="Compare the heads of all regions before anything else is written.",
            )
        return quarantine

    def _quarantine(self, key: str) -> str:
        bad = _read(self._vault.store, key)
        if bad is None:
            return next(iter(self._unrecorded(key)), "")
        quarantine = quarantine_key(key, hashlib.sha256(bad).hexdigest())
        self._vault.store.create(quarantine, bad)
        if _read(self._vault.store, quarantine) != bad:
            raise CorruptObjectError(f"object {quarantine} does not read back as written")
        return quarantine

    def _set_aside(self, key: str, cause: str) -> None:
        """Move away what nothing needs and no vault writes; its bytes stay in quarantine."""
        quarantine = self._quarantine(key)
        self._vault.store.delete([key])
        self._record_heal(key, f"set aside: {cause}", "", quarantine)

    def _fetch(self, region: str, key: str) -> bytes | None:
        try:
            return _read(self._others[region], key)
        except StateroomError:
            return None  # a region that does not answer or refuses cannot help; another may

    def _record_heal(self, key: str, cause: str, source: str, quarantine: str) -> None:
        vault = self._vault
        evidence = HealEvidence(
            vault.network_id, vault.region, key, cause, source, quarantine, vault.clock.now()
        )
        record_evidence(vault, vault.region, evidence)
        self._healed.append(evidence)

    def _taint(
        self,
        key: str,
        cause: str,
        snapshots: tuple[str, ...],
        agents: tuple[str, ...],
        total: int,
    ) -> None:
        vault = self._vault
        if any(one.key == key for one in self._lost):
            return
        evidence = TaintEvidence(
            vault.network_id,
            vault.region,
            key,
            cause,
            snapshots,
            bound_list(agents),
            total,
            vault.clock.now(),
        )
        known = tainted_objects(self._known).get(key)
        if known is None or not set(snapshots) <= set(known):
            record_evidence(vault, vault.region, evidence)
        self._lost.append(evidence)

    def _confess(self) -> None:
        """Record heals whose run was killed before its evidence, so that no taint outlives them."""
        vault = self._vault
        done = {one.key for one in self._healed} | {one.key for one in self._lost}
        unrecorded = [(one, "") for one in tainted_objects(self._known)]
        for quarantine in self._unrecorded(""):
            key = quarantine.removeprefix("quarantine/").rpartition("/")[0]
            if self._concerns(key):
                unrecorded.append((key, quarantine))
        for key, quarantine in unrecorded:
            if key in done:
                continue
            data = _read(vault.store, key)
            if data is not None and self._check.fault_of(key, data) is None:
                cause = "found good again: healed by a run that ended before it recorded it"
                self._record_heal(key, cause, "", quarantine)

    def _unrecorded(self, key: str) -> list[str]:
        """Quarantine copies of an object ('' for all) that no evidence names."""
        heals = [one for one in (*self._known, *self._healed) if isinstance(one, HealEvidence)]
        recorded = {one.quarantine for one in heals}
        listed = self._vault.store.list_objects(f"quarantine/{key}/" if key else "quarantine/")
        return [one.key for one in listed if one.key not in recorded]

    def _concerns(self, key: str) -> bool:
        network_id = self._vault.network_id
        folders = [f"{kind}/{network_id}/" for kind in ("packs", "manifests", "log")]
        folders += [log.checkpoints.folder for log in self._vault.logs()]
        return key == VAULT_KEY or key.startswith((*folders, f"keys/{network_id}."))


def _read(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except NotFoundError:
        return None
