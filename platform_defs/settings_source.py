"""Where settings come from: the file, with the line of each key, and environment overrides.

Nothing here reads the environment itself: `settings.py` does and hands the mapping over.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fleet.errors import InvalidSettingsError, NotFoundError
from platform_defs.settings_keys import key_fields
from platform_defs.settings_records import NAMED_SECTIONS, NESTED, SECTIONS, nested_in
from platform_defs.settings_secrets import mask

FILE_NAME = "stateroom.toml"
PREFIX = "STATEROOM_"

KeyPath = tuple[str, ...]

_KEY_LINE = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'|\s*\.\s*)+?)\s*=""")


class Problem(NamedTuple):
    """One thing that is wrong with the settings."""

    key: str
    """Dotted name of the key, such as `regions.us-west-2.nodes`."""
    where: str
    """`line 12`, the name of an environment variable, or empty."""
    message: str

    def line(self) -> str:
        """The problem as one line of text."""
        return f"{self.where + ': ' if self.where else ''}{self.key}: {self.message}"


class Source(NamedTuple):
    """The raw settings: nested tables, and where each key was written."""

    tree: dict[str, Any]
    places: dict[KeyPath, str]
    """`line 12` or the name of a variable, for each key and table."""


def find_file(start: Path, fallback: Path) -> Path:
    """The settings file: the nearest `stateroom.toml` at or above `start`, else the fallback's.

    Args:
        start: where to begin, usually the working directory.
        fallback: folder looked into last, the repository beside the package.

    Raises:
        NotFoundError: there is none.
    """
    for folder in (start, *start.parents, fallback):
        candidate = folder / FILE_NAME
        if candidate.is_file():
            return candidate
    raise NotFoundError(
        f"no {FILE_NAME} in {start} or any folder above it",
        hint="Change to the repository, or name a settings file in STATEROOM_CONFIG.",
    )


def read_file(path: Path) -> Source:
    """Parse the settings file.

    Raises:
        NotFoundError: the file cannot be read.
        InvalidSettingsError: it is not UTF-8 or not TOML; the message says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(
            f"settings file {path} cannot be read: {error.strerror}",
            hint="Name a readable file in STATEROOM_CONFIG, or unset it.",
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidSettingsError(str(path), ["the file is not UTF-8 text"]) from error
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettingsError(str(path), [f"the file is not TOML: {error}"]) from error
    return Source(tree, {key: f"line {line}" for key, line in key_lines(text).items()})


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line number (from 1) of each table and key of a TOML text that parses.

    tomllib keeps no positions, so each statement is parsed once more by itself: a statement ends
    with the first line at which the text gathered so far is valid.
    """
    places: dict[KeyPath, int] = {}
    table: KeyPath = ()
    gathered, first = "", 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not gathered and (not line.strip() or line.lstrip().startswith("#")):
            continue
        first = first if gathered else number
        gathered += line + "\n"
        try:
            parsed = tomllib.loads(gathered)
        except tomllib.TOMLDecodeError:
            continue
        if gathered.lstrip().startswith("["):
            table = _only_path(parsed)
            for depth in range(1, len(table) + 1):
                places.setdefault(table[:depth], first)
        else:
            _place(parsed, gathered, table, first, places)
        gathered = ""
    return places


def _place(
    parsed: dict[str, Any], statement: str, table: KeyPath, line: int, places: dict[KeyPath, int]
) -> None:
    match = _KEY_LINE.match(statement)
    keys = _only_path(tomllib.loads(f"{match.group(1)} = 0")) if match else tuple(parsed)
    path = (*table, *keys)
    places.setdefault(path, line)
    value = parsed
    for part in keys:
        value = value[part]
    if isinstance(value, dict):
        for inner in value:
            places.setdefault((*path, inner), line)


def _only_path(parsed: Any) -> KeyPath:
    path: list[str] = []
    while isinstance(parsed, (dict, list)) and parsed:
        if isinstance(parsed, list):
            parsed = parsed[0]
            continue
        name, parsed = next(iter(parsed.items()))
        path.append(name)
    return tuple(path)


def known_keys(path: KeyPath) -> tuple[str, ...]:
    """Names that may stand below a path of the settings; empty below a value."""
    if not path:
        return (*SECTIONS, *NAMED_SECTIONS)
    record = record_at(path)
    return () if record is None else (*key_fields(record), *nested_in(path))


def record_at(path: KeyPath) -> type | None:
    """The record of the table at a path; None where no table stands."""
    if path[0] in SECTIONS:
        return SECTIONS[path[0]] if len(path) == 1 else None
    if path[0] not in NAMED_SECTIONS or len(path) < 2:
        return None
    return NAMED_SECTIONS[path[0]] if len(path) == 2 else NESTED.get((path[0], *path[2:]))


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option that was probably meant, or None: same beginning (a missing unit), or alike."""
    options = list(options)
    first_word = name.split("_", maxsplit=1)[0]
    begun = [option for option in options if option.startswith((f"{name}_", first_word))]
    if len(begun) == 1:
        return begun[0]
    from difflib import get_close_matches

    found = get_close_matches(name, options, n=1, cutoff=0.6)
    return found[0] if found else (begun[0] if begun else None)


def unknown_key(path: KeyPath, where: str) -> Problem:
    """The problem of a key that no record has, with the nearest one that exists."""
    options = known_keys(path[:-1])
    guess = nearest(path[-1], options)
    meant = f"did you mean {'.'.join((*path[:-1], guess))}?" if guess else ""
    listed = f"known here: {', '.join(options)}" if options else "nothing may stand below this key"
    return Problem(".".join(path), where, f"unknown key; {meant or listed}")


def _variable_part(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", name).upper()


def apply_environment(source: Source, environ: Mapping[str, str]) -> list[Problem]:
    """Put `STATEROOM_<SECTION>__<KEY>` variables over what the file says, in place.

    Regions, networks and workloads are found by their name in upper case with `_` for every
    other mark: `STATEROOM_REGIONS__US_WEST_2__NODES`. They must exist in the file, because a new
    name could not be read back from the variable.
    """
    problems: list[Problem] = []
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and "__" in variable:
            problems += _override(source, variable, environ[variable])
        elif variable.startswith(PREFIX):
            problems += _missing_underscore(variable)
    return problems


def _override(source: Source, variable: str, text: str) -> list[Problem]:
    parts = variable.removeprefix(PREFIX).split("__")
    path: KeyPath = (parts[0].lower(),)
    if path[0] not in known_keys(()):
        return [unknown_key(path, variable)]
    if path[0] in NAMED_SECTIONS:
        present = source.tree.get(path[0])
        present = present if isinstance(present, dict) else {}
        found = [name for name in present if _variable_part(name) == parts[1].upper()]
        if len(found) != 1:
            listed = ", ".join(present) or "none"
            why = "names more than one" if found else "names none"
            message = f"{parts[1]!r} {why} of them; in the file: {listed}"
            return [Problem(path[0], variable, message)]
        parts[1] = found[0]
        path = (*path, found[0])
    path = (*path, *(part.lower() for part in parts[len(path) :]))
    return _set(source, path, variable, text)


def _set(source: Source, path: KeyPath, variable: str, text: str) -> list[Problem]:
    if known_keys(path):
        message = f"this is a table; set one of its keys: {', '.join(known_keys(path))}"
        return [Problem(".".join(path), variable, message)]
    if path[-1] not in known_keys(path[:-1]):
        return [unknown_key(path, variable)]
    record = record_at(path[:-1])
    assert record is not None, "a key of it is known"
    kind = key_fields(record)[path[-1]].metadata["kind"]
    try:
        value = kind.from_text(text)
    except ValueError:
        message = f"{mask(path[-1], text)!r} is not valid; allowed: {kind.allowed}"
        return [Problem(".".join(path), variable, message)]
    table = source.tree
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return []  # validation says what is wrong with the table itself
    table[path[-1]] = value
    source.places[path] = variable
    return []


def _missing_underscore(variable: str) -> list[Problem]:
    """A variable that only lacks the second underscore would else be ignored without a word."""
    rest = variable.removeprefix(PREFIX).lower()
    for section, record in SECTIONS.items():
        name = rest.removeprefix(f"{section}_")
        if name != rest and name in key_fields(record):
            meant = f"{PREFIX}{section.upper()}__{name.upper()}"
            message = f"the variable has no effect; did you mean {meant}?"
            return [Problem(f"{section}.{name}", variable, message)]
    return []
