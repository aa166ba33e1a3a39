"""Scopes: what a snapshot looks at, what it carries over, what it names as incomplete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet.backup import ArtefactDeclaration, BackupScope
from fleet.errors import InvalidInputError, NotFoundError, StoreUnavailableError
from fleet.vault_keyspace import VAULT_KEY
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.packs.manifest import FULL_BELOW_ROWS
from resources.vault.restores.restore_files import restore_artefact
from resources.vault.snapshots.backup import BackupResult, back_up
from resources.vault.verification.verify import verify_bytes, verify_content, verify_structure
from tests.fakes.vault_fleet import VaultFleet


class Service:
    """A network with agents, and with two folders beside them."""

    def __init__(self, root: Path) -> None:
        """A vault, five agents, artefacts `left` and `right`."""
        self.root = root
        self.fleet = VaultFleet(5)
        self.store = DirectoryObjectStore(root / "vault")
        self.store.create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
        for name in ("left", "right"):
            (root / name).mkdir()
            self.write(name, "first")
        self.artefacts = [self.declare("left"), self.declare("right")]

    def declare(self, name: str) -> ArtefactDeclaration:
        """As a `files` artefact of the network."""
        path = str(self.root / name)
        return ArtefactDeclaration(name=name, path=path, kind="files", network_id="net")

    def write(self, name: str, text: str) -> None:
        """Change an artefact."""
        (self.root / name / "file").write_text(text)

    def back_up(self, **more: Any) -> BackupResult:
        """A minute later."""
        self.fleet.clock.advance(60)
        settings = {"artefacts": self.artefacts, "source": self.fleet.store, **more}
        return back_up(self.fleet.vault(self.store), **settings)

    def cut(self, result: BackupResult) -> dict[str, Any]:
        """What the log record says."""
        vault = self.fleet.vault(self.store)
        vault.log.refresh()
        found: dict[str, Any] = vault.snapshot(result.snapshot_id).extra["cut"]
        return found

    def text(self, name: str, result: BackupResult) -> str:
        """What a snapshot holds of an artefact."""
        into = self.root / f"{name}-{result.snapshot_id}"
        if not into.exists():
            vault = self.fleet.vault(self.store)
            restore_artefact(vault, name, into, snapshot_id=result.snapshot_id)
        return (into / "file").read_text()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """The service above."""
    return Service(tmp_path)


def test_states_and_artefacts_are_one_snapshot(service: Service) -> None:
    """One record, one cut; each is restored by its own verb; every level looks at both."""
    result = service.back_up()
    assert (result.agents, result.changed, len(result.artefacts)) == (5, 5, 2)
    assert service.fleet.restored(service.store, result.snapshot_id) == service.fleet.bodies()
    assert service.text("left", result) == "first"
    cut = service.cut(result)
    moment = result.taken_at.isoformat()
    cursor = cut["states"].pop("cursor")
    newest = service.fleet.store.state_changes(0, 99)[-1].change_id
    assert (cursor["change_id"], len(cursor["token"])) == (newest, 32)
    assert cut["states"] == {"taken_at": moment, "agents": 5, "whole": "no earlier cut is known"}
    assert cut["looked_at"] == ["left", "right", "state"]
    vault = service.fleet.vault(service.store)
    assert verify_content(vault).items == 5 + 2 * 2
    for level in (verify_structure, verify_bytes, verify_content):
        assert level(vault).findings == ()


def test_what_is_out_of_scope_is_carried_over_with_its_own_moment(service: Service) -> None:
    """By kind and by name; neither read nor changed, and nobody takes it for fresh."""
    first = service.back_up()
    service.write("left", "second")
    service.write("right", "second")
    service.fleet.change("agent-0001")
    states = service.back_up(scope=BackupScope(kinds=frozenset({"state"})))
    assert (states.changed, states.artefacts, service.text("left", states)) == (1, (), "first")
    left = service.back_up(scope=BackupScope(frozenset({"file"}), frozenset({"left"})))
    assert (service.text("left", left), service.text("right", left)) == ("second", "first")
    assert (left.changed, left.agents) == (0, 5)
    cut = service.cut(left)
    assert cut["looked_at"] == ["left"]
    assert cut["artefacts"]["right"]["taken_at"] == first.taken_at.isoformat()
    assert cut["artefacts"]["left"]["taken_at"] == left.taken_at.isoformat()
    assert cut["states"] == service.cut(states)["states"]
    assert service.fleet.restored(service.store, left.snapshot_id) == service.fleet.bodies()


def test_an_artefact_that_is_not_handed_in_stays_until_it_is_retired(service: Service) -> None:
    """A forgotten line of settings removes nothing; older snapshots keep a retired one."""
    first = service.back_up()
    kept = service.back_up(artefacts=[])
    assert service.text("left", kept) == "first"
    gone = service.back_up(scope=BackupScope(retired=frozenset({"left"})), artefacts=[])
    with pytest.raises(NotFoundError, match="holds no artefact left"):
        service.text("left", gone)
    assert sorted(service.cut(gone)["artefacts"]) == ["right"]
    assert service.text("left", first) == "first"
    assert service.text("right", gone) == "first"


def test_a_failing_artefact_stops_nothing_and_keeps_its_last_good_rows(service: Service) -> None:
    """Result and record name it; the cut keeps the moment of the good copy."""
    first = service.back_up()
    (service.root / "left").rename(service.root / "elsewhere")
    service.write("right", "second")
    service.fleet.change("agent-0002")
    result = service.back_up()
    assert [name for name, _ in result.incomplete] == ["left"]
    assert "does not exist" in dict(result.incomplete)["left"]
    assert (service.text("left", result), service.text("right", result)) == ("first", "second")
    assert service.fleet.restored(service.store, result.snapshot_id) == service.fleet.bodies()
    entry = service.cut(result)["artefacts"]["left"]
    assert entry["taken_at"] == first.taken_at.isoformat()
    assert entry["failed_at"] == result.taken_at.isoformat()
    vault = service.fleet.vault(service.store)
    vault.log.refresh()
    assert list(vault.snapshot(result.snapshot_id).extra["incomplete"]) == ["left"]
    (service.root / "elsewhere").rename(service.root / "left")
    healed = service.back_up()
    assert healed.incomplete == ()
    assert "error" not in service.cut(healed)["artefacts"]["left"]


def test_a_network_with_artefacts_needs_no_states(service: Service) -> None:
    """With an empty control store, and with none."""
    for agent_id in service.fleet.agent_ids:
        service.fleet.drop(agent_id)
    assert service.text("left", service.back_up()) == "first"
    assert service.text("left", service.back_up(source=None)) == "first"


def test_nothing_at_all_is_refused(service: Service) -> None:
    """And nothing is committed: not even when all that there is failed."""
    with pytest.raises(NotFoundError, match="no agent state"):
        service.back_up(source=None, artefacts=[])
    missing = [service.declare("neither"), service.declare("nor")]
    with pytest.raises(StoreUnavailableError, match=r"neither: .*; nor: "):
        service.back_up(source=None, artefacts=missing)
    assert service.store.list_objects("log/") == []


def test_an_artefact_of_another_network_or_declared_twice_is_refused(service: Service) -> None:
    """Before anything is read."""
    foreign = ArtefactDeclaration(name="x", path="/x", network_id="other")
    with pytest.raises(InvalidInputError, match="network of x"):
        service.back_up(artefacts=[foreign])
    with pytest.raises(InvalidInputError, match="each name once"):
        service.back_up(artefacts=[service.declare("left")] * 2)


def test_an_artefact_that_changes_its_kind_moves_as_a_whole(service: Service) -> None:
    """Rows of the old kind end; in a delta as well as in a full manifest."""
    for limit in (1, FULL_BELOW_ROWS):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("resources.vault.snapshots.backup.FULL_BELOW_ROWS", limit)
            service.back_up()
            as_lake = ArtefactDeclaration(
                name="left", path=str(service.root / "left"), kind="lake", network_id="net"
            )
            result = service.back_up(artefacts=[as_lake])
        vault = service.fleet.vault(service.store)
        vault.log.refresh()
        refs = vault.snapshot(result.snapshot_id).extra["manifests"]
        assert len(refs) > 0
        assert service.text("left", result) == "first"
        assert verify_content(vault).items == 5 + 2 * 2
        service.back_up()


def test_manifests_of_states_alone_are_as_they_were_before_artefacts(tmp_path: Path) -> None:
    """No column more: an older version reads them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fleet.vault_manifest import ManifestOpener

    fleet, store = VaultFleet(3), DirectoryObjectStore(tmp_path)
    back_up(fleet.vault(store), fleet.store)
    (listed,) = store.list_objects("manifests/")
    name = listed.key.rpartition("/")[2].removesuffix(".manifest")
    plain = ManifestOpener(fleet.vault(store).keys, store.get(listed.key), name).read()
    assert "attributes" not in pq.read_schema(pa.BufferReader(plain)).names
