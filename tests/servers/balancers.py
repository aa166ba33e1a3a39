"""Real balancers on loopback, and the little servers behind them; every one is always ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

_START_S = 30.0


@dataclass
class Balancer:
    """A running balancer: requests name their service in the header `X-Service`."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    def ask(self, service: str) -> str:
        """What the backend of a service answers; its status when nobody does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/", headers={"X-Service": service})
            answer = connection.getresponse()
            body = answer.read().decode()
            return body if answer.status == 200 else str(answer.status)
        finally:
            connection.close()

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


HAPROXY_FILE = """
global
  stats socket {folder}/admin.sock mode 600 level admin
  maxconn 500
defaults
  mode http
  timeout connect 2s
  timeout client 20s
  timeout server 20s
frontend front
  bind 127.0.0.1:{port}
  use_backend %[req.hdr(X-Service)]
backend static-algorithm
  balance source
"""

NGINX_FILE = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/t1;
  proxy_temp_path {folder}/t2;
  fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4;
  scgi_temp_path {folder}/t5;
  include {folder}/upstreams/*.conf;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://$http_x_service; }}
  }}
}}
"""


@contextlib.contextmanager
def running_haproxy(services: Sequence[str]) -> Iterator[Balancer]:
    """A HAProxy with an empty backend for each service."""
    program = need("haproxy")
    with _folder() as folder:
        port = free_port()
        backends = "".join(f"backend {name}\n  balance leastconn\n" for name in services)
        config = folder / "haproxy.cfg"
        config.write_text(HAPROXY_FILE.format(folder=folder, port=port) + backends)
        command = [program, "-db", "-f", str(config)]
        with running(command, folder, port, folder / "admin.sock") as balancer:
            yield balancer


@contextlib.contextmanager
def running_nginx() -> Iterator[Balancer]:
    """An nginx that includes `upstreams/*.conf`."""
    program = need("nginx")
    with _folder() as folder:
        port = free_port()
        (folder / "upstreams").mkdir()
        config = folder / "nginx.conf"
        config.write_text(NGINX_FILE.format(folder=folder, port=port))
        command = [program, "-c", str(config)]
        with running(command, folder, port, folder / "nginx.pid") as balancer:
            yield balancer


@contextlib.contextmanager
def running(command: list[str], folder: Path, port: int, ready: Path) -> Iterator[Balancer]:
    """Start a balancer, wait until it listens, end it."""
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    balancer = Balancer(port, folder, process)
    try:
        ends_s = time.monotonic() + _START_S
        while not (ready.exists() and _listens(port)):
            if process.poll() is not None or time.monotonic() > ends_s:
                pytest.fail(f"{command[0]} did not start: {(folder / 'output').read_text()}")
            time.sleep(0.02)
        yield balancer
    finally:
        balancer.end()


def need(binary: str) -> str:
    """The path of a balancer's program; skips, with the reason, where it cannot be had."""
    found = shutil.which(binary, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"no {binary} on this machine (Debian: apt-get install {binary})")
    return found


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def answering(*names: str) -> Iterator[dict[str, int]]:
    """Little HTTP servers that answer their name; gives name to port."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(_server(name)) for name in names}


@contextlib.contextmanager
def _server(name: str) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

        def do_GET(self) -> None:
            self.send_response(503 if self.path == "/unwell" else 200)
            self.send_header("Content-Length", str(len(name)))
            self.end_headers()
            self.wfile.write(name.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A short path (sockets), open to nginx's unprivileged workers."""
    folder = Path(tempfile.mkdtemp(prefix="stateroom-lb-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
