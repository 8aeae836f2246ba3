"""A transcript over the websocket /v1/realtime, asked by OpenAI's client. SGLang gives one with Qwen3-ASR alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from engine.apps import TINY_ENGINE, ServeApp, endpoint
from engine.parity.compare import masked
from engine.parity.native import NativeServer
from engine.sounds import hum, samples_of
from engine.transformers_says import reference
from openai.resources.realtime.realtime import RealtimeConnection
from tiny_models import made_by

ARGUMENTS = {**TINY_ENGINE, "dtype": "float32"}
TOKENS = 256  # what SGLang asks Qwen3-ASR for; the tiny one does not stop before
HEARD = "conversation.item.input_audio_transcription"
# The order in which each kind of event first comes: SGLang reads each two seconds, and says words before the commit.
ORDER = ["session.created", "session.updated", f"{HEARD}.delta",
         "input_audio_buffer.committed", "conversation.item.created", f"{HEARD}.completed"]  # fmt: skip


def serve(model: Path, engine_python: Path) -> ServeApp:
    return ServeApp(endpoint(model, task="transcribe", engine={"args": ARGUMENTS}), engine_python)


@pytest.mark.long
def test_the_transcript_is_that_of_transformers(engine_python: Path, tmp_path: Path) -> None:
    """Both ways, of two seconds: they are read at once, and with the rate of the model, so nothing is computed anew."""
    model, sound = made_by("tiny_qwen3_asr", engine_python), tmp_path / "a.wav"
    hum(sound, seconds=2, rate=16_000)
    expected = reference(engine_python, "hear", model, file=str(sound), tokens=TOKENS)
    with serve(model, engine_python) as app:
        client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="none")
        found = client.audio.transcriptions.create(model="tiny", file=sound).text
        events = dictate(app.url, sound)
    assert len(expected.split()) > 50, "a transcript to compare"
    assert found == expected
    assert without_spaces(events[-1]["transcript"]) == without_spaces(expected), "SGLang joins the words itself"
    assert "".join(event["delta"] for event in events if "delta" in event) == events[-1]["transcript"]


@pytest.mark.long
def test_a_session_is_as_with_native(engine_python: Path, tmp_path: Path) -> None:
    """Five seconds with the rate of OpenAI's clients: SGLang reads them in three parts, the last after its own text."""
    model, sound = made_by("tiny_qwen3_asr", engine_python), tmp_path / "a.wav"
    hum(sound, seconds=5, rate=24_000)
    with NativeServer(engine_python, model, {**ARGUMENTS, "served_model_name": "tiny"}) as native:
        expected = dictate(native.url, sound)
    with serve(model, engine_python) as app:
        found = dictate(app.url, sound)
    assert list(dict.fromkeys(event["type"] for event in found)) == ORDER
    assert found[-1]["usage"]["seconds"] == 5
    assert masked(found) == masked(expected)


def dictate(url: str, sound: Path) -> list[Any]:
    """All that the server says of this sound, sent by half seconds and committed when the first words are back."""
    samples, rate = samples_of(sound)
    hears = {"format": {"type": "audio/pcm", "rate": rate}, "transcription": {"model": "tiny"}}
    session: Any = {"type": "transcription", "audio": {"input": hears}}
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        connection.session.update(session=session)
        for start in range(0, len(samples), rate):
            connection.input_audio_buffer.append(audio=base64.b64encode(samples[start : start + rate]).decode())
        begun = events_until(connection, f"{HEARD}.delta")
        connection.input_audio_buffer.commit()
        return begun + events_until(connection, f"{HEARD}.completed")


def events_until(connection: RealtimeConnection, last: str) -> list[Any]:
    """As they were sent: the client's own objects leave out what they do not know."""
    events: list[Any] = []
    while not events or events[-1]["type"] != last:
        events.append(json.loads(connection.recv_bytes()))
        assert events[-1]["type"] != "error", events[-1]
    return events


def without_spaces(text: str) -> str:
    return "".join(text.split())
