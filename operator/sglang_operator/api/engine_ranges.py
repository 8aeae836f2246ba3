"""Ranges of well-known engine arguments, which SGLang's own table does not have.

What SGLang 0.5.23 ends at when it starts is refused; what it takes, and nobody means, is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sglang_operator.api.errors import FieldError

_LEAST_PERCENT: Final = 2  # 1.5 is no percentage that anybody means
_PERCENT: Final = 100


@dataclass(frozen=True)
class _Range:
    """The numbers that make sense for an argument."""

    least: float = 1
    most: float = float("inf")
    above: bool = False  # `least` itself is outside

    def holds(self, value: float) -> bool:
        return value <= self.most and (value > self.least if self.above else value >= self.least)

    def __str__(self) -> str:
        least = f"above {self.least}" if self.above else f"at least {self.least}"
        return least if self.most == float("inf") else f"{least} and at most {self.most}"


_POSITIVE: Final = _Range()
_ABOVE_ZERO: Final = _Range(0, above=True)
_NOT_NEGATIVE: Final = _Range(0)

# Its own checks and what follows from its arithmetic before it answers.
REFUSED: Final[Mapping[str, _Range]] = {
    "context_length": _Range(2),  # managers/tp_worker.py asserts one token beside the first
    "detokenizer_worker_num": _POSITIVE,  # arg_groups/validation_hook.py, as of those without a source below
    "max_loras_per_batch": _POSITIVE,  # arg_groups/lora_hook.py
    "max_total_tokens": _POSITIVE,  # managers/tp_worker.py asserts a running request
    "mem_fraction_static": _ABOVE_ZERO,  # mem_cache/kv_cache_configurator.py
    "mm_io_worker_num": _NOT_NEGATIVE,
    "mm_processor_worker_num": _NOT_NEGATIVE,
    "page_size": _POSITIVE,  # divides chunked_prefill_size
    "pp_max_micro_batch_size": _POSITIVE,
    "random_seed": _Range(0, 2**32 - 1),  # utils/common.py: numpy's
    "schedule_conservativeness": _NOT_NEGATIVE,
    "swa_full_tokens_ratio": _Range(0, 1, above=True),
}
DOUBTFUL: Final[Mapping[str, _Range]] = {
    "cpu_offload_gb": _NOT_NEGATIVE,
    "cuda_graph_max_bs_decode": _POSITIVE,
    "cuda_graph_max_bs_prefill": _POSITIVE,
    "decode_log_interval": _POSITIVE,
    "dist_timeout": _POSITIVE,
    "hicache_ratio": _ABOVE_ZERO,
    "hicache_size": _NOT_NEGATIVE,
    "max_lora_rank": _POSITIVE,
    "max_prefill_tokens": _POSITIVE,
    "max_queued_requests": _POSITIVE,  # 0 refuses every request
    "max_running_requests": _POSITIVE,
    "mem_fraction_static": _Range(0, 1, above=True),  # with max_total_tokens it starts all the same
    "num_continuous_decode_steps": _POSITIVE,
    "speculative_eagle_topk": _POSITIVE,
    "speculative_num_draft_tokens": _POSITIVE,
    "speculative_num_steps": _POSITIVE,
    "stream_interval": _POSITIVE,
    "watchdog_timeout": _ABOVE_ZERO,
}


def refused(name: str, value: Any) -> tuple[str, str] | None:
    """Message and remedy for a number that SGLang ends at."""
    return None if _holds(REFUSED.get(name), value) else _said(name, value, REFUSED[name])


def doubtful(args: Mapping[str, Any]) -> Iterator[FieldError]:
    """A warning for each number that SGLang takes and that nobody means."""
    for name, value in args.items():
        if not _holds(DOUBTFUL.get(name), value) and _holds(REFUSED.get(name), value):
            yield FieldError(f"spec.engine.args.{name}", value, *_said(name, value, DOUBTFUL[name]))


def _holds(known: _Range | None, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return known is None or not is_number or known.holds(value)


def _said(name: str, value: float, known: _Range) -> tuple[str, str]:
    if name == "mem_fraction_static":
        is_percent = _LEAST_PERCENT <= value <= _PERCENT
        remedy = f"write {value / _PERCENT:g}" if is_percent else "leave it out: SGLang computes one"
        return "is a fraction of the accelerator's memory, above 0 and at most 1", remedy
    return f"must be {known}", "leave it out for SGLang's default, or correct it"
