"""`stateroom keys`: exchanged without touching data, destroyed only on purpose."""

from __future__ import annotations

import json
import shutil

import pytest

from platform_defs.command import exit_codes
from tests.platform_defs.command.backed_up_fleet import AWAY, HOME, fingerprint, opened_store
from tests.platform_defs.command.conftest import BackedUp

SHRED = ("keys", "shred", "--network", "watch", "--reason", "contract 7", "--by", "ada",
         "--yes-shred", "watch")  # fmt: skip
NEW_KEY = """
[wrapping_keys.region]
file = "{state_dir}/keys/region.key"
[wrapping_keys.recovery]
file = "{state_dir}/keys/recovery.key"
recovery = true
[wrapping_keys.region-2]
env = "NEW_REGION_KEY"
"""


def wrapped_by(fleet: BackedUp, region: str) -> list[list[str]]:
    """Ids of the keys that wrap each data key of the network."""
    found = fleet.json("keys", "list", "--network", "watch", "--region", region)["data_keys"]
    return [one["kek_ids"] for one in found]


def test_keys_are_listed_with_where_they_are_kept_and_whether_at_hand(
    backed_up: BackedUp,
) -> None:
    """A recovery key that is kept elsewhere is missing by name; no key byte is shown."""
    secret = (backed_up.folder / "state" / "keys" / "region.key").read_text().strip()
    (backed_up.folder / "state" / "keys" / "recovery.key").unlink()
    done = backed_up.run("keys", "list")
    assert done.exit_code == exit_codes.OK
    assert secret not in done.output
    assert "recovery.key of recovery: No such file or directory" in done.stdout
    rows = backed_up.json("keys", "list")["data_keys"]
    keys = {(one["region"], one["network_id"], one["dek_id"]) for one in rows}
    assert {(HOME, "watch", "watch.0001"), (AWAY, "watch", "watch.0001")} <= keys


def test_a_rotated_data_key_seals_new_packs_and_old_ones_stay_readable(
    backed_up: BackedUp,
) -> None:
    """No stored object changes; the old snapshots restore."""
    before = fingerprint(backed_up.folder)
    done = backed_up.run("keys", "rotate", "--network", "watch")
    expected = "watch: data key watch.0002 seals new packs; older ones stay readable\n"
    assert done.stdout == expected
    assert before.items() <= fingerprint(backed_up.folder).items()
    rows = backed_up.json("keys", "list", "--network", "watch", "--region", HOME)["data_keys"]
    assert [one["said"] for one in rows] == ["opens older packs", "seals new packs"]
    restored = backed_up.run("restore", "--network", "watch", "--force", "--yes")
    assert restored.exit_code == exit_codes.OK, restored.output


def test_a_wrapping_key_is_exchanged_in_every_region(
    backed_up: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wrap` adds what was declared; `rotate --retire` takes the old one away."""
    settings = backed_up.folder / "stateroom.toml"
    settings.write_text(settings.read_text() + NEW_KEY, encoding="utf-8")
    monkeypatch.setenv("NEW_REGION_KEY", "cd" * 32)
    done = backed_up.run("keys", "wrap", "--network", "watch")
    assert done.stdout == f"{HOME}, watch: 1 added\n{AWAY}, watch: 1 added\n"
    again = backed_up.run("keys", "wrap", "--network", "watch").stdout
    assert again == "every data key is wrapped by every key at hand\n"
    words = ("keys", "rotate", "--network", "watch", "--wrapping-key", "region-2")
    assert backed_up.run(*words, "--retire", "region").exit_code == exit_codes.OK
    for region in (HOME, AWAY):
        assert wrapped_by(backed_up, region) == [["recovery", "region-2"]]
    shutil.rmtree(backed_up.folder / "state" / "keys")
    assert backed_up.run("backups", "list", "--network", "watch").exit_code == exit_codes.OK


def test_a_shredded_network_opens_nowhere_and_the_others_go_on(backed_up: BackedUp) -> None:
    """Who, when and why remain; commands for all networks leave it out and say so."""
    done = backed_up.run(*SHRED)
    assert done.exit_code == exit_codes.OK, done.output
    for region in (HOME, AWAY):
        gone = backed_up.run("restore", "--network", "watch", "--region", region, "--yes")
        assert gone.exit_code == exit_codes.FINDING
        assert "network watch was shredded on " in gone.stderr
        assert "by ada: contract 7" in gone.stderr
    listed = backed_up.run("backups", "list")
    assert listed.exit_code == exit_codes.OK
    assert listed.stderr == "note: network watch was shredded, and is left out\n"
    assert "shredded on" in backed_up.run("keys", "list").stdout


def test_a_dry_run_of_shredding_counts_what_would_go_and_touches_nothing(
    backed_up: BackedUp,
) -> None:
    """No reason is needed for it; a region that cannot be read is a finding, by name."""
    dry = ("keys", "shred", "--network", "watch", "--dry-run")
    done = backed_up.run(*dry)
    assert done.exit_code == exit_codes.OK, done.output
    assert done.stdout.startswith("shredding watch would destroy:\n")
    assert done.stdout.endswith("nothing was touched\n")
    rows = json.loads(backed_up.run(*dry, "--json").stdout)
    assert {row["region"]: row["problem"] for row in rows} == {HOME: "", AWAY: ""}
    assert all(row["data_keys"] and row["wraps"] and row["packs"] for row in rows)
    assert backed_up.run("backups", "list", "--network", "watch").exit_code == exit_codes.OK
    vault = backed_up.folder / "state" / "vaults" / AWAY
    vault.rename(vault.with_name("unplugged"))
    vault.write_text("no folder")
    assert backed_up.run(*dry).exit_code == exit_codes.FINDING


def test_a_region_that_was_not_reached_is_named_and_stays_an_incident(
    backed_up: BackedUp,
) -> None:
    """Exit code 1; run again with all regions, whatever the reason, it is over."""
    vault = backed_up.folder / "state" / "vaults" / AWAY
    vault.rename(vault.with_name("unplugged"))
    vault.write_text("no folder")
    done = backed_up.run(*SHRED)
    assert done.exit_code == exit_codes.FINDING
    assert f"  ! wraps remain in {AWAY}: run it again" in done.stdout
    with opened_store(backed_up.settings) as store:
        assert [one.subject for one in store.open_actions()] == ["watch"]
    vault.unlink()
    vault.with_name("unplugged").rename(vault)
    assert backed_up.run(*SHRED).exit_code == exit_codes.OK
    with opened_store(backed_up.settings) as store:
        assert store.open_actions() == []
    assert wrapped_by(backed_up, AWAY) == [[]]
