"""Writing a snapshot: steps 1 to 6 of `docs/formats/backup.md`.

Committed by the creation of the log record, nowhere else. Killed before it, packs and manifest lie
under a dead snapshot id until a gc removes them; killed behind it, the snapshot is complete.
Running again is always safe: it compares with whatever was committed last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from fleet.agents import AgentState
from fleet.errors import (
    CorruptObjectError,
    FencedError,
    NotFoundError,
    StoreUnavailableError,
)
from fleet.inventory import AgentStateInfo
from fleet.vault_keyspace import manifest_key
from fleet.vault_log import SnapshotRecord, VaultState, decide_commit
from resources.vault.manifest import (
    CHAIN_DELTAS_MAX,
    FULL_BELOW_ROWS,
    Manifest,
    ManifestRef,
    arrow,
    diff_states,
    empty_manifest,
    encode_manifest,
    packs_of,
    tombstones,
    without_items,
)
from resources.vault.network import NetworkVault, chain_of
from resources.vault.pack_maps import resolve_moves
from resources.vault.packing import PackWriter, StoredBlob, create_object
from resources.vault.proof import StoredObjects, prove_snapshot

_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_AGENTS = 1000
_COMMIT_TRIES = 20


class StateSource(Protocol):
    """What a backup reads: the part of `fleet.ports.AgentStateStore` that it needs."""

    def state_infos(self) -> list[AgentStateInfo]:
        """Metadata of all states, as one consistent cut."""
        ...

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """The newest states of these agents, digests verified."""
        ...


class BackupResult(NamedTuple):
    """What a backup did."""

    snapshot_id: str
    seq: int
    """Number of its log record."""
    base_id: str
    """Snapshot it was compared with; empty for none."""
    taken_at: datetime
    agents: int
    changed: int
    removed: int
    damaged: tuple[str, ...]
    """Agents whose live state is damaged: their last good version (if any) is kept."""
    rescued: int
    """Agents stored again because a gc had condemned their packs meanwhile."""
    packs: int
    manifest: str
    """`full`, `delta` or `same`."""
    bytes_logical: int
    bytes_stored: int
    seconds: float
    base_fault: str
    """Why the newest snapshot could not serve as base; empty when it could."""
    evidence_fault: str = ""
    """Why V0 could not be recorded as evidence; the snapshot is committed and proven anyway."""


def back_up(
    vault: NetworkVault,
    source: StateSource,
    *,
    workers: int | None = None,
    distrusted: frozenset[str] = frozenset(),
) -> BackupResult:
    """Take a snapshot of a network's agent states.

    Args:
        vault: the opened network.
        source: the control store.
        workers: threads that compress and seal; None for one per core.
        distrusted: packs known to be damaged or lost; what they held is stored again.

    Raises:
        NotFoundError: the network has no agent state; an empty snapshot would only hide that.
        FencedError: a gc gave this attempt up, or its snapshot was forgotten at once; run it again.
        StoreUnavailableError: the store does not answer; whether the snapshot was committed shows
            in the log. Running again is safe.
        CorruptObjectError: V0 failed: something stored is not there as stored.
    """
    return _Attempt(vault, source, workers, distrusted).run()


class _Attempt:
    """One attempt under one snapshot id."""

    def __init__(
        self,
        vault: NetworkVault,
        source: StateSource,
        workers: int | None,
        distrusted: frozenset[str],
    ) -> None:
        self._vault = vault
        self._source = source
        self._workers = workers
        self._snapshot_id = vault.new_id()
        self._refused = distrusted
        self._own: dict[str, str] = {}
        """Key by hash of every object this attempt has created."""
        self._sizes: dict[str, int] = {}
        self._base_id = self._base_fault = ""
        self._base_chain: tuple[ManifestRef, ...] = ()
        self._chain: tuple[ManifestRef, ...] = ()
        self._rescued = self._logical = self._changed = self._removed = 0
        self._damaged: list[str] = []
        self._kind = "same"

    def run(self) -> BackupResult:
        clock = self._vault.clock
        began_s = clock.monotonic_s()
        base = self._read_base(self._vault.log.refresh())
        taken_at = clock.now()
        infos = self._take_cut()
        self._current = base
        self._store_changes(base, infos)
        self._commit(taken_at, len(infos))
        stored = StoredObjects(self._snapshot_id, self._own, self._sizes)
        evidence_fault = prove_snapshot(self._vault, stored)
        return BackupResult(
            snapshot_id=self._snapshot_id,
            seq=self._record_seq(),
            base_id=self._base_id,
            taken_at=taken_at,
            agents=len(infos),
            changed=self._changed,
            removed=self._removed,
            damaged=tuple(self._damaged),
            rescued=self._rescued,
            packs=sum(key.startswith("packs/") for key in self._own.values()),
            manifest=self._kind,
            bytes_logical=self._logical,
            bytes_stored=sum(self._sizes.values()),
            seconds=clock.monotonic_s() - began_s,
            base_fault=self._base_fault,
            evidence_fault=evidence_fault,
        )

    def _read_base(self, state: VaultState) -> Manifest:
        """The newest live snapshot; without a readable one everything is stored anew."""
        if not state.live:
            return empty_manifest()
        newest = list(state.live)[-1]
        vault = self._vault
        try:
            stored = vault.snapshot(newest)
            chain = chain_of(stored)
            named = vault.read_manifest(stored)
            base = resolve_moves(vault.store, vault.keys, named)
        except (CorruptObjectError, NotFoundError) as error:
            self._base_fault = str(error)
            return empty_manifest()
        self._base_id = newest
        # Rows that a repack moved are written anew: a chain names the packs that maps lead from.
        self._base_chain = chain if base is named else ()
        return base

    def _take_cut(self) -> list[AgentStateInfo]:
        network_id = self._vault.network_id
        infos = [one for one in self._source.state_infos() if one.network_id == network_id]
        if not infos:
            raise NotFoundError(
                f"network {network_id} has no agent state to back up",
                hint="Check the network id and the control store; older snapshots are untouched.",
            )
        return infos

    def _store_changes(self, base: Manifest, infos: Sequence[AgentStateInfo]) -> None:
        pa = arrow()
        diff = diff_states(base.table, infos)
        wanted = [infos[number] for number in diff.changed]
        fresh, gone = self._store(wanted)
        self._changed = len(set(fresh["item_id"].to_pylist()))
        removed = pa.concat_arrays([diff.removed, pa.array(gone, pa.string())])
        self._removed = len(removed)
        self._replace(fresh, removed)
        lost = self._lost_items(self._refused)
        if lost:
            self._rescue(lost)
        elif len(fresh) or len(removed) or not self._base_chain:
            self._write_manifest(pa.concat_tables([fresh, tombstones(removed)]))
        else:
            self._chain = self._base_chain

    def _store(self, infos: Sequence[AgentStateInfo]) -> tuple[Any, list[str]]:
        """Store the live states of these agents; their rows, and who has none any more."""
        gone: list[str] = []
        vault = self._vault
        with PackWriter(
            vault.store, vault.keys, self._snapshot_id, self._known, self._workers
        ) as writer:
            for batch in _batches(infos):
                states = self._read(batch)
                found = {one.agent_id for one in states} | set(self._damaged)
                gone += [one for one in batch if one not in found]
                writer.add(states)
            fresh = writer.finish()
        self._logical += writer.bytes_logical
        for sha256, pack in writer.packs.items():
            self._own[sha256] = f"packs/{vault.network_id}/{pack.owner}/{sha256}.pack"
            self._sizes[sha256] = pack.size_bytes
        self._current = self._current._replace(packs={**self._current.packs, **writer.packs})
        return fresh, gone

    def _read(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """States of a batch; a damaged one is set aside, so that it does not stop the others."""
        try:
            return self._source.states(agent_ids)
        except CorruptObjectError:
            states = []
            for agent_id in agent_ids:
                try:
                    states += self._source.states([agent_id])
                except CorruptObjectError:
                    self._damaged.append(agent_id)
            return states

    def _known(self, blob_ids: Sequence[bytes]) -> dict[bytes, StoredBlob]:
        """Blobs that the current table holds in packs that may be referenced."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = self._current.table
        if not len(table):
            return {}
        found = pc.index_in(pa.array(blob_ids, pa.binary(32)), value_set=table["blob_id"])
        rows = table.take(found.drop_null()).select(["blob_id", *StoredBlob._fields])
        return {
            row["blob_id"]: StoredBlob(**{name: row[name] for name in StoredBlob._fields})
            for row in rows.to_pylist()
            if row["pack"] not in self._refused
        }

    def _replace(self, fresh: Any, removed: Any) -> None:
        """Put fresh rows into the current table, and take removed agents out of it."""
        pa = arrow()
        ids = fresh["item_id"].combine_chunks()
        if not len(ids) and not len(removed):
            return
        kept = without_items(self._current.table, pa.concat_arrays([_array(ids), removed]))
        table = pa.concat_tables([kept, fresh]).combine_chunks()
        self._current = Manifest(table, packs_of(table, self._current.packs))

    def _lost_items(self, packs: frozenset[str]) -> list[str]:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not packs:
            return []
        table = self._current.table
        lost = pc.is_in(table["pack"], value_set=pa.array(sorted(packs), pa.string()))
        found: list[str] = table.filter(lost)["item_id"].unique().to_pylist()
        return found

    def _rescue(self, lost: Sequence[str]) -> None:
        """Store the agents of lost packs again from their live states; a full manifest follows."""
        pa = arrow()
        infos = [one for one in self._source.state_infos() if one.agent_id in set(lost)]
        fresh, _ = self._store(infos)
        self._rescued += len(infos)
        # Who has no live state any more is left out: the packs that held it are going away.
        self._replace(fresh, pa.array(lost, pa.string()))
        self._write_manifest(None)

    def _write_manifest(self, delta: Any | None) -> None:
        """Create a manifest: the delta on the base where that pays, else a full one."""
        table, base = self._current.table, self._base_chain
        if delta is None or not _delta_pays(base, len(delta), len(table)):
            delta, base = table, ()
        self._kind = "delta" if base else "full"
        manifest = Manifest(delta, packs_of(delta, self._current.packs))
        vault = self._vault
        sealed = encode_manifest(vault.keys, manifest, base[-1].sha256 if base else None)
        key = manifest_key(vault.network_id, self._snapshot_id, sealed.sha256)
        create_object(vault.store, key, sealed.data)
        self._own[sealed.sha256], self._sizes[sealed.sha256] = key, len(sealed.data)
        ref = ManifestRef(self._snapshot_id, sealed.sha256, len(sealed.data), len(delta))
        self._chain = (*base, ref)

    def _commit(self, taken_at: datetime, agents: int) -> None:
        """Create the next log record, deciding anew whenever somebody else was faster."""
        log, mine = self._vault.log, self._snapshot_id
        unanswered: StoreUnavailableError | None = None
        for _ in range(_COMMIT_TRIES):
            state = log.refresh()
            if mine in state.live or mine in state.forgotten:
                return  # our own record: the answer to its creation was lost
            packs = frozenset(packs_of(self._current.table, self._current.packs))
            packs |= {one.sha256 for one in self._chain}
            verdict = decide_commit(state, mine, packs)
            if verdict.action == "abort":
                raise FencedError(verdict.reason, hint="Run the backup again.")
            if verdict.action == "rescue":
                self._refused |= verdict.packs
                self._rescue(self._lost_items(self._refused))
                continue
            try:
                record = SnapshotRecord(mine, taken_at, packs)
                if log.append(record, self._vault.clock.now(), self._extra(agents)):
                    return
            except StoreUnavailableError as error:
                unanswered = error
        raise StoreUnavailableError(
            f"snapshot {mine}: its log record could not be placed in {_COMMIT_TRIES} tries",
            hint="The log shows whether it was committed; running again is safe.",
        ) from unanswered

    def _extra(self, agents: int) -> dict[str, Any]:
        return {
            "manifests": [list(one) for one in self._chain],
            "base": self._base_id,
            "agents": agents,
            "changed": self._changed,
            "removed": self._removed,
            "damaged": len(self._damaged),
            "rescued": self._rescued,
            "bytes_logical": self._logical,
            "bytes_stored": sum(self._sizes.values()),
        }

    def _record_seq(self) -> int:
        return self._vault.snapshot(self._snapshot_id).position.seq


def _array(chunked: Any) -> Any:
    pa = arrow()
    return pa.concat_arrays(chunked.chunks) if isinstance(chunked, pa.ChunkedArray) else chunked


def _delta_pays(chain: Sequence[ManifestRef], rows: int, total: int) -> bool:
    """Whether a delta may follow the base: few rows, short chain, not a small manifest."""
    if not chain or total < FULL_BELOW_ROWS or len(chain) > CHAIN_DELTAS_MAX:
        return False
    return 4 * (rows + sum(one.rows for one in chain[1:])) <= chain[0].rows


def _batches(infos: Sequence[AgentStateInfo]) -> Iterator[list[str]]:
    """Agent ids in batches of bounded bytes."""
    batch: list[str] = []
    size = 0
    for info in infos:
        if batch and (size + info.size_bytes > _BATCH_BYTES or len(batch) >= _BATCH_AGENTS):
            yield batch
            batch, size = [], 0
        batch.append(info.agent_id)
        size += info.size_bytes
    if batch:
        yield batch
