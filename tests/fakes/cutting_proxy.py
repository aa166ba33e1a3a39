"""A unix socket in front of another one that loses requests and answers, as a bad network would."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread


class CuttingProxy:
    """Passes each message on, or cuts the connection before or after the target has it."""

    def __init__(self, path: Path, target: Path, seed: int, cut_rate: float) -> None:
        """Cut this share of messages, half of them requests, half answers."""
        self.path = path
        self._target = target
        self._random = random.Random(seed)
        self._lock = Lock()
        self.cut_rate = cut_rate
        self.cuts = {"request": 0, "answer": 0}
        self._threads: list[Thread] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._accepting = Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        """End all connections and threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            thread = Thread(target=self._serve, args=(near,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far:
            with self._lock:
                self._open |= {near, far}
            try:
                far.connect(str(self._target))
                while (request := near.recv(1 << 20)) and not self._cuts("request"):
                    far.sendall(request)
                    answer = _read_answer(far)
                    if self._cuts("answer"):
                        break
                    near.sendall(answer)
            except OSError:
                return
            finally:
                with self._lock:
                    self._open -= {near, far}

    def _cuts(self, what: str) -> bool:
        with self._lock:
            cut = self._random.random() < self.cut_rate
            self.cuts[what] += cut
            return cut


def _read_answer(far: socket.socket) -> bytes:
    """One whole answer; a server may send head and body apart."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        size = re.search(rb"content-length: (\d+)", head.lower())
        if end and len(body) >= int(size[1] if size else 0):
            return received
        chunk = far.recv(1 << 20)
        if not chunk:
            return received
        received += chunk


@contextmanager
def cutting(path: Path, target: Path, seed: int, cut_rate: float) -> Iterator[CuttingProxy]:
    """A proxy that is always ended. Requests must be small: one read is one request."""
    proxy = CuttingProxy(path, target, seed, cut_rate)
    try:
        yield proxy
    finally:
        proxy.close()
        path.unlink()
