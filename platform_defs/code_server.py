"""The code server's process: prepares the Dagster instance, then serves the definitions.

Both in one process, because importing Dagster is most of the cost of either, and because the tables
of a new instance must exist before a second process opens it (two at once leave SQLite's migration
table with two heads, and nothing starts).

Runs are forked from a process of its own that has the definitions imported (`warm_workers`).

    python -m platform_defs.code_server --socket code-server.sock --location-name stateroom
"""

from __future__ import annotations

import runpy
import signal
import sys
from types import FrameType

import dagster as dg

from platform_defs.bootstrap import apply_pool_limits, declared_pool_limits
from platform_defs.warm_workers import serve_warm
from resources.clock import end_pauses

MODULE = "platform_defs.definitions"


def end_pauses_when_interrupted() -> None:
    """Let the ticks that wait finish when this process is asked to end; main thread only.

    Dagster gives SIGTERM the handler that SIGINT has, and lets running ticks finish before it ends.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        end_pauses()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)


def main(arguments: list[str]) -> None:
    """Set up the instance of DAGSTER_HOME, then become `dagster api grpc`; does not return."""
    end_pauses_when_interrupted()
    with dg.DagsterInstance.get() as instance:
        apply_pool_limits(instance, declared_pool_limits())
    serve_warm()
    sys.argv = ["dagster", "api", "grpc", "--module-name", MODULE, *arguments]
    runpy.run_module("dagster", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
