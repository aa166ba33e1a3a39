"""V5: the disaster drill. The home region is taken as lost; the clock runs until agents work.

What it is given is what a disaster leaves: the vaults of the other regions, the recovery key, and
the declared workloads. It opens, chooses, restores, starts real agents on an isolated node, and
measures. What it finds is evidence, also when it fails; nothing but a wrong argument raises.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.agents import Workload
from fleet.backup_evidence import VerificationEvidence
from fleet.drill_plan import (
    Candidate,
    Choice,
    DrillMeasures,
    DrillObjectives,
    DrillPhase,
    RegionCopy,
    judge_drill,
    measure_rpo,
    plan_drill,
    select_started,
)
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NodeUnavailableError,
    NotFoundError,
    StateroomError,
    StoreUnavailableError,
)
from fleet.names import validate_name
from fleet.ports.clock import Clock
from fleet.ports.key_wrapper import KeyWrapper
from fleet.ports.object_store import ObjectStore
from fleet.reports import AgentDeclaration
from fleet.restore_test_plan import LoadedState
from resources.vault.drills.drill_fleet import DRILL_NODE, DRILL_REGION, DrillFleet, end_left_nodes
from resources.vault.drills.fresh_store import (
    FreshStore,
    demand_room,
    open_fresh_store,
    restore_fresh,
    states_of,
)
from resources.vault.drills.isolated_workspace import isolated_workspace
from resources.vault.drills.phase_timer import PhaseTimer, in_words
from resources.vault.drills.region_copies import copy_of, manifest_of
from resources.vault.network import NetworkVault, open_network

AGENTS_CAP = 200
"""Agents that a drill starts at most; the others are restored only."""
ATTEMPTS_MAX = 5
"""Copies that are tried before a drill gives up: five damaged ones are no accident."""
TIMEOUT_S = 300.0
WORKSPACE_KIND = "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRequest:
    """What a disaster leaves, and what is demanded of a drill."""

    network_id: str
    replicas: Mapping[str, ObjectStore]
    """Region -> its vault, without the region that is taken as lost."""
    kek_id: str
    """Of the recovery key, for the evidence of a drill that could not read it."""
    read_recovery_key: Callable[[], KeyWrapper]
    """Called once, inside the measured time."""
    workloads: Sequence[Workload]
    """As declared in the settings."""
    agents: Sequence[AgentDeclaration]
    """As declared in the settings; those that the snapshot does not hold are not started."""
    agents_cap: int = AGENTS_CAP
    timeout_s: float = TIMEOUT_S
    """For starting the node, and again for the agents."""
    objectives: DrillObjectives = field(default_factory=DrillObjectives)
    code_version: str = ""

    def __post_init__(self) -> None:
        """Refuse what no drill can be made of.

        Raises:
            InvalidInputError: names the field.
        """
        validate_name("network_id", self.network_id)
        if not self.replicas:
            raise InvalidInputError("replicas", "none", "at least one region beside the home")
        for region in self.replicas:
            validate_name("region", region)
        if self.agents_cap < 1:
            raise InvalidInputError("agents_cap", self.agents_cap, "1 or more")
        if not 0 < self.timeout_s < 1e6:
            raise InvalidInputError("timeout_s", self.timeout_s, "a positive number of seconds")


def run_drill(
    request: DrillRequest,
    workspace: Path,
    clock: Clock,
    on_phase: Callable[[DrillPhase], None] | None = None,
) -> VerificationEvidence:
    """Declare a disaster, and measure how long it takes until agents work again.

    Args:
        request: what is left, and what is demanded.
        workspace: parent of the temporary folder, with a short path (it holds a socket) and room
            for three times the snapshot; what a killed drill left there is ended and removed.
        clock: of this machine.
        on_phase: is told of each phase as it ends; None for nobody.

    Returns:
        Evidence of level V5. `detail` holds `rpo_s`, `rto_first_step_s`, `rto_all_s` (None where
        it was not reached); `agents` restored, `agents_started`, `agents_running`,
        `agents_stepped`, `from_journal` (agents whose state came from the journal); `region`,
        `covered_until`, `kek_id`; `phases`, `choices`, `fallbacks` (what could not be restored,
        and why) and `damaged` (`region/snapshot` of those that a V3 should look at). That of a
        failed drill says nothing of its snapshot (`snapshots` is empty): agents or clocks failed,
        not bytes.
    """
    drill = _Drill(request, clock, on_phase)
    try:
        with isolated_workspace(workspace, WORKSPACE_KIND, before_removal=end_left_nodes) as folder:
            drill.carry_out(folder)
    except (StateroomError, OSError) as error:
        drill.failures.append(in_words(error))
    return drill.evidence()


class _Drill:
    """One drill; the moment it is made is the declaration."""

    def __init__(
        self,
        request: DrillRequest,
        clock: Clock,
        on_phase: Callable[[DrillPhase], None] | None,
    ) -> None:
        self._request, self._clock = request, clock
        self._declared_at, self._began_s = clock.now(), clock.monotonic_s()
        self._timer = PhaseTimer(clock, on_phase)
        self._kek_id = request.kek_id
        self._used: Candidate | None = None
        self._choices: tuple[Choice, ...] = ()
        self._fallbacks: list[str] = []
        self._damaged: list[str] = []
        self._measures = DrillMeasures()
        self._size_bytes = self._stepped = self._from_journal = 0
        self.failures: list[str] = []

    def carry_out(self, folder: Path) -> None:
        """All of it; raises what stops it."""
        with self._timer.phase("read the recovery key"):
            key = self._request.read_recovery_key()
            self._kek_id = key.kek_id
        vaults, copies = self._open(key)
        plan = plan_drill(copies, self._declared_at)
        self._choices = plan.choices
        if not plan.candidates:
            reasons = "; ".join(f"{one.subject}: {one.reason}" for one in plan.choices)
            raise NotFoundError(
                f"no region holds a snapshot that can be restored: {reasons}",
                hint="docs/runbook.md, 'A restore test or drill is red'.",
            )
        with ExitStack() as stack:
            fresh, started = self._restore_any(stack, folder, vaults, plan.candidates)
            self._run_agents(fresh, started)
        self.failures += judge_drill(self._measures, self._request.objectives)

    def evidence(self) -> VerificationEvidence:
        """What became of it."""
        used, measures = self._used, self._measures
        return VerificationEvidence(
            network_id=self._request.network_id,
            region=used.region if used else min(self._request.replicas),
            level="V5",
            snapshot_id=used.snapshot_id if used else "",
            started_at=self._declared_at,
            seconds=self._clock.monotonic_s() - self._began_s,
            items=measures.restored,
            bytes_checked=self._size_bytes,
            failures=tuple(self.failures),
            code_version=self._request.code_version,
            detail=self._detail(),
        )

    def _detail(self) -> dict[str, Any]:
        used, measures = self._used, self._measures
        # What a failed drill failed at is not the snapshot that it restored.
        unjudged: dict[str, Any] = {"snapshots": []} if self.failures else {}
        return unjudged | {
            "rpo_s": measures.rpo_s,
            "rto_first_step_s": measures.rto_first_step_s,
            "rto_all_s": measures.rto_all_s,
            "agents": measures.restored,
            "agents_started": measures.wanted,
            "agents_running": measures.running,
            "agents_stepped": self._stepped,
            "region": used.region if used else "",
            "covered_until": used.covered_until.isoformat() if used else "",
            "from_journal": self._from_journal,
            "kek_id": self._kek_id,
            "phases": [one._asdict() for one in self._timer.phases],
            "choices": [one._asdict() for one in self._choices],
            "fallbacks": list(self._fallbacks),
            "damaged": list(self._damaged),
        }

    def _open(self, key: KeyWrapper) -> tuple[dict[str, NetworkVault], list[RegionCopy]]:
        """Open every region's vault and look at its structure (V1), now."""
        vaults: dict[str, NetworkVault] = {}
        copies = []
        for region, store in sorted(self._request.replicas.items()):
            with self._timer.phase(f"open and verify {region}"):
                try:
                    vault = open_network(
                        store, self._request.network_id, [key], self._clock, region=region
                    )
                    vault.read_only = True
                    copies.append(copy_of(vault, region))
                    vaults[region] = vault
                except (StateroomError, OSError) as error:
                    copies.append(RegionCopy(region, (), in_words(error)))
        return vaults, copies

    def _restore_any(
        self,
        stack: ExitStack,
        folder: Path,
        vaults: Mapping[str, NetworkVault],
        candidates: Sequence[Candidate],
    ) -> tuple[FreshStore, list[AgentDeclaration]]:
        """Restore the first copy that can be; the store stays open as long as the stack."""
        for number, one in enumerate(candidates[:ATTEMPTS_MAX]):
            subject = f"{one.region}/{one.snapshot_id}"
            subject += " with its journal" if one.with_journal else ""
            place = folder / f"attempt-{number}"
            with self._timer.phase(f"restore {subject}"), ExitStack() as attempt:
                fresh = attempt.enter_context(open_fresh_store(place, self._clock))
                try:
                    vault = vaults[one.region]
                    states = states_of(manifest_of(vault, one))
                    self._demand_room(fresh, states)
                    started = self._started({state.agent_id for state in states})
                    self._restore(vault, one, fresh, states, started)
                except (CorruptObjectError, NotFoundError, StoreUnavailableError) as error:
                    self._fallbacks.append(f"{subject} could not be restored: {in_words(error)}")
                    if not isinstance(error, StoreUnavailableError):
                        self._damaged.append(subject)
                else:
                    stack.push(attempt.pop_all())
                    return fresh, started
            shutil.rmtree(place)
        raise CorruptObjectError(
            f"{len(self._fallbacks)} copies were tried: {'; '.join(self._fallbacks)}",
            hint="docs/runbook.md, 'A restore test or drill is red'.",
        )

    @staticmethod
    def _demand_room(fresh: FreshStore, states: Sequence[LoadedState]) -> None:
        try:
            demand_room(fresh, states)
        except StoreUnavailableError as error:
            # Of this machine, not of the copy: another copy would not fit either.
            raise NodeUnavailableError(str(error), hint=error.hint) from error

    def _restore(
        self,
        vault: NetworkVault,
        candidate: Candidate,
        fresh: FreshStore,
        states: Sequence[LoadedState],
        started: Sequence[AgentDeclaration],
    ) -> None:
        by_id = {one.agent_id: one for one in started}
        snapshot_id = None if candidate.with_journal else candidate.snapshot_id
        result = restore_fresh(vault, fresh, states, snapshot_id, by_id, DRILL_NODE)
        self._used, self._size_bytes = candidate, result.bytes_logical
        self._from_journal = result.from_journal
        self._measures = DrillMeasures(
            rpo_s=measure_rpo(self._declared_at, candidate.covered_until),
            restored=result.restored,
            wanted=len(started),
        )
        self.failures += [f"{one} was refused: {why}" for one, why in result.refused]
        self.failures += [f"{one} is missing: {why}" for one, why in result.missing]

    def _started(self, restored: set[str]) -> list[AgentDeclaration]:
        """The agents that are started, at home on the drill's node."""
        network_id = self._request.network_id
        known = {one.workload for one in self._request.workloads}
        fitting = (
            one
            for one in self._request.agents
            if one.network_id == network_id and one.workload in known
        )
        chosen = select_started(fitting, restored, self._request.agents_cap)
        return [one._replace(region=DRILL_REGION) for one in chosen]

    def _run_agents(self, fresh: FreshStore, started: Sequence[AgentDeclaration]) -> None:
        """Start the node, watch until agents work, stop everything."""
        if not started:
            return
        request = self._request
        agents = DrillFleet(fresh, started, self._clock)
        try:
            with self._timer.phase("start the node"):
                agents.start(
                    [one for one in request.workloads if one.network_id == request.network_id],
                    request.timeout_s,
                )
            with self._timer.phase("agents at work"):
                progress = agents.watch(request.timeout_s)
            self._stepped = progress.stepped
            self._measures = self._measures._replace(
                rto_first_step_s=self._since_declared(progress.first_step_s),
                rto_all_s=self._since_declared(progress.all_running_s),
                running=progress.running,
            )
            self.failures += progress.problems
        finally:
            with self._timer.phase("stop"):
                self.failures += agents.stop()

    def _since_declared(self, moment_s: float | None) -> float | None:
        return None if moment_s is None else moment_s - self._began_s
