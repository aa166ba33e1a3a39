"""The entry of Python agents: import a function, call it with the agent.

A warm parent forks and calls `run_function`; a shell runs
`python -m stateroom_agent.main package.module:callable`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from stateroom_agent.agent import Agent
from stateroom_agent.errors import AgentError, FencedError, InvalidSetupError

EXIT_FENCED = 4
"""This copy has lost the right to write; another one has it."""


def run_function(path: str) -> int:
    """Run an agent's function to its end.

    Args:
        path: `package.module:callable`; the callable takes the `Agent`.

    Returns:
        The exit code: 0 after a return or an ordered stop, `EXIT_FENCED`, or 1 when the
        supervisor could not be reached or refused. Other exceptions are the function's own and
        pass through.
    """
    try:
        function = _function(path)
        agent = Agent.from_environment()
        try:
            function(agent)
        finally:
            agent.close()
    except AgentError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n{error.hint}\n")
        return EXIT_FENCED if isinstance(error, FencedError) else 1
    return 0


def _function(path: str) -> Callable[[Agent], None]:
    module_name, _, name = path.partition(":")
    hint = "Write it as package.module:callable."
    if not module_name or not name:
        raise InvalidSetupError(f"function: {path!r} is not valid", hint)
    function = getattr(importlib.import_module(module_name), name, None)
    if not callable(function):
        raise InvalidSetupError(f"function: {module_name} has no callable {name!r}", hint)
    checked: Callable[[Agent], None] = function
    return checked


if __name__ == "__main__":
    sys.exit(run_function(sys.argv[1] if len(sys.argv) == 2 else ""))
