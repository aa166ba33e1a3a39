"""Writing the live part of old packs anew, so that gc can take the dead part.

Frames are opened, compared with their blob id and sealed again under the new pack's key, without
being compressed again. A new pack belongs to a run id of its own until the first map record that
names it, which commits it; each old pack is switched by one map record. Killed before its record,
a new pack is an orphan that gc removes; killed behind it, the old pack is one that gc removes.

A map is appended only while the new pack holds every blob that any restorable snapshot at that very
head needs of the old one: a snapshot that was committed while frames were copied, and refers to a
frame that was dead when the copy was decided, makes the map void.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, NotFoundError, StoreUnavailableError
from fleet.vault_keyspace import pack_key, parse_place
from fleet.vault_log import MapRecord, VaultState, refuse_map, restorable_snapshots
from fleet.vault_pack import (
    SALT_BYTES,
    Pack,
    PackBuilder,
    PackRow,
    open_body,
    read_salt,
    read_table,
)
from fleet.vault_repack import RepackPlan, RepackPolicy, StoredPack, plan_repack
from resources.vault.network import NetworkVault
from resources.vault.packs.manifest import PackMove, arrow, kernels
from resources.vault.packs.pack_maps import encode_move, resolve_moves
from resources.vault.packs.packing import create_object
from resources.vault.retention.removal import store_time

_TRIES = 20
_NEED = ["pack", "blob_id", "length"]


class RepackResult(NamedTuple):
    """What a run has switched; gc frees the old packs."""

    packs_old: int
    packs_new: int
    bytes_old: int
    bytes_new: int
    reasons: Mapping[str, str]
    """By old pack: why it was repacked."""
    left: Mapping[str, str]
    """By old pack: why it was not, though planned: damaged, or somebody was faster."""


def repack(vault: NetworkVault, policy: RepackPolicy | None = None) -> RepackResult:
    """Repack what is worth it, at most a tenth of the vault a run.

    Raises:
        CorruptObjectError: the log or a manifest is damaged; heal first, nothing was written.
        FencedError: another region writes.
        StoreUnavailableError: the store does not answer; run again, what was switched stays.
    """
    vault.log.refresh()
    vault.log.demand_writable()
    return _Run(vault, policy).run()


class _Run:
    """One run; what snapshots need is remembered, because a committed one never changes."""

    def __init__(self, vault: NetworkVault, policy: RepackPolicy | None) -> None:
        self._vault = vault
        self._policy = policy
        self._owners: dict[str, StoredPack] = {}
        self._needs: dict[str, Any] = {}
        self._merged: tuple[frozenset[str], Any] = (frozenset(), None)
        self._foreign_maps = -1
        self._own_maps = 0
        self._left: dict[str, str] = {}

    def run(self) -> RepackResult:
        plan = self.plan(self._vault.log.refresh())
        switched: list[str] = []
        packs_new = bytes_new = 0
        for group in plan.groups:
            copied = self._copy(group)
            if copied is None:
                continue
            pack, owner, held = copied
            done = [old for old in held if self._switch(old, pack, owner, held[old])]
            switched += done
            packs_new += bool(done)
            bytes_new += len(pack.data) if done else 0
        return RepackResult(
            len(switched),
            packs_new,
            sum(self._owners[one].size_bytes for one in switched),
            bytes_new,
            {one: plan.reasons[one] for one in switched},
            dict(self._left),
        )

    def plan(self, state: VaultState) -> RepackPlan:
        """List, and weigh what restorable snapshots need."""
        vault = self._vault
        now = store_time(vault.store)
        listed = vault.store.list_objects(f"packs/{vault.network_id}/")
        live = self._live_bytes(state)
        for one in listed:
            place = parse_place(one.key, one.size_bytes)
            if place.owner not in state.committed or place.sha256 in state.condemned:
                continue
            age_s = (now - one.modified_at).total_seconds()
            self._owners[place.sha256] = StoredPack(
                place.sha256, place.owner, one.size_bytes, live.get(place.sha256, 0), age_s
            )
        return plan_repack(self._owners.values(), self._policy)

    def _needed(self, state: VaultState) -> Any:
        """Distinct (pack, blob_id, length) that any restorable snapshot reads; None for nothing.

        Our own maps only take needs away. Another run's map may add needs to the pack that it
        leads to, so all that is remembered is dropped when one appears.
        """
        maps = sum(isinstance(one.record, MapRecord) for one in self._vault.log.records)
        if maps - self._own_maps != self._foreign_maps:
            self._foreign_maps = maps - self._own_maps
            self._needs, self._merged = {}, (frozenset(), None)
        wanted = frozenset(restorable_snapshots(state))
        if wanted != self._merged[0]:
            merged: Any = None
            for snapshot_id in sorted(wanted):
                merged = _distinct(merged, self._need_of(snapshot_id))
            self._merged = (wanted, merged)
        return self._merged[1]

    def _need_of(self, snapshot_id: str) -> Any:
        if snapshot_id not in self._needs:
            vault = self._vault
            manifest = vault.read_manifest(vault.snapshot(snapshot_id))
            rows = resolve_moves(vault.store, vault.keys, manifest).table
            self._needs[snapshot_id] = _distinct(None, rows.select(_NEED))
        return self._needs[snapshot_id]

    def _live_bytes(self, state: VaultState) -> dict[str, int]:
        needed = self._needed(state)
        if needed is None:
            return {}
        sums = needed.group_by("pack").aggregate([("length", "sum")])
        columns = (sums["pack"].to_pylist(), sums["length_sum"].to_pylist())
        return dict(zip(*columns, strict=True))

    def _blobs(self, state: VaultState, old: str) -> frozenset[bytes]:
        needed, pc = self._needed(state), kernels()
        if needed is None:
            return frozenset()
        return frozenset(needed.filter(pc.equal(needed["pack"], old))["blob_id"].to_pylist())

    def _copy(self, group: tuple[str, ...]) -> tuple[Pack, str, dict[str, frozenset[bytes]]] | None:
        """One new pack of the live frames of old ones; by old pack, the blobs it holds."""
        vault = self._vault
        state = vault.log.refresh()
        builder = PackBuilder(vault.keys, os.urandom(SALT_BYTES))
        held: dict[str, frozenset[bytes]] = {}
        added: set[bytes] = set()
        for old in group:
            wanted = self._blobs(state, old)
            try:
                frames = self._open_frames(old, wanted)
            except (CorruptObjectError, NotFoundError) as error:
                self._left[old] = f"damaged: {error}"
                continue
            for row, body in frames:
                if row.blob_id not in added:
                    builder.adopt(row, body)
                    added.add(row.blob_id)
            held[old] = wanted
        if builder.is_empty:
            return None
        pack, owner = builder.finish(), vault.new_id()
        create_object(vault.store, pack_key(vault.network_id, owner, pack.sha256), pack.data)
        return pack, owner, held

    def _open_frames(self, old: str, wanted: frozenset[bytes]) -> list[tuple[PackRow, bytes]]:
        """The wanted frames of a pack, each proven to be its blob."""
        vault = self._vault
        data = vault.store.get(pack_key(vault.network_id, self._owners[old].owner, old))
        dek_id, salt = read_salt(data, old)
        rows = [row for row in read_table(vault.keys, data, old) if row.blob_id in wanted]
        missing = wanted - {row.blob_id for row in rows}
        if missing:
            raise CorruptObjectError(f"pack {old}: its table lacks {len(missing)} blobs")
        frames = []
        for row in rows:
            sealed = data[row.offset : row.offset + row.length]
            body, _ = open_body(vault.keys, salt, row, sealed, old, dek_id)
            frames.append((row, body))
        return frames

    def _switch(self, old: str, pack: Pack, owner: str, held: frozenset[bytes]) -> bool:
        """Append the map record at a head where it loses nothing; whether it stands."""
        vault = self._vault
        record = MapRecord(old, pack.sha256, owner)
        move = PackMove(
            pack.sha256, owner, pack.salt, len(pack.data), pack.table_length, pack.dek_id
        )
        for _ in range(_TRIES):
            state = vault.log.refresh()
            if any(one.record == record for one in vault.log.records):
                self._own_maps += 1
                return True
            refused = refuse_map(state, record)
            needed = self._blobs(state, old)
            if refused is None and not needed:
                refused = "nobody needs it any more"
            if refused is None and not needed <= held:
                refused = "a snapshot was committed meanwhile that needs more of it"
            if refused is not None:
                self._left[old] = refused
                return False
            try:
                if vault.log.append(record, vault.clock.now(), encode_move(move)):
                    self._own_maps += 1
                    return True
            except StoreUnavailableError:
                continue  # the next look at the log shows whether it stands
        raise StoreUnavailableError(
            f"network {vault.network_id}: no map record could be placed in {_TRIES} tries",
            hint="Run it again; packs that were switched stay switched.",
        )


def _distinct(one: Any, other: Any) -> Any:
    joined = other if one is None else arrow().concat_tables([one, other])
    return joined.group_by(_NEED).aggregate([])
