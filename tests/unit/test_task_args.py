"""What a task starts the engine with, and that docs/how-to/tasks.md says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from sglang_operator.api.spec import EndpointSpec
from sglang_serve.args import Task
from sglang_serve.errors import StartError
from sglang_serve.tasks import architectures, is_embedding, model_args, require_fit

PAGE = (Path(__file__).parents[2] / "docs/how-to/tasks.md").read_text()
USUAL = {
    "generate": "Qwen3ForCausalLM",
    "embed": "Qwen3ForCausalLM",
    "rerank": "XLMRobertaForSequenceClassification",
    "score": "Qwen3ForCausalLM",
    "classify": "Qwen3ForSequenceClassification",
    "transcribe": "WhisperForConditionalGeneration",
}


def test_api_and_image_know_the_same_tasks() -> None:
    assert get_args(EndpointSpec.model_fields["task"].annotation) == get_args(Task) == tuple(USUAL)


@pytest.mark.parametrize("task", get_args(Task))
def test_the_page_says_what_is_so(task: Task) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{task}`"))
    assert f"is_embedding: {str(is_embedding(task, (USUAL[task],))).lower()}`" in row
    assert re.search(r"\(\.\./\.\./examples/[\w-]+\.yaml\)", row)
    require_fit(task, (USUAL[task],))


def test_a_generating_reranker_generates() -> None:
    assert not is_embedding("rerank", ("Qwen3ForCausalLM",))
    assert is_embedding("rerank", ())


@pytest.mark.parametrize(("task", "name"), [("classify", "Qwen3ForCausalLM"), ("transcribe", "LlamaForCausalLM")])
def test_a_model_that_cannot_do_it_has_a_reason(task: Task, name: str) -> None:
    with pytest.raises(StartError, match=f"{name} cannot do spec.task {task}") as refused:
        require_fit(task, (name,))
    assert refused.value.reason == "UnsupportedArchitecture"


def test_encoders_read_a_text_as_a_whole() -> None:
    found = model_args(("BertForSequenceClassification",))
    assert (found["disable_radix_cache"], found["chunked_prefill_size"]) == (True, -1)
    assert all(f"`{name}: {str(value).lower()}`" in PAGE for name, value in found.items())
    assert model_args(("Qwen3ForSequenceClassification",)) == model_args(()) == {}


@pytest.mark.parametrize(
    ("text", "found"), [('{"architectures": ["A"]}', ("A",)), ("{}", ()), ("[]", ()), ("not json", ()), (None, ())]
)
def test_architectures_are_read_or_left_to_the_engine(tmp_path: Path, text: str | None, found: tuple[str, ...]) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert architectures(tmp_path) == found
