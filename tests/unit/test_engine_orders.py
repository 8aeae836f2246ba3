"""Orders over which an engine is silent, as SGLang's manager shows them; SGLang itself is not there."""

from __future__ import annotations

import asyncio
import importlib
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

SGLANG = (
    "sglang.srt.constants",
    "sglang.srt.entrypoints",
    "sglang.srt.entrypoints.engine",
    "sglang.srt.entrypoints.openai.serving_base",
    "sglang.srt.managers.detokenizer_manager",
    "sglang.srt.managers.io_struct",
    "sglang.srt.managers.scheduler",
    "sglang.srt.managers.tokenizer_manager",
    "sglang.srt.observability",
    "sglang.srt.utils.auth",
)


class Order:
    """SGLang's FanOutCommunicator, as far as it is looked at."""

    def __init__(self) -> None:
        self._result_event: asyncio.Event | None = None


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in SGLANG:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    monkeypatch.setitem(sys.modules, "sglang.srt.entrypoints.engine", SimpleNamespace(Engine=object))
    monkeypatch.delitem(sys.modules, "sglang_serve.sglang_private", raising=False)
    module = importlib.import_module("sglang_serve.sglang_private")
    monkeypatch.delitem(sys.modules, "sglang_serve.sglang_private")
    one = module.Engine.__new__(module.Engine)
    one._manager = SimpleNamespace(
        model_update_lock=SimpleNamespace(_writer_active=False),
        update_lora_adapter_communicator=Order(),
        profile_communicator=Order(),
    )
    return one


def test_new_weights_are_an_order(engine: Any) -> None:
    assert not engine.has_order
    engine._manager.model_update_lock._writer_active = True
    assert engine.has_order


@pytest.mark.parametrize("name", ["update_lora_adapter_communicator", "profile_communicator"])
def test_an_order_lasts_until_the_scheduler_has_answered(engine: Any, name: str) -> None:
    """Not until whoever gave it leaves: SGLang forgets then only who it was."""
    order = getattr(engine._manager, name)
    order._result_event = asyncio.Event()
    assert engine.has_order
    order._result_event.set()
    assert not engine.has_order
