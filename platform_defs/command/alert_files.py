"""Rule files that commands read: the shipped ones, those of the objectives, and their tests."""

from __future__ import annotations

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

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "rules"
"""Rules that come with Stateroom."""


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
    """
    files = {path.name: read_text(path) for path in sorted(SHIPPED.glob("*.yml"))}
    return load_rules(files) + objective_groups(declared_objectives(settings.objectives))


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
