"""Whatever is valid survives being written and read again; whatever is secret is never shown."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from platform_defs.settings import load_settings
from platform_defs.settings_display import effective_rows
from platform_defs.settings_secrets import MASK, is_secret_name, mask
from tests.examples import examples
from tests.platform_defs.settings_files import to_toml, write_settings

NAMES = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
PRINTABLE = st.text(string.ascii_letters + string.digits + "-._~", min_size=1, max_size=12)


@st.composite
def workloads(draw: st.DrawFn, network: str) -> dict[str, Any]:
    """A workload that any node can hold."""
    workload: dict[str, Any] = {
        "network": network,
        "replicas_per_node": draw(st.integers(0, 3)),
        "cpu_milli": draw(st.integers(0, 100)),
        "memory_mib": draw(st.integers(0, 50)),
        "priority": draw(st.integers(-1000, 1000)),
        "restart": {"mode": draw(st.sampled_from(["always", "on-failure", "never"]))},
    }
    if draw(st.booleans()):
        workload["function"] = "package.module:run"
    else:
        workload["command"] = ["agent", *draw(st.lists(TEXTS, max_size=2))]
    arguments = draw(
        st.dictionaries(NAMES.filter(lambda n: not is_secret_name(n)), TEXTS, max_size=2)
    )
    return workload | ({"arguments": arguments} if arguments else {})


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """Settings as nested tables, valid by construction."""
    interval_s = draw(st.floats(0.05, 5.0))
    networks = draw(st.lists(NAMES, min_size=1, max_size=2, unique=True))
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    regions = {
        name: {
            "nodes": draw(st.integers(0, 5)),
            "zones": draw(st.lists(NAMES, min_size=1, unique=True)),
        }
        for name in names
    }
    declared = {
        name: draw(workloads(draw(st.sampled_from(networks))))
        for name in draw(st.lists(NAMES, max_size=3, unique=True))
    }
    return {
        "fleet": {"name": draw(NAMES), "cluster": draw(st.sampled_from(["local", "simulated"]))},
        "web": {"port": draw(st.integers(0, 65_535))},
        "node": {
            "heartbeat_interval_s": interval_s,
            "lease_ttl_s": draw(st.floats(2 * interval_s + 0.1, 50)),
            "heartbeat_late_s": 6.0,
            "heartbeat_lost_s": draw(st.floats(6.0, 100)),
        },
        "regions": regions,
        "networks": {name: {"description": draw(TEXTS)} for name in networks},
        "workloads": declared,
    }


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and name != "arguments":
            found |= leaves(value, f"{key}.")
        else:
            found[key] = value
    return found


@given(trees())
@settings(max_examples=examples(40))
def test_any_valid_settings_round_trip_and_keep_their_sources(tree: dict[str, Any]) -> None:
    """What was written is what is effective, each from the file; all else is a default."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_settings(write_settings(Path(folder), to_toml(tree)), {})
    rows = {row.key: row for row in effective_rows(loaded)}
    written = leaves(tree)
    assert {key: rows[key].value for key in written} == written
    assert all(rows[key].source.startswith("stateroom.toml:") for key in written)
    assert {row.source for key, row in rows.items() if key not in written} == {"default"}


@given(trees(), st.data())
@settings(max_examples=examples(40))
def test_a_variable_wins_over_the_file_whatever_the_file_says(
    tree: dict[str, Any], data: st.DataObject
) -> None:
    """Only the overridden key changes."""
    port, name = data.draw(st.integers(0, 65_535)), data.draw(NAMES)
    environ = {"STATEROOM_WEB__PORT": str(port), "STATEROOM_FLEET__NAME": name}
    with tempfile.TemporaryDirectory() as folder:
        path = write_settings(Path(folder), to_toml(tree))
        before = {row.key: row.value for row in effective_rows(load_settings(path, {}))}
        after = {row.key: row.value for row in effective_rows(load_settings(path, environ))}
    assert after == before | {"web.port": port, "fleet.name": name}


@given(PRINTABLE.filter(lambda text: text not in MASK and len(text) > 3), PRINTABLE)
def test_no_password_is_ever_shown(secret: str, user: str) -> None:
    """In URLs, queries, options, tables and keys that name it."""
    secret = f"<{secret}>"
    shown = [
        mask("url", f"postgresql://{user}:{secret}@host/database?sslpassword={secret}&x=1"),
        mask("command", ["agent", "--token", secret, f"--api-key={secret}", "plain"]),
        mask("arguments", {"client_secret": secret, "PASSWORD": secret}),
        mask("token", secret),
    ]
    assert secret not in repr(shown)
    assert "plain" in repr(shown)
    assert "x=1" in repr(shown)


@given(st.one_of(st.integers(), st.booleans(), st.lists(NAMES)))
def test_masking_leaves_everything_else_alone(value: Any) -> None:
    """Numbers, flags and lists of names pass unchanged."""
    assert mask("nodes", value) == value
