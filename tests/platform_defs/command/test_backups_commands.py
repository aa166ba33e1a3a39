"""`stateroom backups ...`: what there is, what is wrong with it, what stays and what goes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.shell_completion import ShellComplete

from fleet.snapshot_fitness import GuardPolicy
from platform_defs.command import exit_codes
from platform_defs.command.main import cli
from platform_defs.command.vault_access import open_backups
from resources.vault.retention.removal import forget
from tests.platform_defs.command.backed_up_fleet import AWAY, HOME, damage, fingerprint, objects
from tests.platform_defs.command.conftest import BackedUp


def test_list_shows_every_snapshot_and_hides_forgotten_ones(backed_up: BackedUp) -> None:
    """Newest first, with its proof; --all brings forgotten ones back into view."""
    newest, oldest = backed_up.snapshots()
    lines = backed_up.run("backups", "list").stdout.splitlines()
    assert lines[0].split()[:2] == ["snapshot", "network"]
    assert [line.split()[0] for line in lines[1:]] == [newest, oldest]
    forget(open_backups(backed_up.settings).open("watch"), [oldest])
    assert backed_up.snapshots() == [newest]
    states = {
        one["snapshot_id"]: one["state"] for one in backed_up.json("backups", "list", "--all")
    }
    assert states == {newest: "live", oldest: "forgotten"}
    away = backed_up.json("backups", "list", "--region", AWAY)
    assert [one["snapshot_id"] for one in away] == [newest, oldest]


def test_show_tells_everything_by_the_beginning_of_an_id(backed_up: BackedUp) -> None:
    """Cut, manifests, packs, holds, evidence, run; exit code 2 when several ids begin so."""
    newest, _ = backed_up.snapshots()
    document = backed_up.json("backups", "show", newest[:-1])
    assert document["snapshot_id"] == newest
    assert (document["agents"], document["changed"], document["run_id"]) == (3, 1, "run-1")
    assert document["items"] == {"state": 3, "file": 1}
    assert document["record"]["seq"] > 1
    assert document["manifests"]
    assert document["holds"] == []
    text = backed_up.run("backups", "show", newest.lower()).stdout
    assert text.startswith(f"snapshot  {newest} of watch, as {HOME} holds it\n")
    assert "taken     test; run run-1\n" in text
    several = backed_up.run("backups", "show", "01")
    assert several.exit_code == exit_codes.USAGE
    assert "more of the id: 2 begin like this" in several.stderr


def test_find_names_the_snapshots_of_each_version(backed_up: BackedUp) -> None:
    """Runs of neighbouring snapshots, newest first; what no snapshot holds is an error."""
    newest, oldest = backed_up.snapshots()
    runs = [
        (run["version"], run["first_snapshot_id"], run["last_snapshot_id"], run["snapshots"])
        for run in backed_up.json("backups", "find", "cpu-1")
    ]
    assert runs == [(2, newest, newest, 1), (1, oldest, oldest, 1)]
    (same,) = backed_up.json("backups", "find", "cpu-3")
    assert (same["version"], same["snapshots"]) == (1, 2)
    assert "cpu-1" not in backed_up.run("backups", "find", "cpu-2").stdout


def test_a_held_snapshot_says_so_until_it_is_released(backed_up: BackedUp) -> None:
    """With reason and end; the hold's id ends it."""
    newest, _ = backed_up.snapshots()
    until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    done = backed_up.json("backups", "hold", newest, "--reason", "audit 7", "--until", until)
    assert done["expires_at"] == until
    (held,) = [one for one in backed_up.json("backups", "list") if one["state"] == "held"]
    assert (held["snapshot_id"], held["hold"][:7]) == (newest, "audit 7")
    (shown,) = backed_up.json("backups", "show", newest)["holds"]
    assert shown["hold_id"] == done["hold_id"]
    released = backed_up.run("backups", "hold", "--release", done["hold_id"])
    assert released.stdout == f"released {done['hold_id']}: {newest} may be forgotten again\n"
    assert {one["state"] for one in backed_up.json("backups", "list")} == {"live"}


def test_undelete_brings_a_forgotten_snapshot_back(backed_up: BackedUp) -> None:
    """A dry run says so and does not; a live one is no error."""
    _, oldest = backed_up.snapshots()
    forget(open_backups(backed_up.settings).open("watch"), [oldest])
    dry = backed_up.run("backups", "undelete", oldest, "--dry-run")
    assert dry.stdout == f"{oldest} of watch would be live again\n"
    assert oldest not in backed_up.snapshots()
    assert backed_up.run("backups", "undelete", oldest).exit_code == exit_codes.OK
    assert oldest in backed_up.snapshots()
    assert "is live already" in backed_up.run("backups", "undelete", oldest).stdout


def test_the_plan_explains_every_snapshot_and_forgets_nothing_by_itself(
    backed_up: BackedUp,
) -> None:
    """Each has its sentence; alarms make exit code 1; the vaults do not change."""
    before = fingerprint(backed_up.folder)
    done = backed_up.run("backups", "plan", "--network", "watch")
    assert done.exit_code == exit_codes.FINDING
    newest, oldest = backed_up.snapshots()
    for snapshot_id in (newest, oldest):
        line, reason = done.stdout.split(f"  {snapshot_id}  ")[1].splitlines()[:2]
        assert line.endswith("Z")
        assert reason.strip().startswith("pending: not yet verified")
    assert "  ! G4: 0 of 2 live snapshots are verified" in done.stdout
    assert "  2 live snapshots: 2 pending\n" in done.stdout
    assert fingerprint(backed_up.folder) == before


def test_a_plan_is_applied_after_asking_and_undone_by_undelete(
    backed_up: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three verified snapshots, one kept by count: one goes, and can come back."""
    from fleet.retention import RetentionPolicy
    from platform_defs.command import backups_retention, vault_access
    from resources.vault.snapshots.backup import back_up
    from resources.vault.verification.verification_runs import VerificationRuns
    from tests.platform_defs.command.backed_up_fleet import opened_store, write_state

    real = vault_access.open_backups()
    with opened_store(backed_up.settings) as store:
        write_state(store, "cpu-3", b"cpu-3 two")
        back_up(real.open("watch"), store, notes={"scheduled": True})
        VerificationRuns(real.vaults, store, HOME, "watch").run("V1")
    from dataclasses import replace

    kept = real._replace(
        declaration=replace(real.declaration, retention=RetentionPolicy(1, 0, 0, 0, 0, 0))
    )
    monkeypatch.setattr(backups_retention, "open_backups", lambda: kept)
    eager = GuardPolicy(thin_after_h=0.0, verified_min=1)
    monkeypatch.setattr("fleet.snapshot_fitness.GuardPolicy", lambda: eager)
    (plan,) = backed_up.json("backups", "plan", "--network", "watch")["plans"]
    assert len(plan["forget"]) == 2
    refused = backed_up.run("backups", "plan", "--network", "watch", "--apply")
    assert refused.exit_code == exit_codes.INTERRUPTED
    assert "Forget 2 snapshots? [y/N]" in refused.stdout
    assert len(backed_up.snapshots()) == 3
    done = backed_up.run("backups", "plan", "--network", "watch", "--apply", "--yes")
    assert done.exit_code == exit_codes.OK, done.output
    assert done.stdout.endswith("watch: forgot 2 snapshots\n")
    assert len(backed_up.snapshots()) == 1
    assert backed_up.run("backups", "undelete", plan["forget"][0]).exit_code == exit_codes.OK


def test_a_snapshot_taken_by_hand_counts_once_somebody_believes_it(backed_up: BackedUp) -> None:
    """Approval names person and reason, and changes its fate in the plan."""
    from resources.vault.snapshots.backup import back_up
    from tests.platform_defs.command.backed_up_fleet import opened_store, write_state

    with opened_store(backed_up.settings) as store:
        write_state(store, "cpu-3", b"cpu-3 two")
        back_up(open_backups().open("watch"), store, notes={"scheduled": False})
    newest = backed_up.snapshots()[0]
    plan = backed_up.run("backups", "plan", "--network", "watch").stdout
    assert "ineligible: from an unscheduled run, not approved (G6)" in plan
    words = ("backups", "plan", "--snapshot", newest, "--approve-by", "ada", "--reason", "by hand")
    assert "unscheduled run, not approved" not in backed_up.run(*words).stdout
    half = backed_up.run("backups", "plan", "--approve-by", "ada")
    assert (half.exit_code, "belong together" in half.stderr) == (exit_codes.USAGE, True)


def test_gc_says_what_it_would_free_and_frees_it_in_two_steps(backed_up: BackedUp) -> None:
    """What is condemned is not deleted on the same day."""
    _, oldest = backed_up.snapshots()
    assert "0  0 B" in backed_up.run("backups", "gc", "--yes").stdout
    forget(open_backups().open("watch"), [oldest])
    before = fingerprint(backed_up.folder)
    (dry,) = backed_up.json("backups", "gc", "--network", "watch", "--dry-run")["networks"]
    assert dry["condemned"] > 0
    assert fingerprint(backed_up.folder) == before
    asked = backed_up.run("backups", "gc", "--network", "watch")
    assert asked.exit_code == exit_codes.INTERRUPTED
    packs = objects(backed_up.folder, HOME, "packs")
    assert backed_up.run("backups", "gc", "--network", "watch", "--yes").exit_code == exit_codes.OK
    assert objects(backed_up.folder, HOME, "packs") == packs
    (later,) = backed_up.json("backups", "gc", "--network", "watch", "--dry-run")["networks"]
    assert (later["condemned"], later["deleted"]) == (0, 0)
    gone = backed_up.run("backups", "undelete", oldest)
    assert gone.exit_code == exit_codes.FINDING
    assert "a gc has condemned" in gone.stderr


def test_heal_finds_damage_and_brings_the_bytes_back_from_the_other_region(
    backed_up: BackedUp,
) -> None:
    """A dry run changes nothing; both regions are whole and equal afterwards."""
    whole = fingerprint(backed_up.folder)
    pack = objects(backed_up.folder, AWAY, "packs/watch")[0]
    damage(pack)
    broken = fingerprint(backed_up.folder)
    dry = backed_up.run("backups", "heal", "--region", AWAY, "--dry-run")
    assert dry.exit_code == exit_codes.FINDING
    assert f"{AWAY}, watch: damaged: packs/watch/" in dry.stdout
    assert fingerprint(backed_up.folder) == broken
    done = backed_up.run("backups", "heal", "--region", AWAY, "--network", "watch")
    assert done.exit_code == exit_codes.OK, done.output
    assert f"{AWAY}, watch: healed packs/watch/" in done.stdout
    assert done.stdout.endswith("1 of 1 copies are whole now\n")
    assert whole.items() <= fingerprint(backed_up.folder).items()
    (healed,) = backed_up.json("backups", "heal", "--region", AWAY, "--network", "watch")
    assert (healed["healed"], healed["ok"]) == ([], True)


def test_what_no_region_holds_is_lost_and_said(backed_up: BackedUp) -> None:
    """Exit code 1, the agents are counted, and the next step is named."""
    newest, _ = backed_up.snapshots()
    for region in (HOME, AWAY):
        for path in objects(backed_up.folder, region, f"packs/watch/{newest}"):
            damage(path)
    done = backed_up.run("backups", "heal", "--region", HOME, "--network", "watch")
    assert done.exit_code == exit_codes.FINDING
    assert "LOST packs/watch/" in done.stdout
    assert "no region has a good copy; 1 agents of 1 snapshots" in done.stdout
    assert "-> `stateroom backup now --full`" in done.stdout


def completions(*words: str, incomplete: str = "") -> list[str]:
    """What a shell would offer."""
    completer = ShellComplete(cli, {}, "stateroom", "_STATEROOM_COMPLETE")
    return [one.value for one in completer.get_completions(list(words), incomplete)]


def test_the_shell_completes_networks_and_regions(backed_up: BackedUp) -> None:
    """As the settings declare them; wrong settings complete nothing and print nothing."""
    assert completions("restore", "--network") == ["watch", "staging", "platform"]
    assert completions("backups", "verify", "--region", incomplete="e") == [AWAY]
    (backed_up.folder / "stateroom.toml").write_text("nonsense", encoding="utf-8")
    assert completions("restore", "--network") == []


def test_the_shell_completes_snapshots_from_the_catalogue_in_the_lake(backed_up: BackedUp) -> None:
    """Live ones; without a lake there are none."""
    from fleet.backup_tables import CATALOG
    from resources.lake.directory_store import DirectoryStore
    from resources.lake.parquet_lake import ParquetLake
    from resources.vault.snapshots.catalog import catalogue_snapshots

    assert completions("backups", "show") == []
    rows = catalogue_snapshots(open_backups().open("watch"), HOME)
    lake = ParquetLake(DirectoryStore(backed_up.settings.lake.path))
    lake.write(CATALOG, "watch", rows, datetime.now(UTC))
    assert sorted(completions("backups", "show")) == sorted(backed_up.snapshots())


def test_every_subcommand_explains_itself_with_an_example(backed_up: BackedUp) -> None:
    """Also those inside groups."""
    for words in (
        *(("backups", one) for one in
          ("list", "show", "find", "verify", "heal", "plan", "hold", "undelete", "gc")),
        *(("keys", one) for one in ("list", "rotate", "wrap", "shred")),
        ("backup", "now"),
    ):  # fmt: skip
        done = backed_up.run(*words, "--help")
        assert f"Examples:\n    stateroom {' '.join(words)}" in done.output, words
        assert "--json" in done.output


def test_json_is_the_only_thing_on_standard_output(backed_up: BackedUp) -> None:
    """Scripts parse it whole, whatever the exit code."""
    done = backed_up.run("backups", "plan", "--json")
    assert done.exit_code == exit_codes.FINDING
    assert [one["network_id"] for one in json.loads(done.stdout)["plans"]] == ["watch"]
