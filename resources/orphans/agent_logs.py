"""Files on nodes of agents that are not there any more.

What an agent keeps on its node are its logs, `logs/agents/<node>/<agent>.log` and their
predecessors; everything else of it is state, and in the control store. They stay when the agent is
retired or moves away. Nodes of a local fleet share one machine, so one look sees them all.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from fleet.cleanup import LeftKind, Orphan
from fleet.errors import StoreUnavailableError, VersionConflictError
from fleet.ports.control_store import ControlStore

_LOG = re.compile(r"(?P<agent>.+?)\.log(\.1|\.part|\.removed)*")
"""Names that `resources.local.agent_logs` gives, and those of a removal that was cut off."""

_REMOVED = ".removed"


class _Files(NamedTuple):
    """What one agent has on one node."""

    paths: list[Path]
    size_bytes: int
    newest_at: datetime


class AgentLogs:
    """Compares the files of each node's agents with the placements: one listing of the store.

    Args:
        log_dir: holds a folder for each node.
        store: says where agents are.
    """

    def __init__(self, log_dir: Path, store: ControlStore) -> None:
        """Remember; nothing is read yet."""
        self._root = log_dir / "agents"
        self._store = store
        self.kind = LeftKind.AGENT_LOGS

    def orphans(self) -> Iterator[Orphan]:
        """See the port; by node and agent.

        Files are listed first, so that an agent that comes meanwhile is known.
        """
        found = {
            (node_id, agent_id): files
            for node_id in self._nodes()
            for agent_id, files in self._files(node_id).items()
        }
        if not found:
            return
        places = {one.agent_id: one.node_id for one in self._store.agents()}
        for node_id, agent_id in sorted(found):
            files, place = found[node_id, agent_id], places.get(agent_id)
            if place in {node_id, ""}:
                continue  # who waits for a node may come back to this one
            where = "is not declared" if place is None else f"is on {place} now"
            yield Orphan(
                self.kind.value,
                f"{node_id}/{agent_id}",
                "",
                files.size_bytes,
                files.newest_at,
                f"{len(files.paths)} files of {agent_id}, which {where}",
            )

    def remove(self, orphan: Orphan) -> int:
        """See the port; each file is set aside first, and put back if the agent has come back.

        An agent that opens its file before it is set aside has been placed before, which the look
        behind it sees; one that opens it later gets a new file.
        """
        node_id, _, agent_id = orphan.subject.partition("/")
        files = self._files(node_id, agent_id).get(agent_id)
        if files is None:
            return 0
        self._demand_gone(node_id, agent_id, files, orphan.newest_at)
        aside = []
        for path in files.paths:
            target = path if path.name.endswith(_REMOVED) else path.with_name(path.name + _REMOVED)
            path.rename(target)
            aside.append((path, target))
        try:
            self._demand_gone(node_id, agent_id, files, orphan.newest_at)
        except VersionConflictError:
            for path, target in aside:
                if not path.exists():
                    target.rename(path)
            raise
        for _, target in aside:
            target.unlink(missing_ok=True)
        return files.size_bytes

    def _demand_gone(self, node_id: str, agent_id: str, files: _Files, newest_at: datetime) -> None:
        agent = self._store.agent(agent_id)
        if files.newest_at > newest_at or (agent is not None and agent.node_id in {node_id, ""}):
            raise VersionConflictError(
                f"agent {agent_id} has come back to {node_id}, or its files were written since; "
                "they stay",
                hint="`stateroom agent NAME` says where it is.",
            )

    def _nodes(self) -> list[str]:
        try:
            with os.scandir(self._root) as entries:
                return sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreadable(self._root, error) from error

    def _files(self, node_id: str, agent_id: str | None = None) -> dict[str, _Files]:
        """By agent, or of one; what has another name is nobody's and left alone."""
        paths: dict[str, list[tuple[Path, os.stat_result]]] = defaultdict(list)
        folder = self._root / node_id
        try:
            with os.scandir(folder) as entries:
                for one in entries:
                    if agent_id is not None and not one.name.startswith(agent_id):
                        continue  # of one agent in a thousand: the others are not looked at
                    known = _LOG.fullmatch(one.name)
                    if known is not None and one.is_file(follow_symlinks=False):
                        seen = one.stat(follow_symlinks=False)
                        paths[known["agent"]].append((Path(one.path), seen))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise _unreadable(folder, error) from error
        return {
            agent_id: _Files(
                sorted(path for path, _ in group),
                sum(seen.st_size for _, seen in group),
                datetime.fromtimestamp(max(seen.st_mtime for _, seen in group), UTC),
            )
            for agent_id, group in paths.items()
        }


def _unreadable(folder: Path, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"{folder} cannot be read: {error}", hint="Check the rights of the state folder."
    )
