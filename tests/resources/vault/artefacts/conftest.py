"""A vault for artefacts, a running writer, and a watch on opened files."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.artefact_vault import ArtefactVault

_opened: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | bytes):
        name = arguments[0]
        _opened.append(name.decode(errors="replace") if isinstance(name, bytes) else name)


sys.addaudithook(_watch)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every name that this process opens during the test."""
    global _opened  # noqa: PLW0603
    _opened = []
    yield _opened
    _opened = None


@pytest.fixture
def vault(tmp_path: Path) -> ArtefactVault:
    """An empty vault."""
    return ArtefactVault(tmp_path)


Running = Callable[[str], contextlib.AbstractContextManager[None]]


@pytest.fixture
def running() -> Running:
    """Run a Python script in another process; it prints one line when it is ready."""

    @contextlib.contextmanager
    def run(script: str) -> Iterator[None]:
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline()
                yield
            finally:
                process.kill()

    return run
