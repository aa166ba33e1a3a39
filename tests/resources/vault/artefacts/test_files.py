"""Files and folders: the same tree comes back, and what has not changed is not opened."""

from __future__ import annotations

import os
import random
import shutil
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.vault.artefacts.tree import LiveFile
from resources.vault.verification.verify import verify_content
from tests.examples import examples
from tests.fakes.artefact_vault import ArtefactVault, outcome, tree

MIB = 1024 * 1024


@pytest.fixture
def source(vault: ArtefactVault) -> Path:
    """A declared folder with a few files."""
    folder = vault.root / "source"
    (folder / "inner").mkdir(parents=True)
    (folder / "one").write_bytes(b"first")
    (folder / "inner" / "two").write_bytes(b"second")
    vault.declare("source", folder)
    return folder


def test_a_folder_comes_back_with_names_modes_times_and_links(
    vault: ArtefactVault, source: Path
) -> None:
    """Odd names, names that begin others, empty files and folders, links that lead nowhere."""
    for name in ("inner-2", "inne", "inner.", "a\nb", "ünïcödé", "-n", " ", "%00", "a\\xff"):
        (source / name).write_bytes(name.encode())
    (source / os.fsdecode(b"a\xff")).write_bytes(b"no UTF-8")
    (source / "empty folder").mkdir(mode=0o711)
    (source / "empty").touch(mode=0o400)
    (source / "one").chmod(0o6755)
    os.utime(source / "one", ns=(1, 987_654_321_123_456_789))
    (source / "loop").symlink_to("loop")
    (source / "up").symlink_to("..")
    (source / "out").symlink_to("/etc/passwd")
    (source / "inner" / "self").symlink_to(".")
    expected = tree(source)
    result = vault.back_up()
    assert result.incomplete == ()
    assert outcome(result, "source").items == len(expected)
    assert tree(vault.restore("source")) == expected
    assert verify_content(vault.vault()).items == len(expected)


def test_a_single_file_comes_back_as_a_file(vault: ArtefactVault) -> None:
    """Also when it is empty; its artefact has one item."""
    for name, body in (("tarball", random.Random(1).randbytes(5000)), ("nothing", b"")):
        path = vault.root / name
        path.write_bytes(body)
        vault.declare(name, path)
    vault.back_up()
    for name in ("tarball", "nothing"):
        assert tree(vault.restore(name)) == tree(vault.root / name)


def test_large_and_sparse_files_come_back_and_holes_stay_holes(vault: ArtefactVault) -> None:
    """33 MiB of chance, which is more than a pack holds; 40 MiB of nothing with a byte in it."""
    folder = vault.root / "large"
    folder.mkdir()
    (folder / "chance").write_bytes(random.Random(2).randbytes(33 * MIB))
    with (folder / "sparse").open("wb") as file:
        file.truncate(40 * MIB)
        file.seek(21 * MIB)
        file.write(b"x")
    vault.declare("large", folder)
    result = vault.back_up()
    assert 33 * MIB < result.bytes_stored < 34 * MIB
    restored = vault.restore("large")
    assert tree(restored) == tree(folder)
    assert (restored / "sparse").stat().st_blocks * 512 < MIB


def test_names_of_one_file_stay_names_of_one_file(vault: ArtefactVault, source: Path) -> None:
    """Hard links are made again; equal files that were two stay two."""
    (source / "same").hardlink_to(source / "one")
    (source / "equal").write_bytes((source / "one").read_bytes())
    vault.back_up()
    restored = vault.restore("source")
    assert (restored / "same").samefile(restored / "one")
    assert not (restored / "equal").samefile(restored / "one")


def test_what_has_no_content_is_named_and_left_out(vault: ArtefactVault, source: Path) -> None:
    """A pipe and a socket; the backup is complete without them, and does not hang."""
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        where = Path.cwd()
        os.chdir(source)  # a socket's path must be short
        try:
            server.bind("socket")
        finally:
            os.chdir(where)
        result = vault.back_up()
    assert dict(outcome(result, "source").skipped) == {
        "pipe": "a named pipe has no content",
        "socket": "a socket has no content",
    }
    assert result.incomplete == ()
    assert "pipe" not in tree(vault.restore("source"))


def test_what_is_excluded_is_not_looked_at(
    vault: ArtefactVault, source: Path, opened: list[str]
) -> None:
    """With all that is in it; a name that only begins like it stays."""
    (source / "inner-2").write_bytes(b"stays")
    vault.declare("source", source, exclude=("inner/",))
    vault.back_up()
    assert not {"two", "inner"} & set(opened)
    assert sorted(tree(vault.restore("source"))) == [".", "inner-2", "one"]


def test_an_unchanged_file_is_not_opened(
    vault: ArtefactVault, source: Path, opened: list[str]
) -> None:
    """Nor is anything stored; a full backup reads everything again and stores a manifest."""
    vault.back_up()
    assert {"one", "two"} <= set(opened)
    opened.clear()
    again = vault.back_up()
    assert not {"one", "two"} & set(opened)
    assert (again.manifest, again.bytes_stored, outcome(again, "source").files_read) == (
        "same",
        0,
        0,
    )
    full = vault.back_up(full=True)
    assert (full.manifest, full.packs, outcome(full, "source").files_read) == ("full", 0, 2)
    assert tree(vault.restore("source")) == tree(source)


def test_a_file_that_changed_just_before_a_backup_is_read_by_the_next_one(
    vault: ArtefactVault, source: Path, opened: list[str]
) -> None:
    """A second change in the same tick of the clock would leave no trace (git's racy-clean)."""
    vault.clock.jump((datetime.now(UTC) - vault.clock.now()).total_seconds() - 59.9)
    vault.back_up()
    opened.clear()
    assert outcome(vault.back_up(), "source").files_read == 2
    assert outcome(vault.back_up(), "source").files_read == 0


@pytest.mark.parametrize("how", ["content", "mode", "rename", "truncate", "same size and time"])
def test_every_change_is_found(vault: ArtefactVault, source: Path, how: str) -> None:
    """Also one that keeps size and modification time: the change time cannot be set."""
    vault.back_up()
    one = source / "one"
    times = one.stat().st_mtime_ns
    match how:
        case "content":
            one.write_bytes(b"changed")
        case "mode":
            one.chmod(0o640)
        case "rename":
            one.rename(source / "renamed")
        case "truncate":
            one.write_bytes(b"")
        case _:
            one.write_bytes(b"tsrif")
            os.utime(one, ns=(times, times))
    expected = tree(source)
    result = vault.back_up()
    assert outcome(result, "source").changed == 1
    assert outcome(result, "source").removed == (how == "rename")
    assert tree(vault.restore("source")) == expected


def test_only_changed_blocks_of_a_page_file_are_stored(vault: ArtefactVault) -> None:
    """Three edits in place in 8 MiB: three blocks of 64 KiB, and the manifest."""
    path = vault.root / "pages"
    path.write_bytes(random.Random(3).randbytes(8 * MIB))
    vault.declare("pages", path)
    vault.back_up()
    with path.open("r+b") as file:
        for at in (0, 4 * MIB + 5, 8 * MIB - 1):
            file.seek(at)
            file.write(b"\xa5")
    result = vault.back_up()
    manifest_bytes = vault.vault().list_packs()[-1].size_bytes
    assert result.bytes_stored - manifest_bytes < 3 * 65536 + 1000
    assert tree(vault.restore("pages")) == tree(path)


def test_an_insertion_stores_little_again_under_content_defined_chunks(
    vault: ArtefactVault,
) -> None:
    """17 bytes at the front of 8 MiB: what follows is found again behind them."""
    path = vault.root / "dump"
    body = random.Random(4).randbytes(8 * MIB + 1)
    path.write_bytes(body)
    vault.declare("dump", path)
    vault.back_up()
    path.write_bytes(body[:1000] + b"seventeen bytes!!" + body[1000:])
    result = vault.back_up()
    assert result.bytes_stored < 2 * MIB
    assert tree(vault.restore("dump")) == tree(path)


def test_equal_content_is_stored_once(vault: ArtefactVault, source: Path) -> None:
    """In one artefact, between artefacts, and between snapshots."""
    body = random.Random(5).randbytes(3 * MIB)
    (source / "a").write_bytes(body)
    (source / "b").write_bytes(body)
    shutil.copytree(source, vault.root / "other")
    vault.declare("other", vault.root / "other")
    assert vault.back_up().bytes_stored < 1.1 * len(body)
    (source / "c").write_bytes(body)
    assert vault.back_up().bytes_stored < 20_000


class Meddler:
    """Changes a file whenever it has been read, as a live service does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> None:
        """Meddle with the file of this name so many times."""
        self.name = name.encode()
        self.left = times
        self.change: Any = None
        read = LiveFile.read

        def reading(file: LiveFile, size: int, /) -> bytes:
            data = read(file, size)
            if file._name == self.name and self.left and data:
                self.left -= 1
                self.change()
            return data

        monkeypatch.setattr(LiveFile, "read", reading)


@pytest.mark.parametrize("how", ["append", "overwrite", "replace", "remove"])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    vault: ArtefactVault, source: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What is stored is one of its states; one that vanishes is not part of the cut."""
    vault.back_up()
    one = source / "one"
    one.write_bytes(b"second state")
    meddler = Meddler(monkeypatch, "one", 1)

    def change() -> None:
        if how == "append":
            with one.open("ab") as file:
                file.write(b" and more")
        elif how == "overwrite":
            one.write_bytes(b"SECOND STATE")
        elif how == "replace":
            (source / "new").write_bytes(b"another file")
            (source / "new").rename(one)
        else:
            one.unlink()

    meddler.change = change
    result = vault.back_up()
    assert result.incomplete == ()
    assert outcome(result, "source").removed == (how == "remove")
    assert tree(vault.restore("source")) == tree(source)


def test_an_artefact_that_is_one_file_and_vanishes_is_named_and_kept(
    vault: ArtefactVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it would be left: its last good content stays."""
    path = vault.root / "alone"
    path.write_bytes(b"first")
    vault.declare("alone", path)
    vault.back_up()
    path.write_bytes(b"second")
    meddler = Meddler(monkeypatch, str(path), 1)
    meddler.change = path.unlink
    assert "vanished" in dict(vault.back_up().incomplete)["alone"]
    assert vault.restore("alone").read_bytes() == b"first"


def test_a_file_that_never_rests_keeps_its_last_good_content_and_is_named(
    vault: ArtefactVault, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other files of the artefact are stored; the next quiet backup is complete again."""
    vault.back_up()
    (source / "one").write_bytes(b"x")
    (source / "inner" / "two").write_bytes(b"newer")
    meddler = Meddler(monkeypatch, "one", 1000)
    meddler.change = lambda: (source / "one").write_bytes(bytes(meddler.left))
    result = vault.back_up()
    assert "changed while it was read" in dict(result.incomplete)["source"]
    assert [path for path, _ in outcome(result, "source").failed] == ["one"]
    restored = vault.restore("source")
    assert (restored / "one").read_bytes() == b"first"
    assert (restored / "inner" / "two").read_bytes() == b"newer"
    meddler.left = 0
    assert vault.back_up().incomplete == ()
    assert tree(vault.restore("source")) == tree(source)


@pytest.fixture
def unprivileged_vault() -> Iterator[ArtefactVault]:
    """A vault in a folder of `nobody`, as which the test runs where it was started by root."""
    folder = Path(tempfile.mkdtemp(prefix="stateroom-artefacts-"))
    user = os.geteuid()
    if user == 0:
        shutil.chown(folder, "nobody")
        os.seteuid(folder.stat().st_uid)
    try:
        yield ArtefactVault(folder)
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


def test_what_may_not_be_read_is_named_and_its_last_good_content_kept(
    unprivileged_vault: ArtefactVault,
) -> None:
    """A file and a whole folder without the right to read."""
    vault = unprivileged_vault
    folder = vault.root / "source"
    (folder / "closed").mkdir(parents=True)
    (folder / "closed" / "deep").write_bytes(b"deep")
    (folder / "secret").write_bytes(b"secret")
    (folder / "plain").write_bytes(b"plain")
    vault.declare("source", folder)
    vault.back_up()
    before = tree(folder)
    (folder / "plain").write_bytes(b"changed")
    (folder / "secret").write_bytes(b"newer")
    (folder / "secret").chmod(0)
    (folder / "closed").chmod(0)
    result = vault.back_up()
    (folder / "closed").chmod(0o755)
    failed = dict(outcome(result, "source").failed)
    assert failed == {"secret": "Permission denied", "closed": "Permission denied"}
    restored = tree(vault.restore("source"))
    assert restored["secret"] == before["secret"]
    assert restored["closed/deep"] == before["closed/deep"]
    assert restored["plain"][-1] == b"changed"


def test_a_folder_that_its_owner_may_not_write_comes_back(
    unprivileged_vault: ArtefactVault,
) -> None:
    """Content is written before the mode is; also twice into the same place."""
    vault = unprivileged_vault
    folder = vault.root / "source"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_bytes(b"w" * 1000)
    (folder / "model").chmod(0o555)
    folder.chmod(0o555)
    expected = tree(folder)
    vault.declare("source", folder)
    vault.back_up()
    restored = vault.restore("source")
    assert tree(restored) == expected
    for one in (folder, folder / "model", restored, restored / "model"):
        one.chmod(0o755)


def test_a_folder_exchanged_for_a_link_in_mid_walk_leads_nowhere(
    vault: ArtefactVault, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing outside the artefact is ever read."""
    outside = vault.root / "outside"
    outside.mkdir()
    (outside / "two").write_bytes(b"not yours")
    (source / "a").write_bytes(b"read before `inner`")
    meddler = Meddler(monkeypatch, "a", 1)

    def change() -> None:
        (source / "inner").rename(vault.root / "moved")
        (source / "inner").symlink_to(outside)

    meddler.change = change
    vault.back_up()
    restored = tree(vault.restore("source"))
    assert b"not yours" not in [entry[-1] for entry in restored.values()]


def test_a_published_index_is_followed_through_its_pointer(vault: ArtefactVault) -> None:
    """The cut names the build; the next build takes its place."""
    pointer = vault.root / "current"
    for number in (1, 2):
        build = vault.root / f"build-{number}"
        build.mkdir()
        (build / "vectors").write_bytes(b"IxF2" + bytes([number]) * 1000)
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(build)
        vault.declare("index", pointer, "faiss")
        result = vault.back_up()
        assert outcome(result, "index").about == {"build": build.name}
        assert tree(vault.restore("index")) == tree(build)


def test_a_compaction_during_the_backup_of_a_lake_loses_no_rows(
    vault: ArtefactVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merged object appears and the merged ones go while the folder is walked."""
    lake = vault.root / "lake"
    day = lake / "objects" / "t"
    day.mkdir(parents=True)
    (lake / "tmp").mkdir()
    (lake / "tmp" / "half.tmp").write_bytes(b"half")
    for name in ("b", "c"):
        (day / name).write_bytes(name.encode())
    vault.declare("lake", lake, "lake")
    meddler = Meddler(monkeypatch, "b", 1)

    def compact() -> None:
        (day / "a-merged").write_bytes(b"bc")
        (day / "c").unlink()

    meddler.change = compact
    result = vault.back_up()
    assert result.incomplete == ()
    restored = tree(vault.restore("lake"))
    assert restored["objects/t/a-merged"][-1] == b"bc"
    assert "tmp" not in restored


Edit = tuple[str, str, int]
NAMES = st.sampled_from(["a", "b", "ab", "d", "d/a", "d/b", "d/ab", "d/e", "d/e/a", "ä\n"])
EDITS = st.tuples(
    NAMES,
    st.sampled_from(["write", "append", "patch", "remove", "link", "mode", "folder"]),
    st.integers(0, 2**16),
)


@settings(max_examples=examples(40))
@given(script=st.lists(st.lists(EDITS, max_size=8), min_size=1, max_size=4))
def test_every_snapshot_of_any_tree_comes_back_bit_for_bit(script: list[list[Edit]]) -> None:
    """Random trees, edited between snapshots; each restores what stood there at its moment."""
    with tempfile.TemporaryDirectory() as folder:
        vault = ArtefactVault(Path(folder))
        source = vault.root / "source"
        source.mkdir()
        vault.declare("source", source)
        taken = {}
        for edits in script:
            for edit in edits:
                apply(source, edit)
            result = vault.back_up()
            assert result.incomplete == ()
            taken[result.snapshot_id] = tree(source)
        for snapshot_id, expected in taken.items():
            assert tree(vault.restore("source", snapshot_id)) == expected


def apply(source: Path, edit: Edit) -> None:
    """One edit; where it cannot be, nothing."""
    name, how, seed = edit
    path, chance = source / name, random.Random(seed)
    if not path.parent.is_dir() or path.parent.is_symlink():
        return
    if how == "mode":
        if os.path.lexists(path) and not path.is_symlink():
            path.chmod(0o700 | seed % 0o100)
    elif path.is_file() and not path.is_symlink() and how in {"append", "patch"}:
        with path.open("r+b") as file:
            file.seek(0, os.SEEK_END if how == "append" else os.SEEK_SET)
            file.write(chance.randbytes(100))
    else:
        remove(path)
        make(path, how, chance)


def remove(path: Path) -> None:
    """Whatever it is, if it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make(path: Path, how: str, chance: random.Random) -> None:
    """A file, folder or link."""
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to(chance.choice(["a", "..", "nowhere", "d/e"]))
    elif how == "write":
        path.write_bytes(chance.randbytes(chance.choice([0, 1, 100, 262_144, 262_145, 600_000])))
