"""`stateroom restore`: brings agents back as they were at a moment, and says first what changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fleet.errors import InvalidInputError
from platform_defs.command import exit_codes
from platform_defs.command.action_journal import journaled
from platform_defs.command.moments import parse_moment, utc_text
from platform_defs.command.output import to_json
from platform_defs.command.progress_bar import watched
from platform_defs.command.restore_artefact import WantedArtefact, restore_artefact_command
from platform_defs.command.restore_texts import counted, preview_text, result_text
from platform_defs.command.store_access import fleet_store
from platform_defs.command.vault_access import (
    Backups,
    complete_network,
    complete_snapshot,
    dry_run_option,
    find_snapshot,
    json_option,
    open_backups,
    region_option,
    yes_option,
)

if TYPE_CHECKING:
    from fleet.ports.control_store import ControlStore
    from fleet.ports.progress import Progress
    from resources.vault.restores.restore import RestoreResult, RestoreTarget
    from resources.vault.restores.restore_preview import RestorePreview


class Wanted(NamedTuple):
    """What is to be restored, and how."""

    network_id: str
    region: str
    at: datetime | None
    snapshot_id: str | None
    agent_ids: tuple[str, ...] | None
    into: str | None
    prefix: str
    folder: Path | None
    force: bool
    best_effort: bool

    @property
    def said(self) -> str:
        """What was asked for, as the action journal keeps it."""
        moment = utc_text(self.at) if self.at else self.snapshot_id or "the newest held"
        whom = ", ".join(self.agent_ids[:5]) if self.agent_ids else "all agents"
        more = ", ..." if self.agent_ids and len(self.agent_ids) > 5 else ""
        where = f" into {self.into or self.folder}" if self.into or self.folder else ""
        how = " overwriting newer states" if self.force else ""
        return f"{whom}{more} as of {moment} from {self.region}{where}{how}"

    @property
    def source(self) -> dict[str, Any]:
        """The arguments that preview and restore share."""
        return {
            "at": self.at,
            "snapshot_id": self.snapshot_id,
            "agent_ids": self.agent_ids,
            "best_effort": self.best_effort,
        }


_options = (
    click.option(
        "--network",
        required=True,
        shell_complete=complete_network,
        metavar="NAME",
        help="Network whose agents come back.",
    ),
    click.option(
        "--at",
        "moment",
        metavar="TIME",
        help='2026-11-20T14:03:00Z, or "2 minutes ago"; default the newest that is held.',
    ),
    click.option(
        "--snapshot",
        shell_complete=complete_snapshot,
        metavar="ID",
        help="Exactly this snapshot, in place of a moment.",
    ),
    click.option(
        "--agent",
        "agents",
        multiple=True,
        metavar="NAME",
        help="Only this agent; may be repeated.",
    ),
    click.option(
        "--artefact",
        metavar="NAME",
        help="A file, folder or database, not agents; --into says where it goes.",
    ),
    click.option(
        "--into",
        metavar="NETWORK|PATH",
        help="As agents of another network, named by --prefix; of an artefact, its new place.",
    ),
    click.option(
        "--prefix",
        metavar="TEXT",
        help="Put before each agent's name with --into; default the network's name and '-'.",
    ),
    click.option(
        "--into-folder",
        "folder",
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="As files in a new folder; live states are not touched.",
    ),
    region_option,
    click.option("--force", is_flag=True, help="Overwrite live states that are newer."),
    click.option(
        "--best-effort",
        is_flag=True,
        help="Where something is damaged, take the newest older good version.",
    ),
    dry_run_option,
    yes_option,
    json_option,
)


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_options):
        function = option(function)
    return function


@click.command()
@_with_options
@click.pass_context
def restore(ctx: click.Context, /, **options: Any) -> None:
    """Bring agents of a network back as they were at a moment, running or not.

    Says first what would change, and asks. Everything wanted is read, decrypted and compared with
    its digest before the first state is written. A live state that is newer is left alone, unless
    --force says otherwise; a running agent whose state was restored loads it and goes on.

    Between snapshots the journal is read once a minute: an agent that stored several versions in
    it comes back as the last one that was read, and is named. Exit code 1 when an agent did not
    come back, or when part of the journal is lost.

    \b
    Examples:
      stateroom restore --network host-watch --at "2 minutes ago" --dry-run
      stateroom restore --network host-watch --agent us-west-2-cpu-1 --at 2026-11-20T14:03:00Z
      stateroom restore --network host-watch --snapshot 01JD3X0A7Q --force --yes
      stateroom restore --network host-watch --region eu-central-1 --into-folder /tmp/old-states
      stateroom restore --network host-watch --into staging --prefix staging-
      stateroom restore --network platform --artefact control-store --into /tmp/control.db
    """  # noqa: D301
    _demand_consistent(options)
    as_json, dry_run, yes = (options[name] for name in ("as_json", "dry_run", "yes"))
    backups, wanted = _resolve(options)
    if options["artefact"]:
        artefact = WantedArtefact(
            wanted.network_id,
            wanted.region,
            options["artefact"],
            Path(options["into"]),
            wanted.at,
            wanted.snapshot_id,
            wanted.force,
        )
        restore_artefact_command(backups, artefact, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    with fleet_store(backups.settings) as store:
        preview = _preview(backups, store, wanted)
        writes = len(preview.absent) + len(preview.older) + len(preview.newer) * wanted.force
        if not as_json:
            click.echo(preview_text(wanted, preview))
        result = None
        if writes and not dry_run:
            if not yes:
                click.confirm(f"Restore {counted(writes, 'agent')}?", abort=True)
            with watched() as progress:
                result = _restore(backups, store, progress, wanted, preview)
    if as_json:
        document = {"preview": preview._asdict(), "result": result and result._asdict()}
        click.echo(to_json(document))
    elif result:
        click.echo(result_text(wanted, preview, result))
    if result is not None and not wanted.folder:
        _tell_the_ui(backups, wanted, result)
    ctx.exit(exit_codes.OK if result is None or _is_as_asked(result) else exit_codes.FINDING)


def _is_as_asked(result: RestoreResult) -> bool:
    return not (result.refused or result.missing) and result.certain


def _demand_consistent(options: Mapping[str, Any]) -> None:
    moment, snapshot, into = (options[name] for name in ("moment", "snapshot", "into"))
    folder, force = options["folder"], options["force"]
    asks = not (options["yes"] or options["dry_run"])
    artefact = options["artefact"]
    for problem, wrong in (
        ("--at and --snapshot exclude each other", moment and snapshot),
        ("--into and --into-folder exclude each other", into and folder),
        ("--prefix needs --into", options["prefix"] is not None and not into),
        ("--into-folder never overwrites anything; leave --force out", folder and force),
        ("--artefact needs --into PATH", artefact and not into),
        (
            "--artefact goes with --network, --at, --snapshot, --region, --into and --force only",
            artefact and (folder or options["agents"] or options["best_effort"]),
        ),
        ("--json needs --yes or --dry-run: nobody can be asked", options["as_json"] and asks),
    ):
        if wrong:
            raise click.UsageError(problem)


def _resolve(options: Mapping[str, Any]) -> tuple[Backups, Wanted]:
    """What is meant; everything that is wrong with it is an error before anything is opened."""
    text = options["moment"]
    at = parse_moment("--at", text, datetime.now(UTC)) if text else None
    backups = open_backups()
    network, into, prefix = options["network"], options["into"], options["prefix"]
    (region,) = backups.regions(options["region"] or backups.home)
    backups.open(network, region)
    if options["folder"] and options["folder"].exists():
        raise InvalidInputError("--into-folder", str(options["folder"]), "one that does not exist")
    snapshot_id = None
    if options["snapshot"]:
        found = find_snapshot(backups, options["snapshot"], [network], region)
        snapshot_id = found.snapshot_id
    wanted = Wanted(
        network,
        region,
        at,
        snapshot_id,
        tuple(dict.fromkeys(options["agents"])) or None,
        into,
        f"{into}-" if prefix is None else prefix,
        options["folder"],
        options["force"],
        options["best_effort"],
    )
    return backups, wanted


def _target(store: ControlStore, wanted: Wanted) -> RestoreTarget:
    from resources.vault.restores.restore import ControlStoreTarget
    from resources.vault.restores.targets import RenamedTarget, prefixed

    if wanted.into:
        return RenamedTarget(store, wanted.into, prefixed(wanted.prefix))
    return ControlStoreTarget(store)


def _preview(backups: Backups, store: ControlStore, wanted: Wanted) -> RestorePreview:
    from resources.vault.restores.restore_preview import preview_restore

    vault = backups.open(wanted.network_id, wanted.region)
    target = None if wanted.folder else _target(store, wanted)
    return preview_restore(vault, target, **wanted.source)


def _restore(
    backups: Backups,
    store: ControlStore,
    progress: Progress,
    wanted: Wanted,
    preview: RestorePreview,
) -> RestoreResult:
    """Restore, with the action in the journal before anything is written."""
    from platform_defs.command.metered_vaults import MeteredVaults
    from resources.vault.restores.restore import restore as restore_states
    from resources.vault.restores.targets import restore_into_directory

    vaults = MeteredVaults(backups.declaration, backups.vaults.clock, progress)
    vault = vaults.network(wanted.region, wanted.network_id)
    vaults.store(wanted.region).expect(preview.stored_bytes)
    if wanted.folder:
        return restore_into_directory(vault, wanted.folder, **wanted.source)
    with journaled(store, "restore", wanted.network_id, wanted.said) as detail:
        newer = "overwrite" if wanted.force else "skip"
        result = restore_states(vault, _target(store, wanted), newer=newer, **wanted.source)
        detail |= {
            "restored": result.restored,
            "skipped": len(result.skipped),
            "refused": len(result.refused),
            "achieved": result.achieved,
            "snapshot_id": result.snapshot_id,
        }
    return result


def _tell_the_ui(backups: Backups, wanted: Wanted, result: RestoreResult) -> None:
    """Leave what was done in the history that the UI shows; a restore must not fail for it."""
    if not (backups.settings.dagster_home / "dagster.yaml").is_file():
        return
    import dagster as dg
    from sqlalchemy.exc import SQLAlchemyError

    from ops.restores import observation_of
    from platform_defs.command.job_runs import instance_of

    try:
        with instance_of(backups.settings) as instance:
            observed = observation_of(wanted.network_id, wanted.region, result)
            instance.report_runless_asset_event(observed)
    except (dg.DagsterError, SQLAlchemyError, OSError) as error:
        click.echo(f"note: restored, but the UI could not be told: {error}", err=True)
