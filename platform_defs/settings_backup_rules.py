"""Rules between the settings of backups: what each key alone cannot show to be wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from fleet.backup_declaration import PLATFORM_NETWORK
from platform_defs.settings_backup import (
    ArtefactSettings,
    BackupSettings,
    RetentionSettings,
    VaultSettings,
    WrappingKeySettings,
)
from platform_defs.settings_rules import Violation, bucket_violations
from platform_defs.settings_source import nearest

WRAPS_MIN = 2
"""As `fleet.vault_keys.WRAPS_MIN`, which would import a cipher."""


def backup_violations(
    single: Mapping[str, Any],
    named: Mapping[str, Sequence[Any]],
    regions: Sequence[str],
    networks: Sequence[str],
) -> list[Violation]:
    """Every broken rule of backups among the records that are valid by themselves.

    Args:
        single: section -> its record, None when a key of its own is wrong.
        named: section -> its valid records, in the order of the file.
        regions: names of all regions, also of those with a wrong key.
        networks: names of all networks, likewise.
    """
    broken = [
        *network_violations(networks),
        *vault_violations(named["vaults"], regions),
        *wrapping_key_violations(named["wrapping_keys"]),
        *artefact_violations(named["artefacts"], networks),
    ]
    if single["backup"] is not None:
        broken += home_violations(single["backup"], regions)
        if single["control_store"] is not None:
            broken += stanza_violations(single["backup"], single["control_store"].url)
    if single["retention"] is not None:
        broken += retention_violations(single["retention"])
    return broken


def network_violations(networks: Sequence[str]) -> Iterator[Violation]:
    """The fleet's own artefacts have a network of their own."""
    if PLATFORM_NETWORK in networks:
        yield Violation(
            ("networks", PLATFORM_NETWORK),
            "this name is taken: the vault keeps the fleet's own databases under it",
        )


def home_violations(backup: BackupSettings, regions: Sequence[str]) -> Iterator[Violation]:
    """The region that writes is one of the regions."""
    home = backup.home_region
    if home and home not in regions:
        yield Violation(("backup", "home_region"), _unknown("region", home, regions))


def stanza_violations(backup: BackupSettings, url: str) -> Iterator[Violation]:
    """PgBackRest backs up PostgreSQL."""
    if backup.pgbackrest_stanza and not url.startswith("postgresql"):
        yield Violation(
            ("backup", "pgbackrest_stanza"),
            "has a meaning only where `control_store.url` is PostgreSQL's",
        )


def retention_violations(retention: RetentionSettings) -> Iterator[Violation]:
    """An empty policy would remove every backup."""
    if not any(getattr(retention, one.name) for one in fields(retention)):
        yield Violation(
            ("retention",),
            "no count and no span is set; at least one rule must keep something",
        )


def vault_violations(
    vaults: Sequence[VaultSettings], regions: Sequence[str]
) -> Iterator[Violation]:
    """A vault belongs to a region, lies in one place, and in a place of its own."""
    owners: dict[tuple[str, str, str], str] = {}
    for vault in vaults:
        here = ("vaults", vault.name)
        if vault.name not in regions:
            yield Violation(here, _unknown("region", vault.name, regions))
        if vault.path and vault.bucket:
            yield Violation(here, "has both `path` and `bucket`; a vault lies in one place")
        yield from bucket_violations(here, vault, ("lock_days",))
        place = (vault.path, f"{vault.endpoint_url} {vault.bucket}", vault.prefix)
        if (vault.path or vault.bucket) and place in owners:
            yield Violation(here, f"lies in the same place as the vault of {owners[place]}")
        owners.setdefault(place, vault.name)


def wrapping_key_violations(keys: Sequence[WrappingKeySettings]) -> Iterator[Violation]:
    """Two keys at least, each from one source, and one of them for disasters."""
    for key in keys:
        count = sum(map(bool, (key.file, key.env, key.kms)))
        if count != 1:
            yield Violation(
                ("wrapping_keys", key.name),
                f"has {count} of `file`, `env` and `kms`; exactly one says where it is",
            )
    if keys and len(keys) < WRAPS_MIN:
        yield Violation(
            ("wrapping_keys",),
            f"there is one; at least {WRAPS_MIN} must be able to open the backups",
        )
    if keys and not any(key.recovery for key in keys):
        yield Violation(("wrapping_keys",), "none has `recovery = true`; drills open with it")


def artefact_violations(
    artefacts: Sequence[ArtefactSettings], networks: Sequence[str]
) -> Iterator[Violation]:
    """An artefact belongs to a network that exists."""
    for artefact in artefacts:
        if artefact.network and artefact.network not in networks:
            yield Violation(
                ("artefacts", artefact.name, "network"),
                _unknown("network", artefact.network, networks),
            )


def _unknown(noun: str, name: str, known: Sequence[str]) -> str:
    guess = nearest(name, known)
    meant = f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}"
    return f"unknown {noun} {name!r}; {meant}"
