"""`stateroom indexes`: the vector indexes of networks, and those that services keep."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import CorruptObjectError, NotFoundError
from platform_defs.command import exit_codes
from platform_defs.command.index_orders import rebuild, rollback, scrub
from platform_defs.command.network_subjects import complete_network, demand_network
from platform_defs.command.operator_input import json_option
from platform_defs.command.output import age, cell_text, colours_wanted, size_text, table, to_json
from platform_defs.settings import Settings, load_settings

if TYPE_CHECKING:
    from fleet.vectors.declaration import AdoptedDeclaration
    from fleet.vectors.health import IndexHealth
    from fleet.vectors.records import IndexManifest, IndexPointer
    from resources.vectors.index_store import ObjectVectorStore

SHOWN = (
    "index", "generation", "kind", "notes", "recall", "size", "age", "behind by", "state",
)  # fmt: skip

LOOKS = "`look_at_indexes_job` looks, and its check says what is wrong"
GENERATION_SHOWN = (
    "generation", "current", "kind", "notes", "recall", "size", "built", "published as",
)  # fmt: skip


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def indexes(ctx: click.Context, as_json: bool) -> None:
    """List vector indexes: what they hold, how good they are, what they do not hold yet.

    The exit code is 1 when one is stale, damaged, or was refused.

    \b
    Examples:
      stateroom indexes
      stateroom indexes generations host-watch
      stateroom indexes rebuild host-watch --reason "notes have changed"
      stateroom indexes rollback host-watch --to 20261121T20 --reason "worse answers"
      stateroom indexes scrub
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        return
    from platform_defs.command.index_standings import index_health

    settings, now = load_settings(), datetime.now(UTC)
    health = index_health(settings, now)
    networks = [one.name for one in settings.networks]
    looks = adopted_looks(settings)
    if as_json:
        click.echo(
            to_json(
                {
                    "indexes": [_document(one, health.get(one)) for one in networks],
                    "adopted": [_adopted_document(*one) for one in looks],
                }
            )
        )
    else:
        rows = [_row(one, health.get(one), now) for one in networks]
        rows += [_adopted_row(*one) for one in looks]
        click.echo(table(SHOWN, rows, colours=colours_wanted()))
        for one in health.values():
            for problem in one.problems():
                click.echo(f"  ! {one.network_id}: {cell_text(problem)}")
        for declared, look in looks:
            if look is None:
                click.echo(f"  ! {declared.name}: no look has found it sound; {LOOKS}")
    if any(one.problems() for one in health.values()):
        ctx.exit(exit_codes.FINDING)


indexes.add_command(rebuild)
indexes.add_command(rollback)
indexes.add_command(scrub)


def _row(network_id: str, health: IndexHealth | None, now: datetime) -> tuple[object, ...]:
    if health is None:
        return (network_id, None, None, 0, None, None, None, None, "no note yet")
    facts = health.facts
    behind = f"{health.waiting} notes" if health.waiting else "nothing"
    if facts is None:
        return (network_id, None, None, 0, None, None, None, behind, _state(health))
    return (
        network_id,
        facts.generation,
        facts.factory,
        facts.live,
        _recall_text(facts.recall, facts.recall_low, facts.recall_high),
        size_text(facts.size_bytes),
        age(facts.built_at, now),
        behind,
        _state(health),
    )


def _state(health: IndexHealth) -> str:
    if health.is_building:
        return "building"
    return "wrong" if health.problems() else "ok" if health.facts else "pending"


def _recall_text(recall: float | None, low: float | None, high: float | None) -> str | None:
    if recall is None or low is None or high is None:
        return None
    return f"{recall:.3f} [{low:.3f}, {high:.3f}]"


def _document(network_id: str, health: IndexHealth | None) -> dict[str, Any]:
    if health is None:
        return {"network": network_id, "facts": None, "waiting": 0, "state": "no note yet"}
    return {
        "network": network_id,
        "facts": None if health.facts is None else health.facts._asdict(),
        "waiting": health.waiting,
        "behind_s": round(health.behind_s, 3),
        "result": health.result,
        "reason": health.reason,
        "state": _state(health),
        "problems": health.problems(),
    }


def adopted_looks(
    settings: Settings,
) -> list[tuple[AdoptedDeclaration, dict[str, Any] | None]]:
    """Every adopted index with its last sound look; Dagster is asked only where there is one."""
    from platform_defs.declared_vectors import declared_vectors

    adopted = declared_vectors(settings).adopted
    if not adopted:
        return []
    if not (settings.dagster_home / "dagster.yaml").is_file():
        return [(one, None) for one in adopted]
    from assets.adopted_indexes import last_look
    from platform_defs.command.job_runs import instance_of

    with instance_of(settings) as instance:
        looks = [(one, last_look(instance, one.name)) for one in adopted]
    return [(one, None if look is None else dict(look)) for one, look in looks]


def _adopted_row(declared: AdoptedDeclaration, look: dict[str, Any] | None) -> tuple[object, ...]:
    if look is None:
        return (declared.name, "adopted", None, None, None, None, None, None, "unknown")
    recall = None if look["recall"] is None else f"{look['recall']:.3f}"
    return (
        declared.name,
        "adopted",
        look["kind"],
        look["ntotal"],
        recall,
        size_text(look["size_bytes"]),
        None,
        None,
        "ok",
    )


def _adopted_document(declared: AdoptedDeclaration, look: dict[str, Any] | None) -> dict[str, Any]:
    return {"name": declared.name, "path": declared.path, "look": look}


@indexes.command()
@click.argument("network", shell_complete=complete_network)
@json_option
@click.pass_context
def generations(ctx: click.Context, network: str, as_json: bool) -> None:
    """List the generations of a network's index that can be served, newest first.

    Exit code 1 when the manifest of one is damaged; the others are listed.

    \b
    Examples:
      stateroom indexes generations host-watch
      stateroom indexes generations host-watch --json | jq -r '.[0].generation'
    """  # noqa: D301
    from platform_defs.command.vector_access import existing_indexes

    settings, now = load_settings(), datetime.now(UTC)
    demand_network(settings, network)
    store = existing_indexes(settings).store
    pointers = store.published(network)
    if not pointers:
        raise NotFoundError(
            f"network {network} has no vector index",
            hint=f"`stateroom indexes rebuild {network}` builds it now.",
        )
    kept, damages = _readable(store, network, pointers)
    current = pointers[-1].generation
    if as_json:
        click.echo(to_json([_generation_document(*one, current) for one in kept]))
    else:
        rows = [_generation_row(*one, current, now) for one in kept]
        click.echo(table(GENERATION_SHOWN, rows))
    for damage in damages:
        click.echo(f"  ! {cell_text(damage)}", err=True)
    if damages:
        ctx.exit(exit_codes.FINDING)


def _readable(
    store: ObjectVectorStore, network: str, pointers: Sequence[IndexPointer]
) -> tuple[list[tuple[IndexPointer, IndexManifest]], list[str]]:
    """Each generation that is there, newest first, with its newest pointer; damaged manifests."""
    present = set(store.generations(network))
    newest: dict[str, IndexPointer] = {}
    for pointer in reversed(pointers):
        newest.setdefault(pointer.generation, pointer)
    kept, damages = [], []
    for name, pointer in newest.items():
        if name in present:
            try:
                kept.append((pointer, store.manifest(network, name)))
            except CorruptObjectError as error:
                damages.append(str(error))
    return kept, damages


def _generation_row(
    pointer: IndexPointer, manifest: IndexManifest, current: str, now: datetime
) -> tuple[object, ...]:
    recall = manifest.recall
    return (
        manifest.generation,
        "yes" if manifest.generation == current else "",
        manifest.factory,
        manifest.live,
        recall and _recall_text(recall.recall, recall.low, recall.high),
        size_text(manifest.size_bytes),
        f"{age(manifest.built_at, now)} ago",
        f"{pointer.number}: {cell_text(pointer.reason)}",
    )


def _generation_document(
    pointer: IndexPointer, manifest: IndexManifest, current: str
) -> dict[str, Any]:
    return {
        "generation": manifest.generation,
        "current": manifest.generation == current,
        "kind": manifest.kind,
        "factory": manifest.factory,
        "notes": manifest.live,
        "recall": manifest.recall and manifest.recall._asdict(),
        "size_bytes": manifest.size_bytes,
        "built_at": manifest.built_at,
        "newest_note_at": manifest.newest_note_at,
        "pointer": pointer._asdict(),
    }
