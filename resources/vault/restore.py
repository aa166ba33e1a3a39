"""Point-in-time restore: find, read, prove, stage, and only then switch.

Nothing is handed to the target before everything wanted has been read, opened, compared with its
digest and staged. The switch itself is guarded by versions in the control store and committed batch
by batch; killed in between and run again, it skips what is there already.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, NamedTuple, Protocol

from fleet.agents import StateRestore
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    StateroomError,
    VersionConflictError,
)
from fleet.ports.control_store import AgentStateStore
from resources.vault.manifest import Manifest, of_kinds, packs_of, select_items
from resources.vault.network import NetworkVault, chain_of
from resources.vault.reading import ReadItem, read_items

NEWER_MODES = ("refuse", "skip", "overwrite")
_STAGED_IN_MEMORY_BYTES = 16 * 1024 * 1024
_BATCH_BYTES = 8 * 1024 * 1024
_BATCH_AGENTS = 500
_NAMED = 5


class LiveHead(NamedTuple):
    """What the target holds of an agent now."""

    version: int
    digest: str


class RestoreTarget(Protocol):
    """Where restored states go."""

    def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
        """The live versions of these agents; those without a state are left out."""
        ...

    def write(self, items: Sequence[tuple[ReadItem, int]]) -> list[StateroomError | None]:
        """Write items, each only if the live version is still the given one."""
        ...


class RestoreResult(NamedTuple):
    """What a restore did."""

    snapshot_id: str
    taken_at: datetime
    restored: int
    unchanged: int
    """Agents whose live state was the wanted one already."""
    skipped: tuple[str, ...]
    """Agents with a newer live state, left alone (`newer="skip"`)."""
    refused: tuple[tuple[str, str], ...]
    """Agents that the target refused, with the reason: moved on meanwhile, or not declared."""
    bytes_logical: int
    seconds: float


class _Staged(NamedTuple):
    item: ReadItem
    """Without its body."""
    offset: int
    length: int


class ControlStoreTarget:
    """Restores into the live control store, through its version-guarded port."""

    def __init__(self, store: AgentStateStore) -> None:
        """Use an opened store."""
        self._store = store

    def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
        """By one query for few agents, by one listing for many."""
        if len(agent_ids) <= _NAMED:
            return {one: head for one in agent_ids if (head := self._head(one))}
        wanted = set(agent_ids)
        infos = (one for one in self._store.state_infos() if one.agent_id in wanted)
        return {one.agent_id: LiveHead(one.version, one.digest) for one in infos}

    def _head(self, agent_id: str) -> LiveHead | None:
        try:
            states = self._store.states([agent_id])
        except CorruptObjectError:
            # A damaged live state is what a restore is for; its version is in the listing.
            infos = (one for one in self._store.state_infos() if one.agent_id == agent_id)
            return next((LiveHead(one.version, "damaged") for one in infos), None)
        return LiveHead(states[0].version, states[0].digest) if states else None

    def write(self, items: Sequence[tuple[ReadItem, int]]) -> list[StateroomError | None]:
        """One durable transaction a batch."""
        restores = [
            StateRestore(item.agent_id, expected, item.version, item.body)
            for item, expected in items
        ]
        return [one.error for one in self._store.restore_states(restores)]


def restore(
    vault: NetworkVault,
    target: RestoreTarget,
    *,
    at: datetime | None = None,
    snapshot_id: str | None = None,
    agent_ids: Sequence[str] | None = None,
    newer: str = "refuse",
    staging: str | None = None,
) -> RestoreResult:
    """Bring agents back as they were.

    Args:
        vault: the opened network.
        target: where the states go.
        at: moment wanted: the newest snapshot taken at or before it; None for the newest.
        snapshot_id: a snapshot in place of a moment.
        agent_ids: whom to restore; None for the whole network.
        newer: what to do when live states are newer: `refuse` all before anything is written,
            `skip` those agents, or `overwrite` them (their version still rises).
        staging: folder for what does not fit into memory; None for the system's.

    Raises:
        NotFoundError: no such snapshot, none at that moment, or unknown agents.
        VersionConflictError: live states are newer and `newer` is `refuse`; nothing was written.
        CorruptObjectError: something wanted is damaged; nothing was written.
    """
    if newer not in NEWER_MODES:
        raise InvalidInputError("newer", newer, ", ".join(NEWER_MODES))
    began_s = vault.clock.monotonic_s()
    stored, manifest = find_manifest(vault, at, snapshot_id)
    if agent_ids is not None:
        manifest = _only(manifest, agent_ids, stored.snapshot_id)
    heads = target.heads(manifest.table["item_id"].unique().to_pylist())
    manifest, unchanged, skipped = _guard(manifest, heads, newer)
    with tempfile.SpooledTemporaryFile(_STAGED_IN_MEMORY_BYTES, dir=staging) as spool:
        staged = list(_stage(read_items(vault.store, vault.keys, manifest), spool))
        refused = _switch(target, staged, spool, heads)
    return RestoreResult(
        snapshot_id=stored.snapshot_id,
        taken_at=stored.taken_at,
        restored=len(staged) - len(refused),
        unchanged=unchanged,
        skipped=skipped,
        refused=tuple(refused),
        bytes_logical=sum(one.length for one in staged),
        seconds=vault.clock.monotonic_s() - began_s,
    )


class FoundSnapshot(NamedTuple):
    """Which snapshot a moment or id means."""

    snapshot_id: str
    taken_at: datetime


def find_manifest(
    vault: NetworkVault, at: datetime | None, snapshot_id: str | None, *, states: bool = True
) -> tuple[FoundSnapshot, Manifest]:
    """The agent states of the snapshot that a moment or an id means, or its artefacts.

    Raises:
        InvalidInputError: both are given, or the moment has no time zone.
        NotFoundError: there is none, or it has been forgotten.
    """
    if at is not None and (snapshot_id is not None or at.tzinfo is None):
        raise InvalidInputError("at", at.isoformat(), "a moment with time zone, without snapshot")
    if snapshot_id is None:
        record = vault.find_snapshot(at)
    else:
        state = vault.log.refresh()
        record = vault.snapshot(snapshot_id)
        if snapshot_id not in state.live:
            raise NotFoundError(
                f"snapshot {snapshot_id} has been forgotten",
                hint="Undelete it first, if gc has not run.",
            )
    taken_at: datetime = record.record.taken_at  # type: ignore[union-attr]
    found_id: str = record.record.snapshot_id  # type: ignore[union-attr]
    manifest = vault.manifests.read(chain_of(record))
    return FoundSnapshot(found_id, taken_at), of_kinds(manifest, states=states)


def _only(manifest: Manifest, agent_ids: Sequence[str], snapshot_id: str) -> Manifest:
    table = select_items(manifest.table, agent_ids)
    unknown = sorted(set(agent_ids) - set(table["item_id"].to_pylist()))
    if unknown:
        raise NotFoundError(
            f"snapshot {snapshot_id} does not hold {_listed(unknown)}",
            hint="Choose another moment; nothing was written.",
        )
    return Manifest(table, packs_of(table, manifest.packs))


def _guard(
    manifest: Manifest, heads: Mapping[str, LiveHead], newer: str
) -> tuple[Manifest, int, tuple[str, ...]]:
    """Leave out agents that are as wanted, and those that are newer or refuse because of them."""
    table = manifest.table
    columns = (table[name].to_pylist() for name in ("item_id", "version", "digest"))
    same: set[str] = set()
    ahead: set[str] = set()
    for agent_id, version, digest in zip(*columns, strict=True):
        head = heads.get(agent_id)
        if head is None or head.digest == "damaged":
            continue
        if head.digest == digest.hex():
            same.add(agent_id)
        elif head.version >= version:
            ahead.add(agent_id)
    if ahead and newer == "refuse":
        raise VersionConflictError(
            f"{len(ahead)} live states are newer than the snapshot: {_listed(sorted(ahead))}",
            hint="Skip them, or overwrite them on purpose (--force); nothing was written.",
        )
    skipped = tuple(sorted(ahead)) if newer == "skip" else ()
    left_alone = same.union(skipped)
    wanted = [one for one in table["item_id"].to_pylist() if one not in left_alone]
    if len(wanted) < len(table):
        table = select_items(table, wanted)
    return Manifest(table, packs_of(table, manifest.packs)), len(same), skipped


def _stage(items: Iterator[ReadItem], spool: IO[bytes]) -> Iterator[_Staged]:
    offset = 0
    for item in items:
        spool.write(item.body)
        yield _Staged(item._replace(body=b""), offset, len(item.body))
        offset += len(item.body)


def _switch(
    target: RestoreTarget,
    staged: Sequence[_Staged],
    spool: IO[bytes],
    heads: Mapping[str, LiveHead],
) -> list[tuple[str, str]]:
    """Hand staged items to the target in batches; those that it refused, with the reason."""
    refused: list[tuple[str, str]] = []
    batch: list[tuple[ReadItem, int]] = []
    size = 0
    for number, one in enumerate(staged):
        head = heads.get(one.item.agent_id)
        batch.append((_unstage(one, spool), head.version if head else 0))
        size += one.length
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_AGENTS or number == len(staged) - 1:
            for (item, _), error in zip(batch, target.write(batch), strict=True):
                if error is not None:
                    refused.append((item.agent_id, str(error)))
            batch, size = [], 0
    return refused


def _unstage(staged: _Staged, spool: IO[bytes]) -> ReadItem:
    """Read a staged body back and compare it once more: disks fail as well."""
    spool.seek(staged.offset)
    body = spool.read(staged.length)
    if hashlib.sha256(body).hexdigest() != staged.item.digest:
        raise CorruptObjectError(f"{staged.item.agent_id}: the staged copy was damaged on disk")
    return staged.item._replace(body=body)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
