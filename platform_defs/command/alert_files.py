"""Rule files that commands read: the shipped ones, those of the objectives, and their tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fleet.alerts.loading import load_rules
from fleet.alerts.rule_tests import CaseResult, RuleTestFile, load_rule_tests, run_rule_tests
from fleet.alerts.rules import RuleGroup
from fleet.errors import InvalidInputError, NotFoundError
from fleet.metrics.memory_series import MemorySeries
from fleet.objectives import objective_groups
from fleet.ports.query_engine import QueryEngine
from platform_defs.settings import Settings
from platform_defs.settings_objectives import declared_objectives

_ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (_ROOT / "platform_defs" / "shipped" / "rules", _ROOT / "deploy" / "prometheus" / "rules")
"""Where the rules lie that come with Stateroom: in an installed package, or in a checkout. The
first place is filled when a wheel is built (`force-include` in pyproject.toml)."""


def alert_folder(settings: Settings) -> Path:
    """Where states of alerts and silences are kept."""
    return settings.fleet.state_dir / "alerts"


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        NotFoundError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(f"cannot read {path}: {error}") from error


def production_groups(settings: Settings) -> tuple[RuleGroup, ...]:
    """Every group that the collector evaluates: the shipped files and the objectives.

    Raises:
        InvalidDocumentError: a file breaks a rule.
        NotFoundError: the shipped files are not there.
    """
    files = {path.name: read_text(path) for path in shipped_rules()}
    return load_rules(files) + objective_groups(declared_objectives(settings.objectives))


def shipped_rules(places: Sequence[Path] = SHIPPED) -> list[Path]:
    """The rule files that come with Stateroom, by name.

    Raises:
        NotFoundError: they are in none of the places: no alert would ever fire.
    """
    for place in places:
        found = sorted(place.glob("*.yml"))
        if found:
            return found
    raise NotFoundError(
        f"no rules of alerts in {' nor in '.join(map(str, places))}",
        hint="Install Stateroom from a wheel or a whole checkout.",
    )


def run_test_file(path: Path) -> list[CaseResult]:
    """Run one file of tests with the rule files that it names.

    Raises:
        NotFoundError: a file cannot be read.
        InvalidDocumentError: a file breaks the format.
        InvalidInputError: a pattern of `rule_files` chooses nothing.
    """
    tests = load_rule_tests(str(path), read_text(path))
    files = {str(one): read_text(one) for one in _rule_files(path.parent, tests)}
    return run_rule_tests(tests, load_rules(files), _engine)


def _engine(series: MemorySeries) -> QueryEngine:
    from fleet.promql.engine import PromqlEngine

    return PromqlEngine(series)


def _rule_files(folder: Path, tests: RuleTestFile) -> list[Path]:
    """Files that the patterns choose, relative to the test file, each once."""
    found: dict[Path, None] = {}
    for pattern in tests.rule_files:
        whole = Path(pattern)
        base = whole.parent if whole.is_absolute() else folder / whole.parent
        chosen = sorted(one.resolve() for one in base.glob(whole.name) if one.is_file())
        if not chosen:
            raise InvalidInputError("rule_files", pattern, f"a file below {folder}")
        found.update(dict.fromkeys(chosen))
    return list(found)
