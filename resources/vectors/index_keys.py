"""Keys of a network's indexes in the object store; the layout is `docs/formats/vectors.md`."""

from __future__ import annotations

from fleet.names import validate_name
from fleet.vectors.records import PartFile

ROOT = "indexes"


def pointers_folder(network_id: str) -> str:
    """Prefix of the pointer log."""
    return f"{_network(network_id)}/pointers/"


def pointer_key(network_id: str, number: int) -> str:
    """An entry of the pointer log."""
    return f"{pointers_folder(network_id)}{number:012d}.json"


def generations_folder(network_id: str) -> str:
    """Prefix of all generations."""
    return f"{_network(network_id)}/generations/"


def generation_folder(network_id: str, generation: str) -> str:
    """Folder of one generation, without a slash at its end."""
    return f"{generations_folder(network_id)}{validate_name('generation', generation)}"


def part_key(network_id: str, part: PartFile) -> str:
    """Where a part lies: in the folder of the generation that stored it."""
    return f"{generation_folder(network_id, part.generation)}/{part.name}"


def manifest_key(network_id: str, generation: str) -> str:
    """Manifest of a generation."""
    return f"{generation_folder(network_id, generation)}/manifest.json"


def _network(network_id: str) -> str:
    return f"{ROOT}/{validate_name('network_id', network_id)}"
