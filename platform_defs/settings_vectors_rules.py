"""Rules between the settings of vector indexes: what each key alone cannot show to be wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleet.vectors.declaration import GIVEN, TRANSFORMERS
from platform_defs.settings_networks import NetworkSettings
from platform_defs.settings_rules import Violation, bucket_violations
from platform_defs.settings_source import nearest
from platform_defs.settings_vectors import (
    AdoptedIndexSettings,
    NetworkVectorSettings,
    VectorSettings,
)


def vector_violations(
    vectors: VectorSettings | None,
    networks: Sequence[NetworkSettings],
    indexes: Sequence[AdoptedIndexSettings],
    known_networks: Sequence[str],
    known_regions: Sequence[str],
) -> Iterator[Violation]:
    """Every broken rule of vectors among the records that are valid by themselves.

    Args:
        vectors: None when a key of its own is wrong; its rules then wait.
        networks: the valid ones.
        indexes: the valid ones.
        known_networks: names of all networks, also of those with a wrong key.
        known_regions: names of all regions, likewise.
    """
    if vectors is not None:
        yield from bucket_violations(("vectors",), vectors)
        yield from _age_violations(vectors, networks)
        yield from _model_violations(vectors, networks)
    names = {"network": known_networks, "region": known_regions}
    for one in indexes:
        here = ("indexes", one.name)
        if one.name in known_networks:
            yield Violation(here, "this name is taken: the network of this name has an index")
        for field, known in names.items():
            value = getattr(one, field)
            if value and value not in known:
                guess = nearest(value, known)
                meant = f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}"
                yield Violation((*here, field), f"unknown {field} {value!r}; {meant}")


def _age_violations(
    vectors: VectorSettings, networks: Sequence[NetworkSettings]
) -> Iterator[Violation]:
    """What is refreshed in time cannot be stale before it is due."""
    if vectors.refresh_age_s >= vectors.behind_max_s:
        yield Violation(
            ("vectors", "refresh_age_s"), _late(vectors.refresh_age_s, vectors.behind_max_s)
        )
    for network in networks:
        own = network.vectors
        if own.refresh_age_s is None and own.behind_max_s is None:
            continue
        age_s = vectors.refresh_age_s if own.refresh_age_s is None else own.refresh_age_s
        max_s = vectors.behind_max_s if own.behind_max_s is None else own.behind_max_s
        if age_s >= max_s:
            field = "behind_max_s" if own.refresh_age_s is None else "refresh_age_s"
            yield Violation(("networks", network.name, "vectors", field), _late(age_s, max_s))


def _model_violations(
    vectors: VectorSettings, networks: Sequence[NetworkSettings]
) -> Iterator[Violation]:
    """Vectors that agents hand in have a name and a width; computed ones have their own."""
    places: list[tuple[tuple[str, ...], VectorSettings | NetworkVectorSettings]] = [
        (("vectors",), vectors),
        *((("networks", one.name, "vectors"), one.vectors) for one in networks),
    ]
    for here, own in places:
        names = ("embedder", "model", "dimensions", "model_path")
        if all(getattr(own, name) is None for name in names):
            continue
        merged = {
            name: getattr(vectors if getattr(own, name) is None else own, name) for name in names
        }
        if merged["embedder"] == TRANSFORMERS and not merged["model_path"]:
            yield Violation((*here, "model_path"), f"missing: {TRANSFORMERS!r} reads a model there")
        for name in ("model", "dimensions"):
            if merged["embedder"] == GIVEN and not merged[name]:
                yield Violation((*here, name), f"missing: the embedder {GIVEN!r} needs it")
            elif merged["embedder"] != GIVEN and getattr(own, name):
                yield Violation((*here, name), f"has a meaning only with the embedder {GIVEN!r}")


def _late(age_s: float, max_s: float) -> str:
    return (
        f"refresh_age_s ({age_s:g}) is not less than behind_max_s ({max_s:g}); "
        "every index would be stale before it is renewed"
    )
