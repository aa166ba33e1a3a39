"""Which snapshot a moment or an id means, and the rows of those who are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.errors import (
    InvalidInputError,
    NotFoundError,
)
from resources.vault.journal.found_moment import listed_names
from resources.vault.network import NetworkVault
from resources.vault.packs.manifest import Manifest, of_kinds, packs_of, select_items


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
    manifest = vault.read_manifest(record)
    return FoundSnapshot(found_id, taken_at), of_kinds(manifest, states=states)


def only_agents(manifest: Manifest, agent_ids: Sequence[str], snapshot_id: str) -> Manifest:
    """The rows of some agents alone.

    Raises:
        NotFoundError: the snapshot does not hold all of them.
    """
    table = select_items(manifest.table, agent_ids)
    unknown = sorted(set(agent_ids) - set(table["item_id"].to_pylist()))
    if unknown:
        raise NotFoundError(
            f"snapshot {snapshot_id} does not hold {listed_names(unknown)}",
            hint="Choose another moment; nothing was written.",
        )
    return Manifest(table, packs_of(table, manifest.packs))
