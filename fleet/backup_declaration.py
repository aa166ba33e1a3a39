"""What the settings say of backups, reduced to what the core needs: places, keys, networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fleet.errors import InvalidInputError
from fleet.names import validate_name
from fleet.recovery_objectives import DAY_S, ObjectivePolicy
from fleet.retention import RetentionPolicy

PLATFORM_NETWORK = "platform"
"""Network id under which a vault keeps the fleet's own artefacts: control store, lake, indexes."""

PLATFORM_MAX_AGE_S = 13 * 3600
"""Oldest that the newest snapshot of the fleet's own stores may be: they are backed up every six
hours, so that one missed time is an accident and two are none."""


@dataclass(frozen=True, slots=True)
class VaultLocation:
    """Where the vault of one region lies: a folder, or a bucket."""

    region: str
    path: str = ""
    bucket: str = ""
    prefix: str = ""
    endpoint_url: str = ""
    aws_region: str = ""
    lock_days: int = 0

    def __post_init__(self) -> None:
        """Refuse a location that is no place, or two."""
        validate_name("region", self.region)
        if bool(self.path) == bool(self.bucket):
            raise InvalidInputError(
                f"vault of {self.region}", self.path or "nothing", "a path, or a bucket"
            )

    def __str__(self) -> str:
        """The place in words."""
        return self.path or f"s3://{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class WrappingKeySource:
    """Where a key comes from that wraps the networks' data keys; never the key itself."""

    kek_id: str
    file: str = ""
    env: str = ""
    kms: str = ""
    recovery: bool = False
    """For disasters: drills open the vault with it alone."""

    def __str__(self) -> str:
        """The source in words."""
        if self.file:
            return f"file {self.file}"
        return f"environment variable {self.env}" if self.env else f"KMS key {self.kms}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupDeclaration:
    """Everything about backups that is declared, as one value.

    Raises:
        InvalidInputError: no vault, two of one region, or a home region without a vault.
    """

    home_region: str
    vaults: tuple[VaultLocation, ...]
    """One per region, in the order of the settings."""
    keys: tuple[WrappingKeySource, ...]
    networks: tuple[str, ...]
    """Agent networks; `PLATFORM_NETWORK` comes on top."""
    enabled: bool = True
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    journal_interval_s: int = 60
    journal_keep_hours: int = 48
    rpo_max_s: int = 3600
    rto_max_s: int = 14_400
    restore_test_max_age_days: int = 8
    drill_max_age_days: int = 35
    workspace: str = ""
    """Folder for restore tests and drills: with a short path (it holds sockets), and room for
    three times the largest network."""

    def __post_init__(self) -> None:
        """Refuse what no backup could be taken with."""
        regions = [one.region for one in self.vaults]
        if not regions or len(set(regions)) < len(regions):
            raise InvalidInputError("vaults", regions, "one per region, at least one")
        if self.home_region not in regions:
            raise InvalidInputError("home_region", self.home_region, f"one of {regions}")

    @property
    def regions(self) -> tuple[str, ...]:
        """All regions, sorted."""
        return tuple(sorted(one.region for one in self.vaults))

    @property
    def replica_regions(self) -> tuple[str, ...]:
        """All regions but the home."""
        return tuple(one for one in self.regions if one != self.home_region)

    @property
    def vault_networks(self) -> tuple[str, ...]:
        """Every network that a vault holds, the platform's own last."""
        return (*self.networks, PLATFORM_NETWORK)

    def location(self, region: str) -> VaultLocation:
        """The vault of a region.

        Raises:
            InvalidInputError: it has none.
        """
        for one in self.vaults:
            if one.region == region:
                return one
        raise InvalidInputError("region", region, f"one of {', '.join(self.regions)}")

    def demand_network(self, network_id: str) -> str:
        """The network's id when it is declared.

        Raises:
            InvalidInputError: it is not; the message lists those that are.
        """
        if network_id not in self.vault_networks:
            raise InvalidInputError(
                "network", network_id, f"one of {', '.join(self.vault_networks)}"
            )
        return network_id

    def recovery_keys(self) -> Sequence[WrappingKeySource]:
        """The keys for disasters."""
        return [one for one in self.keys if one.recovery]


def declared_objectives(declaration: BackupDeclaration) -> ObjectivePolicy:
    """The objectives that are declared; what has no setting keeps its default."""
    return ObjectivePolicy(
        rpo_max_s=declaration.rpo_max_s,
        rto_max_s=declaration.rto_max_s,
        replica_lag_max_s=declaration.rpo_max_s,
        backup_max_age_s=PLATFORM_MAX_AGE_S,
        v4_max_age_s=declaration.restore_test_max_age_days * DAY_S,
        v5_max_age_s=declaration.drill_max_age_days * DAY_S,
    )
