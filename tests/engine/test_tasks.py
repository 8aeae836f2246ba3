"""Each task through Ray Serve, asked by its usual client, against the same model run by transformers."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import jinja2
import openai
import pytest
from engine.apps import TINY_ENGINE, ServeApp, endpoint
from engine.sounds import hum
from engine.transformers_says import reference
from tiny_models import made_by
from websockets.sync.client import connect as connect_websocket

TOLERANCE = 1e-3  # both compute in float32; the kernels sum in another order
QUERY, DOCUMENTS = "What is the License?", ["terms and conditions", "a copy of the work", "no warranty"]
ANSWER_TOKENS = 12
LABELS = [300, 400, 500]
YES_AND_NO = [3, 4]  # tokens of the tiny judge, behind the special ones
# SGLang knows a generating reranker by this sentence of its template.
JUDGE = """\
<|im_start|>system
Judge whether the Document meets the requirements. Note that the answer can only be "yes" or "no".<|im_end|>
<|im_start|>user
<Query>: {{ messages[0]["content"] }}
<Document>: {{ messages[1]["content"] }}<|im_end|>
<|im_start|>assistant
Answer: """
ENGINE = {"args": {**TINY_ENGINE, "dtype": "float32"}}  # by itself SGLang takes half of it


def post(app: ServeApp, path: str, **body: Any) -> Any:
    reply = httpx.post(f"{app.url}{path}", json={"model": "tiny", **body}, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


def same(found: list[float], expected: list[float]) -> bool:
    return found == pytest.approx(expected, abs=TOLERANCE)


def test_embed(tiny_model: Path, engine_python: Path) -> None:
    expected = reference(engine_python, "embed", tiny_model, texts=DOCUMENTS)
    with ServeApp(endpoint(tiny_model, task="embed", engine=ENGINE), engine_python) as app:
        client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="none")
        found = client.embeddings.create(model="tiny", input=DOCUMENTS).data
    for one, other in zip(found, expected, strict=True):
        assert same(one.embedding, other)


@pytest.mark.long
def test_embed_with_an_encoder(engine_python: Path) -> None:
    """It reads each text as a whole, and pools otherwise."""
    model, texts = made_by("tiny_encoder", engine_python), [*DOCUMENTS, "a copy of the work " * 60]
    expected = reference(engine_python, "encode", model, texts=texts)
    with ServeApp(endpoint(model, task="embed", engine=ENGINE), engine_python) as app:
        client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="none")
        found = client.embeddings.create(model="tiny", input=texts).data
    for one, other in zip(found, expected, strict=True):
        assert same(one.embedding, other)


@pytest.mark.long
def test_score(tiny_model: Path, engine_python: Path) -> None:
    expected = reference(engine_python, "score", tiny_model, query=QUERY, items=DOCUMENTS, labels=LABELS)
    with ServeApp(endpoint(tiny_model, task="score", engine=ENGINE), engine_python) as app:
        said = post(app, "/v1/score", query=QUERY, items=DOCUMENTS, label_token_ids=LABELS, apply_softmax=True)
    for one, other in zip(said["scores"], expected, strict=True):
        assert same(one, other)


@pytest.mark.long
def test_rerank(engine_python: Path) -> None:
    model = made_by("tiny_reranker", engine_python)
    expected = reference(engine_python, "rerank", model, query=QUERY, documents=DOCUMENTS)
    with ServeApp(endpoint(model, task="rerank", engine=ENGINE), engine_python) as app:
        said = post(app, "/v1/rerank", query=QUERY, documents=DOCUMENTS)
    assert [one["score"] for one in said] == sorted((one["score"] for one in said), reverse=True)
    for one in said:
        assert one["score"] == pytest.approx(expected[one["index"]], abs=TOLERANCE)


@pytest.mark.long
def test_rerank_with_a_generating_model(engine_python: Path, tmp_path: Path) -> None:
    """As Qwen3-Reranker is used: how much likelier is "yes" than "no"."""
    model, template = made_by("tiny_judge", engine_python), tmp_path / "reranker.jinja"
    template.write_text(JUDGE)
    asked = [jinja2.Template(JUDGE).render(messages=[{"content": QUERY}, {"content": text}]) for text in DOCUMENTS]
    expected = reference(engine_python, "score", model, query="", items=asked, labels=YES_AND_NO)
    engine = {"args": {**ENGINE["args"], "chat_template": str(template)}}
    with ServeApp(endpoint(model, task="rerank", engine=engine), engine_python) as app:
        said = post(app, "/v1/rerank", query=QUERY, documents=DOCUMENTS)
    assert {one["index"] for one in said} == set(range(len(DOCUMENTS)))
    for one in said:
        assert one["score"] == pytest.approx(expected[one["index"]][0], abs=TOLERANCE)
    assert len({round(one["score"], 2) for one in said}) > 1, "they differ by more than the tolerance"


@pytest.mark.long
def test_classify(engine_python: Path) -> None:
    model = made_by("tiny_classifier", engine_python)
    expected = reference(engine_python, "classify", model, texts=DOCUMENTS)
    with ServeApp(endpoint(model, task="classify", engine=ENGINE), engine_python) as app:
        said = post(app, "/v1/classify", input=DOCUMENTS)["data"]
    for one, other in zip(said, expected, strict=True):
        assert same(one["probs"], other)
        assert one["label"] in {"bad", "fair", "good"}


@pytest.mark.long
def test_transcribe(engine_python: Path, tmp_path: Path) -> None:
    model, sound = made_by("tiny_whisper", engine_python), tmp_path / "a.wav"
    hum(sound)
    expected = reference(engine_python, "transcribe", model, file=str(sound))
    with ServeApp(endpoint(model, task="transcribe", engine=ENGINE), engine_python) as app:
        client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="none")
        found = client.audio.transcriptions.create(model="tiny", file=sound, language="en").text
        refused = first_event(app, "/v1/realtime")
    assert expected.strip(), "a transcript to compare"
    assert found.strip().startswith(expected.strip())
    assert refused["error"]["code"] == "not_supported", "once SGLang can, see test_realtime.py"


@pytest.mark.long
def test_images(engine_python: Path, tmp_path: Path) -> None:
    model, image = made_by("tiny_vision", engine_python), tmp_path / "a.png"
    image.write_bytes(stripes(31))
    expected = reference(engine_python, "see", model, image=str(image), text=QUERY, tokens=ANSWER_TOKENS)
    with ServeApp(endpoint(model, engine=ENGINE), engine_python) as app:
        seen, other, blind = (say(app, *images) for images in ([stripes(31)], [stripes(7)], []))
    assert seen == expected
    assert len({seen, other, blind}) == 3, "the image decides, and so does its absence"


def say(app: ServeApp, *images: bytes) -> str | None:
    """The beginning of a greedy answer to QUERY about these images."""
    client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="none")
    urls = [f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in images]
    content: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    talk: list[Any] = [{"role": "user", "content": [*content, {"type": "text", "text": QUERY}]}]
    done = client.chat.completions.create(model="tiny", messages=talk, temperature=0, max_tokens=ANSWER_TOKENS)
    return done.choices[0].message.content


def stripes(step: int, width: int = 64, height: int = 48) -> bytes:
    """A PNG of grey stripes, made by hand: this environment has no library for images."""
    rows = b"".join(b"\0" + bytes((x * step + y) % 256 for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    whole = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def first_event(app: ServeApp, path: str) -> Any:
    """What the server says first on this websocket."""
    with connect_websocket(f"{app.url.replace('http', 'ws', 1)}{path}") as socket:
        return json.loads(socket.recv(timeout=30))
