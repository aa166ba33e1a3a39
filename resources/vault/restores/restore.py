"""Point-in-time restore: find, read, prove, keep sealed, and only then switch.

Nothing is handed to a live target before everything wanted has been read, opened, compared with its
digest and kept (`staging`). The switch itself is guarded by versions in the control store and
committed batch by batch; killed in between and run again, it skips what is there already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    StateroomError,
    VersionConflictError,
)
from fleet.vault_moment import Identity
from resources.vault.journal.found_moment import Moment, Substitution, listed_names
from resources.vault.journal.moment import find_moment
from resources.vault.network import NetworkVault
from resources.vault.packs.arrow_columns import moments_as_numbers, strings
from resources.vault.packs.manifest import Manifest, packs_of, select_items, without_items
from resources.vault.packs.process_memory import map_large_buffers
from resources.vault.packs.reading import Proven, prove_items, where_to_read
from resources.vault.restores.control_store_target import ControlStoreTarget
from resources.vault.restores.selection import FoundSnapshot, find_manifest, only_agents
from resources.vault.restores.staging import (
    LiveHead,
    RestoreTarget,
    SealedStaging,
    UncommittedTarget,
    switch_items,
    write_proven,
)
from resources.vault.retention.local_holds import hold_locally, release_locally
from resources.vault.retention.removal import hold, release

__all__ = [
    "HOLD_ABOVE_AGENTS",
    "HOLD_LASTS",
    "NEWER_MODES",
    "ControlStoreTarget",
    "FoundSnapshot",
    "LiveHead",
    "RestoreResult",
    "RestoreTarget",
    "find_manifest",
    "only_agents",
    "restore",
]

NEWER_MODES = ("refuse", "skip", "overwrite")
HOLD_LASTS = timedelta(hours=24)
"""A restore's hold ends by itself after this time, should the restore be killed."""
HOLD_ABOVE_AGENTS = 100
"""Smaller restores take no hold: they are over in a few requests, and plan again when packs go."""
_PLANS_MAX = 50
"""Plans of one tolerant restore; each goes one version further back where something is damaged."""


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
    achieved: datetime | None = None
    """Moment that the states are of."""
    from_snapshot: int = 0
    """Agents whose wanted state came from a snapshot, unchanged ones included."""
    from_journal: int = 0
    """Agents whose wanted state came from the journal, unchanged ones included."""
    substitutions: tuple[Substitution, ...] = ()
    """Agents that got another version than the one of that moment, or may have."""
    missing: tuple[tuple[str, str], ...] = ()
    """Agents that had a state then of which nothing could be restored, with the reason."""
    notes: tuple[str, ...] = ()
    """What was damaged, not recorded, or not held while the restore ran."""
    certain: bool = True
    """Whoever is not among the substitutions or the missing is exactly as at the moment; False
    when part of the journal is lost (best effort), so that anybody may have had a newer version."""


def restore(
    vault: NetworkVault,
    target: RestoreTarget | UncommittedTarget,
    *,
    at: datetime | None = None,
    snapshot_id: str | None = None,
    agent_ids: Sequence[str] | None = None,
    newer: str = "refuse",
    staging: str | None = None,
    best_effort: bool = False,
) -> RestoreResult:
    """Bring agents back as they were.

    Args:
        vault: the opened network.
        target: where the states go.
        at: moment wanted, to the microsecond as far as the journal reaches; None for the newest
            of all that is held.
        snapshot_id: exactly one snapshot, in place of a moment.
        agent_ids: whom to restore; None for the whole network.
        newer: what to do when live states are newer: `refuse` all before anything is written,
            `skip` those agents, or `overwrite` them (their version still rises).
        staging: folder for what has been read and not yet written, sealed as in the vault: the
            size of the packs that are read. None for the system's.
        best_effort: where something wanted is damaged, take the newest older good version of that
            agent, and report it, in place of refusing all.

    Raises:
        NotFoundError: no such snapshot; the moment lies before the first backup or after what is
            covered; or agents were unknown then.
        VersionConflictError: live states are newer and `newer` is `refuse`; nothing was written.
        CorruptObjectError: something wanted is damaged; nothing was written.
    """
    if newer not in NEWER_MODES:
        raise InvalidInputError("newer", newer, ", ".join(NEWER_MODES))
    began_s = vault.clock.monotonic_s()
    map_large_buffers()  # before the manifest is read, which is the largest of them
    plan = _Plan(vault, at, snapshot_id, agent_ids, best_effort=best_effort)
    try:
        with SealedStaging(vault.store, staging) as sealed:
            ready = plan.stage(target, newer, sealed)
            refused = (
                []
                if isinstance(target, UncommittedTarget)
                else switch_items(target, sealed, vault.keys, ready.manifest, ready.versions)
            )
    finally:
        plan.release()
    moment = ready.moment
    agents = len(moment.manifest.table["item_id"].unique())
    return RestoreResult(
        snapshot_id=moment.snapshot_id,
        taken_at=moment.taken_at,
        restored=ready.proven.items - len(refused),
        unchanged=ready.unchanged,
        skipped=ready.skipped,
        refused=tuple(refused),
        bytes_logical=ready.proven.size_bytes,
        seconds=vault.clock.monotonic_s() - began_s,
        achieved=moment.achieved,
        from_snapshot=agents - len(moment.from_journal),
        from_journal=len(moment.from_journal),
        substitutions=moment.substitutions,
        missing=moment.missing,
        notes=(*moment.notes, *plan.notes),
        certain=moment.certain,
    )


class _Ready(NamedTuple):
    """Everything wanted, read, proven and staged."""

    moment: Moment
    manifest: Manifest
    """What is to be written, by where it was read."""
    proven: Proven
    versions: Mapping[str, int]
    """Live versions that were seen."""
    unchanged: int
    skipped: tuple[str, ...]


class _Plan:
    """Finds what is wanted, holds it, and reads it; plans again when something is gone."""

    def __init__(
        self,
        vault: NetworkVault,
        at: datetime | None,
        snapshot_id: str | None,
        agent_ids: Sequence[str] | None,
        *,
        best_effort: bool,
    ) -> None:
        self._vault = vault
        self._at = at
        self._snapshot_id = snapshot_id
        self._agent_ids = agent_ids
        self._best_effort = best_effort
        self._excluded: dict[str, set[Identity]] = {}
        self._held: tuple[str, ...] = ()
        self._hold_id = ""
        self.notes: list[str] = []

    def stage(
        self, target: RestoreTarget | UncommittedTarget, newer: str, staging: SealedStaging
    ) -> _Ready:
        """Read and prove everything wanted; only an uncommitted target has been handed anything."""
        moment = self._find()
        self._hold(moment)
        for number in range(_PLANS_MAX):
            manifest = moment.manifest
            heads = target.heads(manifest.table["item_id"].unique().to_pylist())
            manifest, unchanged, skipped = _guard(manifest, heads, newer)
            versions = {agent_id: head.version for agent_id, head in heads.items()}
            del heads  # digests of the whole network, of no use any more
            damaged: dict[str, CorruptObjectError] = {}
            staging.forget()
            manifest, proven = self._prove(manifest, target, staging, damaged)
            if not damaged:
                return _Ready(moment, manifest, proven, versions, unchanged, skipped)
            moment = self._plan_again(moment, damaged, number)
        raise CorruptObjectError(
            f"{len(damaged)} agents are damaged in each of {_PLANS_MAX} versions",
            hint="Restore from another region; nothing was written.",
        )

    def _find(self) -> Moment:
        if self._snapshot_id is None:
            return find_moment(
                self._vault,
                self._at,
                self._agent_ids,
                excluded=self._excluded,
                tolerant=self._best_effort,
            )
        stored, manifest = find_manifest(self._vault, self._at, self._snapshot_id)
        if self._agent_ids is not None:
            manifest = only_agents(manifest, self._agent_ids, stored.snapshot_id)
        return Moment(
            stored.snapshot_id,
            stored.taken_at,
            (stored.snapshot_id,),
            stored.taken_at,
            manifest,
            frozenset(),
            (),
            (),
            (),
        )

    def _hold(self, moment: Moment) -> None:
        """Keep the snapshots from being forgotten meanwhile; a vault that is down is still read."""
        few = self._agent_ids is not None and len(self._agent_ids) <= HOLD_ABOVE_AGENTS
        is_copy = self._vault.read_only
        if few or self._hold_id or (is_copy and not self._vault.region):
            return
        expires_at = self._vault.clock.now() + HOLD_LASTS
        take = hold_locally if is_copy else hold
        try:
            self._hold_id = take(self._vault, moment.snapshots, "restore", expires_at)
        except StateroomError as error:
            self.notes.append(f"restored without a hold: {error}")

    def release(self) -> None:
        """End the hold; when that fails it ends by itself."""
        if self._hold_id:
            try:
                (release_locally if self._vault.read_only else release)(self._vault, self._hold_id)
            except StateroomError as error:
                self.notes.append(f"hold {self._hold_id} was not released, it expires: {error}")

    def _prove(
        self,
        manifest: Manifest,
        target: RestoreTarget | UncommittedTarget,
        staging: SealedStaging,
        damaged: dict[str, CorruptObjectError],
    ) -> tuple[Manifest, Proven]:
        def note(_: str, agent_ids: Sequence[str], error: CorruptObjectError) -> None:
            damaged.update(dict.fromkeys(agent_ids, error))

        keys = self._vault.keys
        if isinstance(target, UncommittedTarget):
            return manifest, write_proven(target, self._vault.store, keys, manifest, note)
        manifest = where_to_read(staging, keys, manifest, note)
        return manifest, prove_items(staging, keys, manifest, on_damage=note)

    def _plan_again(
        self, moment: Moment, damaged: Mapping[str, CorruptObjectError], number: int
    ) -> Moment:
        """Once with fresh eyes; then, where allowed, without the damaged versions."""
        table = moment.manifest.table
        if number == 0:
            self._vault.journal.forget()
            again = self._find()
            if not again.manifest.table.equals(table):
                return again
        if not self._best_effort or self._snapshot_id is not None:
            first = damaged[min(damaged)]
            raise CorruptObjectError(
                f"{len(damaged)} agents cannot be restored: {listed_names(sorted(damaged))}; "
                f"{first}",
                hint=f"{first.hint} Or take older versions of them (best effort); "
                "nothing was written.",
            ) from first
        rows = select_items(table, damaged).select(["item_id", "version", "updated_at"])
        for row in moments_as_numbers(rows, "updated_at").to_pylist():
            identity = (row["version"], row["updated_at"])
            self._excluded.setdefault(row["item_id"], set()).add(identity)
        return self._find()


def _guard(
    manifest: Manifest, heads: Mapping[str, LiveHead], newer: str
) -> tuple[Manifest, int, tuple[str, ...]]:
    """Leave out agents that are as wanted, and those that are newer or refuse because of them."""
    same: set[str] = set()
    ahead: set[str] = set()
    if not heads:
        return manifest, 0, ()
    compared = select_items(manifest.table, heads)
    columns = (compared[name].to_pylist() for name in ("item_id", "version", "digest"))
    for agent_id, version, digest in zip(*columns, strict=True):
        head = heads[agent_id]
        if head.digest == "damaged":
            continue
        if head.digest == digest.hex():
            same.add(agent_id)
        elif head.version >= version:
            ahead.add(agent_id)
    if ahead and newer == "refuse":
        raise VersionConflictError(
            f"{len(ahead)} live states are newer than the snapshot: {listed_names(sorted(ahead))}",
            hint="Skip them, or overwrite them on purpose (--force); nothing was written.",
        )
    skipped = tuple(sorted(ahead)) if newer == "skip" else ()
    left_alone = same.union(skipped)
    if left_alone:
        table = without_items(manifest.table, strings(sorted(left_alone)))
        manifest = Manifest(table, packs_of(table, manifest.packs))
    return manifest, len(same), skipped
