"""The embedded route table: one JSON file per service, for fleets on one machine.

Judged and replaced under a lock of the folder, so (term, revision) is compared and swapped as one;
committed by the rename of each file. Readers never wait: they see the old table or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fleet.errors import CorruptObjectError
from fleet.names import validate_name
from fleet.ports.traffic import RouteResult
from fleet.routes import Backend, LiveRoutes, RouteTable, judge_table, validate_tables
from resources.traffic.atomic_files import only_writer, read_file, replace_file


class EmbeddedRouter:
    """`fleet.ports.traffic.TrafficRouter` on a folder.

    Args:
        folder: of the files; made at the first use.
    """

    name = "embedded"

    def __init__(self, folder: Path) -> None:
        """Remember where."""
        self._folder = folder

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[RouteResult]:
        """Replace the files of tables that are not older."""
        validate_tables(tables)
        if not tables:
            return []
        with only_writer(self._folder):
            return [self._apply(table) for table in tables]

    def live_routes(self, service: str) -> LiveRoutes | None:
        """What the file says."""
        table = self.table(service)
        if table is None:
            return None
        addresses = sorted({backend.address for backend in table.backends})
        return LiveRoutes(service, table.term, table.revision, tuple(addresses))

    def table(self, service: str) -> RouteTable | None:
        """The table in force, for whoever sends requests; None when there is none.

        Raises:
            CorruptObjectError: the file is none of ours.
            TrafficUnavailableError: it cannot be read.
        """
        path = self._path(service)
        data = read_file(path)
        if data is None:
            return None
        try:
            fields = json.loads(data)
            backends = tuple(Backend(*row) for row in fields["backends"])
            table = RouteTable(service, fields["term"], fields["revision"], backends)
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptObjectError(
                f"{path}: is no route table ({error!r})",
                hint=f"Remove the file; the next application of routes writes it anew: rm {path}",
            ) from error
        return table

    def _apply(self, table: RouteTable) -> RouteResult:
        live = self.table(table.service)
        refused = judge_table(table, live.fence if live else None)
        if refused is not None or table == live:
            return RouteResult(table.service, changed=False, error=refused)
        fields = {"term": table.term, "revision": table.revision, "backends": table.backends}
        replace_file(self._path(table.service), json.dumps(fields, separators=(",", ":")).encode())
        changed = live is None or live.backends != table.backends
        return RouteResult(table.service, changed=changed, error=None)

    def _path(self, service: str) -> Path:
        return self._folder / f"{validate_name('service', service)}.json"
