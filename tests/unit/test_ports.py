"""Ports of replicas on one machine."""

from __future__ import annotations

from sglang_serve.ports import STEP, claim_port


def test_replicas_of_a_machine_get_blocks_that_do_not_overlap() -> None:
    with claim_port() as first, claim_port() as second:
        ports = [claim.getsockname()[1] for claim in (first, second)]
    assert abs(ports[0] - ports[1]) >= STEP
    assert all(port + 239 < 22_000 for port in ports)  # NCCL's range begins there, Serve's replicas have 30000-31000
