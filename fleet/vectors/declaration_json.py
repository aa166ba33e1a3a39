"""A declaration of vector indexes as plain JSON values: what a node is told in its spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fleet.errors import InvalidInputError
from fleet.vectors.declaration import AdoptedDeclaration, NetworkVectors, VectorDeclaration
from fleet.vectors.records import EmbeddingModel, Metric, VectorPolicy
from fleet.vectors.refresh_due import RefreshThresholds


def declaration_document(declaration: VectorDeclaration) -> dict[str, Any]:
    """A declaration as JSON takes it."""
    document = asdict(declaration)
    for network in document["networks"]:
        given = network["given"]
        network["given"] = None if given is None else EmbeddingModel._make(given)._asdict()
    return document


def read_declaration(document: Mapping[str, Any]) -> VectorDeclaration:
    """The inverse of `declaration_document`.

    Raises:
        InvalidInputError: it is no declaration of this version.
    """
    try:
        return VectorDeclaration(
            **{
                **document,
                "networks": tuple(_network(one) for one in document["networks"]),
                "adopted": tuple(_adopted(one) for one in document["adopted"]),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("vectors", str(error), "a declaration of vector indexes") from error


def _network(document: Mapping[str, Any]) -> NetworkVectors:
    given = document["given"]
    return NetworkVectors(
        **{
            **document,
            "policy": VectorPolicy(**document["policy"]),
            "thresholds": RefreshThresholds(**document["thresholds"]),
            "given": given and EmbeddingModel(**{**given, "metric": Metric(given["metric"])}),
        }
    )


def _adopted(document: Mapping[str, Any]) -> AdoptedDeclaration:
    metric = document["metric"]
    return AdoptedDeclaration(**{**document, "metric": metric and Metric(metric)})
