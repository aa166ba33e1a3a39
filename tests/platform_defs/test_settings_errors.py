"""What wrong settings say: golden texts, one per mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import InvalidSettingsError
from platform_defs.settings import load_settings
from tests.platform_defs.settings_files import SMALL, write_settings

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "settings_errors.txt"


def cases() -> list[tuple[str, dict[str, str], str, list[str]]]:
    """Cases of the golden file: title, environment, replacement or addition, expected lines."""
    found = []
    for block in GOLDEN.read_text(encoding="utf-8").split("\n\n=== ")[1:]:
        title, _, rest = block.partition("\n")
        change, _, expected = rest.partition("\n---\n")
        environ = dict(
            line.removeprefix("$ ").split("=", 1)
            for line in change.splitlines()
            if line.startswith("$ ")
        )
        toml = "\n".join(line for line in change.splitlines() if not line.startswith("$ "))
        found.append((title, environ, toml, expected.strip().splitlines()))
    return found


def settings_text(change: str) -> str:
    """The small settings with a change: `-old text` lines removed, other lines added at the end."""
    text = SMALL
    for line in change.splitlines():
        if line.startswith("-"):
            assert line[1:] in text, line
            text = text.replace(line[1:] + "\n", "")
    return text + "\n".join(li for li in change.splitlines() if not li.startswith("-")) + "\n"


@pytest.mark.parametrize(
    ("environ", "change", "expected"),
    [pytest.param(*case[1:], id=case[0]) for case in cases()],
)
def test_each_mistake_is_named_with_key_value_line_and_what_is_allowed(
    tmp_path: Path, environ: dict[str, str], change: str, expected: list[str]
) -> None:
    """The messages are read by people: their wording is kept in a golden file."""
    path = write_settings(tmp_path, settings_text(change))
    with pytest.raises(InvalidSettingsError) as caught:
        load_settings(path, environ)
    assert list(caught.value.problems) == expected


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """One run of `config validate` is enough, whatever is wrong, in the order of the lines."""
    text = "".join(
        f"{part}\n"
        for part in (
            "[fleet]\ncluster = 'kubernetes'",
            "[web]\nport = 'x'",
            "[node]\nlease_ttl_s = 1",
            "[regions.a]\nnodes = -1",
            "[workloads.w]\nnetwork = 'n'",
            "[surprise]",
        )
    )
    with pytest.raises(InvalidSettingsError) as caught:
        load_settings(write_settings(tmp_path, text), {"STATEROOM_LAKE__KEEP_DAYS": "many"})
    keys = [problem.split(": ")[1] for problem in caught.value.problems]
    assert keys == [
        "fleet.cluster",
        "web.port",
        "node.lease_ttl_s",
        "regions.a.nodes",
        "workloads.w",
        "workloads.w.network",
        "surprise",
        "lake.keep_days",
    ]


def test_a_wrong_value_that_is_a_secret_is_not_repeated(tmp_path: Path) -> None:
    """Error messages end up in logs; passwords must not."""
    environ = {
        "STATEROOM_CONTROL_STORE__URL": "mysql://me:hunter2@db/x",
        "STATEROOM_WORKLOADS__CPU__ARGUMENTS": '["hunter2"]',
    }
    with pytest.raises(InvalidSettingsError) as caught:
        load_settings(write_settings(tmp_path), environ | {"STATEROOM_WEB__PORT": "x"})
    url = next(p for p in caught.value.problems if "control_store.url" in p)
    assert "hunter2" not in url
    assert "mysql://me:********@db/x" in url
