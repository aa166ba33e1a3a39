"""The right of a node to run its agents: taken, renewed with each report, given up in time.

Times (docs/formats/node.md): a renewal counts from the moment it was *sent*. Without another one,
agents are asked to stop after 3/5 of the ttl and the zygote kills what is left after 4/5
(`fleet.leases.fence_times`), so that none works when the store lets another boot take over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fleet.errors import LeaseLostError, TransientError
from fleet.leases import Lease, fence_times, node_lease_name
from fleet.ports.control_store import ControlStore
from fleet.reports import NodeReport
from resources.local.linux_processes import boottime_s
from resources.local.zygote_client import ZygoteClient


class NodeLease:
    """One node's lease, driven by `beat`; lives on the event loop, stores from a thread."""

    def __init__(
        self,
        zygote: ZygoteClient,
        *,
        node_id: str,
        boot_id: str,
        ttl_s: float,
        on_held: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """Hold nothing yet.

        Args:
            zygote: gets the dead man's switch.
            node_id: the node.
            boot_id: holder of the lease.
            ttl_s: of the lease, seconds.
            on_held: called when the lease was won or won back: agents may start.
            on_lost: called with the reason when agents must stop.
        """
        self._zygote = zygote
        self._name = node_lease_name(node_id)
        self._boot_id = boot_id
        self._ttl_s = ttl_s
        self._times = fence_times(ttl_s)
        self._on_held = on_held
        self._on_lost = on_lost
        self._lease: Lease | None = None
        self._sent_s: float | None = None
        self._trusted = False
        self._timer: asyncio.TimerHandle | None = None
        # A thread of its own: nothing else that waits for a disk can make a heartbeat late, and
        # what is stored keeps its order.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="heartbeat")
        self.reason = "not taken yet"
        """Why it is not held; empty while it is."""

    @property
    def held(self) -> bool:
        """Whether agents may run now."""
        return self._trusted

    @property
    def term(self) -> int:
        """Term of the last lease; 0 before the first."""
        return 0 if self._lease is None else self._lease.term

    def remaining_s(self) -> float:
        """Seconds until the lease has run out, counted from the sending; 0 when it has."""
        if self._sent_s is None:
            return 0.0
        return max(0.0, self._sent_s + self._ttl_s - boottime_s())

    async def beat(self, store: ControlStore, report: NodeReport) -> None:
        """Take or renew the lease together with a report.

        Raises:
            TransientError: the store did not answer; the lease runs on for now.
            LeaseLostError: another boot holds it; agents have been told to stop.
        """
        sent_s = boottime_s()
        try:
            lease = await self._in_thread(self._store_report, store, report)
        except LeaseLostError as error:
            self._lease = None
            self._lose(str(error))
            raise
        except TransientError as error:
            self.reason = "" if self._trusted else str(error)
            raise
        self._lease = lease
        self._extend(sent_s)

    def _store_report(self, store: ControlStore, report: NodeReport) -> Lease:
        lease = self._lease
        if lease is None:
            lease = store.acquire_lease(self._name, self._boot_id, self._ttl_s)
        return store.report_node(report, lease)

    async def give_up(self, store: ControlStore) -> None:
        """Release the lease, so that the next boot need not wait for its end."""
        lease, self._lease = self._lease, None
        self._lose("the node has stopped")
        if lease is not None:
            await self._in_thread(store.release_lease, lease)

    async def _in_thread(self, call: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    def close(self) -> None:
        """End the thread; waits for the call under way."""
        self._thread.shutdown()

    def rearm(self) -> None:
        """Tell a new zygote of the deadline."""
        if self._sent_s is not None:
            self._zygote.extend_deadline(self._sent_s + self._times.kill_after_s)

    def _extend(self, sent_s: float) -> None:
        """Count a renewal; one whose answer came too late is as good as none."""
        self._sent_s = sent_s
        stop_in_s = sent_s + self._times.stop_after_s - boottime_s()
        if stop_in_s <= 0:
            self._lose(f"the renewal took {boottime_s() - sent_s:.1f} s")
            return
        self._zygote.extend_deadline(sent_s + self._times.kill_after_s)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(stop_in_s, self.expire)
        if not self._trusted:
            self._trusted, self.reason = True, ""
            self._on_held()

    def expire(self) -> None:
        """Hold the lease no longer, because it was not renewed in time."""
        stop_s = self._times.stop_after_s
        self._lose(f"not renewed for {stop_s:g} s of the {self._ttl_s:g} s that it lasts")

    def _lose(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.reason = reason
        if self._trusted:
            self._trusted = False
            self._on_lost(reason)
