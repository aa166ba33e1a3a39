"""A sequence of known length that is written out when somebody first reads it.

A tick that changes thousands of nodes says so in thousands of sentences; whoever only acts on it
does not wait until they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class Late(Sequence[T]):
    """Equal to any sequence of the same things; prints as the tuple that it stands for.

    Args:
        length: how many there are; known before any is written.
        write: writes them all; called at most once, and needs nothing that may change.
    """

    def __init__(self, length: int, write: Callable[[], Iterable[T]]) -> None:
        """Nothing is written yet."""
        self._length = length
        self._write: Callable[[], Iterable[T]] | None = write
        self._written: tuple[T, ...] = ()

    def _all(self) -> tuple[T, ...]:
        if self._write is not None:
            self._written = tuple(self._write())
            assert len(self._written) == self._length, f"{len(self._written)} of {self._length}"
            self._write = None
        return self._written

    def __len__(self) -> int:
        """Writes nothing."""
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self._all()[index]

    def __eq__(self, other: object) -> bool:
        return self._all() == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())
