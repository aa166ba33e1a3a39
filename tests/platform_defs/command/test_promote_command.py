"""Another region takes over writing the backups: looked at first, confirmed, and gone on from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from platform_defs.command import exit_codes
from platform_defs.command.vault_access import open_backups
from resources.vault.replicas.promote import branch_of, promote
from resources.vault.replicas.replicate import replicate
from resources.vault.snapshots.backup import back_up
from tests.platform_defs.command.backed_up_fleet import (
    AWAY,
    HOME,
    bodies,
    fingerprint,
    opened_store,
    write_state,
)
from tests.platform_defs.command.conftest import BackedUp

PROMOTE = ("backups", "promote", "--region", AWAY, "--network", "watch")
DECIDED = (*PROMOTE, "--operator-decides", "--yes-promote", AWAY)


def home_vault(fleet: BackedUp) -> Path:
    """The folder of the home's vault."""
    return fleet.folder / "state" / "vaults" / HOME


def test_a_dry_run_says_what_would_be_decided_and_writes_nothing(backed_up: BackedUp) -> None:
    """With both regions there, with one away, and with an operator's word."""
    before = fingerprint(backed_up.folder)
    done = backed_up.run(*PROMOTE, "--dry-run")
    assert (done.exit_code, "won" in done.stdout) == (exit_codes.OK, True), done.output
    shutil.move(home_vault(backed_up), backed_up.folder / "aside")
    done = backed_up.run(*PROMOTE, "--dry-run")
    assert done.exit_code == exit_codes.FINDING
    assert "undecided" in done.stdout
    assert "1 of 2 regions, 2 are needed, 1 do not answer" in done.stdout
    assert f"! watch, {HOME}: does not count: has no vault" in done.stdout
    document = backed_up.json(*PROMOTE, "--operator-decides", "--dry-run")
    (network,) = document["networks"]
    assert (document["dry_run"], network["writes"], network["epoch"]) == (True, True, 1)
    shutil.move(backed_up.folder / "aside", home_vault(backed_up))
    assert fingerprint(backed_up.folder) == before


def test_records_that_would_be_left_aside_are_counted_before(backed_up: BackedUp) -> None:
    """The home has gone on since the last replication."""
    with opened_store(backed_up.settings) as store:
        write_state(store, "cpu-3", b"not given away")
        back_up(open_backups().open("watch"), store)
    done = backed_up.run(*PROMOTE, "--dry-run")
    assert f"! watch, {HOME}: has 1 records that {AWAY} lacks" in done.stdout
    assert backed_up.json(*PROMOTE, "--dry-run")["networks"][0]["records_left_aside"] == 1


@pytest.mark.parametrize("typed", ["", "us-west-2\n", "EU\n"])
def test_without_the_regions_name_nothing_is_written(backed_up: BackedUp, typed: str) -> None:
    """Asked for at a terminal; another name, or none, is refused."""
    before = fingerprint(backed_up.folder)
    done = backed_up.run(*PROMOTE, "--yes-promote", typed.strip())
    assert done.exit_code == exit_codes.USAGE
    assert "confirmation" in done.stderr
    assert "Nothing was written." in done.stderr
    assert fingerprint(backed_up.folder) == before


def test_the_runbook_of_a_lost_region_is_carried_out_to_its_end(backed_up: BackedUp) -> None:
    """Look, refuse, promote, restore, back up; then the lost region comes back as a replica."""
    with opened_store(backed_up.settings) as store:
        write_state(store, "cpu-3", b"not given away")
        stray = back_up(open_backups().open("watch"), store)
    aside = backed_up.folder / "aside"
    shutil.move(home_vault(backed_up), aside)
    assert len(backed_up.json("backups", "list", "--network", "watch", "--region", AWAY)) == 2
    refused = backed_up.run(*PROMOTE, "--yes-promote", AWAY)
    assert refused.exit_code == exit_codes.FINDING
    assert "epoch 1 is undecided: 1 of 2 regions, 2 are needed, 1 do not answer" in refused.stdout
    assert "Run again when more regions answer, or let an operator decide." in refused.stdout
    done = backed_up.run(*DECIDED)
    assert done.exit_code == exit_codes.OK, done.output
    assert f"watch: {AWAY} writes since epoch 1, behind record 2" in done.stdout
    assert f'set home_region = "{AWAY}" under [backup]' in done.stdout
    again = backed_up.run(*PROMOTE, "--operator-decides", "--yes-promote", AWAY)
    assert (again.exit_code, "writes already" in again.stdout) == (exit_codes.OK, True)
    assert not home_vault(backed_up).exists()
    settings = backed_up.folder / "stateroom.toml"
    settings.write_text(settings.read_text() + f'[backup]\nhome_region = "{AWAY}"\n')
    live = bodies(backed_up.settings)
    restored = backed_up.run("restore", "--network", "watch", "--force", "--yes")
    assert restored.exit_code == exit_codes.OK, restored.output
    assert bodies(backed_up.settings)["cpu-1"] == live["cpu-1"]
    backups = open_backups()
    with opened_store(backed_up.settings) as store:
        write_state(store, "cpu-2", b"after the promotion")
        taken = back_up(backups.open("watch"), store)
    home_vault(backed_up).parent.mkdir(exist_ok=True)
    shutil.move(aside, home_vault(backed_up))
    backups = open_backups()
    came_back = backups.vaults.replica(HOME, "watch")
    replicate(backups.open("watch"), came_back)
    assert taken.snapshot_id in came_back.log.refresh().live
    assert [one.snapshot_id for branch in branch_of(came_back) for one in branch.snapshots] == [
        stray.snapshot_id
    ]
    verified = backed_up.run("backups", "verify", "--network", "watch")
    assert verified.exit_code == exit_codes.OK, verified.output


def test_all_networks_are_promoted_each_under_an_epoch_that_can_be_won(
    backed_up: BackedUp,
) -> None:
    """A claim that is nobody's leaves its epoch to none; the dry run has said the same."""
    backups = open_backups()
    for one in ("staging", "platform"):
        with opened_store(backed_up.settings):
            replicate(backups.open(one), backups.vaults.replica(AWAY, one))
    claim = home_vault(backed_up) / "claims" / "staging"
    claim.mkdir(parents=True)
    (claim / "0001").write_bytes(b"nobody's")
    words = ("backups", "promote", "--region", AWAY, "--yes-promote", AWAY)
    seen = backed_up.json(*words, "--dry-run")
    document = backed_up.json(*words)
    assert [(one["network_id"], one["writes"], one["epoch"]) for one in seen["networks"]] == [
        (one["network_id"], one["writes"], one["epoch"]) for one in document["networks"]
    ]
    assert {one["network_id"]: one["writes"] for one in document["networks"]} == {
        "watch": True,
        "staging": True,
        "platform": True,
    }
    epochs = {one["network_id"]: one["epoch"] for one in document["networks"]}
    assert epochs == {"watch": 1, "staging": 2, "platform": 1}


def test_what_cannot_be_is_said_with_the_next_step(backed_up: BackedUp) -> None:
    """Unknown region and network, a region without a vault, no key: nothing is written."""
    table = [
        (("--region", "mars"), "no region 'mars'; declared: eu, us-west-2"),
        (("--region", AWAY, "--network", "wacth"), "no network 'wacth'; declared: watch"),
    ]
    before = fingerprint(backed_up.folder)
    for words, expected in table:
        done = backed_up.run("backups", "promote", *words, "--yes-promote", AWAY)
        assert (done.exit_code, expected in done.stderr) == (exit_codes.USAGE, True), done.output
    shutil.rmtree(backed_up.folder / "state" / "vaults" / AWAY)
    done = backed_up.run(*DECIDED)
    assert done.exit_code == exit_codes.USAGE
    assert f"region {AWAY} has no vault at" in done.stderr
    assert fingerprint(backed_up.folder).items() <= before.items()


def test_a_network_that_is_refused_keeps_no_other_from_being_promoted(
    backed_up: BackedUp,
) -> None:
    """Its epoch was won by another region; it is said with its next step, the exit code tells."""
    backups = open_backups()
    replicate(backups.open("staging"), backups.vaults.replica(AWAY, "staging"))
    stores = {one: backups.vaults.store(one) for one in backups.declaration.regions}
    promote(backups.open("staging"), stores)
    words = ("backups", "promote", "--region", AWAY, "--network", "watch", "--network", "staging")
    done = backed_up.run(*words, "--yes-promote", AWAY)
    assert done.exit_code == exit_codes.FINDING
    assert f"watch: {AWAY} writes since epoch 1, behind record 2" in done.stdout
    assert "staging: network staging: epoch 1 belongs to another region" in done.stdout
    assert "Replicate from that region; if it is gone for good, supersede its epoch." in done.stdout
    assert "home_region" not in done.stdout
    words = ("backups", "promote", "--region", AWAY, "--network", "staging", "--supersede", "1")
    document = backed_up.json(*words, "--yes-promote", AWAY)
    assert [(one["writes"], one["epoch"]) for one in document["networks"]] == [(True, 2)]
