"""What there is of a model that others have downloaded: half of it is no model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sglang_serve.hub_others import looks_whole

SHARDS = tuple(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
INDEX = "model.safetensors.index.json"
OTHER_INDEX = "consolidated.safetensors.index.json"  # of second copies, which some leave out
NAMED = {INDEX: SHARDS, OTHER_INDEX: ("consolidated-00001-of-00001.safetensors",)}


@pytest.mark.parametrize(
    ("names", "load_format", "expected"),
    [
        ((*SHARDS, INDEX), "auto", True),
        ((SHARDS[0], INDEX), "auto", False),
        (SHARDS, "auto", True),
        (SHARDS[:2], "auto", False),  # the index comes after them
        (("one.safetensors", INDEX), "auto", False),
        (("model.safetensors",), "auto", True),
        (("pytorch_model.bin",), "auto", True),
        (("adapter_model.safetensors",), "auto", True),
        (("original/consolidated.00.pth",), "auto", True),
        (("config.json", "tokenizer.json"), "auto", False),
        ((), "auto", False),
        ((*SHARDS, INDEX, OTHER_INDEX), "auto", True),
        ((*SHARDS, INDEX, "pytorch_model-00001-of-00002.bin"), "auto", True),
        (("config.json",), "dummy", True),
        (("m-q4.gguf", SHARDS[0], INDEX), "gguf", True),
        ((*SHARDS, INDEX), "gguf", False),
        (("m-00001-of-00002.gguf",), "gguf", False),
    ],
)
def test_half_a_copy(tmp_path: Path, names: tuple[str, ...], load_format: str, expected: bool) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"weight_map": dict(enumerate(NAMED[name]))}) if name in NAMED else "x")
    assert looks_whole(tmp_path, load_format) is expected


def test_a_name_whose_content_has_gone_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / "gone")
    assert not looks_whole(tmp_path, "auto")


def test_an_index_that_cannot_be_read_is_the_engines_affair(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / INDEX).write_text("[]")
    assert looks_whole(tmp_path, "auto")
