"""Verifications as evidence: run on one region's copy, and recorded in that region's own log.

Damage that a verification finds is its result, not an error: it is recorded like a pass. Only what
keeps it from looking at all is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fleet.backup_evidence import VerificationEvidence
from fleet.drill_plan import DrillObjectives, DrillPhase
from fleet.errors import InvalidInputError
from fleet.ports.control_store import ControlStore
from fleet.reports import declaration_of
from fleet.scrub_plan import CHOSEN_KEY
from resources.vault.journal.journal_upkeep import verify_journal
from resources.vault.keys.wrapping_keys import read_wrapping_key
from resources.vault.network import NetworkVault
from resources.vault.region_vaults import RegionVaults
from resources.vault.replicas.heal import HealResult, heal
from resources.vault.replicas.heal_log import compare_heads
from resources.vault.verification.application_checks import ApplicationCheck
from resources.vault.verification.evidence import record_evidence
from resources.vault.verification.finding import Finding, Verification
from resources.vault.verification.rolling import roll
from resources.vault.verification.verified import evidence_of
from resources.vault.verification.verify import verify_bytes, verify_content, verify_structure

Look = Callable[[NetworkVault], Verification]

LOOKS: dict[str, Look] = {"V1": verify_structure, "V2": verify_bytes, "V3": verify_content}
"""Level -> what looks at a copy; V0 is part of every backup, V4 and V5 have runs of their own."""


def code_version() -> str:
    """Version of Stateroom that looks, as installed; `unknown` when it was not installed."""
    try:
        return version("stateroom")
    except PackageNotFoundError:
        return "unknown"


class VerificationRuns:
    """Verifies one region's copy of one network, on any level from V1 to V5.

    Args:
        vaults: of all regions.
        control_store: says which workloads a drill starts.
        region: whose copy.
        network_id: of which network.
        snapshot_ids: live snapshots that a V3 opens; none for the newest. V1 and V2 look at all.
        whole: V1 to V3 look at everything; else at what is due (`verification.rolling`).
        on_phase: is told of each phase of a drill as it ends; None for nobody.
    """

    def __init__(
        self,
        vaults: RegionVaults,
        control_store: ControlStore,
        region: str,
        network_id: str,
        *,
        snapshot_ids: Sequence[str] = (),
        whole: bool = True,
        on_phase: Callable[[DrillPhase], None] | None = None,
    ) -> None:
        """Open the copy; nothing is looked at yet."""
        self._snapshot_ids = tuple(snapshot_ids)
        self._whole = whole
        self._on_phase = on_phase
        self._vaults = vaults
        self._control_store = control_store
        self._region = region
        self._vault = vaults.replica(region, network_id)

    def run(self, level: str) -> list[VerificationEvidence]:
        """Look at the copy on one level, and record what was found.

        Returns:
            One piece of evidence; of a restore test, one for each snapshot that was restored, the
            newest last.

        Raises:
            InvalidInputError: no such level.
            StoreUnavailableError: the store does not answer; nothing was recorded.
        """
        found = self._look(level)
        done = [one._replace(seq=record_evidence(self._vault, self._region, one)) for one in found]
        beside = self._look_beside(level)
        if beside is None:
            return done
        record_evidence(self._vault, self._region, beside)
        return [*done[:-1], _joined(done[-1], beside)]

    def _look_beside(self, level: str) -> VerificationEvidence | None:
        """What the snapshots do not show: the end of the log (V1), the journal (V3).

        Evidence of its own, that says nothing of any snapshot: a lost segment makes none worse.
        """
        started_at = self._vault.clock.now()
        if level == "V1":
            found = self._compare_with_home()
        elif level == "V3" and not self._snapshot_ids:
            found = verify_journal(self._vault.afresh())
        else:
            return None
        return self._evidence(found, started_at, ())

    def _compare_with_home(self) -> Verification:
        """Whether one of the two has lost or changed records; a home that is away shows nothing."""
        began_s = self._vault.clock.monotonic_s()
        home = self._vaults.declaration.home_region
        findings: tuple[Finding, ...] = ()
        if home != self._region:
            pair = {home: self._vaults.home(self._vault.network_id), self._region: self._vault}
            findings = tuple(
                Finding(f"log of {one.region}", one.finding)
                for one in compare_heads(pair, home)
                if one.finding and (one.behind or one.diverged_at)
            )
        return Verification("V1", 1, 0, self._vault.clock.monotonic_s() - began_s, findings)

    def heal(self) -> HealResult:
        """Bring what is damaged or missing in this copy back from the other regions.

        Raises:
            CorruptObjectError: the copy's evidence log is damaged.
            StoreUnavailableError: this region does not answer; what was healed stays.
        """
        declaration = self._vaults.declaration
        others = {
            one: self._vaults.store(one) for one in declaration.regions if one != self._region
        }
        return heal(
            self._vault.afresh(),
            others,
            home=declaration.home_region,
            keks=self._vaults.keks(),
        )

    def _look(self, level: str) -> list[VerificationEvidence]:
        if level == "V4":
            return self._restore_test()
        if level == "V5":
            return [self._drill()]
        look = LOOKS.get(level)
        if look is None:
            raise InvalidInputError("level", level, ", ".join([*LOOKS, "V4", "V5"]))
        started_at = self._vault.clock.now()
        if not self._whole and not self._snapshot_ids:
            return [roll(self._vault, level, started_at, code_version())]
        if level == "V3" and self._snapshot_ids:
            found = verify_content(self._vault, self._snapshot_ids)
            return [self._evidence(found, started_at, self._snapshot_ids, {CHOSEN_KEY: True})]
        return [self._evidence(look(self._vault), started_at, None)]

    def _evidence(
        self,
        found: Verification,
        started_at: datetime,
        snapshots: Sequence[str] | None,
        detail: Mapping[str, Any] | None = None,
    ) -> VerificationEvidence:
        return evidence_of(
            self._vault,
            found,
            started_at,
            snapshots=snapshots,
            detail=detail,
            code_version=code_version(),
        )

    def _restore_test(self) -> list[VerificationEvidence]:
        from resources.vault.drills.restore_test import run_restore_test

        found = run_restore_test(
            self._vault,
            self._workspace(),
            region=self._region,
            check_artefacts=check_held_artefacts,
            code_version=code_version(),
        )
        return list(reversed(found))

    def _drill(self) -> VerificationEvidence:
        """All other regions are taken as lost: this one's copy must do, with the recovery key."""
        from resources.vault.drills.drill import DrillRequest, run_drill

        declaration, network_id = self._vaults.declaration, self._vault.network_id
        (source, *_) = declaration.recovery_keys()
        request = DrillRequest(
            network_id=network_id,
            replicas={self._region: self._vaults.store(self._region)},
            kek_id=source.kek_id,
            read_recovery_key=lambda: read_wrapping_key(source),
            workloads=self._control_store.workloads(),
            agents=[
                declaration_of(agent)
                for agent in self._control_store.agents()
                if agent.network_id == network_id
            ],
            objectives=DrillObjectives(rto_all_s=float(declaration.rto_max_s)),
            code_version=code_version(),
        )
        found = run_drill(request, self._workspace(), self._vault.clock, self._on_phase)
        return found._replace(region=self._region)

    def _workspace(self) -> Path:
        return Path(self._vaults.declaration.workspace)


def check_held_artefacts(
    vault: NetworkVault, snapshot_id: str, folder: Path
) -> list[ApplicationCheck]:
    """Restore every artefact that a snapshot holds, and open each with its application.

    What a snapshot holds stands in its own cut record: one that was declared later is not missed
    in an older snapshot.
    """
    from resources.vault.restores.restore_files import restore_artefact
    from resources.vault.verification.restored_artefacts import ExpectedArtefact, RestoredArtefacts

    cut = vault.snapshot(snapshot_id).extra.get("cut") or {}
    expected = [
        ExpectedArtefact(name, entry["kind"])
        for name, entry in sorted(cut.get("artefacts", {}).items())
        if "taken_at" in entry
    ]

    def restore_one(vault: NetworkVault, name: str, into: Path, snapshot_id: str) -> object:
        return restore_artefact(vault, name, into, snapshot_id=snapshot_id)

    return RestoredArtefacts(expected, restore_one)(vault, snapshot_id, folder)


def _joined(snapshots: VerificationEvidence, beside: VerificationEvidence) -> VerificationEvidence:
    """Two looks of one level as the one row that people read."""
    return snapshots._replace(
        items=snapshots.items + beside.items,
        bytes_checked=snapshots.bytes_checked + beside.bytes_checked,
        seconds=snapshots.seconds + beside.seconds,
        failures=(*snapshots.failures, *beside.failures),
    )
