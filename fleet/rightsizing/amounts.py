"""Amounts of resources as people read them."""

from __future__ import annotations

from fleet.rightsizing.records import MIB, Resource


def amount_text(resource: Resource | str, amount: int | None) -> str:
    """An amount with its unit, as settings name it; `-` for None."""
    if amount is None:
        return "-"
    if resource == Resource.CPU:
        return f"{amount} milli"
    return f"{amount / MIB:.0f} MiB" if amount >= 10 * MIB else f"{amount / MIB:.1f} MiB"
