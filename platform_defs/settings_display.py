"""Settings as a person or a program reads them: effective values with their sources, and the table.

`docs/settings.md` holds `reference_table()` word for word; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, NamedTuple

from platform_defs.settings_keys import default_of, key_fields
from platform_defs.settings_records import NAMED_SECTIONS, NESTED, SECTIONS, Settings, nested_in
from platform_defs.settings_secrets import mask


class Row(NamedTuple):
    """One effective value."""

    key: str
    value: Any
    """As in TOML, with secrets masked."""
    source: str
    """`default`, `stateroom.toml:12` or the name of an environment variable."""


class Described(NamedTuple):
    """One key as the reference describes it."""

    key: str
    spec: Field[Any]


def effective_rows(settings: Settings) -> list[Row]:
    """Every key with its value and source, in the order of the sections."""
    rows: list[Row] = []
    for section in SECTIONS:
        rows += _record_rows(settings, (section,), getattr(settings, section))
    for section in NAMED_SECTIONS:
        for record in getattr(settings, section):
            rows += _record_rows(settings, (section, record.name), record)
    return rows


def _record_rows(settings: Settings, path: tuple[str, ...], record: Any) -> Iterator[Row]:
    for name in key_fields(type(record)):
        key = ".".join((*path, name))
        value = mask(name, plain(getattr(record, name)))
        yield Row(key, value, settings.sources.get(key, "default"))
    for inner in nested_in(path):
        found = getattr(record, inner)
        if found is not None:
            yield from _record_rows(settings, (*path, inner), found)


def plain(value: Any) -> Any:
    """A record's value as TOML and JSON know it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return value


def described_keys() -> list[Described]:
    """Every key there is, `<name>` standing for a region's, network's or workload's name."""
    keys: list[Described] = []
    for section, record in SECTIONS.items():
        keys += _described(section, record)
    for section, record in NAMED_SECTIONS.items():
        keys += _described(f"{section}.<name>", record)
        for (outer, *inner), nested in NESTED.items():
            if outer == section:
                keys += _described(f"{section}.<name>.{'.'.join(inner)}", nested)
    return keys


def _described(prefix: str, record: type) -> list[Described]:
    names = [f.name for f in fields(record)]
    specs = key_fields(record)
    return [Described(f"{prefix}.{name}", specs[name]) for name in names if name in specs]


def written_default(spec: Field[Any]) -> str:
    """The default of a key as text for the table."""
    default = default_of(spec)
    if default is MISSING:
        return "required"
    value = plain(default)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value in (None, "", [], {}):
        return "none"
    return f"`{value}`"


def reference_table() -> str:
    """The table of every key for docs/settings.md, in Markdown."""
    lines = [
        "| key | type | unit | default | ci | production | meaning |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, spec in described_keys():
        about = spec.metadata
        advised = [f"`{about[use]}`" if about[use] else "" for use in ("ci", "production")]
        cells = [
            f"`{key}`",
            about["kind"].type_name,
            about["unit"],
            written_default(spec),
            *advised,
            about["meaning"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
