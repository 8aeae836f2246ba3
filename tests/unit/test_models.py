"""Where a model's files are looked for."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sglang_serve import args
from sglang_serve.errors import StartError
from sglang_serve.models import Wanted, fetch, resolve
from sglang_serve.progress import Bytes
from sglang_serve.weights import unneeded


def model(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def fetch_uri(uri: str, env: dict[str, str]) -> Path:
    return fetch(Wanted(uri=uri), env, lambda _: None)


def test_a_file_is_its_path(tmp_path: Path) -> None:
    path = model(tmp_path / "m")
    assert fetch_uri(f"file://{path}", {}) == path


def test_a_claim_is_below_its_root(tmp_path: Path) -> None:
    path = model(tmp_path / "claim" / "models" / "m")
    assert fetch_uri("pvc://claim/models/m", {args.ENV_PVC_ROOT: str(tmp_path)}) == path


def test_a_mirror_comes_before_the_hub(tmp_path: Path) -> None:
    path = model(tmp_path / "org" / "name")
    said: list[str] = []
    assert fetch(Wanted(uri="hf://org/name"), {args.ENV_MODEL_MIRROR: str(tmp_path)}, said.append) == path
    assert "mirror" in said[0]
    assert "compares" not in said[0]


def test_a_mirror_says_that_it_compares_no_revision(tmp_path: Path) -> None:
    model(tmp_path / "org" / "name")
    said: list[str] = []
    fetch(Wanted(uri="hf://org/name", revision="v2"), {args.ENV_MODEL_MIRROR: str(tmp_path)}, said.append)
    assert "nobody compares it with v2" in said[0]


def test_only_a_hub_has_commits(tmp_path: Path) -> None:
    mirror = {args.ENV_MODEL_MIRROR: str(tmp_path)}
    model(tmp_path / "org" / "name")
    for uri in ("hf://org/name", "s3://bucket/name", f"file://{tmp_path}", "pvc://claim/name"):
        assert resolve(Wanted(uri), mirror, lambda _: None) == ""
        assert resolve(Wanted(uri, commit="1" * 40), mirror, lambda _: None) == ""


def test_what_a_branch_is_held_to_be_is_not_asked_for() -> None:
    """Here is no client that could."""
    said: list[str] = []
    assert resolve(Wanted("hf://org/name", commit="1" * 40), {}, said.append) == "1" * 40
    assert said == []


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


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.ETIMEDOUT])
@pytest.mark.parametrize("uri", ["pvc://org/name", "hf://org/name"])
def test_a_volume_that_is_away_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, number: int
) -> None:
    def fail(_: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "iterdir" if uri.startswith("pvc") else "is_dir", fail)
    with pytest.raises(StartError, match=os.strerror(number)) as away:
        fetch_uri(uri, {args.ENV_PVC_ROOT: str(tmp_path), args.ENV_MODEL_MIRROR: str(tmp_path)})
    assert away.value.reason == "DownloadFailed"
    assert "the volume" in away.value.remedy


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(StartError, match=r"ModelNotFound: .* there is no directory"):
        fetch_uri(f"file://{tmp_path}/config.json", {})


def test_an_empty_directory_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    with pytest.raises(StartError, match=r"ModelNotFound: .* is empty"):
        fetch_uri(f"file://{tmp_path}", {})


@pytest.fixture
def for_another_user() -> Iterator[Path]:
    """A directory that all may read, with a config.json."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        Path(made, "config.json").touch(0o644)
        yield Path(made)


@contextmanager
def another_user() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_weights_of_another_user_are_named(for_another_user: Path) -> None:
    """As transformers writes them: 0600."""
    (for_another_user / "model.safetensors").touch(0o600)
    with (
        another_user(),
        pytest.raises(StartError, match=r"model\.safetensors may not be read by user 65534") as refused,
    ):
        fetch(Wanted(uri=f"file://{for_another_user}"), {}, print)
    assert refused.value.reason == "AccessDenied"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_the_root_of_a_volume_has_a_directory_of_roots(for_another_user: Path) -> None:
    (for_another_user / "lost+found").mkdir(0o700)
    with another_user():
        assert fetch(Wanted(uri=f"file://{for_another_user}"), {}, print) == for_another_user


def test_copies_of_the_weights_are_not_downloaded() -> None:
    files = ("config.json", "model-1.safetensors", "pytorch_model.bin", "original/c.pth", "tf_model.h5", "onnx/m.onnx")
    assert unneeded(files) == ("pytorch_model.bin", "original/c.pth", "tf_model.h5", "onnx/m.onnx")


def test_the_only_weights_are_downloaded() -> None:
    assert unneeded(("config.json", "pytorch_model.bin", "tf_model.h5")) == ("tf_model.h5",)
    assert unneeded(("adapter_model.safetensors", "pytorch_model.bin")) == ()
    assert unneeded(("vae/model.safetensors", "pytorch_model.bin")) == ()


@pytest.mark.parametrize(
    ("load_format", "read"),
    [("gguf", "m-q4.gguf"), ("pt", "m.pt"), ("npcache", "pytorch_model.bin"), ("mistral", "consolidated.safetensors")],
)
def test_what_the_load_format_reads_is_downloaded(load_format: str, read: str) -> None:
    files = ("model.safetensors", "m-q4.gguf", "m.pt", "pytorch_model.bin", "consolidated.safetensors", "m.onnx")
    assert set(unneeded(files, load_format)) == {*files[1:]} - {read}
    assert set(unneeded(files)) == {*files[1:]}


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB"), (2**50, "1024.0 TiB")]
)
def test_bytes_for_people(number: int, text: str) -> None:
    assert str(Bytes(number)) == text
