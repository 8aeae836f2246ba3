"""The reconciler of the operator, made from what the process has."""

from __future__ import annotations

import time

from sglang_operator.app.runtime import Surroundings
from sglang_operator.cluster.capacity import Nodes
from sglang_operator.cluster.probe import Prober
from sglang_operator.cluster.reconcile import Reconciler
from sglang_operator.cluster.workers import Reconcile


def make_reconcile(given: Surroundings) -> Reconcile:
    """`Reconciler.reconcile` with its client of pods, which ends with the process."""
    prober = Prober()
    given.stack.push_async_callback(prober.close)
    nodes = Nodes(given.api) if given.reads_nodes else None
    reconciler = Reconciler(given.api, prober, time.time, given.platform, given.defaults, given.report, nodes)
    return reconciler.reconcile
