"""Artefacts of a backup: each read by its own kind, all of them rows of the one snapshot.

An artefact that fails does not stop the others: its last good rows stay, and the outcome names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fleet.backup import ROW_KINDS, ArtefactDeclaration, ArtefactOutcome
from fleet.errors import CorruptObjectError, StateroomError
from resources.vault.artefacts.intake import ArtefactIntake, BaseItem, Taken, base_items, rows_of
from resources.vault.artefacts.opening import open_source, resolve_kind
from resources.vault.packs.arrow_columns import column, strings, text
from resources.vault.packs.manifest import (
    Manifest,
    kernels,
    of_kinds,
    packs_of,
    select_items,
    tombstones,
)
from resources.vault.packs.reading import read_in_order
from resources.vault.snapshots.attempt import Attempt


class ArtefactChanges:
    """The artefacts' part of one attempt.

    Args:
        attempt: that it belongs to.
        staging: folder for consistent copies; None for the system's.
        full: whether to read every file, whatever its times say.
    """

    def __init__(self, attempt: Attempt, staging: Path | None, *, full: bool) -> None:
        """Nothing is read yet."""
        self._attempt = attempt
        self._staging = staging
        self._full = full
        self.outcomes: list[ArtefactOutcome] = []
        self.lost: dict[str, str] = {}
        """Artefacts that lost items with their packs, with the first of them."""

    def store(self, artefacts: Sequence[ArtefactDeclaration], retired: frozenset[str]) -> list[Any]:
        """Store what has changed of these artefacts; the delta's rows, tombstones included."""
        attempt = self._attempt
        rows = of_kinds(attempt.current, states=False).table
        base = base_items(rows, attempt.refused)
        by_kind: dict[str, list[tuple[ArtefactDeclaration, str]]] = {}
        for one in artefacts:
            try:
                kind = resolve_kind(one)
            except (StateroomError, OSError) as error:
                known = len(base.get(one.name, {}))
                self.outcomes.append(
                    ArtefactOutcome(one.name, one.kind, items=known, error=str(error))
                )
            else:
                by_kind.setdefault(ROW_KINDS[kind], []).append((one, kind))
        delta: list[Any] = []
        for row_kind, members in sorted(by_kind.items()):
            delta += self._store_kind(row_kind, members, base)
        gone = [
            (item.kind, item_id)
            for name in sorted(retired)
            for item_id, item in base.get(name, {}).items()
        ]
        attempt.replace(attempt.current.table.slice(0, 0), _ids(gone))
        return delta + _tombstones(gone)

    def _store_kind(
        self,
        row_kind: str,
        members: Sequence[tuple[ArtefactDeclaration, str]],
        base: dict[str, dict[str, BaseItem]],
    ) -> list[Any]:
        attempt = self._attempt
        taken: list[Taken] = []
        with attempt.writer(row_kind) as writer:
            intake = ArtefactIntake(writer, full=self._full)
            for declared, kind in members:
                known = base.get(declared.name, {})
                taken.append(self._take(intake, replace(declared, kind=kind), known))
            intake.flush()
            writer.finish()
            fresh = rows_of(taken, row_kind, writer)
        attempt.adopt(writer)
        self.outcomes += [one.outcome for one in taken]
        removed = [pair for one in taken for pair in one.removed]
        attempt.replace(fresh, _ids(removed))
        return [fresh, *_tombstones(removed)]

    def _take(
        self, intake: ArtefactIntake, declared: ArtefactDeclaration, base: dict[str, BaseItem]
    ) -> Taken:
        seen_ns = int(self._attempt.vault.clock.now().timestamp() * 1_000_000_000)
        try:
            source = open_source(declared, seen_ns, self._staging)
        except (StateroomError, OSError) as error:
            outcome = ArtefactOutcome(
                declared.name, declared.kind, items=len(base), error=str(error)
            )
            return Taken(outcome, [], [])
        try:
            return intake.take(declared, source, base)
        finally:
            source.close()

    def rescue(self, lost: Any) -> int:
        """Copy blobs out of packs that go away, while they can still be read; how many items.

        Reading the live artefact again would be another moment than the cut. An item of which a
        blob cannot be read any more is left out, and its artefact named as incomplete.

        Args:
            lost: rows of the current table, of one or more kinds, states or not.
        """
        copied = 0
        for kind in sorted(lost["kind"].unique().to_pylist()):
            copied += self._copy_kind(kind, lost.filter(kernels().equal(lost["kind"], text(kind))))
        return copied

    def _copy_kind(self, kind: str, lost: Any) -> int:
        pc = kernels()

        attempt = self._attempt
        vault, table = attempt.vault, attempt.current.table
        manifest = Manifest(lost, packs_of(lost, attempt.current.packs))
        unreadable: dict[str, CorruptObjectError] = {}
        with attempt.writer(kind) as writer:
            for row, plain in read_in_order(vault.store, vault.keys, manifest):
                if isinstance(plain, CorruptObjectError):
                    unreadable[row.item_id] = plain
                else:
                    writer.add_blobs([(row.item_id, plain)])
            writer.finish()
            ids = lost["item_id"].unique()
            kept = [one for one in ids.to_pylist() if one not in unreadable]
            whole = select_items(table, kept)
            moved = pc.is_in(whole["pack"], value_set=lost["pack"].unique())
            places = [
                writer.place(blob_id) if is_moved else None
                for blob_id, is_moved in zip(
                    whole["blob_id"].to_pylist(), moved.to_pylist(), strict=True
                )
            ]
        attempt.adopt(writer)
        for name in ("pack", "frame", "offset", "length", "plain_length"):
            at = whole.schema.get_field_index(name)
            values = [
                value if place is None else getattr(place, name)
                for value, place in zip(whole[name].to_pylist(), places, strict=True)
            ]
            field = whole.schema.field(at)
            whole = whole.set_column(at, field, column(values, field.type))
        attempt.replace(whole, ids)
        for item_id, error in unreadable.items():
            self.lost.setdefault(item_id.partition("/")[0], f"{item_id}: {error}")
        return len(kept)


def _ids(pairs: Sequence[tuple[str, str]]) -> Any:
    return strings([item_id for _, item_id in pairs])


def _tombstones(pairs: Sequence[tuple[str, str]]) -> list[Any]:
    """What a delta says of removed items, given as kind and id."""
    return [
        tombstones(_ids([one for one in pairs if one[0] == kind]), kind)
        for kind in sorted({kind for kind, _ in pairs})
    ]
