"""Forget, undelete, hold, release, gc and sweep: each is a record first, and a deletion much later.

Every record is decided at a log head and is worth something only as the very next record; when
somebody else was faster it is decided anew. `sweep` alone deletes, and only what a gc record named.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.errors import PermanentError, StoreUnavailableError
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vault_keyspace import parse_place
from fleet.vault_log import (
    ForgetRecord,
    GcRecord,
    HoldRecord,
    ListedPack,
    LogRecord,
    ReleaseRecord,
    UndeleteRecord,
    VaultState,
    plan_gc,
    refuse_forget,
    refuse_undelete,
)
from resources.vault.network import NetworkVault
from resources.vault.replicas.promote import branch_packs

GRACE = timedelta(hours=24)
"""How long an uncommitted pack is left alone, and how long a condemned one stays to be read."""
_TRIES = 20


class GcResult(NamedTuple):
    """What a gc condemned; nothing is deleted yet."""

    condemned: int
    aborted: int
    bytes_condemned: int
    reasons: dict[str, str]
    """By pack."""


class SweepResult(NamedTuple):
    """What a sweep deleted."""

    objects: int
    bytes_freed: int


def forget(vault: NetworkVault, snapshot_ids: Iterable[str]) -> None:
    """Make snapshots no longer live; an undelete undoes it until a gc.

    Raises:
        PermanentError: unknown, held, or no live snapshot would be left; nothing was written.
    """
    wanted = frozenset(snapshot_ids)

    def decide(state: VaultState) -> LogRecord | None:
        if wanted and wanted <= state.forgotten.keys():
            return None
        _demand(refuse_forget(state, wanted, vault.clock.now()), "forget")
        return ForgetRecord(wanted)

    append_next(vault, decide)


def undelete(vault: NetworkVault, snapshot_id: str) -> None:
    """Make a forgotten snapshot live again.

    Raises:
        PermanentError: it was not forgotten, or a gc has condemned its packs.
    """

    def decide(state: VaultState) -> LogRecord | None:
        if snapshot_id in state.live:
            return None
        _demand(refuse_undelete(state, snapshot_id), "undelete")
        return UndeleteRecord(snapshot_id)

    append_next(vault, decide)


def hold(
    vault: NetworkVault,
    snapshot_ids: Iterable[str],
    reason: str,
    expires_at: datetime | None = None,
) -> str:
    """Keep snapshots from being forgotten; the hold's id.

    Raises:
        PermanentError: one of them is not live.
    """
    record = HoldRecord(vault.new_id(), frozenset(snapshot_ids), expires_at, reason)

    def decide(state: VaultState) -> LogRecord | None:
        unknown = record.snapshot_ids - state.live.keys()
        _demand(f"not live: {', '.join(sorted(unknown))}" if unknown else None, "hold")
        return None if record.hold_id in state.holds else record

    append_next(vault, decide)
    return record.hold_id


def release(vault: NetworkVault, hold_id: str) -> None:
    """End a hold; one that has ended already is no error."""
    append_next(vault, lambda state: ReleaseRecord(hold_id) if hold_id in state.holds else None)


def collect_garbage(vault: NetworkVault, grace: timedelta = GRACE) -> GcResult:
    """Condemn what no live or held snapshot needs; committed by one record, deletes nothing.

    Args:
        vault: the opened network.
        grace: how long packs without a committed owner are left alone, by the store's clock.
    """
    append = _Appending(vault)
    for _ in range(_TRIES):
        fresh, result = _plan_garbage(vault, grace)
        if not (fresh.condemned or fresh.aborted):
            return result
        if append(fresh):
            return result
    raise _too_busy(vault)


def preview_garbage(vault: NetworkVault, grace: timedelta = GRACE) -> GcResult:
    """What `collect_garbage` would condemn now; nothing is recorded."""
    return _plan_garbage(vault, grace)[1]


def sweep(vault: NetworkVault, delay: timedelta = GRACE) -> SweepResult:
    """Delete what gc records condemned at least `delay` ago; killed anywhere, it is run again.

    The delay is for readers and for second thoughts; no safety argument needs it.

    Raises:
        PermanentError: a condemned pack is needed by a live snapshot; nothing was deleted.
    """
    doomed = _doomed(vault, delay)
    vault.store.delete([one.key for one in doomed])
    return SweepResult(len(doomed), sum(one.size_bytes for one in doomed))


def preview_sweep(vault: NetworkVault, delay: timedelta = GRACE) -> SweepResult:
    """What `sweep` would delete now; nothing is deleted."""
    doomed = _doomed(vault, delay)
    return SweepResult(len(doomed), sum(one.size_bytes for one in doomed))


def append_next(vault: NetworkVault, decide: Callable[[VaultState], LogRecord | None]) -> None:
    """Append what `decide` says at the head, deciding anew when somebody else was faster.

    Args:
        vault: the opened network.
        decide: the record for a state; None when the state is already as wanted, which is also
            how a lost answer is found out.
    """
    append = _Appending(vault)
    for _ in range(_TRIES):
        record = decide(vault.log.refresh())
        if record is None or append(record):
            return
    raise _too_busy(vault)


def store_time(store: ObjectStore) -> datetime:
    """Now, by the store's own clock: that of an object just written."""
    key = f"probe/{uuid.uuid4().hex}"
    store.create(key, b"")
    try:
        return next(one.modified_at for one in store.list_objects(key))
    except StopIteration:
        raise StoreUnavailableError(f"object {key} was created and is not listed") from None
    finally:
        store.delete([key])


def _plan_garbage(vault: NetworkVault, grace: timedelta) -> tuple[GcRecord, GcResult]:
    """The gc record that belongs behind the head, and what it says."""
    # Packs are listed BEFORE the log is read: what is committed in between is then seen.
    now = store_time(vault.store)
    listed = vault.list_packs()
    state = vault.log.refresh()
    kept = branch_packs(vault)
    packs = [_as_pack(one, now) for one in listed]
    plan = plan_gc(state, [one for one in packs if one.pack not in kept], grace)
    fresh = GcRecord(plan.record.condemned, plan.record.aborted - state.aborted)
    sizes = {parse_place(one.key, 0).sha256: one.size_bytes for one in listed}
    result = GcResult(
        len(fresh.condemned),
        len(fresh.aborted),
        sum(sizes[one] for one in fresh.condemned),
        dict(plan.reasons),
    )
    return fresh, result


def _doomed(vault: NetworkVault, delay: timedelta) -> list[ListedObject]:
    """What gc records condemned long enough ago, and is still there."""
    state = vault.log.refresh()
    due = vault.clock.now() - delay
    old = [one.record for one in vault.log.records if one.written_at <= due]
    condemned = frozenset[str]().union(*(one.condemned for one in old if isinstance(one, GcRecord)))
    aborted = frozenset[str]().union(*(one.aborted for one in old if isinstance(one, GcRecord)))
    needed = frozenset[str]().union(*(one.packs for one in state.live.values()))
    branches = branch_packs(vault)
    doomed = []
    for listed in vault.list_packs():
        place = parse_place(listed.key, listed.size_bytes)
        if place.sha256 in branches:
            continue
        if place.sha256 in condemned or place.owner in aborted:
            if place.sha256 in needed:
                raise PermanentError(
                    f"object {listed.key} is condemned and needed by a live snapshot",
                    hint="Report this; nothing was deleted.",
                )
            doomed.append(listed)
    return doomed


class _Appending:
    """Appends; an unanswered one counts as not done, and the next look at the log finds out.

    A second silence is raised: a store that reads and does not write would else be asked for ever.
    """

    def __init__(self, vault: NetworkVault) -> None:
        self._vault = vault
        self._was_silent = False

    def __call__(self, record: LogRecord) -> bool:
        try:
            return self._vault.log.append(record, self._vault.clock.now())
        except StoreUnavailableError:
            if self._was_silent:
                raise
            self._was_silent = True
            return False


def _as_pack(listed: ListedObject, now: datetime) -> ListedPack:
    place = parse_place(listed.key, listed.size_bytes)
    return ListedPack(place.sha256, place.owner, (now - listed.modified_at).total_seconds())


def _demand(refused: str | None, verb: str) -> None:
    if refused is not None:
        raise PermanentError(f"cannot {verb}: {refused}", hint="`stateroom backups list`.")


def _too_busy(vault: NetworkVault) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"network {vault.network_id}: no log record could be placed in {_TRIES} tries",
        hint="Run it again; whatever was committed is found in the log.",
    )
