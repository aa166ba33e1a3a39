"""Writing a snapshot: steps 1 to 6 of `docs/formats/backup.md`.

Committed by the creation of the log record, nowhere else. Killed before it, packs and manifest lie
under a dead snapshot id until a gc removes them; killed behind it, the snapshot is complete.
Running again is always safe: it compares with whatever was committed last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from fleet.backup import STATE_KIND, ArtefactDeclaration, ArtefactOutcome, BackupScope
from fleet.errors import InvalidInputError, NotFoundError, StoreUnavailableError
from resources.vault.network import NetworkVault
from resources.vault.packs.arrow_columns import text
from resources.vault.packs.manifest import (
    CHAIN_DELTAS_MAX,
    FULL_BELOW_ROWS,
    ManifestRef,
    arrow,
    kernels,
)
from resources.vault.packs.process_memory import release_unused
from resources.vault.snapshots.artefact_changes import ArtefactChanges
from resources.vault.snapshots.attempt import Attempt
from resources.vault.snapshots.cut import artefact_entry, cut_record, states_entry, without_cursor
from resources.vault.snapshots.state_changes import StateChanges, StateSource
from resources.vault.verification.proof import prove_snapshot

__all__ = ["BackupResult", "StateSource", "back_up"]


class BackupResult(NamedTuple):
    """What a backup did."""

    snapshot_id: str
    seq: int
    """Number of its log record."""
    base_id: str
    """Snapshot it was compared with; empty for none."""
    taken_at: datetime
    agents: int
    """Agent states in the snapshot."""
    changed: int
    removed: int
    damaged: tuple[str, ...]
    """Agents whose live state is damaged: their last good version (if any) is kept."""
    rescued: int
    """Items stored again because a gc had condemned their packs meanwhile."""
    packs: int
    manifest: str
    """`full`, `delta` or `same`."""
    bytes_logical: int
    bytes_stored: int
    seconds: float
    base_fault: str
    """Why the newest snapshot could not serve as base; empty when it could."""
    evidence_fault: str
    """Why V0 could not be recorded; empty when it was, or where the region is not known."""
    compared_all: str = ""
    """Why every state was compared with the base; empty when only those were that the change log
    names, or none."""
    unlogged: int = 0
    """States that a full comparison found changed or gone although the change log names them not:
    somebody has changed the control store's tables by hand."""
    artefacts: tuple[ArtefactOutcome, ...] = ()
    """What was done with each artefact in scope."""
    incomplete: tuple[tuple[str, str], ...] = ()
    """Artefacts that are not as they were at the cut, with the error: retention refuses such a
    snapshot (guard G1). Their last good rows are in it."""
    log_doubts: tuple[str, ...] = ()
    """Why a checkpoint of the log was not used or not written: this backup read or left more."""


def back_up(
    vault: NetworkVault,
    source: StateSource | None,
    *,
    artefacts: Sequence[ArtefactDeclaration] = (),
    scope: BackupScope | None = None,
    full: bool = False,
    workers: int | None = None,
    distrusted: frozenset[str] = frozenset(),
    staging: Path | None = None,
    notes: Mapping[str, Any] | None = None,
) -> BackupResult:
    """Take a snapshot of a network: its agent states, and the artefacts that are handed in.

    What is out of scope, or an artefact that is not handed in, is carried over from the base
    unchanged, with the moment at which it was last looked at.

    Args:
        vault: the opened network.
        source: the control store; None leaves agent states out of scope.
        artefacts: of this network.
        scope: what of all that to look at; None for everything.
        full: read every file whatever its times say, compare every state whatever the change log
            says, and write a full manifest.
        workers: threads that compress and seal; None for one per core.
        distrusted: packs known to be damaged or lost; what they held is stored again.
        staging: folder for consistent copies of databases, as large as the largest of them; None
            for the system's.
        notes: of the caller, kept with the log record: run, reason, whether it was scheduled.

    Raises:
        InvalidInputError: two artefacts of one name, or one of another network.
        NotFoundError: there is nothing at all to back up; an empty snapshot would only hide that.
        FencedError: a gc gave this attempt up, or its snapshot was forgotten at once; run it again.
        StoreUnavailableError: the store does not answer; whether the snapshot was committed shows
            in the log. Running again is safe. Or: there are no states, and every artefact failed.
        CorruptObjectError: V0 failed: something stored is not there as stored.
    """
    chosen = _demand_own(vault.network_id, artefacts)
    wanted = scope or BackupScope()
    attempt = Attempt(vault, workers, distrusted)
    states = StateChanges(attempt, source, full=full) if source and wanted.has_states else None
    covered = [one for one in chosen if wanted.covers(one)]
    parts = ArtefactChanges(attempt, staging, full=full)
    return _Backup(attempt, states, parts, covered, wanted.retired, notes or {}).run(full=full)


class _Backup:
    """The steps of one attempt, in their order."""

    def __init__(
        self,
        attempt: Attempt,
        states: StateChanges | None,
        parts: ArtefactChanges,
        artefacts: Sequence[ArtefactDeclaration],
        retired: frozenset[str],
        notes: Mapping[str, Any],
    ) -> None:
        self._attempt = attempt
        self._states = states
        self._parts = parts
        self._artefacts = artefacts
        self._retired = retired
        self._notes = notes
        self._journal_seq = 0
        self._rescued = 0
        self._has_lost = False
        self._kind = "same"
        self._delta: list[Any] = []

    def run(self, *, full: bool) -> BackupResult:
        attempt = self._attempt
        clock = attempt.vault.clock
        began_s = clock.monotonic_s()
        attempt.read_base(attempt.vault.log.refresh())
        self._taken_at = clock.now()
        self._journal_seq = self._read_journal_seq()
        if self._states is not None and not self._states.take_cut() and not self._artefacts:
            self._refuse_nothing()
        self._delta = [] if self._states is None else self._states.store()
        self._delta += self._parts.store(self._artefacts, self._retired)
        if not len(attempt.current.table):
            self._refuse_nothing()
        if self._rescue() or full or not attempt.base_chain:
            self._write_full_manifest()
        elif any(len(rows) for rows in self._delta):
            self._write_manifest()
        else:
            attempt.chain = attempt.base_chain
        attempt.commit(self._taken_at, self._extra, self._rescue_and_write)
        fault = prove_snapshot(attempt.vault, attempt.stored_objects)
        release_unused(attempt.bytes_logical)
        return self._result(clock.monotonic_s() - began_s, fault)

    def _refuse_nothing(self) -> None:
        network_id = self._attempt.vault.network_id
        failed = "; ".join(f"{one.name}: {one.error}" for one in self._parts.outcomes if one.error)
        if failed:
            raise StoreUnavailableError(
                f"nothing of network {network_id} could be read: {failed}",
                hint="Nothing was committed, because an empty snapshot would only hide that.",
            )
        raise NotFoundError(
            f"network {network_id} has no agent state to back up, and no artefact",
            hint="Check the network id and the control store; older snapshots are untouched.",
        )

    def _rescue(self) -> bool:
        """Store again what refused packs held; whether there was anything."""
        lost = self._attempt.lost_rows() if self._attempt.refused else None
        if not lost:
            return False
        self._has_lost = True
        pc = kernels()
        is_state = pc.equal(lost["kind"], text(STATE_KIND))
        agents = lost.filter(is_state)["item_id"].unique().to_pylist()
        if agents and self._states is not None:
            self._rescued += self._states.rescue(agents)
            lost = lost.filter(pc.invert(is_state))
        self._rescued += self._parts.rescue(lost)
        return True

    def _rescue_and_write(self) -> None:
        self._rescue()
        self._write_full_manifest()

    def _write_manifest(self) -> None:
        """Create a manifest: the delta on the base where that pays, else a full one."""
        attempt = self._attempt
        base, count = attempt.base_chain, sum(map(len, self._delta))
        if not _delta_pays(base, count, len(attempt.current.table)):
            self._write_full_manifest()
            return
        self._kind = "delta"
        attempt.create_manifest(arrow().concat_tables(self._delta), base)

    def _write_full_manifest(self) -> None:
        self._delta.clear()  # rows that are in the current table as well
        self._kind = "full"
        self._attempt.create_manifest(None, ())

    def _read_journal_seq(self) -> int:
        """Where the journal stood before the cut: what follows may hold newer versions."""
        listed = self._attempt.vault.journal.refresh()
        return listed[-1].place.seq if listed else 0

    def _incomplete(self) -> dict[str, str]:
        failed = {one.name: one.error for one in self._parts.outcomes if one.error}
        return {**self._parts.lost, **failed}

    def _agents(self) -> int:
        """States in the snapshot; of a listing, all of it, also what turned out damaged."""
        if self._states is not None:
            return self._states.agents
        table = self._attempt.current.table
        of_states = table.filter(kernels().equal(table["kind"], text(STATE_KIND)))
        return len(of_states["item_id"].unique())

    def _extra(self) -> dict[str, Any]:
        attempt, states = self._attempt, self._states
        base_cut = dict(attempt.base_extra.get("cut", {}))
        if self._has_lost:
            # What could not be rescued is missing, and no change log names it.
            base_cut["states"] = without_cursor(base_cut.get("states"))
        known = base_cut.get("artefacts", {})
        agents = self._agents()
        return {
            **self._notes,
            "manifests": [list(one) for one in attempt.chain],
            "base": attempt.base_id,
            "agents": agents,
            "changed": states.changed if states else 0,
            "removed": states.removed if states else 0,
            "damaged": len(states.damaged) if states else 0,
            "unlogged": states.unlogged if states else 0,
            "rescued": self._rescued,
            "bytes_logical": attempt.bytes_logical,
            "bytes_stored": sum(attempt.sizes.values()),
            "journal_seq": self._journal_seq,
            "incomplete": {name: text[:500] for name, text in self._incomplete().items()},
            "cut": cut_record(
                base_cut,
                self._taken_at,
                states_entry(self._taken_at, agents, states.cursor, states.whole)
                if states
                else None,
                {
                    one.name: artefact_entry(self._taken_at, one, known.get(one.name, {}))
                    for one in self._parts.outcomes
                },
                self._retired,
            ),
        }

    def _result(self, seconds: float, evidence_fault: str) -> BackupResult:
        attempt, states = self._attempt, self._states
        return BackupResult(
            snapshot_id=attempt.snapshot_id,
            seq=attempt.vault.snapshot(attempt.snapshot_id).position.seq,
            base_id=attempt.base_id,
            taken_at=self._taken_at,
            agents=self._agents(),
            changed=states.changed if states else 0,
            removed=states.removed if states else 0,
            damaged=tuple(states.damaged) if states else (),
            rescued=self._rescued,
            packs=sum(key.startswith("packs/") for key in attempt.own.values()),
            manifest=self._kind,
            bytes_logical=attempt.bytes_logical,
            bytes_stored=sum(attempt.sizes.values()),
            seconds=seconds,
            base_fault=attempt.base_fault,
            evidence_fault=evidence_fault,
            compared_all=states.whole if states else "",
            unlogged=states.unlogged if states else 0,
            artefacts=tuple(self._parts.outcomes),
            incomplete=tuple(sorted(self._incomplete().items())),
            log_doubts=attempt.vault.log.doubts,
        )


def _demand_own(
    network_id: str, artefacts: Sequence[ArtefactDeclaration]
) -> list[ArtefactDeclaration]:
    names: set[str] = set()
    for one in artefacts:
        if one.network_id != network_id:
            raise InvalidInputError(f"network of {one.name}", one.network_id, network_id)
        if one.name in names:
            raise InvalidInputError("artefacts", one.name, "each name once")
        names.add(one.name)
    return list(artefacts)


def _delta_pays(chain: Sequence[ManifestRef], rows: int, total: int) -> bool:
    """Whether a delta may follow the base: few rows, short chain, not a small manifest."""
    if not chain or total < FULL_BELOW_ROWS or len(chain) > CHAIN_DELTAS_MAX:
        return False
    return 4 * (rows + sum(one.rows for one in chain[1:])) <= chain[0].rows
