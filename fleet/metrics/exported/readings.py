"""The shapes of what is exported: a family, and one reading of it.

What is not known has no reading: never a zero in its place.
"""

from __future__ import annotations

from typing import NamedTuple

NETWORKS_MAX = 200
"""Networks that have series of their own, in order of name; the worst of a region has one."""
WORST = "_worst"
"""Stands in the label `network` for the worst figure of a region; no network can be called so."""
OTHERS = "_others"
"""Stands there for the networks without series of their own, added up; none can be called so."""


class ExportedFamily(NamedTuple):
    """One metric."""

    name: str
    """As queries write it: counters end in `_total`."""
    type: str
    """`gauge`, `counter`, or `untyped` for counters under a name of others that lacks `_total`."""
    help: str
    """One sentence, with the unit where the name does not say it."""
    labels: tuple[str, ...]
    bound: str
    """How many series there can be."""


class Reading(NamedTuple):
    """One sample."""

    name: str
    labels: tuple[str, ...]
    """Values, in the order of the family's names."""
    value: float
