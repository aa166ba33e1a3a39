"""`stateroom restore` says what it will do, does that, and nothing else."""

from __future__ import annotations

import json

import dagster as dg
import pytest

from fleet.errors import StoreUnavailableError
from platform_defs.command import exit_codes
from platform_defs.command.job_runs import instance_of
from platform_defs.command.moments import utc_text
from resources.vault.restores.restore import ControlStoreTarget
from tests.platform_defs.command.backed_up_fleet import (
    AWAY,
    HOME,
    bodies,
    damage,
    objects,
    opened_store,
    write_state,
)
from tests.platform_defs.command.conftest import BackedUp

OLD = {"cpu-1": b"cpu-1 one", "cpu-2": b"cpu-2 one", "cpu-3": b"cpu-3 one"}
NEWEST = {"cpu-1": b"cpu-1 newest", "cpu-2": b"cpu-2 newest", "cpu-3": b"cpu-3 one"}


def forget_state(fleet: BackedUp, agent_id: str) -> None:
    """An agent's state is gone, as after an accident in the store."""
    with opened_store(fleet.settings) as store, store._database.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM agent_states WHERE agent_id = '{agent_id}'")


def open_actions(fleet: BackedUp) -> list[str]:
    """Reasons of the actions that have started and not ended."""
    with opened_store(fleet.settings) as store:
        return [one.reason for one in store.open_actions()]


def test_newer_live_states_are_left_alone_without_force(backed_up: BackedUp) -> None:
    """They are counted and named; what is as wanted is not written either."""
    at = backed_up.between.isoformat()
    done = backed_up.run("restore", "--network", "watch", "--at", at, "--yes")
    assert done.exit_code == exit_codes.OK, done.output
    assert "2 are left alone (live state newer; --force overwrites): cpu-1, cpu-2" in done.stdout
    assert "  1 already as wanted\n" in done.stdout
    assert done.stdout.endswith("nothing to restore\n")
    assert bodies(backed_up.settings) == NEWEST


def test_a_dry_run_changes_nothing_and_force_brings_the_moment_back(backed_up: BackedUp) -> None:
    """The same words before; the states of the moment after."""
    words = ("restore", "--network", "watch", "--at", backed_up.between.isoformat(), "--force")
    dry = backed_up.run(*words, "--dry-run")
    assert "2 are OVERWRITTEN (live state newer): cpu-1, cpu-2" in dry.stdout
    assert bodies(backed_up.settings) == NEWEST
    done = backed_up.run(*words, "--yes")
    assert done.exit_code == exit_codes.OK, done.output
    assert done.stdout.startswith(dry.stdout)
    assert "restored 2 agents" in done.stdout
    assert f"as of {utc_text(backed_up.between)}" in done.stdout
    assert bodies(backed_up.settings) == OLD
    assert open_actions(backed_up) == []


def test_a_person_is_asked_and_no_means_no(backed_up: BackedUp) -> None:
    """Without --yes and without an answer nothing is written; exit code 130."""
    forget_state(backed_up, "cpu-2")
    done = backed_up.run("restore", "--network", "watch")
    assert done.exit_code == exit_codes.INTERRUPTED
    assert "Restore 1 agent? [y/N]" in done.stdout
    assert "cpu-2" not in bodies(backed_up.settings)


def test_a_lost_state_comes_back_from_the_journal(backed_up: BackedUp) -> None:
    """No snapshot holds its newest version; the copy of the other region has it as well."""
    for region in (HOME, AWAY):
        forget_state(backed_up, "cpu-2")
        words = ("restore", "--network", "watch", "--agent", "cpu-2", "--region", region, "--yes")
        done = backed_up.run(*words)
        assert done.exit_code == exit_codes.OK, done.output
        assert "0 from snapshots, 1 from the journal" in done.stdout
        assert bodies(backed_up.settings) == NEWEST


def test_the_document_says_what_was_previewed_and_done(backed_up: BackedUp) -> None:
    """`--json` carries the same facts; it cannot ask."""
    snapshot = backed_up.snapshots()[-1]
    words = ("restore", "--network", "watch", "--snapshot", snapshot, "--force")
    refused = backed_up.run(*words, "--json")
    assert (refused.exit_code, "nobody can be asked" in refused.stderr) == (exit_codes.USAGE, True)
    document = backed_up.json(*words, "--yes")
    assert document["preview"]["newer"] == ["cpu-1", "cpu-2"]
    assert document["result"]["restored"] == 2
    assert document["result"]["snapshot_id"] == snapshot
    assert bodies(backed_up.settings) == OLD


def test_a_folder_gets_the_states_and_the_fleet_keeps_its_own(backed_up: BackedUp) -> None:
    """One file each, with a manifest; a folder that exists is refused."""
    target = backed_up.folder / "old"
    words = ("restore", "--network", "watch", "--at", backed_up.between.isoformat(),
             "--into-folder", str(target), "--yes")  # fmt: skip
    assert backed_up.run(*words).exit_code == exit_codes.OK
    assert {one: (target / f"{one}.state").read_bytes() for one in OLD} == OLD
    assert json.loads((target / "manifest.json").read_text())["network_id"] == "watch"
    assert bodies(backed_up.settings) == NEWEST
    again = backed_up.run(*words)
    assert again.exit_code == exit_codes.USAGE
    assert again.stderr.startswith("stateroom: --into-folder: ")


def test_agents_come_back_in_another_network_under_other_names(backed_up: BackedUp) -> None:
    """The prefix is the network's name; the agents must be declared there."""
    words = ("restore", "--network", "watch", "--agent", "cpu-1", "--into", "staging", "--yes")
    done = backed_up.run(*words)
    assert done.exit_code == exit_codes.OK, done.output
    assert bodies(backed_up.settings) == {**NEWEST, "staging-cpu-1": b"cpu-1 newest"}
    absent = backed_up.run("restore", "--network", "watch", "--into", "staging", "--yes")
    assert absent.exit_code == exit_codes.USAGE
    assert "network staging has no placed agent staging-cpu-2, staging-cpu-3" in absent.stderr


def test_damage_in_one_region_refuses_all_and_another_region_restores(
    backed_up: BackedUp,
) -> None:
    """Nothing is written while something wanted is damaged; the replica is whole."""
    newest, oldest = backed_up.snapshots()
    for path in objects(backed_up.folder, HOME, f"packs/watch/{newest}"):
        damage(path)
    for agent_id in NEWEST:
        forget_state(backed_up, agent_id)
    words = ("restore", "--network", "watch", "--snapshot", newest, "--yes")
    refused = backed_up.run(*words)
    assert refused.exit_code == exit_codes.FINDING
    assert "agents cannot be restored" in refused.stderr
    assert bodies(backed_up.settings) == {}
    assert open_actions(backed_up) == []
    away = backed_up.run(*words, "--region", AWAY)
    assert away.exit_code == exit_codes.OK, away.output
    assert bodies(backed_up.settings)["cpu-1"] == b"cpu-1 two"
    assert oldest in backed_up.run("backups", "find", "cpu-1", "--region", AWAY).stdout


def test_a_restore_that_breaks_off_stays_an_incident_until_it_is_run_again(
    backed_up: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` shows it under what was asked for; the same command completes and closes it."""
    words = ("restore", "--network", "watch", "--snapshot", backed_up.snapshots()[-1], "--force",
             "--yes")  # fmt: skip

    def gone(*_: object, **__: object) -> None:
        raise StoreUnavailableError("the store went away in the middle")

    with monkeypatch.context() as broken:
        broken.setattr(ControlStoreTarget, "write", gone)
        assert backed_up.run(*words).exit_code == exit_codes.TRANSIENT
    (reason,) = open_actions(backed_up)
    assert reason.startswith("all agents as of 01")
    assert f"watch: {reason}" in backed_up.run("status").stdout
    assert backed_up.run(*words).exit_code == exit_codes.OK
    assert open_actions(backed_up) == []
    assert bodies(backed_up.settings) == OLD


def test_agents_that_are_refused_are_named_and_exit_with_1(
    backed_up: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that was written between the look and the switch is not overwritten."""
    forget_state(backed_up, "cpu-2")
    real = ControlStoreTarget.write

    def overtaken(self: ControlStoreTarget, items: object, *, more: bool) -> object:
        with opened_store(backed_up.settings) as store:
            write_state(store, "cpu-2", b"written meanwhile")
        return real(self, items, more=more)  # type: ignore[arg-type]

    monkeypatch.setattr(ControlStoreTarget, "write", overtaken)
    done = backed_up.run("restore", "--network", "watch", "--yes")
    assert done.exit_code == exit_codes.FINDING
    assert "restored 0 agents" in done.stdout
    assert "  ! refused: cpu-2: " in done.stdout
    assert bodies(backed_up.settings)["cpu-2"] == b"written meanwhile"


def test_an_artefact_comes_back_as_it_was(backed_up: BackedUp) -> None:
    """As of a snapshot, into a path; something that is there is replaced with --force only."""
    target = backed_up.folder / "notebook.txt"
    words = ("restore", "--network", "watch", "--artefact", "notebook", "--into", str(target),
             "--at", backed_up.between.isoformat())  # fmt: skip
    refused = backed_up.run(*words, "--yes")
    assert refused.exit_code == exit_codes.REFUSED
    assert target.read_text() == "second page\n"
    dry = backed_up.run(*words, "--force", "--dry-run")
    assert "what is there is REPLACED" in dry.stdout
    assert target.read_text() == "second page\n"
    done = backed_up.run(*words, "--force", "--yes")
    assert done.exit_code == exit_codes.OK, done.output
    assert target.read_text() == "first page\n"
    assert open_actions(backed_up) == []


def test_a_restore_stands_in_the_history_that_the_ui_shows(backed_up: BackedUp) -> None:
    """As an observation on the network's snapshots, with what was done."""
    with instance_of(backed_up.settings):
        pass  # the instance is there, as `stateroom up` leaves it
    forget_state(backed_up, "cpu-2")
    assert backed_up.run("restore", "--network", "watch", "--yes").exit_code == exit_codes.OK
    with instance_of(backed_up.settings) as instance:
        (record,) = instance.fetch_observations(dg.AssetKey("backup_snapshots"), 5).records
    observed = record.asset_observation
    assert observed is not None
    assert observed.partition == "watch"
    assert observed.metadata["restored"].value == 1
    assert observed.metadata["complete"].value is True
