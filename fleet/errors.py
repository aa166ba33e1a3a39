"""Every error that Stateroom raises on purpose.

::

    StateroomError                    carries `hint`: what the operator does next
    ├── TransientError                trying again later may succeed; `ops` retries it
    │   ├── StoreUnavailableError     the control store cannot be reached or is locked
    │   ├── LakeUnavailableError      the lake cannot be read or written (disk full, network)
    │   ├── NodeUnavailableError      a node's supervisor does not answer
    │   ├── RegistryUnavailableError  the service registry cannot be reached
    │   ├── TrafficUnavailableError   a balancer or name server did not take a change
    │   ├── SourceUnavailableError    a source of metrics does not answer, or broke off
    │   ├── CircuitOpenError          a breaker is open: it was not even asked
    │   ├── GpuBusyError              no GPU has the memory free, and one is required
    │   └── ReceiverUnavailableError  an alert did not reach a receiver
    └── PermanentError                trying again cannot help; `ops` fails at once
        ├── InvalidInputError         names the field, the value and what is allowed
        │   └── InvalidDocumentError  every problem of a file or text, with its line
        ├── InvalidSettingsError      lists everything that is wrong with the settings
        ├── NotFoundError             a node, agent, table ... that does not exist
        ├── TooLargeError             over a documented limit
        ├── QuotaExceededError        a network may not use so much
        ├── AlreadyRunningError       another process owns this state folder or port
        ├── SchemaMismatchError       the store was written by a newer Stateroom
        ├── CorruptObjectError        stored bytes differ from their checksum
        ├── RecallTooLowError         an index finds too little to be published
        └── FencedError               the caller has lost the right to write
            ├── StaleEpochError       the agent has been placed again with a higher epoch
            ├── VersionConflictError  the state has moved on since it was read
            └── LeaseLostError        the lease is held by somebody else

Adapters translate library errors into these and chain the original (`raise ... from error`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PROBLEMS_LISTED_MAX = 20
"""Problems of a document that one error spells out; the rest is counted."""


class StateroomError(Exception):
    """Root of the tree; `hint` is the next step for the operator, as a sentence or a command."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep `message` (what happened, with names and values) and `hint` (what to do)."""
        super().__init__(message)
        self.hint = hint


class TransientError(StateroomError):
    """The same call may succeed later."""


class RegistryUnavailableError(TransientError):
    """The service registry cannot be reached or has no leader."""


class TrafficUnavailableError(TransientError):
    """A balancer or name server does not answer, or did not take a change."""


class SourceUnavailableError(TransientError):
    """A source of metrics does not answer, or broke off; what was read before stays valid."""


class CircuitOpenError(TransientError):
    """A circuit breaker is open: the backend was not asked, because it has failed repeatedly."""


class GpuBusyError(TransientError):
    """No GPU has enough memory free for a piece of work that must have one."""


class PermanentError(StateroomError):
    """The same call will fail again until somebody changes something."""


class StoreUnavailableError(TransientError):
    """The control store cannot be reached, or stayed locked past its time limit."""


class LakeUnavailableError(TransientError):
    """The lake cannot be read or written; nothing was committed."""


class NodeUnavailableError(TransientError):
    """A node's supervisor does not answer."""


class ReceiverUnavailableError(TransientError):
    """A receiver of alerts does not answer, or asks to be left alone for now."""


class InvalidInputError(PermanentError):
    """Input from outside breaks a rule; the message names field, value and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str, *, hint: str = "") -> None:
        """Build the message from the parts, so that every such error reads alike."""
        super().__init__(f"{field}: {value!r} is not valid; allowed: {allowed}", hint=hint)
        self.field = field
        self.value = value
        self.allowed = allowed


class InvalidSettingsError(PermanentError):
    """The settings are wrong; `problems` has one line for each thing that is."""

    def __init__(self, path: str, problems: Sequence[str]) -> None:
        """Keep the problems apart and joined; `path` is the settings file."""
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(
            f"{path}: {count}{lines}",
            hint="docs/settings.md describes every key; `stateroom config validate` checks again.",
        )
        self.problems = tuple(problems)


class Problem(NamedTuple):
    """One thing wrong with a document."""

    source: str
    """File name or document, with the line where one is known: `pods.csv line 7`."""
    field: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.source}, {self.field}: {self.value!r} is not valid; allowed: {self.allowed}"


class InvalidDocumentError(InvalidInputError):
    """A document was refused as a whole; the message lists its problems, one a line.

    `problems` holds the listed ones (at most PROBLEMS_LISTED_MAX), `count` says how many there are.
    """

    def __init__(
        self,
        document: str,
        problems: Sequence[Problem],
        count: int | None = None,
        *,
        hint: str = "",
    ) -> None:
        """Take at least one problem; `count` is the total where not all were kept."""
        first = problems[0]
        super().__init__(first.field, first.value, first.allowed, hint=hint)
        self.problems = tuple(problems[:PROBLEMS_LISTED_MAX])
        self.count = len(problems) if count is None else count
        more = self.count - len(self.problems)
        lines = [str(problem) for problem in self.problems]
        if more > 0:
            lines.append(f"... and {more} more")
        noun = "problem" if self.count == 1 else "problems"
        self.args = ("\n  ".join([f"{document}: {self.count} {noun}; nothing was loaded", *lines]),)


class NotFoundError(PermanentError):
    """The named thing does not exist."""


class TooLargeError(PermanentError):
    """A documented limit on size was passed; nothing was stored."""


class QuotaExceededError(PermanentError):
    """A network's quota does not allow it; the message names quota, use and request."""


class AlreadyRunningError(PermanentError):
    """Another process owns the state folder or the port."""


class SchemaMismatchError(PermanentError):
    """The control store has a schema that this version does not know."""


class CorruptObjectError(PermanentError):
    """Stored bytes do not match their recorded checksum; the object is named."""


class RecallTooLowError(PermanentError):
    """An index finds less than its policy demands: it was not published, the old one serves on."""


class FencedError(PermanentError):
    """The caller has lost the right to write; it must stop."""


class StaleEpochError(FencedError):
    """The agent was placed again: a copy with a higher epoch holds the right to write."""


class VersionConflictError(FencedError):
    """The state has a newer version than the writer expected; read it again."""


class LeaseLostError(FencedError):
    """The lease has expired or is held by somebody else."""
