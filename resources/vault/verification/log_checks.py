"""What V1 and V2 find in the logs of a copy: records, and the checkpoints that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.vault_epochs import Slot
from fleet.verification_sampling import is_in_parts
from resources.vault.log.checkpoint_checks import check_checkpoints, problem_of
from resources.vault.log.local_log import LocalLog
from resources.vault.log.log_chain import slot_at
from resources.vault.log.log_store import VaultLog
from resources.vault.network import NetworkVault
from resources.vault.verification.finding import Finding, Verification

_Log = VaultLog | LocalLog


def check_logs(vault: NetworkVault, *, whole: bool) -> list[Finding]:
    """What is wrong with the network's log and the region's own, and with their checkpoints.

    Args:
        vault: whose own log has been read.
        whole: read each record and each checkpoint; else read what lies behind the checkpoints, and
            compare the listing of all records with what the checkpoints hold.
    """
    findings: list[Finding] = []
    for log in vault.logs():
        try:
            if not whole:
                log.refresh()
            if whole or log.doubts:
                findings += [Finding(one.key, one.problem) for one in check_checkpoints(log)]
            else:
                findings += _check_listing(log)
        except (CorruptObjectError, NotFoundError) as error:
            findings.append(Finding(log.folder, str(error)))
    return findings


def _check_listing(log: _Log) -> list[Finding]:
    """Records that are not listed, or not in the size in which they were committed.

    A record that an epoch left aside is in no chain; the whole look and the scrub see to it.
    """
    sizes = {log.slot_of(one.key): one.size_bytes for one in log.listed()}
    findings = []
    for stored in log.records:
        slot = slot_at(stored)
        if sizes.get(slot) != stored.size_bytes:
            listed = f"{sizes[slot]} bytes" if slot in sizes else "nothing"
            problem = f"committed with {stored.size_bytes} bytes, listed {listed}"
            findings.append(Finding(log.key_at(stored), problem))
    return findings


def verify_logs(vault: NetworkVault, parts: Collection[int] | None) -> Verification:
    """V2 of the logs: their records (of some parts) match the hashes of the chain, bit by bit.

    The hashes come out of the checkpoints, of which those that belong to the parts are opened and
    compared as well; so a week of scrubs reads each record and each checkpoint by itself.
    """
    began_s = vault.clock.monotonic_s()
    findings: list[Finding] = []
    items = size_bytes = 0
    vault = vault.afresh()
    for log in vault.logs():
        try:
            log.refresh()
        except (CorruptObjectError, NotFoundError) as error:
            findings.append(Finding(log.folder, str(error)))
            continue
        for stored in log.records:
            if is_in_parts(stored.sha256, parts):
                items, size_bytes = items + 1, size_bytes + stored.size_bytes
                problem = _problem_of_record(vault, log.key_at(stored), stored.sha256)
                findings += [Finding(log.key_at(stored), problem)] if problem else []
        known = {slot_at(one): one.sha256 for one in log.records}
        looked, found = _check_some_checkpoints(log, known, parts)
        items, findings = items + looked, findings + found
    seconds = vault.clock.monotonic_s() - began_s
    return Verification("V2", items, size_bytes, seconds, tuple(findings))


def _problem_of_record(vault: NetworkVault, key: str, sha256: str) -> str:
    try:
        found = hashlib.sha256(vault.store.get(key)).hexdigest()
    except NotFoundError:
        return "missing, and the chain names it"
    return "" if found == sha256 else f"SHA-256 is {found}, the chain has {sha256}"


def _check_some_checkpoints(
    log: _Log, known: dict[Slot, str], parts: Collection[int] | None
) -> tuple[int, list[Finding]]:
    """Open the checkpoints of some parts (by the hash of their key) that lie on the chain."""
    looked, findings = 0, []
    for place in log.checkpoints.list_all().places:
        key = log.checkpoints.key_of(place)
        on_chain = Slot(place.epoch, place.last) in known
        if on_chain and is_in_parts(hashlib.sha256(key.encode()).hexdigest(), parts):
            looked += 1
            problem = problem_of(log, place, known)
            findings += [Finding(key, problem)] if problem else []
    return looked, findings
