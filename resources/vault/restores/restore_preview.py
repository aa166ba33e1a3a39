"""What a restore would do, said before anything is written: whom it brings back, whom it leaves.

Rests on the manifest rows, the journal and the live versions alone; no pack is opened, so damage is
found only by the restore itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from resources.vault.journal.found_moment import Substitution
from resources.vault.journal.moment import find_moment
from resources.vault.network import NetworkVault
from resources.vault.restores.restore import RestoreTarget, find_manifest, only_agents
from resources.vault.restores.staging import LiveHead


class RestorePreview(NamedTuple):
    """What a restore would find."""

    snapshot_id: str
    """Snapshot that it begins at."""
    taken_at: datetime
    achieved: datetime
    """Moment that the states would be of."""
    agents: int
    absent: tuple[str, ...]
    """Agents without a live state: they come back."""
    older: tuple[str, ...]
    """Agents whose live state is older, or damaged: it is replaced."""
    unchanged: int
    """Agents whose live state is the wanted one already."""
    newer: tuple[str, ...]
    """Agents whose live state is newer: left alone, or overwritten on purpose."""
    from_journal: int
    logical_bytes: int
    stored_bytes: int
    """That are read for it, whoever is left alone."""
    substitutions: tuple[Substitution, ...]
    missing: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def preview_restore(
    vault: NetworkVault,
    target: RestoreTarget | None,
    *,
    at: datetime | None = None,
    snapshot_id: str | None = None,
    agent_ids: Sequence[str] | None = None,
    best_effort: bool = False,
) -> RestorePreview:
    """Say what `restore` with the same arguments would do at this moment.

    Args:
        vault: the opened network.
        target: where the states would go; None for a place that holds nothing yet.
        at: moment wanted; None for the newest of all that is held.
        snapshot_id: exactly one snapshot, in place of a moment.
        agent_ids: whom; None for the whole network.
        best_effort: go on past what is damaged or missing, and say so.

    Raises:
        NotFoundError: as `restore`.
        CorruptObjectError: a manifest or segment that is needed is damaged.
    """
    journal: frozenset[str] = frozenset()
    substitutions: tuple[Substitution, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    if snapshot_id is None:
        moment = find_moment(vault, at, agent_ids, tolerant=best_effort)
        table, journal, notes = moment.manifest.table, moment.from_journal, moment.notes
        substitutions, missing = moment.substitutions, moment.missing
        begins, taken_at, achieved = moment.snapshot_id, moment.taken_at, moment.achieved
    else:
        found, manifest = find_manifest(vault, at, snapshot_id)
        if agent_ids is not None:
            manifest = only_agents(manifest, agent_ids, found.snapshot_id)
        table, begins = manifest.table, found.snapshot_id
        taken_at = achieved = found.taken_at
    fates = _fates(table, target)
    return RestorePreview(
        begins,
        taken_at,
        achieved,
        sum(len(one) for one in fates.values()),
        tuple(fates["absent"]),
        tuple(fates["older"]),
        len(fates["same"]),
        tuple(fates["newer"]),
        len(journal),
        sum(table["plain_length"].to_pylist()),
        sum(table["length"].to_pylist()),
        substitutions,
        missing,
        notes,
    )


def _fates(table: Any, target: RestoreTarget | None) -> dict[str, list[str]]:
    """Agents by what a restore finds of them."""
    names = ("item_id", "version", "digest")
    wanted = {
        agent_id: (version, digest.hex())
        for agent_id, version, digest in zip(*(table[n].to_pylist() for n in names), strict=True)
    }
    heads = target.heads(sorted(wanted)) if target else {}
    fates: dict[str, list[str]] = {"absent": [], "older": [], "same": [], "newer": []}
    for agent_id, (version, digest) in sorted(wanted.items()):
        fates[_fate(heads.get(agent_id), version, digest)].append(agent_id)
    return fates


def _fate(head: LiveHead | None, version: int, digest: str) -> str:
    if head is None:
        return "absent"
    if head.digest == digest:
        return "same"
    return "newer" if head.version >= version and head.digest != "damaged" else "older"
