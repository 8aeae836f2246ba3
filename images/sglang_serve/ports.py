"""The port that each replica's engine derives its others from."""

from __future__ import annotations

import socket

# Below NCCL's choice (22000-29999), Serve's replicas (30000-31000) and what the kernel gives out (from 32768).
FIRST, LAST = 15_000, 19_990
STEP = 10  # SGLang derives port + 233 to port + 239 for data-parallel attention: no two blocks overlap


RENDEZVOUS = 1
"""Offset of the port where ranks meet. Those of several nodes take up to seven above it: within the block."""


def claim_port() -> socket.socket:
    """A bound socket, which keeps its port from every other process of this network. Close it to give the port back.

    It does not listen: SGLang's own HTTP server does not run, nobody has to answer there.
    """
    for port in range(FIRST, LAST + 1, STEP):
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
        else:
            return claim
    raise OSError(f"no free port between {FIRST} and {LAST}")
