"""Settings files for tests: a small valid one, and a TOML writer for generated ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SMALL = """\
[fleet]
name = "test"

[regions.us-west-2]
zones = ["a", "b"]
nodes = 2

[networks.watch]

[workloads.cpu]
network = "watch"
function = "agents.cpu:observe"
"""


def write_settings(folder: Path, text: str = SMALL) -> Path:
    """A settings file in a folder."""
    path = folder / "stateroom.toml"
    path.write_text(text, encoding="utf-8")
    return path


def to_toml(tree: dict[str, Any], prefix: tuple[str, ...] = ()) -> str:
    """A nested dict as TOML; JSON texts are TOML texts once DEL is escaped."""
    lines = [
        f"{_text(name)} = {_value(value)}"
        for name, value in tree.items()
        if not isinstance(value, dict)
    ]
    body = "\n".join(lines) + "\n" if lines else ""
    header = f"[{'.'.join(map(_text, prefix))}]\n" if prefix else ""
    parts = [to_toml(v, (*prefix, name)) for name, v in tree.items() if isinstance(v, dict)]
    return header + body + "".join(parts)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)
