"""What `stateroom doctor` looks at of vector indexes: their store, their model, how each stands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from fleet.errors import StateroomError
from platform_defs.declared_vectors import declared_vectors
from platform_defs.health_finding import Context, Finding


def check_vectors(context: Context) -> Iterator[Finding]:
    """The model of each network can be read, the store passes its self-test, nothing is stale."""
    from resources.clock import SystemClock
    from resources.vectors.network_indexes import NetworkIndexes

    declaration = declared_vectors(context.settings)
    if not declaration.enabled:
        yield Finding("vectors", "skipped", "vectors.enabled is false: nothing is embedded")
        return
    indexes = NetworkIndexes(declaration, SystemClock())
    models = set()
    for network_id in declaration.network_ids:
        try:
            models.add(indexes.embedder(network_id).model.model_id)
        except StateroomError as error:
            yield Finding("vectors", "wrong", f"model of {network_id}: {error}", error.hint)
    if models:
        yield Finding("vectors", "ok", f"notes are embedded by {', '.join(sorted(models))}")
    if not indexes.exists():
        said = f"the store at {declaration.place} will be made with the first notes"
        yield Finding("vectors", "ok", said)
        return
    faults = indexes.objects.check()
    if faults:
        remedy = "Use a store with conditional PUT (If-None-Match) and consistent listing."
        said = f"{declaration.place} fails its self-test: {'; '.join(faults)}"
        yield Finding("vectors", "wrong", said, remedy)
    yield from _standings(context)


def _standings(context: Context) -> Iterator[Finding]:
    from platform_defs.command.status_vectors import read_index_health
    from platform_defs.command.store_access import fleet_store, has_store

    if not has_store(context.settings):
        return
    with fleet_store(context.settings) as store:
        found = read_index_health(store, context.settings, datetime.now(UTC))
    bad = [(one.network_id, problem) for one in found for problem in one.problems()]
    for network_id, problem in bad:
        remedy = "docs/runbook_alerts.md, IndexStale; `stateroom indexes` shows all."
        yield Finding("vectors", "warn", f"index of {network_id}: {problem}", remedy)
    if found and not bad:
        notes = sum(one.facts.live for one in found if one.facts is not None)
        yield Finding("vectors", "ok", f"{len(found)} indexes with {notes} notes, none is stale")
