"""Where a model's files are looked for."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from sglang_serve import args
from sglang_serve.errors import StartError
from sglang_serve.models import fetch
from sglang_serve.weights import Bytes, unneeded


def model(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def fetch_uri(uri: str, env: dict[str, str]) -> Path:
    return fetch(args.ModelArgs(uri=uri), env, lambda _: None)


def test_a_file_is_its_path(tmp_path: Path) -> None:
    path = model(tmp_path / "m")
    assert fetch_uri(f"file://{path}", {}) == path


def test_a_claim_is_below_its_root(tmp_path: Path) -> None:
    path = model(tmp_path / "claim" / "models" / "m")
    assert fetch_uri("pvc://claim/models/m", {args.ENV_PVC_ROOT: str(tmp_path)}) == path


def test_a_mirror_comes_before_the_hub(tmp_path: Path) -> None:
    path = model(tmp_path / "org" / "name")
    said: list[str] = []
    assert fetch(args.ModelArgs(uri="hf://org/name"), {args.ENV_MODEL_MIRROR: str(tmp_path)}, said.append) == path
    assert "mirror" in said[0]


@pytest.mark.parametrize(
    ("uri", "env", "reason"),
    [
        ("file:///nowhere/at/all", {}, "ModelNotFound"),
        ("pvc://claim/x", {args.ENV_PVC_ROOT: "/nowhere"}, "ModelNotFound"),
        ("pvc://claim/x", {}, "BadArgument"),
        ("ftp://host/x", {}, "BadArgument"),
    ],
)
def test_what_is_not_there_has_a_reason(uri: str, env: dict[str, str], reason: str) -> None:
    with pytest.raises(StartError) as caught:
        fetch_uri(uri, env)
    assert caught.value.reason == reason
    assert uri.partition("://")[2] in caught.value.message


def test_an_empty_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"ModelNotFound: .* is empty"):
        fetch_uri(f"file://{tmp_path}", {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_weights_of_another_user_are_named() -> None:
    """As transformers writes them: 0600."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        Path(made, "config.json").touch(0o644)
        Path(made, "model.safetensors").touch(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(StartError, match=r"model\.safetensors may not be read by user 65534") as refused:
                fetch(args.ModelArgs(uri=f"file://{made}"), {}, print)
        finally:
            os.seteuid(0)
    assert refused.value.reason == "AccessDenied"


def test_copies_of_the_weights_are_not_downloaded() -> None:
    files = ("config.json", "model-1.safetensors", "pytorch_model.bin", "original/c.pth", "tf_model.h5", "onnx/m.onnx")
    assert unneeded(files) == ("pytorch_model.bin", "original/c.pth", "tf_model.h5", "onnx/m.onnx")


def test_the_only_weights_are_downloaded() -> None:
    assert unneeded(("config.json", "pytorch_model.bin", "tf_model.h5")) == ("tf_model.h5",)
    assert unneeded(("adapter_model.safetensors", "pytorch_model.bin")) == ()
    assert unneeded(("vae/model.safetensors", "pytorch_model.bin")) == ()


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB"), (2**50, "1024.0 TiB")]
)
def test_bytes_for_people(number: int, text: str) -> None:
    assert str(Bytes(number)) == text
