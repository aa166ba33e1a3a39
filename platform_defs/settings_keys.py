"""What one key of the settings carries: its kind, meaning, unit, default and advised values."""

from __future__ import annotations

from dataclasses import MISSING, Field, field, fields
from typing import Any

from platform_defs.settings_kinds import Kind


def key(
    kind: Kind,
    meaning: str,
    *,
    default: Any = MISSING,
    unit: str = "",
    ci: str = "",
    production: str = "",
) -> Any:
    """A dataclass field with what docs and validation need to know of it.

    Args:
        kind: what the value may be.
        meaning: for the table, one sentence.
        default: value when the key is absent; without it the key is required.
        unit: in words, plural; empty for a value without one.
        ci: advised value for continuous integration, where it differs from the default.
        production: advised value for production, where it differs from the default.
    """
    metadata = {"kind": kind, "meaning": meaning, "unit": unit, "ci": ci, "production": production}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def key_fields(record: type) -> dict[str, Field[Any]]:
    """The keys of a record, in order: its fields that carry a kind."""
    return {f.name: f for f in fields(record) if "kind" in f.metadata}


def default_of(spec: Field[Any]) -> Any:
    """The default of a key as written in TOML, or MISSING when it is required."""
    if spec.default_factory is not MISSING:
        return spec.default_factory()
    return spec.default
