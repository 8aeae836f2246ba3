"""Sounds to transcribe, made by hand: this environment has no library for them."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path


def hum(file: Path, seconds: int = 2, rate: int = 16_000) -> None:
    """A tone that rises."""
    samples = [int(9000 * math.sin(number * (0.05 + number / 4e5))) for number in range(seconds * rate)]
    with wave.open(str(file), "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(rate)
        made.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def samples_of(file: Path) -> tuple[bytes, int]:
    """Its bare samples, two bytes each, and how many are a second."""
    with wave.open(str(file)) as read:
        return read.readframes(read.getnframes()), read.getframerate()
