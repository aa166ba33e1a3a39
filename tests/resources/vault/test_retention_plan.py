"""A plan is applied whole, once, and only to the log that it was made for."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleet.backup_evidence import TaintEvidence, VerificationEvidence
from fleet.errors import InvalidInputError, NotFoundError, PermanentError, StoreUnavailableError
from fleet.ports.object_store import ObjectStore
from fleet.retention import RetentionPolicy
from fleet.retention_guards import Fate, PlanRow
from fleet.snapshot_fitness import GuardPolicy
from fleet.vault_keyspace import VAULT_KEY, plan_key
from fleet.vault_log import EvidenceRecord, ForgetRecord
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.network import NetworkVault
from resources.vault.retention.removal import append_next, forget, hold, release
from resources.vault.retention.retention_plan import (
    PlanOutcome,
    VaultPlan,
    apply_plan,
    approve,
    plan_vault,
    protected_from_sweep,
    store_plan,
)
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.evidence import record_evidence
from resources.vault.verification.verify import verify_content, verify_structure
from tests.fakes.clocked_store import ClockedStore
from tests.fakes.crashing_store import CRASHES, Crashed, CrashingStore, count_operations
from tests.fakes.vault_fleet import VaultFleet

POLICY = RetentionPolicy(last=2, hourly=0, daily=0, weekly=0, monthly=0, yearly=0)
GUARDS = GuardPolicy()
HOUR_S = 3600.0


class Aged:
    """A vault with hourly snapshots, all verified V1, looked at three days later."""

    def __init__(self, root: Path, snapshots: int = 8) -> None:
        """Build it in `root`."""
        self.root = root
        self.fleet = VaultFleet(4)
        self.store = ClockedStore(DirectoryObjectStore(root), self.fleet.clock)
        self.store.create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
        self.ids = [self.back_up() for _ in range(snapshots)]
        self.fleet.clock.advance(72 * HOUR_S)

    def back_up(self, verify: bool = True) -> str:
        """An hour later, with one agent changed."""
        self.fleet.clock.advance(HOUR_S)
        self.fleet.change("agent-0001")
        snapshot_id = back_up(self.vault(), self.fleet.store, workers=1).snapshot_id
        if verify:
            self.verified(snapshot_id)
        return snapshot_id

    def verified(self, snapshot_id: str, level: str = "V1", *failures: str) -> None:
        """Evidence of a verification of one snapshot."""
        now = self.fleet.clock.now()
        done = VerificationEvidence(
            "net", "eu", level, snapshot_id, now, 0.1, 1, 1, failures, "test"
        )
        record_evidence(self.vault(), "eu", done)

    def vault(self, store: ObjectStore | None = None) -> NetworkVault:
        """A handle as a fresh process opens it."""
        return self.fleet.vault(store or self.store)

    def plan(self, **more: Any) -> VaultPlan:
        """As the log stands now."""
        policy = more.get("policy", POLICY)
        return plan_vault(self.vault(), "eu", policy, more.get("guards", GUARDS))

    def live(self) -> set[str]:
        """Ids of live snapshots."""
        return set(self.vault().log.refresh().live)

    def row(self, snapshot_id: str) -> PlanRow:
        """How a snapshot fares in a plan made now."""
        (found,) = (one for one in self.plan().plan.rows if one.snapshot_id == snapshot_id)
        return found

    def copy(self, name: str) -> ClockedStore:
        """The same vault in another folder, with the same dates."""
        target = self.root.parent / name
        shutil.copytree(self.root, target)
        copied = ClockedStore(DirectoryObjectStore(target), self.fleet.clock)
        copied.modified_at = dict(self.store.modified_at)
        return copied


@pytest.fixture
def aged(tmp_path: Path) -> Aged:
    """Eight snapshots."""
    return Aged(tmp_path / "vault")


def test_a_plan_is_applied_by_one_record_that_names_it(aged: Aged) -> None:
    """The forget record stands right behind the head that the plan was made at."""
    decided = aged.plan()
    outcome = apply_plan(aged.vault(), decided)
    assert (outcome.applied, outcome.reason) == (True, "forgot 6 snapshots")
    assert aged.live() == set(aged.ids[-2:])
    vault = aged.vault()
    vault.log.refresh()
    last = vault.log.records[-1]
    assert last.record == ForgetRecord(frozenset(aged.ids[:-2]))
    assert last.position.seq == decided.plan.head + 1
    assert last.extra["plan"] == outcome.sha256
    data = aged.store.get(plan_key("net", outcome.sha256))
    assert hashlib.sha256(data).hexdigest() == outcome.sha256
    assert apply_plan(aged.vault(), aged.plan()).reason == "nothing to forget"


def read_plan(vault: NetworkVault, sha256: str) -> Any:
    """The rows of a stored plan, as any reader of Parquet sees them."""
    return pq.read_table(pa.BufferReader(vault.store.get(plan_key(vault.network_id, sha256))))


def test_a_stored_plan_lists_every_live_snapshot_with_its_reasons(aged: Aged) -> None:
    """Also those that stay; and storing it twice is storing it once."""
    decided = aged.plan()
    sha256 = store_plan(aged.vault(), decided)
    assert store_plan(aged.vault(), decided) == sha256
    table = read_plan(aged.vault(), sha256)
    rows = decided.plan.rows
    assert table["snapshot_id"].to_pylist() == aged.ids[::-1] == [one[0] for one in rows]
    assert table["reason"].to_pylist() == [one.reason for one in rows]
    assert table["taken_at"].to_pylist() == [one.taken_at for one in rows]
    assert table["rules"].to_pylist()[0] == ["number 1 by age (last 1 of 2)"]
    assert table["guards"].to_pylist()[0] == ["newest verified of this region (G4)"]
    with pytest.raises(NotFoundError):
        read_plan(aged.vault(), "0" * 64)


def test_a_plan_names_no_agent(aged: Aged) -> None:
    """Plans lie in the clear; a finding that names an agent stays in the alarm."""
    aged.verified(aged.ids[3], "V3", "pack p: agent-0001 differs from its digest")
    decided = aged.plan()
    assert any("agent-0001" in alarm.text for alarm in decided.plan.alarms)
    store_plan(aged.vault(), decided)
    for listed in aged.store.list_objects("plans/"):
        assert b"agent-0" not in aged.store.get(listed.key)
        assert b"agent-0" not in str(read_plan(aged.vault(), listed.key[-72:-8])).encode()


@pytest.mark.parametrize("mode", CRASHES)
def test_planning_and_applying_may_be_killed_at_any_operation(tmp_path: Path, mode: str) -> None:
    """Nothing or all of the plan is forgotten; running again ends with all, in one record."""
    aged = Aged(tmp_path / "vault", 5)
    expected = set(aged.ids[-2:])

    def run(store: ObjectStore) -> PlanOutcome:
        vault = aged.vault(store)
        return apply_plan(vault, plan_vault(vault, "eu", POLICY, GUARDS))

    total = count_operations(aged.copy("count"), run)
    assert total > 10
    for number in range(1, total + 1):
        store = aged.copy(str(number))
        try:
            assert run(CrashingStore(store, number, mode)).applied
        except Crashed:
            assert mode != "lost"
        except StoreUnavailableError:
            assert mode == "lost"
        assert set(aged.vault(store).log.refresh().live) in (set(aged.ids), expected)
        assert run(store).applied
        vault = aged.vault(store)
        assert set(vault.log.refresh().live) == expected
        forgets = [one for one in vault.log.records if isinstance(one.record, ForgetRecord)]
        assert [set(one.record.snapshot_ids) for one in forgets] == [set(aged.ids[:-2])]
        read_plan(vault, forgets[0].extra["plan"])
        assert verify_structure(vault).findings == ()
        assert verify_content(vault, sorted(expected)).findings == ()


class SleepingStore(CrashingStore):
    """Before operation `number` its user sleeps, and somebody else does something."""

    def __init__(self, inner: ObjectStore, number: int, meanwhile: Callable[[], object]) -> None:
        """Run `meanwhile` once."""
        super().__init__(inner)
        self.wake_at = number
        self.meanwhile = meanwhile

    def _run(self, name: str, work: Callable[[], Any]) -> Any:
        if self.calls + 1 == self.wake_at:
            self.meanwhile()
        return super()._run(name, work)


def test_a_hold_that_was_placed_at_any_moment_is_respected(tmp_path: Path) -> None:
    """Before any operation of the plan: it is found in the log before the record can be placed."""
    aged = Aged(tmp_path / "vault", 4)

    def run(store: ObjectStore) -> PlanOutcome:
        vault = aged.vault(store)
        return apply_plan(vault, plan_vault(vault, "eu", POLICY, GUARDS))

    outcomes = set()
    for number in range(1, count_operations(aged.copy("count"), run) + 1):
        store = aged.copy(str(number))
        placed = []

        def place(store: ObjectStore = store, placed: list[str] = placed) -> None:
            with contextlib.suppress(PermanentError):
                placed.append(hold(aged.vault(store), [aged.ids[0]], "legal"))

        outcome = run(SleepingStore(store, number, place))
        live = set(aged.vault(store).log.refresh().live)
        assert placed
        assert live == (set(aged.ids) - {aged.ids[1]} if outcome.applied else set(aged.ids))
        outcomes.add(outcome.applied)
    assert outcomes == {True, False}


def test_the_brake_counts_from_the_last_plan_that_was_applied(tmp_path: Path) -> None:
    """Ten may go and as many as came since; what a person forgot by hand is no plan."""
    aged = Aged(tmp_path / "vault", 12)
    assert apply_plan(aged.vault(), aged.plan()).applied
    for _ in range(13):
        aged.back_up()
    forget(aged.vault(), [aged.ids[-1]])
    aged.fleet.clock.advance(72 * HOUR_S)
    decided = aged.plan()
    assert len(decided.plan.forget) == 12
    assert apply_plan(aged.vault(), decided).applied


def test_when_the_log_moved_without_touching_the_plan_it_is_applied_anew(aged: Aged) -> None:
    """A note in between: the plan is computed again at the new head and forgets the same."""
    decided = aged.plan()
    append_next(aged.vault(), note_once(aged))
    outcome = apply_plan(aged.vault(), decided)
    assert outcome.applied
    assert outcome.decided.plan.head == decided.plan.head + 1
    assert aged.live() == set(aged.ids[-2:])


def note_once(aged: Aged) -> Callable[[Any], EvidenceRecord | None]:
    """A decision to append one note."""
    head = aged.vault().log.refresh().head
    return lambda state: EvidenceRecord("note", "x") if state.head == head else None


def test_when_the_log_moved_and_the_plan_changes_it_comes_back_unapplied(aged: Aged) -> None:
    """A hold in between spares a snapshot; the outcome says what moved and what changed."""
    decided = aged.plan()
    hold(aged.vault(), [aged.ids[0]], "legal")
    outcome = apply_plan(aged.vault(), decided)
    assert not outcome.applied
    assert outcome.reason == (
        f"the log moved from {decided.plan.head} to {decided.plan.head + 1} (hold); "
        f"the new plan no longer forgets {aged.ids[0]}"
    )
    assert aged.live() == set(aged.ids)
    assert apply_plan(aged.vault(), outcome.decided).applied
    assert aged.live() == {aged.ids[0], *aged.ids[-2:]}


def test_a_new_snapshot_that_makes_another_one_expire_is_named(aged: Aged) -> None:
    """It is not forgotten by a plan that did not say so."""
    decided = aged.plan()
    fresh = aged.back_up()
    outcome = apply_plan(aged.vault(), decided)
    assert not outcome.applied
    assert f"(snapshot {fresh})" in outcome.reason
    assert f"forgets {aged.ids[-2]} as well" in outcome.reason


def test_applying_a_plan_that_somebody_else_has_applied_is_done(aged: Aged) -> None:
    """Two schedulers with the same plan: one record."""
    first, second = aged.plan(), aged.plan()
    assert apply_plan(aged.vault(), first).applied
    outcome = apply_plan(aged.vault(), second)
    assert (outcome.applied, outcome.reason) == (True, "forgotten already")
    vault = aged.vault()
    vault.log.refresh()
    assert sum(isinstance(one.record, ForgetRecord) for one in vault.log.records) == 1


def test_a_plan_beyond_the_brake_waits_for_an_approval(tmp_path: Path) -> None:
    """Refused whole, stored, approved once, then applied though the log has moved by the word."""
    aged = Aged(tmp_path / "vault", 14)
    refused = apply_plan(aged.vault(), aged.plan())
    assert not refused.applied
    assert "12 snapshots without approval, at most 10" in refused.reason
    assert read_plan(aged.vault(), refused.sha256).num_rows == 14
    assert len(aged.live()) == 14
    approval = approve(aged.vault(), refused.decided, "ada", "policy was shortened on purpose")
    assert approval.subject == refused.decided.plan.digest
    head = aged.vault().log.refresh().head
    approve(aged.vault(), refused.decided, "ada", "policy was shortened on purpose")
    assert aged.vault().log.refresh().head == head
    assert apply_plan(aged.vault(), aged.plan()).applied
    assert aged.live() == set(aged.ids[-2:])


def test_an_approved_snapshot_is_counted_again(aged: Aged) -> None:
    """It fell by half, a person believes it, and a rule keeps it."""
    aged.fleet.drop("agent-0003")
    fallen = aged.back_up()
    assert aged.row(fallen).fate == Fate.INELIGIBLE
    approve(aged.vault(), fallen, "ada", "scaled down")
    assert aged.row(fallen).fate == Fate.KEEP


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("ada", " ")])
def test_an_approval_names_a_person_and_a_reason(aged: Aged, by: str, reason: str) -> None:
    """Nothing is recorded without."""
    head = aged.vault().log.refresh().head
    with pytest.raises(InvalidInputError, match=r"approval\.(by|reason)"):
        approve(aged.vault(), aged.ids[0], by, reason)
    with pytest.raises(NotFoundError, match="no live snapshot unknown"):
        approve(aged.vault(), "unknown", "ada", "why")
    assert aged.vault().log.refresh().head == head


@pytest.mark.parametrize("mode", CRASHES)
def test_approving_may_be_killed_at_any_operation(tmp_path: Path, mode: str) -> None:
    """Said once or not at all; saying it again is saying it once."""
    aged = Aged(tmp_path / "vault", 2)

    def run(store: ObjectStore) -> None:
        approve(aged.vault(store), aged.ids[0], "ada", "looked at")

    for number in range(1, count_operations(aged.copy("count"), run) + 1):
        store = aged.copy(str(number))
        with contextlib.suppress(Crashed, StoreUnavailableError):
            run(CrashingStore(store, number, mode))
        run(store)
        vault = aged.vault(store)
        assert vault.log.refresh().head == 3


def test_a_hold_counts_until_it_is_released_or_expires(aged: Aged) -> None:
    """By the store's time; the row names reason and end."""
    oldest = aged.ids[0]
    expires_at = aged.fleet.clock.now() + timedelta(hours=1)
    kept = hold(aged.vault(), [oldest], "legal")
    hold(aged.vault(), [oldest], "drill", expires_at)
    until = f"{expires_at:%Y-%m-%d %H:%M}Z"
    assert aged.row(oldest).reason == f"held: drill until {until}, legal (G8)"
    release(aged.vault(), kept)
    assert aged.row(oldest).reason == f"held: drill until {until} (G8)"
    aged.fleet.clock.advance(HOUR_S)
    assert aged.row(oldest).fate == Fate.FORGET


def test_only_the_evidence_of_the_region_itself_counts(aged: Aged) -> None:
    """What was verified in `eu` is still to be verified in `us`."""
    found = plan_vault(aged.vault(), "us", POLICY, GUARDS).plan
    assert {one.fate for one in found.rows} == {Fate.PENDING}
    assert found.forget == ()


def test_a_failure_stands_until_its_level_or_a_full_read_passes(aged: Aged) -> None:
    """V1 later than a failed V3 does not clear it; V3 does."""
    newest = aged.ids[-1]
    aged.verified(newest, "V3", "pack p: damaged")
    aged.fleet.clock.advance(60)
    aged.verified(newest, "V1")
    assert aged.row(newest).fate == Fate.INELIGIBLE
    aged.fleet.clock.advance(60)
    aged.verified(newest, "V3")
    assert aged.row(newest).fate == Fate.KEEP


def test_a_tainted_snapshot_is_not_counted_and_says_what_is_lost(aged: Aged) -> None:
    """The taint names the object and the number of agents, not the agents."""
    lost = TaintEvidence(
        "net",
        "eu",
        "packs/net/x/abc.pack",
        "gone",
        (aged.ids[-1],),
        ("a",),
        1,
        aged.fleet.clock.now(),
    )
    record_evidence(aged.vault(), "eu", lost)
    assert aged.row(aged.ids[-1]).reason == (
        "ineligible: tainted: 1 agents lost with abc.pack (G1)"
    )
    assert aged.row(aged.ids[-2]).fate == Fate.KEEP


def test_a_writer_whose_clock_runs_ahead_of_the_store_is_found_out(aged: Aged) -> None:
    """G5 with the real store: its listing dates the record an hour earlier than the cut."""
    aged.fleet.clock.jump(HOUR_S)
    ahead = aged.back_up()
    newest = max(key for key in aged.store.modified_at if key.startswith("log/"))
    aged.store.modified_at[newest] -= timedelta(hours=1)
    row = aged.row(ahead)
    assert row.fate == Fate.INELIGIBLE
    assert "after the store's time" in row.reason


def test_a_replica_asks_its_own_evidence_before_it_sweeps(aged: Aged) -> None:
    """A forget of what the rules keep is refused with reasons; an expired one is not."""
    doomed = frozenset(aged.ids[:-1])
    forget(aged.vault(), doomed)
    kept = protected_from_sweep(aged.vault(), "eu", doomed, POLICY, GUARDS)
    assert kept.keys() == {aged.ids[-2]}
    assert kept[aged.ids[-2]].startswith("keep: number 2 by age (last 2 of 2)")
