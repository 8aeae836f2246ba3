"""The rollout: facts of one pass and the wish go in, a plan comes out. Pure: no clock, no I/O, no Kubernetes client."""

from sglang_operator.lifecycle.decide import decide
from sglang_operator.lifecycle.observed import Observed
from sglang_operator.lifecycle.plan import Action, Plan
from sglang_operator.lifecycle.wanted import UpgradePolicy, Wanted, wanted_of

__all__ = ["Action", "Observed", "Plan", "UpgradePolicy", "Wanted", "decide", "wanted_of"]
