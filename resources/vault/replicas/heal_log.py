"""Finding damaged, missing and foreign records of a log, with the copies that may replace them.

A record is authentic or not by itself (HMAC over its place); where it stands in the chain, its
neighbours say. A log whose END is missing is whole by itself: a checkpoint that goes further shows
it, else only another region.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from fleet.errors import CorruptObjectError, NotFoundError, StateroomError
from fleet.ports.object_store import ObjectStore
from fleet.vault_epochs import Slot
from resources.vault.log.checkpoint_checks import held_records
from resources.vault.network import NetworkVault
from resources.vault.replicas.heal_checks import ObjectCheck
from resources.vault.replicas.replicate import replicate


class LogFault(NamedTuple):
    """A slot of the log that is not as it should be."""

    key: str
    cause: str
    fits: Callable[[bytes], bool]
    """Whether an authentic copy stands between its neighbours."""
    foreign: bool = False
    """Nothing that a log holds: to be set aside, not replaced."""
    held: bytes | None = None
    """The record as a checkpoint of this region has it."""


class HeadReport(NamedTuple):
    """Where a region's log ends, beside the longest one."""

    region: str
    epoch: int
    seq: int
    sha256: str
    behind: int
    """Records that the longest log has more."""
    diverged_at: int
    """First record that differs from the longest log's; 0 for none."""
    finding: str
    """What is wrong, in words; '' for a replica that only lags."""


class LogRepair:
    """Looks at the log of one region beside those of the others."""

    def __init__(
        self, vault: NetworkVault, others: Mapping[str, ObjectStore], check: ObjectCheck
    ) -> None:
        """Nothing is read."""
        self._vault = vault
        self._others = others
        self._check = check

    def faults(self) -> Iterator[LogFault]:
        """Foreign, damaged and missing records, in order; decided anew after each was mended."""
        log = self._vault.log
        slots: dict[Slot, str] = {}
        for listed in self._vault.store.list_objects(log.folder):
            try:
                slots[log.slot_of(listed.key)] = listed.key
            except CorruptObjectError as error:
                yield LogFault(listed.key, str(error), lambda _: False, foreign=True)
        good: dict[Slot, str] = {}
        bad: dict[Slot, str] = {}
        for slot in sorted(slots):
            data = self._vault.store.get(slots[slot])
            cause = self._check.fault_of(slots[slot], data)
            if cause is None:
                good[slot] = hashlib.sha256(data).hexdigest()
            else:
                bad[slot] = cause
        held = held_records(log, good)
        # A record that a checkpoint holds was committed here: its loss shows without any replica.
        lost = sorted(self._missing(set(slots)) | (held.keys() - slots.keys()))
        for slot, cause in [*bad.items(), *((one, "missing") for one in lost)]:
            yield LogFault(log.key_of(slot), cause, self._fitting(slot), held=held.get(slot))

    def recover_tail(self, home: str) -> tuple[list[tuple[str, str]], list[str]]:
        """Bring back the newest records that the writing region lost.

        Returns:
            Key and source region of each record that came back; and what could not be done.
        """
        vault = self._vault
        vault.log.refresh()
        recovered: list[tuple[str, str]] = []
        problems: list[str] = []
        if (vault.log.owner or home) != vault.region:
            return recovered, problems
        for region, store in self._others.items():
            other = NetworkVault(store, vault.keys, vault.clock, region=region)
            had = len(vault.log.records)
            try:
                other.log.refresh()
                if len(other.log.records) > had and other.log.epoch == vault.log.epoch:
                    replicate(other, vault)
            except StateroomError as error:
                problems.append(f"the log of region {region}: {error}")
            recovered += [
                (vault.log.key_of(Slot(one.position.epoch, one.position.seq)), region)
                for one in vault.log.records[had:]
            ]
        return recovered, problems

    def _missing(self, present: set[Slot]) -> set[Slot]:
        """Gaps between records that are there, and beginnings that another region has."""
        last: dict[int, int] = {}
        for slot in present:
            last[slot.epoch] = max(slot.seq, last.get(slot.epoch, 0))
        first = {epoch: min(s.seq for s in present if s.epoch == epoch) for epoch in last}
        missing = {
            Slot(epoch, seq)
            for epoch in last
            for seq in range(first[epoch], last[epoch])
            if Slot(epoch, seq) not in present
        }
        newest = max(last, default=-1)
        elsewhere = self._elsewhere()
        begins: dict[int, int] = {}
        for slot in elsewhere | present:
            begins[slot.epoch] = min(slot.seq, begins.get(slot.epoch, slot.seq))
        for slot in elsewhere - present:
            younger = (begins[one] for one in begins if slot.epoch < one <= newest)
            fork = min(younger, default=0)
            behind = slot.epoch in last and last[slot.epoch] < slot.seq < fork
            if behind or slot.seq < first.get(slot.epoch, fork):
                missing.add(slot)
        return missing

    def _elsewhere(self) -> set[Slot]:
        log = self._vault.log
        found: set[Slot] = set()
        for store in self._others.values():
            try:
                found |= {log.slot_of(one.key) for one in store.list_objects(log.folder)}
            except StateroomError:
                continue  # damaged itself or silent: another region may know
        return found

    def _fitting(self, slot: Slot) -> Callable[[bytes], bool]:
        def fits(data: bytes) -> bool:
            after = self._authentic(Slot(slot.epoch, slot.seq + 1))
            if after is not None and _previous(after) != hashlib.sha256(data).hexdigest():
                return False
            before = self._authentic(Slot(slot.epoch, slot.seq - 1))
            return before is None or _previous(data) == hashlib.sha256(before).hexdigest()

        return fits

    def _authentic(self, slot: Slot) -> bytes | None:
        key = self._vault.log.key_of(slot)
        try:
            data = self._vault.store.get(key)
        except NotFoundError:
            return None
        return data if self._check.fault_of(key, data) is None else None


def compare_heads(vaults: Mapping[str, NetworkVault], home: str) -> list[HeadReport]:
    """Where the log of each region ends: the only way to see that a log lost its newest records.

    Args:
        vaults: of one network, by region; fresh handles see what is stored now.
        home: region that writes under epoch 0.

    Returns:
        One report per region, in their order.
    """
    faults: dict[str, str] = {}
    for region, vault in vaults.items():
        try:
            vault.log.refresh()
        except StateroomError as error:
            faults[region] = str(error)
    read = {region: vault for region, vault in vaults.items() if region not in faults}
    longest = max(
        read.values(), key=lambda one: (one.log.epoch, len(one.log.records)), default=None
    )
    reports = []
    for region, vault in vaults.items():
        if region in faults or longest is None:
            reports.append(HeadReport(region, 0, 0, "", 0, 0, faults.get(region, "unread")))
            continue
        ours, theirs = vault.log.records, longest.log.records
        differ = (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
        diverged = next(differ, -1) + 1 or (len(theirs) + 1 if len(ours) > len(theirs) else 0)
        behind = len(theirs) - len(ours)
        finding = ""
        if diverged:
            finding = f"record {diverged} differs from region {longest.region or 'unnamed'}'s"
        elif behind > 0 and (longest.log.owner or home) == region:
            finding = f"the writer has {behind} records fewer than a replica: it lost them"
        last = ours[-1] if ours else None
        reports.append(
            HeadReport(
                region,
                vault.log.epoch,
                last.position.seq if last else 0,
                last.sha256 if last else "",
                max(0, behind),
                diverged,
                finding,
            )
        )
    return reports


def _previous(data: bytes) -> str:
    return str(json.loads(data)["prev_sha256"])
