"""Consul for the tests: the real agent where it is installed, else a double of its HTTP API.

The double was written from Consul's API documentation (developer.hashicorp.com/consul/api-docs:
txn, kv, catalog, health) and from the order of events in its state store: operations of a
transaction are all tried, the first error does not hide the others, any error rolls back all; a KV
`cas` with index 0 creates; the catalog wants the node first; 64 operations at most.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

OPERATIONS_MAX = 64


class ConsulDouble:
    """The state behind the double, and the faults a test can order."""

    def __init__(self) -> None:
        """Start empty; index 1 is what a fresh server has."""
        self.lock = threading.RLock()
        self.index = 1
        self.kv: dict[str, dict[str, Any]] = {}
        self.nodes: dict[str, dict[str, Any]] = {}
        self.instances: dict[tuple[str, str], dict[str, Any]] = {}
        self.token = ""
        self.leaderless = False
        self.answer_lost = False
        """The next transaction is applied, and its connection is closed without an answer."""
        self.requests: list[str] = []
        self.before_txn: Callable[[], None] | None = None
        """Called once before the next transaction: somebody else was faster."""

    def answer(self, method: str, target: str, token: str, body: bytes) -> tuple[int, Any]:
        """Status and answer of a request."""
        url = urlsplit(target)
        path, query = unquote(url.path), parse_qs(url.query, keep_blank_values=True)
        if token != self.token:
            return 403, "Permission denied"
        if self.leaderless:
            return 500, "No cluster leader"
        if path == "/v1/txn" and method == "PUT":
            hook, self.before_txn = self.before_txn, None
            if hook is not None:
                hook()
            return self.transact(json.loads(body))
        if path.startswith("/v1/kv/") and method == "GET":
            return self.read_kv(path.removeprefix("/v1/kv/"), query)
        if path.startswith("/v1/catalog/service/"):
            return 200, self.catalog(path.rpartition("/")[2])
        return 404, ""

    def transact(self, operations: list[dict[str, Any]]) -> tuple[int, Any]:
        """Apply operations together or not at all."""
        if len(operations) > OPERATIONS_MAX:
            return 413, (
                f"Transaction contains too many operations ({len(operations)} > {OPERATIONS_MAX})"
            )
        with self.lock:
            saved = copy.deepcopy((self.index, self.kv, self.nodes, self.instances))
            self.index += 1
            results: list[dict[str, Any]] = []
            errors = []
            for number, operation in enumerate(operations):
                try:
                    results += self._operate(operation)
                except ValueError as error:
                    errors.append({"OpIndex": number, "What": str(error)})
            if errors:
                self.index, self.kv, self.nodes, self.instances = saved
                return 409, {"Results": None, "Errors": errors}
            return 200, {"Results": results, "Errors": None}

    def _operate(self, operation: dict[str, Any]) -> list[dict[str, Any]]:
        ((kind, fields),) = operation.items()
        if kind == "KV":
            return self._operate_kv(fields)
        if kind == "Node" and fields["Verb"] == "set":
            self.nodes[fields["Node"]["Node"]] = fields["Node"]
            return [{"Node": fields["Node"]}]
        if kind == "Service":
            return self._operate_service(fields["Verb"], fields["Node"], fields["Service"])
        raise ValueError(f"unknown operation {operation}")

    def _operate_kv(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        verb, key = fields["Verb"], fields["Key"]
        known = self.kv.get(key)
        if verb not in {"set", "cas"}:
            raise ValueError(f'unknown KV verb "{verb}"')
        if verb == "cas" and fields.get("Index", 0) != (known["ModifyIndex"] if known else 0):
            raise ValueError(f'failed to set key "{key}", index is stale')
        base64.b64decode(fields["Value"], validate=True)
        self.kv[key] = {
            "LockIndex": 0,
            "Key": key,
            "Flags": fields.get("Flags", 0),
            "Value": fields["Value"],
            "CreateIndex": known["CreateIndex"] if known else self.index,
            "ModifyIndex": self.index,
        }
        return [{"KV": self.kv[key] | {"Value": None}}]

    def _operate_service(
        self, verb: str, node: str, service: dict[str, Any]
    ) -> list[dict[str, Any]]:
        place = (node, service["ID"])
        if verb == "delete":
            self.instances.pop(place, None)
            return []
        if verb != "set":
            raise ValueError(f'unknown Service verb "{verb}"')
        if node not in self.nodes:
            raise ValueError("Missing node registration")
        self.instances[place] = service
        return [{"Service": service}]

    def read_kv(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        """Keys or pairs below a prefix, or one pair."""
        with self.lock:
            if "keys" in query:
                return self._keys(path, query.get("separator", [""])[0])
            wanted = [key for key in sorted(self.kv) if key.startswith(path)]
            if "recurse" not in query:
                wanted = [path] if path in self.kv else []
            return (200, [self.kv[key] for key in wanted]) if wanted else (404, "")

    def _keys(self, prefix: str, separator: str) -> tuple[int, Any]:
        rests = {key: key[len(prefix) :] for key in self.kv if key.startswith(prefix)}
        found = {
            prefix + "".join(rest.partition(separator)[:2]) if separator else key
            for key, rest in rests.items()
        }
        return (200, sorted(found)) if found else (404, "")

    def catalog(self, service: str) -> list[dict[str, Any]]:
        """Instances of a service, as `/v1/catalog/service/` gives them."""
        with self.lock:
            return [
                {
                    "Node": node,
                    "ServiceID": instance["ID"],
                    "ServiceName": instance["Service"],
                    "ServiceAddress": instance["Address"],
                    "ServicePort": instance["Port"],
                    "ServiceWeights": instance["Weights"],
                    "ServiceMeta": instance["Meta"],
                }
                for (node, _), instance in sorted(self.instances.items())
                if instance["Service"] == service
            ]


def _handler(double: ConsulDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

        def do_GET(self) -> None:
            self._serve(b"")

        def do_PUT(self) -> None:
            self._serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _serve(self, body: bytes) -> None:
            double.requests.append(f"{self.command} {self.path}")
            status, answer = self._answer(body)
            if self.path == "/v1/txn" and double.answer_lost:
                double.answer_lost = False
                self.close_connection = True
                return
            payload = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("X-Consul-Index", str(double.index))
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def _answer(self, body: bytes) -> tuple[int, Any]:
            token = self.headers.get("X-Consul-Token", "")
            return double.answer(self.command, self.path, token, body)

    return Handler


@contextlib.contextmanager
def consul_double() -> Iterator[tuple[str, ConsulDouble]]:
    """A double on a free port; it is always ended."""
    double = ConsulDouble()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(double))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def consul_binary() -> str | None:
    """The real Consul on PATH, if there is one."""
    return shutil.which("consul")


@contextlib.contextmanager
def real_consul(folder: Path) -> Iterator[str]:
    """A development agent with a leader; it is always ended.

    Raises:
        RuntimeError: it did not become ready.
    """
    binary = consul_binary()
    assert binary is not None
    ports = [_free_port() for _ in range(5)]
    flags = ["-http-port", "-serf-lan-port", "-serf-wan-port", "-server-port", "-grpc-port"]
    given = [f"{flag}={port}" for flag, port in zip(flags, ports, strict=True)]
    command = [binary, "agent", "-dev", "-bind=127.0.0.1", "-dns-port=-1", *given]
    with (folder / "consul.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{ports[0]}"
    try:
        _wait_for_leader(url, process)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_leader(url: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"{url}/v1/status/leader", timeout=2) as answer,
        ):
            if json.loads(answer.read()):
                return
        time.sleep(0.1)
    raise RuntimeError("Consul did not become ready")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
