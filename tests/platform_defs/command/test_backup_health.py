"""`stateroom doctor` on vaults and keys."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from platform_defs.backup_health import check_vaults, check_wrapping_keys
from platform_defs.health_finding import Context
from tests.platform_defs.command.backed_up_fleet import AWAY, HOME, fingerprint
from tests.platform_defs.command.conftest import BackedUp, Run


@pytest.fixture
def context(backed_up: BackedUp) -> Context:
    """The backed-up fleet, not running."""
    return Context(backed_up.settings, None, backed_up.folder)


def verdicts(context: Context) -> dict[str, str]:
    """Verdict of each region's vault."""
    return {one.said.split()[0]: one.verdict for one in check_vaults(context)}


def test_whole_vaults_are_ok_and_the_self_test_leaves_nothing(
    context: Context, backed_up: BackedUp
) -> None:
    """Every region's store is tried, and cleaned up after."""
    before = fingerprint(backed_up.folder)
    assert verdicts(context) == {HOME: "ok", AWAY: "ok"}
    assert fingerprint(backed_up.folder) == before


def test_a_vault_that_is_gone_is_a_finding_and_is_not_made_again(
    context: Context, backed_up: BackedUp
) -> None:
    """Its place is named, with what to do; a disk that is not mounted must not be written to."""
    for region, said in ((HOME, "none of us-west-2 at "), (AWAY, "no copy yet in eu at ")):
        folder = backed_up.folder / "state" / "vaults" / region
        shutil.rmtree(folder)
        (finding,) = [one for one in check_vaults(context) if one.said.startswith(said)]
        assert (finding.verdict, bool(finding.remedy)) == ("warn", True)
        assert not folder.exists()


def test_a_vault_that_cannot_be_written_is_wrong(context: Context, backed_up: BackedUp) -> None:
    """A file lies where the folder should be."""
    folder = backed_up.folder / "state" / "vaults" / AWAY
    shutil.rmtree(folder)
    folder.write_text("no folder")
    found = {one.said.split(",")[0]: one for one in check_vaults(context)}
    assert found[AWAY].verdict == "wrong"
    assert str(folder) in found[AWAY].said


def keys_of(context: Context) -> list[tuple[str, str]]:
    """Verdict and words of every finding on keys."""
    return [(one.verdict, one.said) for one in check_wrapping_keys(context)]


def test_a_recovery_key_beside_the_regions_key_is_a_doubt(context: Context) -> None:
    """One disaster would take both."""
    (ok, warned) = check_wrapping_keys(context)
    assert (ok.verdict, ok.said) == ("ok", "at hand: region, recovery")
    assert warned.said.startswith("the recovery key lies beside the region's key in ")
    assert warned.verdict == "warn"


def test_a_recovery_key_that_is_kept_elsewhere_is_as_it_should_be(
    context: Context, backed_up: BackedUp
) -> None:
    """The region's key that is missing is a doubt; none at all is wrong."""
    keys = backed_up.folder / "state" / "keys"
    (keys / "recovery.key").unlink()
    assert [verdict for verdict, _ in keys_of(context)] == ["ok", "ok"]
    (keys / "recovery.key").write_text((keys / "region.key").read_text())
    (keys / "recovery.key").chmod(0o600)
    (keys / "region.key").unlink()
    assert keys_of(context)[0][0] == "warn"
    (keys / "recovery.key").write_text("no key")
    assert [verdict for verdict, _ in keys_of(context)] == ["warn", "wrong", "wrong"]


def test_a_key_that_others_may_read_is_a_doubt(context: Context, backed_up: BackedUp) -> None:
    """With the command that mends it."""
    path: Path = backed_up.folder / "state" / "keys" / "region.key"
    path.chmod(0o644)
    found = [one for one in check_wrapping_keys(context) if one.said.startswith("others may read")]
    assert [one.remedy for one in found] == [f"chmod 600 {path}"]


def test_a_fleet_that_was_never_started_has_nothing_wrong(run: Run) -> None:
    """`stateroom up` will make keys and vaults."""
    done = run("doctor", STATEROOM_WEB__PORT="0")
    assert "backup_keys" in done.stdout
    assert "will be made by `stateroom up`" in done.stdout
    assert done.exit_code == 0
