"""Crypto-shredding a network: every wrap of its data keys goes, in every region; a note stays.

In each region the note `shred/{network_id}.json` is created first: from then on nothing opens the
network or wraps a key for it there. Then its wraps are deleted, in all versions that the store
lets go. Killed anywhere, or with a region out of reach, the same call completes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError, NotFoundError, PermanentError, StoreUnavailableError
from fleet.names import validate_name
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import wrap_key_prefix
from fleet.vault_shred import NetworkShreddedError, ShredNote, decode_shred_note, encode_shred_note
from resources.vault.keys.key_wraps import list_wraps

_NOTE_TRIES = 4
_ADVICE = (
    (
        "Take the network out of the settings, or give its agents another one: jobs leave it out "
        "from now on, and say so; what its agents store is not backed up any more."
    ),
    (
        "Schedule the deletion of key-encryption keys that served this network only, and destroy "
        "their files: copies of the wraps outside these stores then open no more."
    ),
    "Processes that had opened the network hold its data keys in memory until they end.",
)


class RegionShred(NamedTuple):
    """What was done in one region."""

    region: str
    wraps_deleted: int
    locked_until: datetime | None
    """When the last lock on a deleted wrap ends: until then its versions remain; None for none."""
    problem: str
    """Why the region is not done; empty when it is."""


class ShredResult(NamedTuple):
    """What is shredded, and where it remains to be done."""

    note: ShredNote
    regions: tuple[RegionShred, ...]
    advice: tuple[str, ...]
    """What Stateroom does not do by itself."""

    @property
    def remaining(self) -> tuple[str, ...]:
        """Regions in which it must be run again."""
        return tuple(one.region for one in self.regions if one.problem)


def shred_network(
    stores: Mapping[str, ObjectStore],
    network_id: str,
    *,
    confirm: str,
    by: str,
    reason: str,
    at: datetime,
) -> ShredResult:
    """Make all backups of a network unreadable, for ever, in all regions.

    Args:
        stores: of every region, by region.
        network_id: whose backups.
        confirm: the network's id once more.
        by: who orders it.
        reason: why; both stand in the note and in the error of whoever opens the network later.
        at: now.

    Returns:
        What each region did; regions out of reach are in `remaining`, with the reason: run it
        again, with all regions, until none remains.

    Raises:
        InvalidInputError: the confirmation is not the network's id, or `by` or `reason` is empty;
            nothing was touched.
        NotFoundError: no region knows the network; nothing was touched.
        StoreUnavailableError: no region can be reached; nothing is known to be done.
    """
    validate_name("network_id", network_id)
    _demand_order(network_id, confirm, by, reason)
    found, problems = _survey(stores, network_id)
    note = _note_of(found, ShredNote(network_id, at, by, reason, ()))
    done = [
        _shred_region(region, stores[region], note)
        if region not in problems
        else RegionShred(region, 0, None, problems[region])
        for region in stores
    ]
    return ShredResult(note, tuple(done), _ADVICE)


def read_shred_note(store: ObjectStore, network_id: str) -> ShredNote | None:
    """The note of a network in one region; None when it was not shredded there.

    Raises:
        CorruptObjectError: there is one, and it cannot be read.
    """
    key = shred_key(network_id)
    if key not in [one.key for one in store.list_objects(key)]:
        return None
    return decode_shred_note(store.get(key), key)


def demand_unshredded(store: ObjectStore, network_id: str) -> None:
    """Refuse a network that was shredded.

    Raises:
        NetworkShreddedError: it was; the message says when and by whom.
    """
    note = read_shred_note(store, network_id)
    if note is not None:
        raise NetworkShreddedError(note)


def shred_key(network_id: str) -> str:
    """Key of the note."""
    return f"shred/{validate_name('network_id', network_id)}.json"


class _Found(NamedTuple):
    note: ShredNote | None
    dek_ids: frozenset[str]


def _demand_order(network_id: str, confirm: str, by: str, reason: str) -> None:
    if confirm != network_id:
        raise InvalidInputError(
            "confirm", confirm, f"the network's id, {network_id}", hint="Nothing was touched."
        )
    for name, value in (("by", by), ("reason", reason)):
        if not value.strip():
            raise InvalidInputError(name, value, "a text", hint="Nothing was touched.")


def _survey(
    stores: Mapping[str, ObjectStore], network_id: str
) -> tuple[dict[str, _Found], dict[str, str]]:
    """What each region holds of the network, and which cannot be asked."""
    found: dict[str, _Found] = {}
    problems: dict[str, str] = {}
    for region, store in stores.items():
        try:
            wraps = frozenset(list_wraps(store, network_id))
            found[region] = _Found(read_shred_note(store, network_id), wraps)
        except (StoreUnavailableError, PermanentError) as error:
            problems[region] = str(error)
    if not found:
        raise StoreUnavailableError(
            f"network {network_id}: no region can be asked: "
            + "; ".join(f"{region}: {problem}" for region, problem in problems.items()),
            hint="Nothing was touched; check the stores and run it again.",
        )
    if not any(one.note or one.dek_ids for one in found.values()):
        raise NotFoundError(
            f"network {network_id} has no data key in {', '.join(found)}",
            hint="Check the network's id; nothing was touched.",
        )
    return found, problems


def _note_of(found: Mapping[str, _Found], fresh: ShredNote) -> ShredNote:
    """The first note that a region has: the deed keeps its date and author when it is resumed."""
    for one in found.values():
        if one.note is not None:
            return one.note
    dek_ids = sorted(frozenset[str]().union(*(one.dek_ids for one in found.values())))
    return fresh._replace(dek_ids=tuple(dek_ids))


def _shred_region(region: str, store: ObjectStore, note: ShredNote) -> RegionShred:
    deleted = 0
    locked: dict[str, datetime] = {}
    try:
        _write_note(store, note)
        standing = list_wraps(store, note.network_id)
        # Also those of the note: their wraps may be gone, and older versions of them not.
        for dek_id in sorted(standing.keys() | set(note.dek_ids)):
            locked |= store.purge(wrap_key_prefix(dek_id))
        deleted = sum(len(one) for one in standing.values())
        left = list_wraps(store, note.network_id)
    except (StoreUnavailableError, PermanentError) as error:
        return RegionShred(region, deleted, None, str(error))
    problem = f"wraps of {', '.join(left)} are still listed" if left else ""
    return RegionShred(region, deleted, max(locked.values(), default=None), problem)


def _write_note(store: ObjectStore, note: ShredNote) -> None:
    """Create the note; one that is there already stays."""
    for remaining in reversed(range(_NOTE_TRIES)):
        try:
            store.create(shred_key(note.network_id), encode_shred_note(note))
            break
        except StoreUnavailableError:
            if not remaining:
                raise
    if read_shred_note(store, note.network_id) is None:
        raise StoreUnavailableError(f"shred note of {note.network_id} was created and is not there")
