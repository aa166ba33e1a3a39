"""What the settings say of vector indexes, reduced to what the rest needs: places and policies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fleet.errors import InvalidInputError
from fleet.vectors.records import EmbeddingModel, Metric, VectorPolicy
from fleet.vectors.refresh_due import RefreshThresholds

STATIC = "static"
"""Embedder whose weights come with the platform: a table of pieces of words, averaged."""

GIVEN = "given"
"""No embedder: agents hand vectors in with their notes, all of one declared model."""

TRANSFORMERS = "sentence-transformers"
"""Embedder of an extra: a model of sentence-transformers from the folder `model_path`."""

GIVEN_REVISION = "given"
"""Revision of such a model: of what computes, the platform knows the name alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkVectors:
    """How the notes of one network are embedded, indexed and renewed."""

    network_id: str
    policy: VectorPolicy = field(default_factory=VectorPolicy)
    thresholds: RefreshThresholds = field(default_factory=RefreshThresholds)
    embedder: str = STATIC
    model_path: str = ""
    """Folder of the embedder's model; empty where it brings its own."""
    given: EmbeddingModel | None = None
    """Model of the vectors that agents hand in; None where the platform computes them."""
    gpu: str = "auto"
    """As `GpuDevices` takes it: auto, require or off."""

    @property
    def embedder_id(self) -> str:
        """What makes the vectors, as the settings say it: another text means embedding anew."""
        given = "" if self.given is None else f"{self.given.name}/{self.given.dimensions}"
        return " ".join(filter(None, (self.embedder, self.model_path, given)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedDeclaration:
    """A FAISS index file that a service keeps; it is looked at, never changed."""

    name: str
    path: str
    network_id: str = ""
    """Network that it belongs to; empty for the fleet's own."""
    region: str = ""
    node: str = ""
    metric: Metric | None = None
    """As its owner says; None: any."""
    dimensions: int | None = None
    """None: any."""
    ntotal_min: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorDeclaration:
    """Everything about vector indexes that is declared, as one value.

    Raises:
        InvalidInputError: two networks, or two adopted files, have one name.
    """

    path: str = "state/vectors"
    """Folder of the store; of no meaning with a bucket."""
    bucket: str = ""
    prefix: str = ""
    endpoint_url: str = ""
    aws_region: str = ""
    copies_path: str = "state/vector_copies"
    """Folder of this node for verified copies of what is searched."""
    enabled: bool = True
    """Whether sensors and schedules run."""
    networks: tuple[NetworkVectors, ...] = ()
    adopted: tuple[AdoptedDeclaration, ...] = ()
    scrub_cron: str = "0 3 * * *"
    upkeep_cron: str = "50 * * * *"

    def __post_init__(self) -> None:
        """Refuse names that stand twice: metrics and reports go by them."""
        names = [one.network_id for one in self.networks] + [one.name for one in self.adopted]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise InvalidInputError("indexes", twice[0], "a name of its own, no network's either")

    @property
    def network_ids(self) -> tuple[str, ...]:
        """All networks, in the order of the settings."""
        return tuple(one.network_id for one in self.networks)

    def network(self, network_id: str) -> NetworkVectors:
        """What is declared of a network.

        Raises:
            InvalidInputError: it is not declared; the message lists those that are.
        """
        for one in self.networks:
            if one.network_id == network_id:
                return one
        known = ", ".join(self.network_ids) or "none is declared"
        raise InvalidInputError("network", network_id, f"one of: {known}")

    @property
    def place(self) -> str:
        """Where the store lies, in words."""
        return f"s3://{self.bucket}/{self.prefix}" if self.bucket else self.path
