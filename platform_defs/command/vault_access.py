"""How subcommands reach the backups: what is declared, which region and network is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click
from click.shell_completion import CompletionItem

from fleet.backup_declaration import BackupDeclaration
from fleet.errors import InvalidInputError, NotFoundError, StateroomError
from platform_defs.settings import Settings, load_settings

if TYPE_CHECKING:
    from resources.vault.network import NetworkVault
    from resources.vault.region_vaults import RegionVaults


class Backups(NamedTuple):
    """The settings, and the vaults that they declare."""

    settings: Settings
    declaration: BackupDeclaration
    vaults: RegionVaults

    @property
    def home(self) -> str:
        """Region that writes."""
        return self.declaration.home_region

    def networks(self, chosen: Sequence[str] = (), region: str | None = None) -> tuple[str, ...]:
        """The chosen networks in the order of the settings; when none is, all that can be opened.

        A network that was shredded is left out then, and said to be.

        Args:
            chosen: names; none for all.
            region: whose vault says what was shredded; None for the one that writes.

        Raises:
            NotFoundError: one is not declared.
        """
        known = self.declaration.vault_networks
        for one in chosen:
            if one not in known:
                raise NotFoundError(
                    f"no network {one!r}; declared: {', '.join(known)}",
                    hint="Networks stand in stateroom.toml as [networks.NAME].",
                )
        if chosen:
            return tuple(one for one in known if one in chosen)
        shredded = self._shredded(region or self.home)
        for one in known:
            if one in shredded:
                click.echo(f"note: network {one} was shredded, and is left out", err=True)
        return tuple(one for one in known if one not in shredded)

    def _shredded(self, region: str) -> set[str]:
        listed = self.vaults.store(region).list_objects("shred/")
        return {one.key.removeprefix("shred/").removesuffix(".json") for one in listed}

    def regions(self, chosen: str | None = None) -> tuple[str, ...]:
        """The chosen region; all of them when none is.

        Raises:
            NotFoundError: it is not declared.
        """
        known = self.declaration.regions
        if chosen is None:
            return known
        if chosen not in known:
            raise NotFoundError(
                f"no region {chosen!r}; declared: {', '.join(known)}",
                hint="Regions stand in stateroom.toml as [regions.NAME].",
            )
        return (chosen,)

    def open(self, network_id: str, region: str | None = None) -> NetworkVault:
        """A network in a region's vault (None: the one that writes), opened with its own wraps.

        Raises:
            NotFoundError: no such region or network, no vault there, or no key at hand.
            PermanentError: no key at hand opens it.
        """
        (region,) = self.regions(region or self.home)
        self.networks([network_id])
        self._demand_vault(region)
        return self.vaults.network(region, network_id)

    def open_all(self, chosen: Sequence[str] = (), region: str | None = None) -> list[NetworkVault]:
        """The chosen networks; when none is, all that the region knows.

        Raises:
            NotFoundError: as `open`; a network that nobody named and nobody replicated yet is none.
            PermanentError: as `open`.
        """
        (region,) = self.regions(region or self.home)
        self._demand_vault(region)
        store = self.vaults.store(region)
        return [
            self.open(one, region)
            for one in self.networks(chosen, region)
            if chosen or store.list_objects(f"keys/{one}.")
        ]

    def _demand_vault(self, region: str) -> None:
        from resources.vault.keys.key_store import read_vault

        try:
            read_vault(self.vaults.store(region))
        except NotFoundError as error:
            raise self._no_vault(region) from error

    def _no_vault(self, region: str) -> NotFoundError:
        place = self.declaration.location(region)
        others = ", ".join(one for one in self.declaration.regions if one != region)
        hint = "`stateroom up` makes it and its keys; where there was one, mount or restore it."
        if region != self.home:
            hint = f"No copy yet: a running `stateroom up` brings one. Other regions: {others}."
        return NotFoundError(f"region {region} has no vault at {place}", hint=hint)


def open_backups(settings: Settings | None = None) -> Backups:
    """What the settings declare; no vault is touched and no key read before it is needed."""
    from platform_defs.declared_backup import declared_backup
    from resources.clock import SystemClock
    from resources.vault.region_vaults import RegionVaults

    settings = settings or load_settings()
    declaration = declared_backup(settings)
    return Backups(settings, declaration, RegionVaults(declaration, SystemClock()))


class Located(NamedTuple):
    """A snapshot that was found by its id."""

    vault: NetworkVault
    snapshot_id: str


def find_snapshot(
    backups: Backups,
    text: str,
    networks: Sequence[str] = (),
    region: str | None = None,
) -> Located:
    """The snapshot of an id, or of the beginning of exactly one id, in whichever network.

    Raises:
        NotFoundError: no snapshot has it.
        InvalidInputError: several snapshots begin like this.
    """
    from fleet.vault_log import SnapshotRecord

    found: dict[str, NetworkVault] = {}
    vaults = backups.open_all(networks, region)
    looked = [one.network_id for one in vaults]
    for vault in vaults:
        vault.log.refresh()
        for stored in vault.log.records:
            record = stored.record
            if isinstance(record, SnapshotRecord) and record.snapshot_id.startswith(text.upper()):
                found[record.snapshot_id] = vault
    if text.upper() in found:
        found = {text.upper(): found[text.upper()]}
    if not text or not found:
        raise NotFoundError(
            f"no snapshot {text!r} in {', '.join(looked)}",
            hint="`stateroom backups list --all` names them.",
        )
    if len(found) > 1:
        raise InvalidInputError("snapshot", text, f"more of the id: {len(found)} begin like this")
    ((snapshot_id, vault),) = found.items()
    return Located(vault, snapshot_id)


def complete_network(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Networks that begin as typed."""
    del ctx, param
    return _beginning(incomplete, lambda: open_backups().declaration.vault_networks)


def complete_region(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Regions that begin as typed."""
    del ctx, param
    return _beginning(incomplete, lambda: open_backups().declaration.regions)


def complete_snapshot(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Snapshots that begin as typed, as the lake's newest catalogue knows them."""
    from platform_defs.command.backup_rows import known_snapshots

    del ctx, param
    return _beginning(incomplete, lambda: known_snapshots(load_settings()))


def _beginning(incomplete: str, names: object) -> list[CompletionItem]:
    assert callable(names)
    try:
        return [CompletionItem(one) for one in names() if one.startswith(incomplete)]
    except (StateroomError, OSError):
        return []  # a shell that completes must not print errors between the user's words


network_option = click.option(
    "--network", shell_complete=complete_network, metavar="NAME", help="Only this network."
)
networks_option = click.option(
    "--network",
    "networks",
    multiple=True,
    shell_complete=complete_network,
    metavar="NAME",
    help="Only this network; may be repeated.",
)
region_option = click.option(
    "--region", shell_complete=complete_region, metavar="NAME", help="The copy of this region."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")
