"""Between reading and switching: everything wanted lies in a file before the target sees any.

Bodies are compared once more when they are read back, because disks fail as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, NamedTuple, Protocol

from fleet.errors import CorruptObjectError, StateroomError
from resources.vault.packs.reading import ReadItem

_BATCH_BYTES = 8 * 1024 * 1024
_BATCH_AGENTS = 500


class LiveHead(NamedTuple):
    """What the target holds of an agent now."""

    version: int
    digest: str


class RestoreTarget(Protocol):
    """Where restored states go."""

    def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
        """The live versions of these agents; those without a state are left out."""
        ...

    def write(self, items: Sequence[tuple[ReadItem, int]]) -> list[StateroomError | None]:
        """Write items, each only if the live version is still the given one."""
        ...


class StagedItem(NamedTuple):
    """Where an item lies in the staging file."""

    item: ReadItem
    """Without its body."""
    offset: int
    length: int


def stage_items(items: Iterator[ReadItem], spool: IO[bytes]) -> Iterator[StagedItem]:
    """Write bodies into the staging file, one behind the other."""
    offset = 0
    for item in items:
        spool.write(item.body)
        yield StagedItem(item._replace(body=b""), offset, len(item.body))
        offset += len(item.body)


def switch_items(
    target: RestoreTarget,
    staged: Sequence[StagedItem],
    spool: IO[bytes],
    heads: Mapping[str, LiveHead],
) -> list[tuple[str, str]]:
    """Hand staged items to the target in batches; those that it refused, with the reason."""
    refused: list[tuple[str, str]] = []
    batch: list[tuple[ReadItem, int]] = []
    size = 0
    for number, one in enumerate(staged):
        head = heads.get(one.item.agent_id)
        batch.append((_unstage(one, spool), head.version if head else 0))
        size += one.length
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_AGENTS or number == len(staged) - 1:
            for (item, _), error in zip(batch, target.write(batch), strict=True):
                if error is not None:
                    refused.append((item.agent_id, str(error)))
            batch, size = [], 0
    return refused


def _unstage(staged: StagedItem, spool: IO[bytes]) -> ReadItem:
    """Read a staged body back and compare it once more: disks fail as well."""
    spool.seek(staged.offset)
    body = spool.read(staged.length)
    if hashlib.sha256(body).hexdigest() != staged.item.digest:
        raise CorruptObjectError(f"{staged.item.agent_id}: the staged copy was damaged on disk")
    return staged.item._replace(body=body)
