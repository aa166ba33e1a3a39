"""Declarations and scopes of a backup, and which chunker a file gets."""

from __future__ import annotations

import pytest

from fleet.backup import (
    PLATFORM_NETWORK,
    ROW_KINDS,
    ArtefactDeclaration,
    BackupScope,
    choose_chunker,
    classify_head,
)
from fleet.errors import InvalidInputError

SQLITE = b"SQLite format 3\x00" + bytes(48)
DUCKDB = bytes(8) + b"DUCK" + bytes(52)
LMDB = bytes(16) + bytes.fromhex("dec0efbe") + bytes(44)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (SQLITE, "sqlite"),
        (DUCKDB, "duckdb"),
        (LMDB, "lmdb"),
        (b"IxF2" + bytes(60), "faiss"),
        (b"", "files"),
        (b"SQLite", "files"),
        (bytes(64), "files"),
        (b"\x1f\x8b" * 32, "files"),
    ],
)
def test_the_first_bytes_tell_the_kind(head: bytes, kind: str) -> None:
    """And nothing else is taken for a database."""
    assert classify_head(head) == kind


@pytest.mark.parametrize(
    ("head", "size", "declared", "before", "chunker"),
    [
        (SQLITE, 10, "auto", "", "fixed-64KiB"),
        (LMDB, 10, "auto", "", "fixed-64KiB"),
        (DUCKDB, 10, "auto", "", "duckdb-256KiB"),
        (bytes(64), 4096 * 100, "auto", "", "fixed-64KiB"),
        (bytes(64), 4096 * 100 + 1, "auto", "", "fastcdc-256KiB"),
        (bytes(64), 4096 * 100 + 1, "auto", "fixed-64KiB", "fixed-64KiB"),
        (bytes(64), 4096 * 100, "auto", "fastcdc-256KiB", "fastcdc-256KiB"),
        (SQLITE, 10, "auto", "fastcdc-256KiB", "fixed-64KiB"),
        (SQLITE, 10, "fastcdc-256KiB", "fixed-64KiB", "fastcdc-256KiB"),
    ],
)
def test_pages_are_cut_along_pages_and_the_rest_by_content(
    head: bytes, size: int, declared: str, before: str, chunker: str
) -> None:
    """What is declared counts most, then the magic, then the last backup, then the size."""
    assert choose_chunker(head, size, declared, before) == chunker


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a/b"},
        {"name": ""},
        {"kind": "mysql"},
        {"chunker": "rabin"},
        {"path": ""},
        {"path": "a\x00b"},
        {"network_id": "../x"},
    ],
)
def test_a_declaration_that_cannot_be_is_refused(wrong: dict[str, str]) -> None:
    """With the field in the message."""
    with pytest.raises(InvalidInputError):
        ArtefactDeclaration(**{"name": "a", "path": "/p", **wrong})


def test_an_artefact_belongs_to_the_platform_unless_it_says_otherwise() -> None:
    """The reserved network."""
    assert ArtefactDeclaration(name="a", path="/p").network_id == PLATFORM_NETWORK


def test_a_scope_covers_what_it_names_and_everything_when_it_names_nothing() -> None:
    """By kind, by name, by both; `auto` has no kind yet and is covered by its name."""
    facts = ArtefactDeclaration(name="facts", path="/f", kind="sqlite")
    index = ArtefactDeclaration(name="index", path="/i", kind="faiss")
    either = ArtefactDeclaration(name="either", path="/e")
    every = (facts, index, either)

    def covered(scope: BackupScope) -> list[str]:
        return [one.name for one in every if scope.covers(one)]

    assert covered(BackupScope()) == ["facts", "index", "either"]
    assert covered(BackupScope(kinds=frozenset({"store"}))) == ["facts", "either"]
    assert covered(BackupScope(artefacts=frozenset({"index"}))) == ["index"]
    both = BackupScope(frozenset({ROW_KINDS["sqlite"]}), frozenset({"index", "facts"}))
    assert covered(both) == ["facts"]
    assert BackupScope().has_states
    assert BackupScope(kinds=frozenset({"state"})).has_states
    assert not BackupScope(kinds=frozenset({"file"})).has_states
