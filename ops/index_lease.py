"""One builder for each network's index: it holds a lease, and what it writes carries its term."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fleet.errors import LeaseLostError
from fleet.ports.control_store import LeaseStore
from fleet.vectors.standing import lease_name
from resources.leader_lease import LeaderLease

LEASE_TTL_S = 30.0
"""Longest time that a network's index is not built after its builder was killed."""
LEASE_RENEW_S = 10.0
WAIT_S = 60.0
"""A run waits so long for another builder of its network: twice as long as a dead one is waited
for. Upkeep holds the lease for seconds; a run that failed for that would leave notes waiting."""
_POLL_S = 0.5


@contextmanager
def building(store: LeaseStore, network_id: str, wait_s: float = 0.0) -> Iterator[LeaderLease]:
    """The right to embed and build for a network, kept while the block runs, then given up.

    Call `demand_term` just before each act that must not be done without it.

    Args:
        store: judges who builds.
        network_id: the network.
        wait_s: how long another builder is waited for.

    Raises:
        LeaseLostError: another builder is at it; the message names it.
        StoreUnavailableError: nobody can be asked.
    """
    identity = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    lease = LeaderLease(
        store, identity, ttl_s=LEASE_TTL_S, renew_s=LEASE_RENEW_S, name=lease_name(network_id)
    )
    until_s = time.monotonic() + wait_s
    standing = lease.campaign()
    while not standing.held and time.monotonic() < until_s:
        time.sleep(_POLL_S)
        standing = lease.campaign()
    if not standing.held:
        raise LeaseLostError(
            f"index of {network_id} is being built by {standing.holder or 'another builder'}",
            hint=f"Wait for it; its lease ends {LEASE_TTL_S:g} s after its last sign of life.",
        )
    with lease.kept():
        yield lease
