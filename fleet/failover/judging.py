"""All looked-at nodes through one tick: those that are alike are judged once.

`node_states.judge_node` says what a node becomes; what it looks at are yes-or-no questions about
the evidence (`_answers`) and the mark. Nodes with the same answers and the same mark therefore
become the same, and only one of them is judged. What each change of state rests on (its values)
is written down when somebody reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from fleet.failover.late import Late
from fleet.failover.node_case import Orders
from fleet.failover.node_states import judge_node
from fleet.failover.records import NodeMark, Transition
from fleet.failover.rules import Rule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fleet.failover.columns import BoolArray
    from fleet.failover.mark_table import IndexArray, MarkDraft
    from fleet.failover.node_states import Judgement
    from fleet.failover.policy import FailoverPolicy
    from fleet.failover.screening import FactsTable


class OrderColumns(NamedTuple):
    """What people have said about each row."""

    forced: BoolArray
    """The node, or its region, is ordered away."""
    forced_node: BoolArray
    """The node itself is."""
    acknowledged: BoolArray


class Question(NamedTuple):
    """What is asked of all rows: facts, orders, and what they are held against."""

    facts: FactsTable
    orders: OrderColumns
    policy: FailoverPolicy
    now_s: float
    without: frozenset[Rule]

    def judge(self, row: int, mark: NodeMark) -> Judgement:
        """What one row becomes; its name and its own values are in the answer."""
        facts, orders = self.facts.row(row), self.orders
        mine = Orders(bool(orders.forced[row]), bool(orders.acknowledged[row]))
        mark = mark._replace(node_id=facts.node_id)
        return judge_node(facts, mark, self.policy, self.now_s, mine, self.without)


def judge_marks(question: Question, marks: MarkDraft) -> Late[Transition]:
    """Carry all marks through this tick; returns the changes of state, in the order of nodes."""
    import numpy as np

    key = marks.codes.astype(np.int64)
    for answer in _answers(question, marks.column(lambda mark: mark.suspect_s)):
        key = 2 * key + answer
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    before = [marks.shared(row) for row in first.tolist()]
    judged = [question.judge(row, mark) for row, mark in zip(first.tolist(), before, strict=True)]
    codes = [marks.shared_code(one.mark) for one in judged]
    marks.codes = np.array(codes, dtype=np.intp)[group]
    steps = np.array([len(one.transitions) for one in judged], dtype=np.intp)[group]
    rows = np.flatnonzero(steps)
    changed = group[rows]
    return Late(int(steps.sum()), lambda: _write(question, rows, before, changed))


def _write(
    question: Question, rows: IndexArray, before: list[NodeMark], group: IndexArray
) -> Iterator[Transition]:
    """Judge each node by itself, so that its own values are shown."""
    question.facts.read(rows)
    for row, number in zip(rows.tolist(), group.tolist(), strict=True):
        yield from question.judge(row, before[number]).transitions


def _answers(question: Question, suspect_s: npt.NDArray[np.float64]) -> list[BoolArray]:
    """Every question that `judge_node` asks of a row's evidence, answered for all rows.

    The tests hold this list against `judge_node` itself: a question that is missing here would
    let two nodes be judged alike that are not.
    """
    import numpy as np

    column, policy, now_s = question.facts.columns, question.policy, question.now_s
    sign_s = now_s - np.minimum(column["lease_age_s"], column["work_age_s"])
    confirm_s = 0.0 if Rule.CONFIRM_TIME in question.without else policy.confirm_s
    return [
        column["maintenance"],
        column["stop_acknowledged"],
        column["watched"],
        column["silent"],
        column["heard"],
        column["fresh"],
        column["dead_votes"],
        column["alive_votes"],
        column["terminated"],
        column["contradicted"],
        column["lease_lost"],
        column["agents"] > 0,
        column["agents"] == 0,
        column["agents_stale"] > 0,
        column["lease_silence_s"] >= column["lease_ttl_s"] + policy.fence_margin_s,
        column["silence_s"] - column["limit_s"] < confirm_s,
        sign_s > suspect_s,
        sign_s > now_s,  # of a node that is suspected in this very tick
        question.orders.forced,
        question.orders.acknowledged,
    ]
