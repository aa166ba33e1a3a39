"""What can go wrong between an agent and its supervisor.

::

    AgentError               carries `hint`: what to do next
    ├── InvalidSetupError    the environment or AGENT_ARGUMENTS are not what an agent needs
    ├── UnreachableError     no answer within the time limit, after repeated attempts
    ├── RefusedError         the supervisor refused the request as wrong; repeating it cannot help
    │   ├── TooLargeError    the state is larger than 64 MiB
    │   └── NotOfferedError  the supervisor does not know the operation; it is older than this SDK
    └── FencedError          this copy has lost the right to write; it must stop
        └── ConflictError    the state has a newer version than this copy has seen
"""

from __future__ import annotations


class AgentError(Exception):
    """Root of the tree; `hint` is the next step, as a sentence."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep what happened and what to do."""
        super().__init__(message)
        self.hint = hint


class InvalidSetupError(AgentError):
    """The environment or AGENT_ARGUMENTS are not what an agent needs."""


class UnreachableError(AgentError):
    """The supervisor gave no answer, or could not store, within the time limit."""


class RefusedError(AgentError):
    """The supervisor refused the request as wrong."""


class TooLargeError(RefusedError):
    """The state is larger than the supervisor takes."""


class NotOfferedError(RefusedError):
    """The supervisor does not know the operation."""


class FencedError(AgentError):
    """Another copy holds the right to write, or this one is not placed here; stop."""


class ConflictError(FencedError):
    """The state has moved on; start anew from `load_state`."""
