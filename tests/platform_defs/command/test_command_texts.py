"""What the command says and with which exit code, on a real store."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from fleet import errors
from fleet.circuit_breaker import BreakerPhase, BreakerStatus
from fleet.journal import JournalEntry
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration
from fleet.status import summarize_fleet
from platform_defs.command import exit_codes
from platform_defs.command.main import SUBCOMMANDS
from platform_defs.command.status import status_document, status_text
from platform_defs.settings import load_settings
from platform_defs.state_folder import UpRun
from tests.platform_defs.command.conftest import Run, hide_ages

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime.now(UTC)

COUNT = {"type": "integer", "minimum": 0}
TIME = {"type": ["string", "null"]}
STATUS_SCHEMA = {
    "type": "object",
    "required": [
        "fleet",
        "running",
        "url",
        "healthy",
        "nodes",
        "regions",
        "backups",
        "indexes",
        "failover",
        "circuits",
        "incidents",
        "findings",
    ],
    "additionalProperties": False,
    "properties": {
        "fleet": {"type": "string"},
        "running": {"type": "boolean"},
        "url": {"type": ["string", "null"]},
        "healthy": {"type": "boolean"},
        "nodes": COUNT,
        "nodes_live": COUNT,
        "nodes_silent": COUNT,
        "agents_declared": COUNT,
        "agents_running": COUNT,
        "agents_failed": COUNT,
        "agents_unknown": COUNT,
        "oldest_report_at": TIME,
        "regions": {"type": "array", "items": {"type": "object", "required": ["region", "nodes"]}},
        "backups": {"type": "array", "items": {"type": "object", "required": ["network_id"]}},
        "indexes": {
            "type": "array",
            "items": {"type": "object", "required": ["network_id", "waiting", "facts", "problems"]},
        },
        "failover": {
            "type": "object",
            "required": ["leader", "automation", "frozen", "incidents", "maintenances"],
        },
        "circuits": {"type": "array", "items": {"type": "object", "required": ["name", "phase"]}},
        "incidents": {"type": "array", "items": {"type": "object", "required": ["action_id"]}},
        "findings": {"type": "array", "items": {"type": "string"}},
    },
}


def test_help_lists_every_command_without_importing_any(run: Run) -> None:
    """`stateroom --help` is quick because subcommands are imported when called."""
    script = (
        "import sys\nfrom platform_defs.command.main import cli\n"
        "try: cli(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith('platform_defs.command.')), "
        "'sqlalchemy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(f"  {name} " in done.stdout for name in SUBCOMMANDS)
    assert done.stdout.splitlines()[-1] == (
        "['platform_defs.command.exit_codes', 'platform_defs.command.main'] False"
    )


@pytest.mark.parametrize("name", list(SUBCOMMANDS))
def test_every_command_explains_itself_with_an_example(run: Run, name: str) -> None:
    """A person can use the help text alone."""
    done = run(name, "--help")
    assert done.exit_code == 0
    assert "Examples:\n" in done.output
    assert f"stateroom {name}" in done.output


def test_a_typo_names_the_nearest_command(run: Run) -> None:
    """Usage errors are exit code 2."""
    done = run("stauts")
    assert done.exit_code == exit_codes.USAGE
    assert "no such command 'stauts'. Did you mean 'status'?" in done.stderr


def test_an_expected_error_is_one_line_and_a_hint(run: Run, fleet_dir: Path) -> None:
    """Nothing was started: no store, no traceback, and no empty store either."""
    done = run("status")
    assert done.exit_code == exit_codes.TRANSIENT
    assert done.stderr == (
        f"stateroom: no control store at {fleet_dir}/state/control.db\n"
        "  -> Start the fleet with `stateroom up`.\n"
    )
    assert not (fleet_dir / "state").exists()


def test_debugging_shows_the_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """STATEROOM_DEBUG lets the error through."""
    done = run("status", STATEROOM_DEBUG="1")
    assert isinstance(done.exception, errors.StoreUnavailableError)


def test_status_shows_regions_findings_and_incidents(run: Run, filled: Path) -> None:
    """The screen of a fleet with a silent node and a failed agent; exit code 1."""
    done = run("status")
    assert done.exit_code == exit_codes.FINDING
    text = hide_ages(done.stdout)
    assert text == (
        "fleet test: wrong\n"
        "not running here (`stateroom up` starts it); last known:\n"
        "\n"
        "region     nodes  live  silent  agents  running  failed  unknown  oldest heartbeat\n"
        "eu             1     0       0       0        0       0        0  never\n"
        "us-west-2      2     1       1       3        1       1        1  AGE\n"
        "all            3     1       1       3        1       1        1  AGE\n"
        "\n"
        "backup watch: none yet\n"
        "backup platform: none yet\n"
        "index watch: none yet, 1 note waits (AGE)\n"
        "controller: nobody leads, nobody ever has; no agent is moved\n"
        "open incidents: 0 (no action has started without ending)\n"
        "  ! eu: none of 1 nodes is live\n"
        "  ! us-west-2: 1 of 2 nodes silent\n"
        "  ! us-west-2: 1 agents failed\n"
        "  ! us-west-2: 1 agents unknown (node silent)\n"
    )


def test_an_action_that_started_and_did_not_end_is_an_incident(
    run: Run, store: ControlStore
) -> None:
    """It is listed until its last step is done."""
    step = JournalEntry("failover-1", "fence", "started", "node eu-1", "no heartbeat", NOW)
    store.append_journal([step])
    assert "open incidents: 1\n" in run("status").stdout
    assert "! incident failover-1: node eu-1: no heartbeat" in run("status").stdout
    store.append_journal([step._replace(status="done")])
    assert "open incidents: 0" in run("status").stdout


def test_circuits_are_shown_closed_or_not(run: Run, store: ControlStore) -> None:
    """In one line, and in the document; those that are not closed are findings as well."""
    assert "circuits" not in run("status").stdout
    edge = BreakerStatus("traffic/edge", "h/1", BreakerPhase.OPEN, 5, "refused", NOW)
    store.report_breakers([edge, edge._replace(name="traffic/web", phase=BreakerPhase.CLOSED)])
    shown = run("status").stdout
    assert "\ncircuits closed: traffic/web; open: traffic/edge\n" in shown
    assert "! traffic/edge: circuit open in h/1" in shown
    document = json.loads(run("status", "--json").stdout)
    assert [(one["name"], one["phase"]) for one in document["circuits"]] == [
        ("traffic/edge", "open"),
        ("traffic/web", "closed"),
    ]


def test_the_status_document_has_a_fixed_form(run: Run, filled: Path) -> None:
    """`--json` is what scripts rely on."""
    document = json.loads(run("status", "--json").stdout)
    jsonschema.validate(document, STATUS_SCHEMA)
    assert document["nodes_silent"] == 1
    assert document["agents_declared"] == 4
    assert [region["region"] for region in document["regions"]] == ["eu", "us-west-2"]


def test_a_start_that_went_wrong_stays_visible(run: Run, store: ControlStore) -> None:
    """The first run failed: status says so, also when every node is well."""
    settings = load_settings()
    well = summarize_fleet([], [])
    up = UpRun(7, "2026-01-01T00:00:00+00:00", "http://u", ready=True, problem="run x failed")
    text = status_text(settings, well, up, NOW, colours=False)
    assert text.startswith(
        "fleet test: wrong\n"
        "running since 2026-01-01T00:00:00+00:00 (pid 7)  http://u\n"
        "  ! run x failed\n"
    )
    document = status_document(settings, well, up)
    assert (document["healthy"], document["findings"]) == (False, ["run x failed"])
    coloured = status_text(settings, well, None, NOW, colours=True)
    assert coloured.startswith("fleet test: \x1b[32mok\x1b[0m\n")


def test_watching_repeats_until_interrupted(fleet_dir: Path, filled: Path) -> None:
    """Ctrl-C ends it with the code that shells expect."""
    command = [sys.executable, "-m", "platform_defs.command.main"]
    process = subprocess.Popen(
        [*command, "status", "--watch", "--interval", "0.2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        screens = 0
        while screens < 2:
            line = process.stdout.readline()
            assert line, "it ended by itself"
            screens += line.startswith("fleet test: ")
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == exit_codes.INTERRUPTED
    finally:
        process.kill()
        process.communicate()


def test_colours_appear_on_terminals_only(run: Run, filled: Path) -> None:
    """A pipe gets plain text."""
    assert "\x1b[" not in run("status").stdout
    assert "\x1b[" not in run("nodes").stdout


def test_nodes_and_agents_can_be_filtered(run: Run, store: ControlStore) -> None:
    """By region, network, phase and node; the rest is counted."""
    nodes = json.loads(run("nodes", "--region", "us-west-2", "--json").stdout)
    assert [(n["node_id"], n["phase"]) for n in nodes] == [
        ("us-west-2-1", "running"),
        ("us-west-2-2", "stopped"),
    ]

    def names(*options: str) -> list[str]:
        return [a["agent_id"] for a in json.loads(run("agents", "--json", *options).stdout)]

    assert names() == ["cpu-1", "cpu-2", "cpu-3", "eu-cpu-1"]
    assert names("--phase", "failed") == ["cpu-2"]
    assert names("--network", "other") == ["eu-cpu-1"]
    assert names("--node", "us-west-2-2") == ["cpu-3"]
    assert names("--region", "us-west-2", "--limit", "1") == ["cpu-1"]
    many = [AgentDeclaration(f"m-{n:03}", "watch", "cpu", "eu", 1, 1) for n in range(100)]
    store.declare_agents(many)
    assert len(names()) == 104
    assert "... 54 more agents (--limit 104 shows all)" in run("agents").stdout
    store.retire_agents([agent.agent_id for agent in many])
    shown = run("agents", "--limit", "1").stdout
    assert shown.splitlines()[0].split()[:4] == ["agent", "network", "node", "epoch"]
    assert shown.splitlines()[-1] == "... 3 more agents (--limit 4 shows all)"


def test_an_unknown_region_names_the_known_ones(run: Run, filled: Path) -> None:
    """Exit code 2, because the question was wrong."""
    done = run("nodes", "--region", "mars")
    assert done.exit_code == exit_codes.USAGE
    assert "no region 'mars'; declared: us-west-2, eu" in done.stderr


def test_everything_about_one_agent(run: Run, filled: Path) -> None:
    """Placement, phase, state, activities, notes and the end of its log."""
    log = filled / "logs" / "agents" / "us-west-2-1" / "cpu-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {index}\n" for index in range(9)))
    text = run("agent", "cpu-1", "--last", "2").stdout
    assert "placement us-west-2-1 in us-west-2, epoch 1" in text
    assert "phase     running: works" in text
    assert "state     version 1 (epoch 1), 10 B, sha256 " in text
    assert "observe: failed  no answer" in text
    assert "observe: ok in 0.25 s  load 0.5" in text
    assert "the load is low" in text
    assert text.endswith("  line 7\n  line 8\n")
    document = json.loads(run("agent", "cpu-1", "--json").stdout)
    assert set(document) == {"agent", "state", "activities", "notes", "log_path", "log_lines"}
    assert document["state"]["size_bytes"] == 10
    assert len(document["log_lines"]) == 5
    bare = run("agent", "eu-cpu-1").stdout
    assert "placement none in eu, epoch 0" in bare
    assert "state     none stored" in bare


@pytest.mark.parametrize(
    ("name", "said"),
    [("nobody", "no agent 'nobody' is declared"), ("../x", "agent: '../x' is not")],
)
def test_an_agent_that_cannot_be_is_refused(run: Run, filled: Path, name: str, said: str) -> None:
    """Unknown and impossible names are exit code 2."""
    done = run("agent", name)
    assert done.exit_code == exit_codes.USAGE
    assert said in done.stderr


def test_control_characters_from_the_store_do_not_reach_the_terminal(
    run: Run, store: ControlStore
) -> None:
    """An agent's text must not move the operator's cursor."""
    entry = JournalEntry("x", "s", "started", "a\x1b[2Jb", "c\nd", NOW)
    store.append_journal([entry])
    shown = run("status").stdout
    assert "\x1b" not in shown
    assert "c\nd" not in shown


def test_a_damaged_store_is_reported_not_raised(run: Run, filled: Path) -> None:
    """Bytes that are no database end in one line."""
    for path in filled.glob("control.db*"):
        path.unlink()
    (filled / "control.db").write_bytes(b"not a database" * 1000)
    done = run("status")
    assert done.exit_code in {exit_codes.TRANSIENT, exit_codes.FINDING}
    assert done.stderr.startswith("stateroom: ")
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_config_show_masks_secrets_and_names_sources(run: Run) -> None:
    """As a table and as JSON."""
    url = "postgresql://me:hunter2@db/x"
    rows = json.loads(run("config", "show", "--json", STATEROOM_CONTROL_STORE__URL=url).stdout)
    found = {row["key"]: row for row in rows}
    assert found["control_store.url"]["value"] == "postgresql://me:********@db/x"
    assert found["control_store.url"]["source"] == "STATEROOM_CONTROL_STORE__URL"
    table = run("config", "show").stdout
    assert re.search(r"regions\.us-west-2\.zones +\[\"a\", \"b\"\] +stateroom\.toml:5", table)


def test_config_validate_lists_every_problem(run: Run) -> None:
    """Exit code 2, all problems at once; 0 and a summary when there is none."""
    wrong = run("config", "validate", STATEROOM_WEB__PORT="x", STATEROOM_LAKE__KEEP_DAYS="y")
    assert wrong.exit_code == exit_codes.USAGE
    assert "2 problems" in wrong.stderr
    right = run("config", "validate")
    assert right.exit_code == 0
    assert "valid; 2 regions, 3 nodes, 1 networks, 1 workloads" in right.stdout


def test_env_is_what_a_shell_can_evaluate(run: Run, fleet_dir: Path) -> None:
    """`eval "$(stateroom env)"` sets DAGSTER_HOME, whatever marks the path holds."""
    done = subprocess.run(
        ["bash", "-c", run("env").stdout + 'echo "$DAGSTER_HOME|$STATEROOM_CONFIG"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{fleet_dir}/state/dagster|{fleet_dir}/stateroom.toml\n"
    assert "set -gx DAGSTER_HOME " in run("env", "--shell", "fish").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_command(run: Run, shell: str) -> None:
    """Each script asks `stateroom` itself for the words."""
    assert "_STATEROOM_COMPLETE" in run("completion", shell).stdout


def test_completion_knows_the_commands() -> None:
    """What a shell asks for after `stateroom st`."""
    done = subprocess.run(
        [sys.executable, "-c", "from platform_defs.command.main import main; main()"],
        cwd=ROOT,
        env={
            "_STATEROOM_COMPLETE": "bash_complete",
            "COMP_WORDS": "stateroom st",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "plain,status\n"


def test_down_without_a_fleet_is_done_at_once(run: Run) -> None:
    """Stopping what does not run is no error."""
    done = run("down")
    assert done.exit_code == 0
    assert "nothing is running" in done.stdout


def test_every_error_has_a_documented_exit_code() -> None:
    """Each kind maps to the code that docs/command.md gives it."""
    codes = {
        errors.StoreUnavailableError("x"): 3,
        errors.LakeUnavailableError("x"): 3,
        errors.NodeUnavailableError("x"): 3,
        errors.InvalidInputError("f", 1, "y"): 2,
        errors.InvalidSettingsError("p", ["x"]): 2,
        errors.NotFoundError("x"): 2,
        errors.TooLargeError("x"): 2,
        errors.AlreadyRunningError("x"): 4,
        errors.SchemaMismatchError("x"): 4,
        errors.StaleEpochError("x"): 4,
        errors.VersionConflictError("x"): 4,
        errors.LeaseLostError("x"): 4,
        errors.CorruptObjectError("x"): 1,
    }
    assert {type(e): exit_codes.exit_code_for(e) for e in codes} == {
        type(e): code for e, code in codes.items()
    }
