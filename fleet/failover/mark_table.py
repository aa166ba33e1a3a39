"""Marks of many nodes, encoded: nodes that are remembered alike share one record.

Nodes that fall silent together get the same mark but for their names and incidents. Kept once, it
is judged once, whatever the number of nodes: a tick costs by the different marks, not by the nodes.
To read it is a mapping of names to marks, as if each had its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, ValuesView
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fleet.failover.records import NodeMark

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fleet.failover.columns import BoolArray, NodeColumns

    IndexArray = npt.NDArray[np.intp]

_INCIDENT = NodeMark._fields.index("incident")

_KNOWN = "known"
"""Stands in a shared mark for whatever incident a node has."""


def _shared(mark: NodeMark, incident: str = "") -> NodeMark:
    """The mark without what is the node's own."""
    return NodeMark._make(("", *mark[1:_INCIDENT], incident, *mark[_INCIDENT + 1 :]))


class NodeIndex:
    """Which nodes are marked; shared by tables for as long as these stay the same.

    Args:
        node_ids: names of all nodes, the same object tick after tick.
        at: position of each marked node, ascending.
    """

    def __init__(self, node_ids: tuple[str, ...], at: IndexArray) -> None:
        """Names are looked up when they are first asked for."""
        self.node_ids, self.at = node_ids, at

    @cached_property
    def names(self) -> list[str]:
        """Name of each row."""
        node_ids = self.node_ids
        return [node_ids[position] for position in self.at.tolist()]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each name."""
        return {name: row for row, name in enumerate(self.names)}


class MarkTable(Mapping[str, NodeMark]):
    """Marks by name, in the order of the nodes; those of nodes not declared any more come last.

    Nothing changes it once it is part of a state; `MarkDraft` is what a tick changes.

    Attributes:
        index: which nodes are marked. A *row* is a place in this order.
        distinct: the different marks, without name and incident.
        codes: for each row the place of its mark among them.
        incident_ids: the different incidents; the first is none.
        incident_codes: for each row the place of its incident among them.
        gone: marks of nodes that are not declared any more.
    """

    def __init__(
        self,
        index: NodeIndex,
        shared: tuple[list[NodeMark], IndexArray],
        incidents: tuple[list[str], IndexArray],
        gone: Mapping[str, NodeMark],
    ) -> None:
        """Hold these arrays; `shared` and `incidents` are dictionary and codes."""
        self.index, self.gone = index, gone
        self.distinct, self.codes = shared
        self.incident_ids, self.incident_codes = incidents
        self._known: list[NodeMark] = []

    @property
    def at(self) -> IndexArray:
        """Position of each marked node, ascending."""
        return self.index.at

    @staticmethod
    def of(marks: Mapping[str, NodeMark], nodes: NodeColumns) -> MarkTable:
        """These marks in the order of these nodes; the same object where that is its order."""
        import numpy as np

        if isinstance(marks, MarkTable) and marks.index.node_ids is nodes.node_ids:
            return marks
        found, gone = [], {}
        for name, mark in marks.items():
            index = nodes.find(name)
            if index is None:
                gone[name] = mark
            else:
                found.append((index, mark))
        found.sort(key=lambda pair: pair[0])
        at = np.fromiter((index for index, _ in found), dtype=np.intp, count=len(found))
        draft = MarkDraft.plain(NodeIndex(nodes.node_ids, at), 0.0)
        for row, (_, mark) in enumerate(found):
            draft.put(row, mark)
        return draft.kept(np.ones(len(at), dtype=bool), gone)

    # -- as a mapping ----------------------------------------------------------------------------

    def __getitem__(self, name: str) -> NodeMark:
        """The mark of one node."""
        row = self.row_of(name)
        return self.gone[name] if row is None else self.mark(row)

    def __iter__(self) -> Iterator[str]:
        """Names, in the order of the nodes."""
        yield from self.names
        yield from self.gone

    def __len__(self) -> int:
        """Number of marks."""
        return len(self.at) + len(self.gone)

    def values(self) -> ValuesView[NodeMark]:
        """All marks, without a look-up for each."""
        return _Values(self)

    def each(self) -> Iterator[NodeMark]:
        """All marks, in the order of their names; cheaper than one by one."""
        parts = [(mark[1:_INCIDENT], mark[_INCIDENT + 1 :]) for mark in self.distinct]
        places = zip(self.names, self.codes.tolist(), self.incident_codes.tolist(), strict=True)
        for name, code, number in places:
            head, tail = parts[code]
            yield NodeMark._make((name, *head, self.incident_ids[number], *tail))
        yield from self.gone.values()

    # -- by row ----------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """Name of each row."""
        return self.index.names

    def row_of(self, name: str) -> int | None:
        """Row of a declared node that has a mark."""
        return self.index.rows.get(name)

    def mark(self, row: int) -> NodeMark:
        """The mark of one row."""
        mark = self.shared(row)
        incident = self.incident_ids[self.incident_codes.item(row)]
        return NodeMark._make(
            (self.names[row], *mark[1:_INCIDENT], incident, *mark[_INCIDENT + 1 :])
        )

    def shared(self, row: int) -> NodeMark:
        """The mark of one row without what is its own."""
        return self.distinct[self.codes.item(row)]

    def marks(self, rows: IndexArray) -> Iterator[NodeMark]:
        """The marks of these rows, as they are when each is reached."""
        return map(self.mark, rows.tolist())

    def incident(self, row: int) -> str:
        """Id of the incident of one row."""
        return self.incident_ids[self.incident_codes.item(row)]

    def incidents(self, rows: IndexArray) -> dict[int, str]:
        """The different incidents of these rows: code and id."""
        import numpy as np

        return {
            code: self.incident_ids[code] for code in np.unique(self.incident_codes[rows]).tolist()
        }

    def rows_in(self, incident_codes: list[int], among: BoolArray) -> IndexArray:
        """Rows, among some, that have one of these incidents."""
        import numpy as np

        chosen = np.zeros(len(self.incident_ids), dtype=bool)
        chosen[np.array(incident_codes, dtype=np.intp)] = True
        return np.flatnonzero(among & chosen[self.incident_codes])

    def column(self, read: Callable[[NodeMark], Any]) -> npt.NDArray[Any]:
        """One value for each row, read once from each shared mark; must not read the incident."""
        import numpy as np

        return np.array([read(mark) for mark in self.distinct])[self.codes]

    def where(self, holds: Callable[[NodeMark], bool]) -> BoolArray:
        """Rows whose mark has a property; `holds` may ask whether there is an incident."""
        import numpy as np

        pairs = zip(self.distinct, self._with_incident(), strict=True)
        found = np.array([(holds(mark), holds(known)) for mark, known in pairs], dtype=bool)
        found = found.reshape(-1, 2)
        if not found.any():
            return np.zeros(len(self.at), dtype=bool)
        rows: BoolArray = found[self.codes, (self.incident_codes > 0).astype(np.intp)]
        return rows

    def _with_incident(self) -> list[NodeMark]:
        """The different marks as they are where there is an incident; only new ones are made."""
        self._known += [_shared(mark, _KNOWN) for mark in self.distinct[len(self._known) :]]
        return self._known

    def rows(self, holds: Callable[[NodeMark], bool]) -> IndexArray:
        """The same, as row numbers in order."""
        import numpy as np

        return np.flatnonzero(self.where(holds))

    def mapped(self, change: Callable[[NodeMark], NodeMark]) -> MarkTable:
        """All marks changed, each shared one once; `change` looks at no name and no incident."""
        shared = [change(mark) for mark in self.distinct]
        gone = {name: change(mark) for name, mark in self.gone.items()}
        incidents = (self.incident_ids, self.incident_codes)
        return MarkTable(self.index, (shared, self.codes), incidents, gone)


class _Values(ValuesView[NodeMark]):
    """All marks of a table."""

    _mapping: MarkTable

    def __iter__(self) -> Iterator[NodeMark]:
        return self._mapping.each()


class MarkDraft(MarkTable):
    """Marks that one tick changes: one by one, or all that are alike at once."""

    def __init__(
        self,
        index: NodeIndex,
        shared: tuple[list[NodeMark], IndexArray],
        incidents: tuple[list[str], IndexArray],
        gone: Mapping[str, NodeMark],
    ) -> None:
        """Take over the arrays; they are changed in place."""
        super().__init__(index, shared, incidents, gone)
        self._codes = {mark: code for code, mark in enumerate(self.distinct)}
        self._incident_codes = {one: code for code, one in enumerate(self.incident_ids)}

    @classmethod
    def plain(cls, index: NodeIndex, since_s: float) -> MarkDraft:
        """Fresh marks of these nodes."""
        import numpy as np

        codes, none = (np.zeros(len(index.at), dtype=np.intp) for _ in range(2))
        return cls(index, ([NodeMark("", since_s=since_s)], codes), ([""], none), {})

    @classmethod
    def continued(cls, table: MarkTable, at: IndexArray, since_s: float) -> MarkDraft:
        """The marks of a table, and fresh ones for other nodes; `at` holds all of the table's."""
        import numpy as np

        same = len(at) == len(table.at)
        draft = cls.plain(table.index if same else NodeIndex(table.index.node_ids, at), since_s)
        into = np.array([draft.code(mark) for mark in table.distinct], dtype=np.intp)
        named = np.array([draft.incident_code(one) for one in table.incident_ids], dtype=np.intp)
        rows = np.searchsorted(at, table.at)
        draft.codes[rows] = into[table.codes]
        draft.incident_codes[rows] = named[table.incident_codes]
        return draft

    def code(self, shared: NodeMark) -> int:
        """Code of a shared mark; a new one is added."""
        code = self._codes.setdefault(shared, len(self.distinct))
        if code == len(self.distinct):
            self.distinct.append(shared)
        return code

    def incident_code(self, incident: str) -> int:
        """Code of an incident's id; a new one is added."""
        code = self._incident_codes.setdefault(incident, len(self.incident_ids))
        if code == len(self.incident_ids):
            self.incident_ids.append(incident)
        return code

    def shared_code(self, mark: NodeMark) -> int:
        """Code of what other nodes may share of this mark."""
        return self.code(_shared(mark))

    def put(self, row: int, mark: NodeMark) -> None:
        """Give one row its mark."""
        self.codes[row] = self.code(_shared(mark))
        self.incident_codes[row] = self.incident_code(mark.incident)

    def __setitem__(self, name: str, mark: NodeMark) -> None:
        """Give one node, which has a mark already, another one."""
        row = self.row_of(name)
        assert row is not None, name
        self.put(row, mark)

    def apply(self, rows: IndexArray | list[int], change: Callable[[NodeMark], NodeMark]) -> None:
        """Change the marks of these rows; `change` looks at no name and no incident."""
        import numpy as np

        rows = np.asarray(rows, dtype=np.intp)
        if not len(rows):
            return
        codes, where = np.unique(self.codes[rows], return_inverse=True)
        after = [self.shared_code(change(self.distinct[code])) for code in codes.tolist()]
        self.codes[rows] = np.array(after, dtype=np.intp)[where]

    def name_incident(self, rows: IndexArray, incident: str) -> None:
        """Give these rows an incident."""
        self.incident_codes[rows] = self.incident_code(incident)

    def rows_of(self, names: Iterable[str]) -> IndexArray:
        """Rows of nodes that all have a mark."""
        import numpy as np

        found = [row for name in names if (row := self.row_of(name)) is not None]
        return np.array(found, dtype=np.intp)

    def kept(self, rows: BoolArray, gone: Mapping[str, NodeMark]) -> MarkTable:
        """A table of these rows, without what no row needs any more."""
        shared, codes = _compact(self.distinct, self.codes[rows])
        # The empty id is always the first: a code of 0 means that there is no incident.
        incidents, incident_codes = _compact(self.incident_ids, self.incident_codes[rows], keep=1)
        whole = bool(rows.all())
        index = self.index if whole else NodeIndex(self.index.node_ids, self.at[rows])
        return MarkTable(index, (shared, codes), (incidents, incident_codes), gone)


def _compact(entries: list[Any], codes: IndexArray, keep: int = 0) -> tuple[list[Any], IndexArray]:
    """Only the entries that a code points to (and the first `keep`), and the codes to them."""
    import numpy as np

    used = np.bincount(codes, minlength=len(entries)) > 0
    used[:keep] = True
    moved = np.cumsum(used) - 1
    return [entry for entry, one in zip(entries, used.tolist(), strict=True) if one], moved[codes]
