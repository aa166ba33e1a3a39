"""Orders for faults, left as files for the process that runs a simulated fleet, with its answers.

`<state_dir>/run/faults/<id>.order.json` is written whole by `stateroom chaos`; the simulator
removes it when it has obeyed, after writing `<id>.answer.json`, which the command reads and
removes. An order that nobody takes in time is withdrawn by its author.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fleet.errors import NodeUnavailableError, PermanentError, StateroomError
from fleet.ports.cluster import FaultInjector

POLL_S = 0.05


class FaultOrder(NamedTuple):
    """One call of a `FaultInjector`."""

    kind: str
    """`kill_node`, `pause_node`, `slow_node` or `start_node`."""
    node_id: str
    delay_s: float = 0.0
    duration_s: float = 0.0


class FaultOrders:
    """The folder of orders of one state folder."""

    def __init__(self, state_dir: Path) -> None:
        """Name the folder; it is created with the first order."""
        self._folder = state_dir / "run" / "faults"

    def send(self, orders: Sequence[FaultOrder], timeout_s: float = 30.0) -> list[str]:
        """Leave all orders at once and wait until each is answered.

        Returns:
            What was done, in words, in the order of `orders`.

        Raises:
            NodeUnavailableError: nobody has taken an order in time; those left are withdrawn.
            PermanentError: one was refused, with the reason; the others were carried out.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        batch = uuid.uuid4().hex
        names = [f"{batch}-{index:05}" for index in range(len(orders))]
        for name, order in zip(names, orders, strict=True):
            _write(self._folder / f"{name}.order.json", order._asdict())
        answers = [self._folder / f"{name}.answer.json" for name in names]
        end_s = time.monotonic() + timeout_s
        while not all(answer.exists() for answer in answers):
            if time.monotonic() > end_s:
                self._withdraw(names)
                raise NodeUnavailableError(
                    f"the simulator has not taken the order within {timeout_s:g} s",
                    hint="Is the fleet running? `stateroom status`",
                )
            time.sleep(POLL_S)
        found = [json.loads(answer.read_text(encoding="utf-8")) for answer in answers]
        self._withdraw(names)
        for answer in found:
            if answer["error"]:
                raise PermanentError(answer["error"], hint=answer["hint"])
        return [str(answer["done"]) for answer in found]

    def _withdraw(self, names: Sequence[str]) -> None:
        for name in names:
            for kind in ("order", "answer"):
                with suppress(FileNotFoundError):
                    (self._folder / f"{name}.{kind}.json").unlink()

    def obey(self, injector: FaultInjector) -> int:
        """Carry out every order that waits, each batch in order; returns how many."""
        orders = sorted(self._folder.glob("*.order.json"))
        for path in orders:
            answer: dict[str, str] = {"done": "", "error": "", "hint": ""}
            try:
                order = FaultOrder(**json.loads(path.read_text(encoding="utf-8")))
                answer["done"] = carry_out(injector, order)
            except StateroomError as error:
                answer |= {"error": str(error), "hint": error.hint}
            _write(path.with_name(path.name.replace(".order.", ".answer.")), answer)
            with suppress(FileNotFoundError):
                path.unlink()
        return len(orders)


def carry_out(injector: FaultInjector, order: FaultOrder) -> str:
    """Call the injector as the order says; returns its words."""
    calls: dict[str, Callable[[], str]] = {
        "kill_node": lambda: injector.kill_node(order.node_id),
        "pause_node": lambda: injector.pause_node(order.node_id, order.duration_s),
        "slow_node": lambda: injector.slow_node(order.node_id, order.delay_s, order.duration_s),
        "start_node": lambda: injector.start_node(order.node_id),
    }
    return calls[order.kind]()


def _write(path: Path, value: dict[str, object] | dict[str, str]) -> None:
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(path)
