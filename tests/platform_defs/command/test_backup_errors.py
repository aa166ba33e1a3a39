"""What is wrong is said in one sentence with the next step, before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from platform_defs.command import exit_codes
from tests.platform_defs.command.backed_up_fleet import AWAY, HOME, bodies, fingerprint
from tests.platform_defs.command.conftest import BackedUp

Change = Callable[[Path], object]


def nothing(folder: Path) -> None:
    """All is well."""
    del folder


def lose_keys(folder: Path) -> None:
    """The folder of the wrapping keys is gone."""
    shutil.rmtree(folder / "state" / "keys")


def exchange_keys(folder: Path) -> None:
    """Other keys lie where the right ones lay."""
    for path in (folder / "state" / "keys").iterdir():
        path.chmod(0o600)
        path.write_text("ab" * 32)


def spoil_keys(folder: Path) -> None:
    """Something that is no key lies there."""
    for path in (folder / "state" / "keys").iterdir():
        path.chmod(0o600)
        path.write_text("not a key")


def lose_vault(folder: Path, region: str = HOME) -> None:
    """The disk of a vault is not there."""
    shutil.rmtree(folder / "state" / "vaults" / region)


def lose_copy(folder: Path) -> None:
    """The disk of the other region's vault is not there."""
    lose_vault(folder, AWAY)


RESTORE = ("restore", "--network", "watch", "--yes")
NETWORKS = "watch, staging, platform"
TABLE: list[tuple[str, tuple[str, ...], Change, int, str, str]] = [
    (
        "unknown network",
        ("restore", "--network", "wacth", "--yes"), nothing, exit_codes.USAGE,
        f"no network 'wacth'; declared: {NETWORKS}",
        "Networks stand in stateroom.toml as [networks.NAME].",
    ),
    (
        "unknown region",
        (*RESTORE, "--region", "mars"), nothing, exit_codes.USAGE,
        "no region 'mars'; declared: eu, us-west-2",
        "Regions stand in stateroom.toml as [regions.NAME].",
    ),
    (
        "unknown region, promoted",
        ("backups", "promote", "--region", "mars"), nothing, exit_codes.USAGE,
        "no region 'mars'; declared: eu, us-west-2",
        "Regions stand in stateroom.toml as [regions.NAME].",
    ),
    (
        "promotion, another name typed",
        ("backups", "promote", "--region", AWAY, "--yes-promote", HOME), nothing, exit_codes.USAGE,
        "confirmation: 'us-west-2' is not valid; allowed: the region's name, eu",
        "Nothing was written.",
    ),
    (
        "promotion of a region without a vault",
        ("backups", "promote", "--region", AWAY, "--yes-promote", AWAY), lose_copy,
        exit_codes.USAGE,
        "region eu has no vault at {folder}/state/vaults/eu",
        "No copy yet: a running `stateroom up` brings one. Other regions: us-west-2.",
    ),
    (
        "time without zone",
        (*RESTORE, "--at", "2026-11-20T14:03:00"), nothing, exit_codes.USAGE,
        ("--at: '2026-11-20T14:03:00' is not valid; allowed: a time with zone, such as "
        "2026-11-20T14:03:00Z, or N seconds|minutes|hours|days ago"),
        ("Say in which zone: 2026-11-20T14:03:00Z is UTC, 2026-11-20T14:03:00+02:00 is two hours "
        "ahead of it."),
    ),
    (
        "time that is none",
        (*RESTORE, "--at", "yesterday"), nothing, exit_codes.USAGE,
        ("--at: 'yesterday' is not valid; allowed: a time with zone, such as 2026-11-20T14:03:00Z, "
        "or N seconds|minutes|hours|days ago"),
        "",
    ),
    (
        "time before the first backup",
        (*RESTORE, "--at", "1999-12-31T00:00:00Z"), nothing, exit_codes.USAGE,
        "network watch has no snapshot at or before 1999-12-31T00:00:00+00:00: the oldest is of ",
        "Choose a later moment, or another region's vault.",
    ),
    (
        "time that is still to come",
        (*RESTORE, "--at", "2999-12-31T00:00:00Z"), nothing, exit_codes.USAGE,
        "network watch is covered until ",
        "Leave the moment out to restore the newest that is held.",
    ),
    (
        "unknown agent",
        (*RESTORE, "--agent", "nobody"), nothing, exit_codes.USAGE,
        "does not hold nobody",
        "Choose another moment; nothing was written.",
    ),
    (
        "unknown snapshot",
        (*RESTORE, "--snapshot", "01NONE"), nothing, exit_codes.USAGE,
        "no snapshot '01NONE' in watch",
        "`stateroom backups list --all` names them.",
    ),
    (
        "unknown artefact",
        ("restore", "--network", "watch", "--artefact", "diary", "--into", "/tmp/x", "--yes"),
        nothing, exit_codes.USAGE,
        "of watch holds no artefact 'diary'; it holds notebook",
        "Artefacts stand in stateroom.toml; the fleet's own are those of `platform`.",
    ),
    (
        "empty network",
        ("restore", "--network", "staging", "--yes"), nothing, exit_codes.USAGE,
        "network staging has no snapshot: there is no backup yet",
        "Choose a later moment, or another region's vault.",
    ),
    (
        "empty network, backed up",
        ("backup", "now", "--network", "staging"), nothing, exit_codes.USAGE,
        ("backup_snapshots of network staging: network staging has no agent state to back up, and "
        "no artefact"),
        "Check the network id and the control store; older snapshots are untouched.",
    ),
    (
        "no key",
        RESTORE, lose_keys, exit_codes.USAGE,
        ("no wrapping key is at hand: key file {folder}/state/keys/region.key of region: No such "
        "file or directory; key file {folder}/state/keys/recovery.key of recovery: No such file "
        "or directory"),
        "Put back one of the keys that [wrapping_keys] names.",
    ),
    (
        "wrong key",
        RESTORE, exchange_keys, exit_codes.FINDING,
        ("network watch: no key opens its data key watch.0001; wrapped by recovery, region; given "
        "region, recovery: "),
        "Give one of the keys that wrap it; nothing was written.",
    ),
    (
        "something that is no key",
        RESTORE, spoil_keys, exit_codes.USAGE,
        ("key file {folder}/state/keys/region.key: '9 bytes' is not valid; allowed: 64 hexadecimal "
        "digits or 32 bytes"),
        "",
    ),
    (
        "no vault",
        RESTORE, lose_vault, exit_codes.USAGE,
        "region us-west-2 has no vault at {folder}/state/vaults/us-west-2",
        "`stateroom up` makes it and its keys; where there was one, mount or restore it.",
    ),
    (
        "no vault to back up into",
        ("backup", "now"), lose_vault, exit_codes.USAGE,
        "region us-west-2 has no vault at {folder}/state/vaults/us-west-2",
        "`stateroom up` makes it and its keys; where there was one, mount or restore it.",
    ),
    (
        "no copy in a region",
        (*RESTORE, "--region", "eu"), lose_copy, exit_codes.USAGE,
        "region eu has no vault at {folder}/state/vaults/eu",
        "No copy yet: a running `stateroom up` brings one. Other regions: us-west-2.",
    ),
    (
        "no control store",
        RESTORE, lambda folder: (folder / "state" / "control.db").unlink(), exit_codes.TRANSIENT,
        "no control store at {folder}/state/control.db",
        "Start the fleet with `stateroom up`.",
    ),
    (
        "hold that is over before it begins",
        ("backups", "hold", "01", "--reason", "audit", "--until", "1999-01-01T00:00:00Z"),
        nothing, exit_codes.USAGE,
        "--until: '1999-01-01T00:00:00Z' is not valid; allowed: a time that is still to come",
        "",
    ),
    (
        "unknown hold",
        ("backups", "hold", "--release", "01NONE"), nothing, exit_codes.USAGE,
        "no hold '01NONE' is in force",
        "`stateroom backups show SNAPSHOT` names its holds.",
    ),
    (
        "undeclared wrapping key",
        ("keys", "rotate", "--wrapping-key", "region-2"), nothing, exit_codes.USAGE,
        "no wrapping key 'region-2'; declared: region, recovery",
        "Declare it as [wrapping_keys.region-2] in stateroom.toml, with file, env or kms.",
    ),
    (
        "last but one wrapping key retired",
        ("keys", "rotate", "--retire", "region"), nothing, exit_codes.FINDING,
        "without region only recovery would wrap it; at least 2 must",
        "Add another key in the same call; nothing was written.",
    ),
    (
        "shred without the network's name",
        ("keys", "shred", "--network", "watch", "--reason", "r", "--yes-shred", "wacth"),
        nothing, exit_codes.USAGE,
        "confirmation: 'wacth' is not valid; allowed: the network's name, watch",
        "Nothing was touched.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "change", "code", "message", "hint"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_an_error_is_one_line_and_a_hint_and_nothing_is_written(
    backed_up: BackedUp, words: tuple[str, ...], change: Change, code: int, message: str, hint: str
) -> None:
    """Golden table: exit code, message, hint; vaults and states are as they were."""
    states = bodies(backed_up.settings)
    change(backed_up.folder)
    before = fingerprint(backed_up.folder)
    done = backed_up.run(*words)
    assert done.exit_code == code, done.output
    lines = [line for line in done.stderr.splitlines() if line]
    assert lines[0].startswith("stateroom: ")
    assert message.format(folder=backed_up.folder) in lines[0]
    assert lines[1:] == ([f"  -> {hint}"] if hint else [])
    assert fingerprint(backed_up.folder) == before
    if (backed_up.folder / "state" / "control.db").exists():
        assert bodies(backed_up.settings) == states


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((*RESTORE, "--at", "1 day ago", "--snapshot", "01"), "--at and --snapshot exclude"),
        ((*RESTORE, "--into", "staging", "--into-folder", "/tmp/x"), "exclude each other"),
        ((*RESTORE, "--prefix", "x-"), "--prefix needs --into"),
        ((*RESTORE, "--into-folder", "/tmp/x", "--force"), "never overwrites anything"),
        ((*RESTORE, "--artefact", "notebook"), "--artefact needs --into PATH"),
        ((*RESTORE, "--artefact", "a", "--into", "b", "--agent", "c"), "--artefact goes with"),
        (("backups", "hold"), "a SNAPSHOT and --reason are needed"),
        (("backups", "hold", "01", "--release", "01"), "--release takes neither"),
        (("backups", "verify", "--snapshot", "01"), "--snapshot needs --level V3"),
        (("backups", "plan", "--apply", "--json"), "--json --apply needs --yes"),
        (("backups", "plan", "--snapshot", "01"), "--snapshot needs --approve-by"),
        (("keys", "shred", "--network", "watch"), "--reason is needed"),
        (("drill", "--network", "platform"), "network platform has no agents; use --level V4"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    backed_up: BackedUp, words: tuple[str, ...], problem: str
) -> None:
    """Exit code 2, with the usage; `drill` says it although the platform has no backup here."""
    if words[0] == "drill":
        from platform_defs.command.vault_access import open_backups
        from resources.vault.keys.key_store import create_data_key

        vaults = open_backups().vaults
        create_data_key(vaults.store(HOME), "platform", vaults.keks())
    done = backed_up.run(*words)
    assert done.exit_code == exit_codes.USAGE
    assert problem in done.stderr
