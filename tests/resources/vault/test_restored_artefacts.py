"""Every expected artefact of a snapshot is restored, opened and removed again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    StoreUnavailableError,
)
from fleet.verification_status import fold_verifications
from resources.vault.drills.restore_test import run_restore_test
from resources.vault.network import NetworkVault
from resources.vault.verification.restored_artefacts import (
    FILES,
    ExpectedArtefact,
    RestoredArtefacts,
)
from tests.resources.vault.backed_up import BackedUp
from tests.resources.vault.test_application_checks import flip, make_sqlite, make_tar


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, as unix sockets need."""
    with TemporaryDirectory(prefix="sr-") as name:
        yield Path(name)


class Shelf:
    """Artefacts as they come back, or the error in their place."""

    def __init__(self, folder: Path) -> None:
        """A database and a folder with a tarball."""
        (folder / "originals" / "bundle").mkdir(parents=True)
        self.sqlite = make_sqlite(folder / "originals")
        self.bundle = folder / "originals" / "bundle"
        self.tarball = make_tar(self.bundle)
        (self.bundle / "readme").write_text("two files")
        self.errors: dict[str, Exception] = {}
        self.asked: list[tuple[str, str]] = []
        self.places: list[Path] = []

    def restore(self, _vault: NetworkVault, name: str, into: Path, snapshot_id: str) -> None:
        """As `restore_artefact` does it, from a shelf."""
        self.asked.append((name, snapshot_id))
        self.places.append(into)
        if name in self.errors:
            raise self.errors[name]
        if name == "notes":
            shutil.copy(self.sqlite, into)
        else:
            shutil.copytree(self.bundle, into)


EXPECTED = [
    ExpectedArtefact("notes", "sqlite", {"rows.notes": 500}),
    ExpectedArtefact("bundle", FILES),
]


def test_artefacts_come_back_and_work(folder: Path) -> None:
    """Part of V4: the database opens, the tarball lists, nothing is left."""
    shelf, world = Shelf(folder), BackedUp(folder, agents=2)
    snapshot_id = world.back_up().snapshot_id
    (done,) = run_restore_test(
        world.vault(),
        folder / "w",
        region="eu",
        check_artefacts=RestoredArtefacts(EXPECTED, shelf.restore),
    )
    assert done.failures == ()
    numbers = {one["name"]: one["numbers"] for one in done.detail["checks"]}
    assert numbers["sqlite notes"]["rows.notes"] == 500
    assert numbers["files bundle"]["files"] == 2
    assert numbers["tar bundle/bundle.tar.gz"]["members"] == 3
    assert shelf.asked == [("notes", snapshot_id), ("bundle", snapshot_id)]
    assert not any(one.exists() for one in shelf.places)


def test_one_that_does_not_come_back_or_open_fails_alone(folder: Path) -> None:
    """Damage in the vault, an artefact that is missing, and one that was damaged before."""
    shelf, world = Shelf(folder), BackedUp(folder, agents=2)
    vault = world.vault()
    checks = RestoredArtefacts(EXPECTED, shelf.restore)
    (folder / "w").mkdir()
    for error in (CorruptObjectError("pack x is damaged"), NotFoundError("no artefact notes")):
        shelf.errors["notes"] = error
        notes, *others = checks(vault, "s", folder / "w")
        assert (notes.passed, notes.reason) == (False, f"it cannot be restored: {error}")
        assert all(one.passed for one in others)
    shelf.errors.clear()
    flip(shelf.tarball, 0.5)
    shutil.copy(shelf.tarball, shelf.sqlite)
    found = {one.name: one.passed for one in checks(vault, "s", folder / "w")}
    assert found == {
        "sqlite notes": False,
        "files bundle": True,
        "tar bundle/bundle.tar.gz": False,
    }
    shutil.rmtree(shelf.bundle)
    shelf.bundle.mkdir()
    assert checks(vault, "s", folder / "w")[1].reason == "no file"
    assert list((folder / "w").iterdir()) == []


def test_a_store_that_does_not_answer_condemns_no_snapshot(folder: Path) -> None:
    """The test has failed; whether the artefact would come back is not known."""
    shelf, world = Shelf(folder), BackedUp(folder, agents=2)
    world.back_up()
    shelf.errors["bundle"] = StoreUnavailableError("no answer")
    (done,) = run_restore_test(
        world.vault(),
        folder / "w",
        region="eu",
        check_artefacts=RestoredArtefacts(EXPECTED, shelf.restore),
    )
    assert done.failures == ("no answer",)
    assert fold_verifications([done]) == {}


def test_an_unknown_kind_is_refused_before_anything_is_restored(folder: Path) -> None:
    """By name."""
    with pytest.raises(InvalidInputError, match=r"notes\.kind"):
        RestoredArtefacts([ExpectedArtefact("notes", "word")], Shelf(folder).restore)
