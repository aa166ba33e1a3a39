"""Orders about vector indexes: build anew, go back to an earlier generation, read every byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fleet.errors import InvalidInputError, NotFoundError
from platform_defs.command import exit_codes
from platform_defs.command.network_subjects import complete_network, demand_network
from platform_defs.command.operator_input import by_option, demand_reason, json_option, person
from platform_defs.command.output import cell_text, size_text, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import load_settings

if TYPE_CHECKING:
    from fleet.vectors.records import IndexPointer
    from resources.vectors.index_store import ObjectVectorStore

_network = click.argument("network", shell_complete=complete_network)
_reason = click.option("--reason", metavar="TEXT", help="Why; it is kept.")


@click.command()
@_network
@_reason
@by_option
@json_option
def rebuild(network: str, reason: str | None, by: str | None, as_json: bool) -> None:
    """Build a network's index from nothing, now, and publish it when it finds enough.

    Notes that are not embedded yet are embedded first. It is a run like any other, in this process;
    the generation before serves until the new one is published.

    \b
    Examples:
      stateroom indexes rebuild host-watch --reason "answers seem old"
    """  # noqa: D301
    settings = load_settings()
    demand_network(settings, network)
    who = person(by)
    why = f"{who}: {demand_reason(reason or 'ordered by hand', 'it stands in the run')}"
    with fleet_store(settings):
        pass  # told before Dagster is loaded, when there is none
    from ops.backup_jobs import asset_config
    from ops.vector_jobs import BUILD_JOB, BUILD_OP, INDEX
    from platform_defs.command.job_runs import job_runner, raise_failures

    config = asset_config(INDEX, BUILD_OP, {"anew": why})
    declared = [one.name for one in settings.networks]
    with job_runner(settings) as runner:
        failed = runner.run(BUILD_JOB, declared, [network], reason=why, config=config)
        run_ids = runner.run_ids
    raise_failures(failed)
    pointer = _current(settings, network)
    if as_json:
        click.echo(to_json({"runs": run_ids, "pointer": pointer and pointer._asdict()}))
    elif pointer is None:
        click.echo(f"network {network} has no note yet: there is nothing to build")
    else:
        click.echo(f"{network} is served by generation {pointer.generation} (run {run_ids[-1]})")


def _current(settings: Any, network: str) -> IndexPointer | None:
    from platform_defs.command.vector_access import opened_indexes

    return opened_indexes(settings).store.current(network)


@click.command()
@_network
@click.option("--to", "target", required=True, metavar="GENERATION",
              help="Which generation; the beginning of its name will do.")  # fmt: skip
@_reason
@by_option
@json_option
def rollback(network: str, target: str, reason: str | None, by: str | None, as_json: bool) -> None:
    """Let a network be served by an earlier generation again.

    Readers change to it within seconds. Notes that came later come back with the next refresh, so
    where these are the trouble stop the sensor `vector_refresh_sensor` first.

    \b
    Examples:
      stateroom indexes generations host-watch
      stateroom indexes rollback host-watch --to 20261121T2004 --reason "worse answers"
    """  # noqa: D301
    from platform_defs.command.action_journal import journaled
    from platform_defs.command.vector_access import existing_indexes

    settings = load_settings()
    demand_network(settings, network)
    who, why = person(by), demand_reason(reason, "it stands in the journal and in the pointer")
    indexes = existing_indexes(settings)
    generation = _published_as(indexes.store, network, target)
    policy = indexes.declaration.network(network).policy
    with fleet_store(settings) as store:
        from ops.vector_index import roll_back_index
        from resources.clock import SystemClock

        before = indexes.store.current(network)
        with journaled(store, "index_rollback", network, f"{who}: {why}") as detail:
            pointer = roll_back_index(
                store, indexes.store, SystemClock(), network, generation, policy, f"{who}: {why}"
            )
            detail |= {"from": before and before.generation, "to": pointer.generation}
    if as_json:
        click.echo(to_json({"before": before and before._asdict(), "pointer": pointer._asdict()}))
    elif before is not None and before.generation == pointer.generation:
        click.echo(f"{network} is served by {generation} already; nothing was changed")
    else:
        click.echo(f"{network} is served by generation {generation} again ({cell_text(who)})")


def _published_as(store: ObjectVectorStore, network: str, beginning: str) -> str:
    """The one published generation whose name begins so.

    Raises:
        NotFoundError: none does.
        InvalidInputError: several do.
    """
    names = list(dict.fromkeys(one.generation for one in store.published(network)))
    found = [name for name in names if name.startswith(beginning)] if beginning else []
    if not found:
        raise NotFoundError(
            f"no published generation {beginning!r} of {network}",
            hint=f"`stateroom indexes generations {network}` lists them.",
        )
    if len(found) > 1:
        raise InvalidInputError("--to", beginning, f"more of its name: {', '.join(found)}")
    return found[0]


@click.command()
@click.argument("network", required=False, shell_complete=complete_network)
@json_option
@click.pass_context
def scrub(ctx: click.Context, network: str | None, as_json: bool) -> None:
    """Read every stored byte of one network's indexes, or of all, and name what is damaged.

    Exit code 1 when something is. A damaged generation is never served: roll back, restore the
    artefact `vectors` from a backup, or rebuild.

    \b
    Examples:
      stateroom indexes scrub
      stateroom indexes scrub host-watch --json | jq '.[].damages'
    """  # noqa: D301
    settings = load_settings()
    if network is not None:
        demand_network(settings, network)
    from platform_defs.command.vector_access import existing_indexes

    indexes = existing_indexes(settings)
    networks = [network] if network else list(indexes.declaration.network_ids)
    from ops.vector_health import scrub_networks
    from resources.clock import SystemClock

    with fleet_store(settings) as store:
        found = scrub_networks(store, indexes, SystemClock(), networks)
    if as_json:
        click.echo(to_json([{"network": name, **one._asdict()} for name, one in found.items()]))
    else:
        for name in networks:
            one = found.get(name)
            if one is None:
                click.echo(f"{name}: no index")
                continue
            said = f"{one.damaged} damaged" if one.damaged else "every byte is as published"
            size = size_text(one.size_bytes)
            click.echo(f"{name}: {one.generations} generations, {size} read: {said}")
            for damage in one.damages:
                click.echo(f"  ! {cell_text(damage)}")
    if any(one.damaged for one in found.values()):
        ctx.exit(exit_codes.FINDING)
