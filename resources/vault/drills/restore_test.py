"""V4: a real restore into an isolated place, and the checks that its applications would make.

The newest snapshot and a random older one are restored through the same code as in an emergency,
into a control store of their own; then every state is compared with the manifest, agents load
theirs through the node's API, and every artefact is opened by the library that reads it. What is
found is evidence; nothing but a wrong argument raises.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from fleet.backup_evidence import VerificationEvidence
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    StateroomError,
)
from fleet.names import validate_name
from fleet.restore_test_plan import TestedSnapshot, select_loaded_agents, select_tested_snapshots
from resources.vault.drills.agent_loading import load_agents
from resources.vault.drills.fresh_store import (
    demand_room,
    open_fresh_store,
    read_back,
    restore_fresh,
    states_of,
)
from resources.vault.drills.isolated_workspace import isolated_workspace
from resources.vault.drills.phase_timer import PhaseTimer, in_words
from resources.vault.network import NetworkVault
from resources.vault.restores.restore import find_manifest
from resources.vault.verification.application_checks import ApplicationCheck

AGENTS_SAMPLE = 200
"""Agents that load their state over the API: about a second."""
WORKSPACE_KIND = "restore-test"
_SNAPSHOTS_FAULTS = (CorruptObjectError, NotFoundError)
"""What stops a test because of the snapshot; everything else is the tester's own trouble."""
_NAMED = 20
"""Problems that one check spells out."""

ArtefactChecks = Callable[[NetworkVault, str, Path], Sequence[ApplicationCheck]]
"""Restores the artefacts of a snapshot below a folder and checks them."""


def no_artefacts(_vault: NetworkVault, _snapshot_id: str, _folder: Path) -> list[ApplicationCheck]:
    """For a network that holds agent states only."""
    return []


class _Outcome(NamedTuple):
    """What the test of one snapshot came to, without times."""

    items: int
    size_bytes: int
    checks: tuple[ApplicationCheck, ...]


def run_restore_test(
    vault: NetworkVault,
    workspace: Path,
    *,
    region: str,
    snapshot_ids: Sequence[str] | None = None,
    seed: int | None = None,
    agents_sample: int = AGENTS_SAMPLE,
    check_artefacts: ArtefactChecks = no_artefacts,
    code_version: str = "",
) -> tuple[VerificationEvidence, ...]:
    """Restore snapshots into an isolated place and check them as their applications would.

    Args:
        vault: the opened network, of any region.
        workspace: parent of the temporary folder; it needs three times the snapshot's size. What
            an earlier test has left there when it was killed is removed first.
        region: whose copy this is, for the evidence.
        snapshot_ids: which snapshots; None for the newest and a random older one.
        seed: of the random choices; None draws one. The evidence names it.
        agents_sample: how many agents load their state over the API.
        check_artefacts: restores and checks what is not an agent's state.
        code_version: for the evidence.

    Returns:
        Evidence of level V4, one for each snapshot, the newest first; one without a snapshot when
        none could be chosen. `detail` holds `checks`, `phases`, `seed`, and an empty `snapshots`
        when the test itself could not be made: then nothing is proven, for or against.

    Raises:
        InvalidInputError: `region` or `agents_sample`.
    """
    validate_name("region", region)
    if agents_sample < 0:
        raise InvalidInputError("agents_sample", agents_sample, "0 or more")
    used_seed = secrets.randbits(31) if seed is None else seed
    # Nothing cached: a test looks at what is stored now.
    fresh = vault.afresh()
    fresh.read_only = True
    try:
        chosen = _choose(fresh, snapshot_ids, used_seed)
    except StateroomError as error:
        chosen, fault = (TestedSnapshot("", vault.clock.now(), "none"),), str(error)
    else:
        fault = ""
    return tuple(
        _Test(fresh, region, one, used_seed, agents_sample, check_artefacts, code_version).run(
            workspace, fault
        )
        for one in chosen
    )


def _choose(
    vault: NetworkVault, snapshot_ids: Sequence[str] | None, seed: int
) -> tuple[TestedSnapshot, ...]:
    if snapshot_ids is None:
        live = vault.log.refresh().live.items()
        chosen = select_tested_snapshots([(one, record.taken_at) for one, record in live], seed)
        if chosen:
            return chosen
        vault.find_snapshot(None)  # raises, and says why there is none
    found = [find_manifest(vault, None, one)[0] for one in snapshot_ids or ()]
    asked = (TestedSnapshot(one.snapshot_id, one.taken_at, "as asked for") for one in found)
    return tuple(sorted(asked, key=lambda one: one.taken_at, reverse=True))


class _Test:
    """The test of one snapshot."""

    def __init__(
        self,
        vault: NetworkVault,
        region: str,
        snapshot: TestedSnapshot,
        seed: int,
        agents_sample: int,
        check_artefacts: ArtefactChecks,
        code_version: str,
    ) -> None:
        self._vault, self._region, self._snapshot = vault, region, snapshot
        self._seed, self._agents_sample = seed, agents_sample
        self._check_artefacts, self._code_version = check_artefacts, code_version
        self._phases = PhaseTimer(vault.clock)

    def run(self, workspace: Path, fault: str) -> VerificationEvidence:
        """Restore, check, remove; whatever happens becomes evidence."""
        clock = self._vault.clock
        started_at, began_s = clock.now(), clock.monotonic_s()
        failures = [fault] if fault else []
        outcome, judged = _Outcome(0, 0, ()), not fault
        if not fault:
            try:
                with isolated_workspace(workspace, WORKSPACE_KIND) as folder:
                    outcome = self._in_workspace(folder)
            except (StateroomError, OSError) as error:
                failures.append(in_words(error))
                judged = isinstance(error, _SNAPSHOTS_FAULTS)
        failures += [f"{one.name}: {one.reason}" for one in outcome.checks if not one.passed]
        return VerificationEvidence(
            network_id=self._vault.network_id,
            region=self._region,
            level="V4",
            snapshot_id=self._snapshot.snapshot_id,
            started_at=started_at,
            seconds=clock.monotonic_s() - began_s,
            items=outcome.items,
            bytes_checked=outcome.size_bytes,
            failures=tuple(failures),
            code_version=self._code_version,
            detail=self._detail(outcome, judged=judged),
        )

    def _detail(self, outcome: _Outcome, *, judged: bool) -> dict[str, Any]:
        # A full disk here, or a store that does not answer now, condemns no snapshot.
        unjudged: dict[str, Any] = {} if judged else {"snapshots": []}
        return unjudged | {
            "reason": self._snapshot.reason,
            "taken_at": self._snapshot.taken_at.isoformat(),
            "seed": self._seed,
            "checks": [{**one._asdict(), "numbers": dict(one.numbers)} for one in outcome.checks],
            "phases": [one._asdict() for one in self._phases.phases],
        }

    def _in_workspace(self, folder: Path) -> _Outcome:
        vault = self._vault
        with self._phases.phase("find"):
            found, manifest = find_manifest(vault, None, self._snapshot.snapshot_id)
            states = states_of(manifest)
        with ExitStack() as stack:
            with self._phases.phase("open a fresh store"):
                fresh = stack.enter_context(open_fresh_store(folder / "store", vault.clock))
            demand_room(fresh, states)
            with self._phases.phase("restore"):
                result = restore_fresh(vault, fresh, states, found.snapshot_id, {})
            with self._phases.phase("compare"):
                compared = read_back(fresh.store, states)
            with self._phases.phase("load"):
                sample = select_loaded_agents(states, self._agents_sample, self._seed)
                loading = load_agents(
                    fresh.store, vault.network_id, sample, folder / "api.sock", vault.clock
                )
        with self._phases.phase("artefacts"):
            artefacts = self._check_artefacts(vault, found.snapshot_id, folder)
        refused = tuple(f"{one}: {why}" for one, why in result.refused)
        checks = (
            _check("states are restored", refused, {"restored": result.restored}),
            _check("states equal the manifest", compared.problems, {"states": compared.states}),
            _check("agents load their states", loading.problems, {"agents": loading.agents}),
            *artefacts,
        )
        return _Outcome(compared.states + len(artefacts), compared.size_bytes, checks)


def _check(name: str, problems: Sequence[str], numbers: dict[str, Any]) -> ApplicationCheck:
    if not problems:
        return ApplicationCheck(name, passed=True, reason="all of them", numbers=numbers)
    more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    reason = "; ".join(problems[:_NAMED]) + more
    return ApplicationCheck(name, passed=False, reason=reason, numbers=numbers)
