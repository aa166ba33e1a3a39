"""Journals of actions, and questions of people who look at one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fleet.agents import Note
from fleet.inventory import Agent
from fleet.journal import JournalEntry


class JournalStore(Protocol):
    """Action journals."""

    def append_journal(self, entries: Sequence[JournalEntry]) -> list[bool]:
        """Durably append; False where (action_id, step, status) was there already."""
        ...

    def journal(self, action_id: str) -> list[JournalEntry]:
        """All steps of an action in commit order."""
        ...


class LookupStore(Protocol):
    """Questions about one thing, for people who look at it."""

    def agent(self, agent_id: str) -> Agent | None:
        """One agent as `agents` would show it; None when it is not declared."""
        ...

    def agent_notes(self, agent_id: str, limit: int) -> list[Note]:
        """Notes of one agent, newest first."""
        ...

    def open_actions(self, limit: int = 1000) -> list[JournalEntry]:
        """The first unfinished step of every action that has one, oldest first.

        A step is unfinished when it has been `started` and is not `done`; a failed one stays
        here until somebody finishes the action.
        """
        ...
