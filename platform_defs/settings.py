"""The settings of this deployment, and the only reader of the environment.

`stateroom.toml` says what is deployed; `STATEROOM_<SECTION>__<KEY>` variables override single keys.
Everything that is wrong is reported at once, and nothing starts on settings that are wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any, NamedTuple

from fleet.errors import InvalidSettingsError
from fleet.names import is_name
from platform_defs.declared_scaling import scaling_violations
from platform_defs.settings_backup_rules import backup_violations
from platform_defs.settings_costs_rules import cost_violations
from platform_defs.settings_fleet import RegionSettings, WorkloadSettings
from platform_defs.settings_keys import default_of, key_fields
from platform_defs.settings_kinds import NAME_ALLOWED, Kind, RefusedError
from platform_defs.settings_metrics_rules import metric_violations
from platform_defs.settings_networks import (
    NetworkSettings,
    network_violations,
    with_network_defaults,
)
from platform_defs.settings_objectives import objective_violations
from platform_defs.settings_records import (
    NAMED_SECTIONS,
    SECTIONS,
    ControlStoreSettings,
    FleetSettings,
    LakeSettings,
    NodeSettings,
    Settings,
    WebSettings,
    nested_in,
)
from platform_defs.settings_rules import violations
from platform_defs.settings_secrets import mask
from platform_defs.settings_source import (
    KeyPath,
    Problem,
    Source,
    apply_environment,
    find_file,
    nearest,
    read_file,
    unknown_key,
)
from platform_defs.settings_traffic_rules import discovery_violations, router_violations

__all__ = [
    "ControlStoreSettings",
    "FleetSettings",
    "LakeSettings",
    "NetworkSettings",
    "NodeSettings",
    "RegionSettings",
    "Settings",
    "Switches",
    "WebSettings",
    "WorkloadSettings",
    "child_environment",
    "instance_environment",
    "load_settings",
    "read_switches",
]


_PLACES = {"vaults": "path", "wrapping_keys": "file", "artefacts": "path"}
"""Section -> its key that holds a path."""


class Switches(NamedTuple):
    """Environment variables that change how the command behaves, not what is deployed."""

    debug: bool
    """STATEROOM_DEBUG: show tracebacks."""
    no_color: bool
    """NO_COLOR (no-color.org): set and not empty."""


def read_switches(environ: Mapping[str, str] | None = None) -> Switches:
    """Read the switches; never fails."""
    environ = os.environ if environ is None else environ
    return Switches(bool(environ.get("STATEROOM_DEBUG")), bool(environ.get("NO_COLOR")))


def instance_environment(settings: Settings) -> dict[str, str]:
    """What any process needs to find this instance: settings file, state folder, Dagster home."""
    return {
        "STATEROOM_CONFIG": str(settings.path),
        "STATEROOM_STATE_DIR": str(settings.fleet.state_dir),
        "DAGSTER_HOME": str(settings.dagster_home),
    }


def child_environment(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of every process that Stateroom starts: the caller's, and where things are.

    Bytecode is written whatever the caller's PYTHONDONTWRITEBYTECODE says: without it each process
    would compile Dagster anew, which triples the time to start.
    """
    child = dict(os.environ if environ is None else environ)
    child.pop("PYTHONDONTWRITEBYTECODE", None)
    return child | instance_environment(settings) | {"PYTHONUNBUFFERED": "1"}


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read, override and validate the settings; takes a few milliseconds, touches only the file.

    Args:
        path: the settings file; None takes STATEROOM_CONFIG, else the nearest `stateroom.toml` at
            or above the working directory, else the one beside this package.
        environ: the environment; None takes the process's own.

    Raises:
        NotFoundError: there is no settings file, or it cannot be read.
        InvalidSettingsError: lists everything that is wrong, each with key, value and line.
    """
    environ = os.environ if environ is None else environ
    if path is None and environ.get("STATEROOM_CONFIG"):
        path = Path(environ["STATEROOM_CONFIG"])
    if path is None:
        path = find_file(Path.cwd(), Path(__file__).resolve().parent.parent)
    path = path.absolute()
    source = read_file(path)
    problems = apply_environment(source, environ)
    settings = _Validation(source, path, problems).settings()
    if settings is None:
        problems = sorted(set(problems), key=_order)
        raise InvalidSettingsError(str(path), [problem.line() for problem in problems])
    return settings


def _order(problem: Problem) -> tuple[bool, int, str, str]:
    line = problem.where.removeprefix("line ")
    return (not line.isdigit(), int(line) if line.isdigit() else 0, problem.key, problem.message)


class _Validation:
    """Builds the records and gathers every problem on the way."""

    def __init__(self, source: Source, path: Path, problems: list[Problem]) -> None:
        self.tree, self.places = source
        self.path = path
        self.problems = problems
        self.sources: dict[str, str] = {}

    def settings(self) -> Settings | None:
        """The settings, or None when there are problems."""
        for name in self.tree:
            if name not in SECTIONS and name not in NAMED_SECTIONS:
                self.problems.append(unknown_key((name,), self.place((name,))))
        single = {name: self.record(record, (name,)) for name, record in SECTIONS.items()}
        named: dict[str, Any] = {n: self.named(r, n) for n, r in NAMED_SECTIONS.items()}
        named["workloads"] = with_network_defaults(
            named["workloads"], named["networks"], self.sources
        )
        known_networks = tuple(self.table(("networks",)))
        built = {name: [r for r in records if r is not None] for name, records in named.items()}
        for path, message in (
            *violations(single["node"], built["regions"], known_networks, built["workloads"]),
            *backup_violations(single, built, tuple(self.table(("regions",))), known_networks),
            *router_violations(built["routers"], tuple(self.table(("workloads",)))),
            *objective_violations(
                built["objectives"],
                tuple(self.table(("regions",))),
                known_networks,
                tuple(self.table(("workloads",))),
            ),
            *network_violations(built["networks"], built["workloads"]),
            *discovery_violations(single["discovery"]),
            *metric_violations(single["metrics"]),
            *scaling_violations(built["workloads"], self.path.parent),
            *cost_violations(
                single["rightsizing"],
                built["prices"],
                built["disruption_budgets"],
                tuple(self.table(("regions",))),
                tuple(self.table(("workloads",))),
            ),
        ):
            self.problems.append(Problem(".".join(path), self.place(path), message))
        if not self.tree.get("regions"):
            message = "there is none; add a table such as [regions.us-west-2]"
            self.problems.append(Problem("regions", "", message))
        if self.problems:
            return None
        self.expand(single, named)
        return Settings(path=self.path, **single, **named, sources=self.sources)

    def place(self, path: KeyPath) -> str:
        """Where a key was written, or the table around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, "")

    def table(self, path: KeyPath) -> dict[str, Any]:
        """The raw table at a path; empty (with a problem) when something else stands there."""
        value: Any = self.tree
        for part in path:
            value = value.get(part, {})
        if isinstance(value, dict):
            return value
        message = f"{value!r} is not valid; allowed: a table"
        self.problems.append(Problem(".".join(path), self.place(path), message))
        return {}

    def named(self, record: type, section: str) -> tuple[Any, ...]:
        """The records of a section of named tables, in the order of the file."""
        records = []
        for name in self.table((section,)):
            if not is_name(name):
                message = f"{name!r} is not valid; allowed: {NAME_ALLOWED}"
                self.problems.append(Problem(section, self.place((section, name)), message))
            records.append(self.record(record, (section, name), name=name))
        return tuple(records)

    def record(self, record: type, path: KeyPath, **given: Any) -> Any:
        """One record from the table at a path; None when it has problems."""
        before = len(self.problems)
        raw = self.table(path)
        if len(self.problems) > before:
            return None
        values = dict(given)
        specs = key_fields(record)
        nested = nested_in(path)
        for name in raw:
            if name not in specs and name not in nested:
                self.problems.append(unknown_key((*path, name), self.place((*path, name))))
        meant = {nearest(name, specs) for name in raw if name not in specs}
        for name, spec in specs.items():
            if name in raw:
                values[name] = self.value(spec.metadata["kind"], raw[name], (*path, name))
            elif default_of(spec) is MISSING and name not in meant:
                message = f"missing; allowed: {spec.metadata['kind'].allowed}"
                self.problems.append(Problem(".".join((*path, name)), self.place(path), message))
        for inner, inner_record in nested.items():
            if inner in raw:
                values[inner] = self.record(inner_record, (*path, inner))
        return record(**values) if len(self.problems) == before else None

    def value(self, kind: Kind, raw: object, path: KeyPath) -> Any:
        """One value; None (with a problem) when its kind refuses it."""
        place = self.place(path)
        self.sources[".".join(path)] = place.replace("line ", f"{self.path.name}:")
        try:
            return kind.check(raw)
        except RefusedError:
            message = f"{mask(path[-1], raw)!r} is not valid; allowed: {kind.allowed}"
            self.problems.append(Problem(".".join(path), place, message))
            return None

    def expand(self, single: dict[str, Any], named: dict[str, Any]) -> None:
        """Resolve relative paths against the file's folder and fill in `{state_dir}`."""
        folder = self.path.parent
        fleet: FleetSettings = single["fleet"]
        state_dir = Path(os.path.normpath(folder / Path(fleet.state_dir).expanduser()))

        def resolved(path: object) -> Path:
            filled = Path(str(path).replace("{state_dir}", str(state_dir))).expanduser()
            return Path(os.path.normpath(folder / filled))

        single["fleet"] = replace(fleet, state_dir=state_dir)
        single["lake"] = replace(single["lake"], path=resolved(single["lake"].path))
        single["metrics"] = replace(
            single["metrics"],
            path=resolved(single["metrics"].path),
            cache_path=resolved(single["metrics"].cache_path),
        )
        store: ControlStoreSettings = single["control_store"]
        url = store.url.replace("{state_dir}", str(state_dir))
        if url.startswith("sqlite:///"):
            url = f"sqlite:///{resolved(url.removeprefix('sqlite:///'))}"
        single["control_store"] = replace(store, url=url)
        for section, where in (
            ("vaults", "path"),
            ("wrapping_keys", "file"),
            ("artefacts", "path"),
            ("routers", "folder"),
            ("routers", "config"),
            ("routers", "pid_file"),
        ):
            named[section] = tuple(
                replace(one, **{where: type(found)(resolved(found))})
                if (found := getattr(one, where))
                else one
                for one in named[section]
            )
