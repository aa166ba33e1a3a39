"""Which version of an agent was the newest at a moment, and whether the vault can prove it.

Pure. A snapshot, the journal behind it and the next snapshot each saw versions of an agent: held
with their bytes, or only mentioned. They are put into the order in which they came to be; the last
one at or before the moment is the one wanted. When it is not held, or something may have happened
that nobody saw, the answer says so: it is a substitution, with its reason.

The order is that of the journal, not of clocks or version numbers: a clock may be set back, and an
agent created anew begins at a lower version.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

Identity = tuple[int, int]
"""Version, and the microsecond at which it was stored."""


class Choice(NamedTuple):
    """What to restore of one agent."""

    found: Identity | None
    """None when nothing that is held fits."""
    wanted: Identity | None
    """Newest version known to have been stored by then, held or not."""
    reason: str
    """Why `found` is or may be another one than the state at that moment; empty when it is it."""
    existed: bool
    """False when the agent had no state at that moment, as far as is known."""
    look_back: bool = False
    """The snapshot knows the agent, but holds nothing of it that fits: an older one may."""


def in_order(
    base: Identity | None, journal: Sequence[Identity], after: Sequence[Identity]
) -> list[Identity]:
    """All versions seen of an agent, in the order in which they came to be.

    Args:
        base: what the snapshot holds. Segments written while it was taken may hold older versions.
        journal: what the segments behind the snapshot hold or mention, in their order.
        after: what later snapshots hold, in their order; segments may go beyond them.
    """
    # What the journal names as well has its place there already.
    first = base if base is not None and base not in journal else None
    later = [one for one in after if one not in journal]
    older = [one for one in journal if first is not None and _is_older(one, first)]
    rest = [one for one in journal if first is None or not _is_older(one, first)]
    beyond = [one for one in rest if later and _is_older(later[-1], one)]
    middle = [one for one in rest if not later or not _is_older(later[-1], one)]
    return [*older, *([first] if first is not None else []), *middle, *later, *beyond]


def choose_version(
    sightings: Sequence[Identity],
    held: AbstractSet[Identity],
    at_us: int | None,
    *,
    proven: bool,
    base: Identity | None = None,
    excluded: AbstractSet[Identity] = frozenset(),
) -> Choice:
    """Choose what to restore of one agent.

    Args:
        sightings: from `in_order`.
        held: those whose bytes are in the vault.
        at_us: the moment wanted; None for the newest of all.
        proven: whether everything stored between the snapshot and the moment has been seen.
        base: what the snapshot holds.
        excluded: held versions that turned out to be damaged.
    """
    fitting = [n for n, one in enumerate(sightings) if at_us is None or one[1] <= at_us]
    if not fitting:
        if base is not None:
            reason = f"version {base[0]} in the snapshot was stored after the moment"
            return Choice(None, None, reason, existed=True, look_back=True)
        unseen = not proven and bool(sightings) and sightings[0][0] > 1
        reason = "no version of that time was seen" if unseen else ""
        return Choice(None, None, reason, existed=unseen)
    last = fitting[-1]
    wanted = sightings[last]
    good = [sightings[n] for n in fitting if sightings[n] in held]
    usable = [one for one in good if one not in excluded]
    found = usable[-1] if usable else None
    following = sightings[last + 1] if last + 1 < len(sightings) else None
    reason = _reason(found, wanted, held, following, proven)
    return Choice(found, wanted, reason, True, found is None and base is not None)


def _reason(
    found: Identity | None,
    wanted: Identity,
    held: AbstractSet[Identity],
    following: Identity | None,
    proven: bool,
) -> str:
    if found != wanted:
        if wanted in held:
            return f"version {wanted[0]} is damaged in the vault"
        return f"version {wanted[0]} was replaced, or damaged, before the journal read it"
    if proven or following is None or following[0] == wanted[0] + 1:
        return ""
    return f"versions between {wanted[0]} and {following[0]} were not recorded"


def _is_older(one: Identity, other: Identity) -> bool:
    """Certainly older: lower version and no later; anything else is decided by the order."""
    return one[0] < other[0] and one[1] <= other[1]
