"""FAISS index files that services keep, each an asset of its own: looked at, never changed."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import dagster as dg

from assets.lake_tables import OWNERS
from fleet.vectors.declaration import AdoptedDeclaration
from ops.adopted_indexes import LOOK, AdoptedFinding, finding_document, look_at_index

ADOPTED = "adopted_indexes"
"""First part of the key of each; the second is its name in the settings."""
GROUP = "vectors"
SOUND = "the_index_opens_as_declared_and_nobody_has_altered_it"


def adopted_key(name: str) -> dg.AssetKey:
    """The key of the asset of an adopted index."""
    return dg.AssetKey([ADOPTED, name])


def build_adopted_assets(declared: Sequence[AdoptedDeclaration]) -> list[dg.AssetsDefinition]:
    """One asset with its check for each declared index; none where none is declared."""
    return [_asset(one) for one in declared]


def _asset(declared: AdoptedDeclaration) -> dg.AssetsDefinition:
    key = adopted_key(declared.name)
    where = f" Lies on node {declared.node}." if declared.node else ""
    # Two names may differ by marks that no op may have: the hash keeps their ops apart.
    digest = hashlib.sha256(declared.name.encode()).hexdigest()[:8]
    mark = f"{re.sub(r'[^A-Za-z0-9_]', '_', declared.name)}_{digest}"

    @dg.multi_asset(
        name=f"look_at_index_{mark}_op",
        specs=[
            dg.AssetSpec(
                key,
                description=(
                    f"The FAISS index `{declared.path}` of a service, looked at as it is."
                    f"\n\nGrain: one file. Source: its service.{where} It is opened in a process "
                    "of its own, searched, and compared with exact search. Freshness: daily."
                ),
                group_name=GROUP,
                owners=OWNERS,
                kinds={"faiss"},
                skippable=True,
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(
                SOUND,
                asset=key,
                description="It opens, is as wide and as full as declared, and its bytes change "
                "only when its service writes them.",
            )
        ],
    )
    def look_at(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        finding = look_at_index(declared, last_look(context.instance, declared.name))
        if not finding.problems:
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    **finding.metadata(),
                    LOOK: dg.MetadataValue.json(finding_document(finding)),
                },
            )
        yield _judged(key, finding)

    return look_at


def _judged(key: dg.AssetKey, finding: AdoptedFinding) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=SOUND,
        passed=not finding.problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(finding.problems) or finding.news or "sound",
        metadata=finding.metadata(),
    )


def last_look(instance: dg.DagsterInstance, name: str) -> Mapping[str, Any] | None:
    """The last sound look at an adopted index; None when there never was one."""
    event = instance.get_latest_materialization_event(adopted_key(name))
    found = None if event is None else event.asset_materialization
    if found is None or LOOK not in found.metadata:
        return None
    return cast("Mapping[str, Any]", found.metadata[LOOK].value)
