"""What discovery costs for 1,000 endpoints, next to the bare database, socket, file and reload.

    python benchmarks/traffic.py [--quick]

Prints medians of several rounds, and the ratio to the raw limit measured in the same round.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "sdk")]

from fleet.routes import RouteTable, plan_routes  # noqa: E402
from fleet.service_health import RenewalAges, ServicePolicy, plan_view  # noqa: E402
from fleet.service_weights import least_connections_weights  # noqa: E402
from fleet.services import Endpoint, Registration, Removal, Renewal  # noqa: E402

COUNT = 1000


def endpoints(epoch: int = 1) -> list[Endpoint]:
    """A service of 1,000 endpoints."""
    return [
        Endpoint("web", f"agent-{number:05d}", "n", "eu", f"127.1.{number % 200}.1", 8000, epoch)
        for number in range(COUNT)
    ]


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    began_s = time.perf_counter()
    action()
    return time.perf_counter() - began_s


def show(name: str, ours_s: list[float], raw_s: list[float], raw: str) -> None:
    """One line: medians and their ratio."""
    ours, base = statistics.median(ours_s), statistics.median(raw_s)
    print(
        f"{name:<44} {ours * 1e3:8.1f} ms   {raw:<34} {base * 1e3:8.1f} ms   x{ours / base:.1f}",
        flush=True,
    )


def decide(rounds: int) -> None:
    """View, weights and table of 1,000 endpoints, next to sorting their names."""
    entries = [Registration(endpoint, 3, number % 9) for number, endpoint in enumerate(endpoints())]
    policy, ages = ServicePolicy(), RenewalAges(ServicePolicy())

    def plan() -> RouteTable:
        ages.see(entries, 1.0)
        silent_s = {
            entry.endpoint.agent_id: ages.silent_s(entry.endpoint.key, 1.0) for entry in entries
        }
        view = plan_view("web", 1, entries, silent_s, policy, trusted=True)
        return plan_routes(view, 1, least_connections_weights(view.served))

    ours = [seconds(plan) for _ in range(rounds)]
    raw = [
        seconds(lambda: sorted(entry.endpoint.agent_id for entry in entries)) for _ in range(rounds)
    ]
    show("decide: view, weights, table", ours, raw, "sort the names")


def registry(folder: Path, rounds: int) -> None:
    """Register, renew, read and remove in the control store, next to bare SQLite."""
    from resources.clock import SystemClock
    from resources.control_store.opening import open_control_store

    store = open_control_store(f"sqlite:///{folder}/control.db", clock=SystemClock())
    raw = sqlite3.connect(folder / "raw.db", isolation_level=None)
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("CREATE TABLE e (k TEXT PRIMARY KEY, a, b, c, d, f, g, h, i)")
    names = ("register", "renew", "read", "remove as moved")
    ours: dict[str, list[float]] = {name: [] for name in names}
    bare: list[float] = []
    bare_read: list[float] = []

    def insert(batch: list[Endpoint]) -> None:
        raw.execute("BEGIN IMMEDIATE")
        rows = [(endpoint.key, *endpoint[1:]) for endpoint in batch]
        raw.executemany("INSERT OR REPLACE INTO e VALUES (?,?,?,?,?,?,?,?,?)", rows)
        raw.execute("COMMIT")

    try:
        for number in range(rounds):
            batch = endpoints(2 * number + 1)
            renewals = [Renewal("web", one.agent_id, one.epoch, 4) for one in batch]
            removals = [Removal("web", one.agent_id, one.epoch, "r", moved=True) for one in batch]
            ours["register"].append(seconds(lambda b=batch: store.register_endpoints(b)))
            bare.append(seconds(lambda b=batch: insert(b)))
            ours["renew"].append(seconds(lambda r=renewals: store.renew_endpoints(r)))
            ours["read"].append(seconds(lambda: store.read_services(["web"])))
            bare_read.append(seconds(lambda: raw.execute("SELECT * FROM e").fetchall()))
            ours["remove as moved"].append(seconds(lambda r=removals: store.remove_endpoints(r)))
    finally:
        store.close()
        raw.close()
    for name in names:
        is_read = name == "read"
        base = (
            (bare_read, "bare SELECT") if is_read else (bare, "bare INSERT OR REPLACE, one commit")
        )
        show(f"registry (SQLite): {name}", ours[name], *base)


def table(revision: int, epoch: int = 1) -> RouteTable:
    """A table of 1,000 backends."""
    policy = ServicePolicy()
    entries = [Registration(endpoint) for endpoint in endpoints(epoch)]
    view = plan_view("web", revision, entries, {}, policy, trusted=True)
    return plan_routes(view, 1, {})


def embedded(folder: Path, rounds: int) -> None:
    """The embedded table, next to writing and syncing its bytes."""
    from resources.traffic.embedded import EmbeddedRouter

    router, ours, raw = EmbeddedRouter(folder / "routes"), [], []
    for number in range(rounds):
        wanted = table(number, number + 1)
        ours.append(seconds(lambda w=wanted: router.apply_routes([w])))
        data = (folder / "routes" / "web.json").read_bytes()

        def write(data: bytes = data) -> None:
            with (folder / "raw").open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

        raw.append(seconds(write))
    show("embedded table: replace", ours, raw, "write and fsync its bytes")


def haproxy(rounds: int) -> None:
    """1,000 servers into a running HAProxy, next to the same bytes over its bare socket."""
    from resources.traffic.haproxy import HaproxyRouter
    from resources.traffic.haproxy_client import HaproxyClient
    from tests.servers.balancers import running_haproxy

    first, same, moved, raw = [], [], [], []
    for _ in range(rounds):
        with running_haproxy(["web", "raw"]) as balancer:
            path = str(balancer.folder / "admin.sock")
            router = HaproxyRouter(HaproxyClient(path, timeout_s=30))
            first.append(seconds(lambda r=router: r.apply_routes([table(1)])))
            same.append(seconds(lambda r=router: r.apply_routes([table(2)])))
            moved.append(seconds(lambda r=router: r.apply_routes([table(3, 2)])))
            raw.append(seconds(lambda p=path: _bare_haproxy(p)))
    show("HAProxy: add 1,000 servers", first, raw, "the same commands, answers unread")
    show("HAProxy: nothing has changed", same, raw, "(same)")
    show("HAProxy: move all 1,000", moved, raw, "(same)")


def _bare_haproxy(path: str) -> None:
    commands = b"".join(
        b"add server raw/s%d 127.1.%d.1:8000 weight 1\nenable server raw/s%d\n" % (n, n % 200, n)
        for n in range(COUNT)
    )
    with socket.socket(socket.AF_UNIX) as bare:
        bare.connect(path)
        bare.sendall(b"prompt\n" + commands + b"quit\n")
        while bare.recv(1 << 20):
            pass


def nginx(rounds: int) -> None:
    """1,000 backends into a running nginx, next to a bare reload seen by a new worker."""
    import psutil

    from resources.traffic.nginx import NginxRouter
    from tests.servers.balancers import running_nginx

    ours, raw = [], []
    with running_nginx() as balancer:
        folder = balancer.folder
        router = NginxRouter(
            folder / "upstreams", config=folder / "nginx.conf", pid_file=folder / "nginx.pid"
        )

        def reload() -> None:
            master = psutil.Process(balancer.process.pid)
            old = {child.pid for child in master.children()}
            os.kill(master.pid, signal.SIGHUP)
            while {child.pid for child in master.children()} <= old:
                time.sleep(0.001)

        for number in range(rounds):
            wanted = table(number + 1, number + 1)._replace(
                backends=tuple(
                    one._replace(port=8000 + number % 2) for one in table(number + 1).backends
                )
            )
            ours.append(seconds(lambda w=wanted: router.apply_routes([w])))
            raw.append(seconds(reload))
    show("nginx: write, test, reload, taken over", ours, raw, "bare reload until a new worker is")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 9
    import shutil

    with tempfile.TemporaryDirectory() as folder:
        decide(rounds * 5)
        registry(Path(folder), rounds)
        embedded(Path(folder), rounds)
    for name, measure in (("haproxy", haproxy), ("nginx", nginx)):
        if shutil.which(name) is None:
            print(f"{name}: not on this machine")
        else:
            measure(rounds)


if __name__ == "__main__":
    main()
