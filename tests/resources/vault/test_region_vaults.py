"""The vaults of a deployment: made once, opened with what is at hand, never with a new key."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.backup_declaration import (
    PLATFORM_NETWORK,
    BackupDeclaration,
    VaultLocation,
    WrappingKeySource,
)
from fleet.errors import InvalidInputError, NotFoundError
from fleet.vault_shred import NetworkShreddedError
from resources.vault.keys.shredding import shred_network
from resources.vault.region_vaults import RegionVaults
from resources.vault.snapshots.backup import back_up
from tests.fakes.vault_fleet import AT, VaultFleet
from tests.servers.moto_server import aws_client, aws_environment, moto_server


def declared(root: Path, *keys: WrappingKeySource) -> BackupDeclaration:
    """Two regions in folders, two key files."""
    shipped = (
        WrappingKeySource("region", file=str(root / "keys" / "region.key")),
        WrappingKeySource("recovery", file=str(root / "keys" / "recovery.key"), recovery=True),
    )
    return BackupDeclaration(
        home_region="eu",
        vaults=(VaultLocation("eu", str(root / "eu")), VaultLocation("us", str(root / "us"))),
        keys=keys or shipped,
        networks=("net",),
    )


@pytest.fixture
def vaults(tmp_path: Path) -> RegionVaults:
    """Prepared vaults."""
    opened = RegionVaults(declared(tmp_path), VaultFleet().clock)
    opened.prepare()
    return opened


def test_preparing_twice_makes_keys_for_their_owner_once(
    vaults: RegionVaults, tmp_path: Path
) -> None:
    """The second time changes nothing, and every declared network can be opened."""
    files = sorted((tmp_path / "keys").iterdir())
    before = [(one.name, one.read_bytes()) for one in files]
    vaults.prepare()
    assert [name for name, _ in before] == ["recovery.key", "region.key"]
    assert [(one.name, one.read_bytes()) for one in files] == before
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    opened = {vaults.home(one).network_id for one in vaults.declaration.vault_networks}
    assert opened == {"net", PLATFORM_NETWORK}


@pytest.mark.parametrize("left", ["region", "recovery"])
def test_either_key_opens_alone(vaults: RegionVaults, tmp_path: Path, left: str) -> None:
    """The recovery key may be kept elsewhere, and either may be lost."""
    for one in (tmp_path / "keys").iterdir():
        if one.stem != left:
            one.unlink()
    again = RegionVaults(vaults.declaration, vaults.clock)
    assert again.home("net").keys == vaults.home("net").keys


def test_lost_keys_are_not_replaced_by_new_ones(vaults: RegionVaults, tmp_path: Path) -> None:
    """A key made beside existing backups would open none of them, and look as if it did."""
    for one in (tmp_path / "keys").iterdir():
        one.unlink()
    again = RegionVaults(vaults.declaration, vaults.clock)
    with pytest.raises(NotFoundError, match=r"region\.key"):
        again.prepare()
    assert not list((tmp_path / "keys").iterdir())
    with pytest.raises(NotFoundError, match="no wrapping key is at hand"):
        again.home("net")


def test_a_key_from_the_environment_is_named_when_it_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absent, and not hexadecimal: the variable is named, its value is not."""
    source = WrappingKeySource("region", env="REGION_KEY")
    opened = RegionVaults(declared(tmp_path, source), VaultFleet().clock)
    with pytest.raises(NotFoundError, match="REGION_KEY"):
        opened.keks()
    monkeypatch.setenv("REGION_KEY", "not a key")
    with pytest.raises(InvalidInputError, match="REGION_KEY") as caught:
        opened.keks()
    assert "not a key" not in str(caught.value)
    monkeypatch.setenv("REGION_KEY", "ab" * 32)
    assert [one.kek_id for one in opened.keks()] == ["region"]


def test_what_is_not_declared_is_refused_with_what_is(vaults: RegionVaults) -> None:
    """Regions and networks are named by people."""
    with pytest.raises(InvalidInputError, match="one of eu, us"):
        vaults.store("asia")
    with pytest.raises(InvalidInputError, match="one of net, platform"):
        vaults.home("nett")
    with pytest.raises(NotFoundError, match="no vault"):
        vaults.network("us", "net")


def test_a_backup_goes_to_the_home_region_alone(vaults: RegionVaults, tmp_path: Path) -> None:
    """Replicas are pulled by their own regions."""
    back_up(vaults.home("net"), VaultFleet().store)
    assert list((tmp_path / "eu" / "log" / "net").rglob("*.json"))
    assert not (tmp_path / "us").exists()


def test_a_bucket_and_a_kms_key_serve_as_folder_and_file_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials, region and endpoint of AWS come from where boto3 looks for them."""
    with moto_server() as url, aws_client("s3", url) as s3, aws_client("kms", url) as kms:
        s3.create_bucket(Bucket="vault")
        key_id = kms.create_key()["KeyMetadata"]["KeyId"]
        for name, value in aws_environment(url).items():
            monkeypatch.setenv(name, value)
        declaration = replace(
            declared(
                tmp_path,
                WrappingKeySource("region", kms=key_id),
                WrappingKeySource("recovery", file=str(tmp_path / "r.key"), recovery=True),
            ),
            vaults=(VaultLocation("eu", bucket="vault", prefix="eu/", endpoint_url=url),),
        )
        opened = RegionVaults(declaration, VaultFleet().clock)
        opened.prepare()
        (tmp_path / "r.key").unlink()
        fleet = VaultFleet()
        taken = back_up(RegionVaults(declaration, fleet.clock).home("net"), fleet.store)
        listed = s3.list_objects_v2(Bucket="vault", Prefix="eu/log/net/")
        assert listed["KeyCount"] == taken.seq == 1


def test_a_recovery_key_that_is_kept_elsewhere_is_not_missed(
    vaults: RegionVaults, tmp_path: Path
) -> None:
    """Every network has its wraps: nothing needs the key until a new one is to be wrapped."""
    (tmp_path / "keys" / "recovery.key").unlink()
    assert RegionVaults(vaults.declaration, vaults.clock).prepare() == []
    more = replace(vaults.declaration, networks=("net", "new"))
    with pytest.raises(NotFoundError, match=r"recovery\.key"):
        RegionVaults(more, vaults.clock).prepare()


def test_a_shredded_network_keeps_no_other_from_being_prepared(vaults: RegionVaults) -> None:
    """Nothing is left to prepare of it; whoever opens it is told; the others have their keys."""
    shred_network({"eu": vaults.store("eu")}, "net", confirm="net", by="ada", reason="over", at=AT)
    more = RegionVaults(replace(vaults.declaration, networks=("net", "other")), vaults.clock)
    more.prepare()
    assert more.home("other").network_id == "other"
    with pytest.raises(NetworkShreddedError, match="UTC by ada: over"):
        more.home("net")
