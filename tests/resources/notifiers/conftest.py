"""A web hook on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.http_receiver import HttpReceiver, receiving


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    """Remembers what is posted to it."""
    with receiving() as started:
        yield started
