"""What the demo plays: the shipped riff or the user's file, fitted to the host's rate, tempo and bars.

Reads files and computes tracks; the demo (bridge/demo.py) and nothing else uses it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from attacca.bridge.audiofile import read_audio
from attacca.bridge.host_tracks import AudioTrack
from attacca.bridge.ring import Samples
from attacca.bridge.transport import decimal

_WHOLE_BAR_TOLERANCE_S = 0.06


@dataclass(frozen=True, kw_only=True)
class Material:
    """An audio track with the tempo and meter it is in."""

    name: str
    track: AudioTrack
    channels: int
    bpm: Fraction
    meter: tuple[int, int]
    notes: tuple[str, ...]  # what was done to it, for the user


def parse_meter(text: str) -> tuple[int, int]:
    """ "7/8" -> (7, 8). ValueError says what is allowed."""
    num, slash, den = text.partition("/")
    if not (slash and num.strip().isdigit() and den.strip().isdigit()):
        raise ValueError(f"meter {text!r} is not of the form 7/8")
    return int(num), int(den)


def load_material(
    source: Path | None, *, sample_rate: int, bpm: float | None, meter: str | None, needed_bars: int
) -> Material:
    """The user's file, or the riff where there is none. AudioFileError or ValueError says what is wrong.

    A file is taken to be in the tempo given (120 if none is). The riff is played faster or slower, as a tape is, if
    another tempo is asked for. What is shorter than `needed_bars` is looped in whole bars.
    """
    return (
        _riff(sample_rate, bpm, meter, needed_bars)
        if source is None
        else _file(source, sample_rate, bpm, meter, needed_bars)
    )


def _file(source: Path, sample_rate: int, bpm: float | None, meter: str | None, needed_bars: int) -> Material:
    samples, rate = read_audio(source)
    tempo, signature = decimal(bpm or 120.0), parse_meter(meter or "4/4")
    notes = []
    if bpm is None:
        notes.append("no tempo given: the file is taken to be at 120 BPM (--bpm)")
    if rate != sample_rate:
        notes.append(f"resampled from {rate} to {sample_rate} Hz")
    samples = _resampled(samples, rate, sample_rate)
    bar = Fraction(4 * signature[0], signature[1]) * 60 * sample_rate / tempo
    loop, note = _loop(len(samples), bar, sample_rate, needed_bars)
    return Material(
        name=source.name,
        track=AudioTrack(samples, loop_samples=loop),
        channels=samples.shape[1],
        bpm=tempo,
        meter=signature,
        notes=(*notes, *note),
    )


def _loop(length: int, bar: Fraction, sample_rate: int, needed_bars: int) -> tuple[Fraction | None, list[str]]:
    """(length of the loop, what to say) for a clip of `length` samples; None if it is long enough as it is."""
    if length >= needed_bars * bar:
        return None, []
    whole = max(1, math.floor(length / bar))
    left_s = float(length - whole * bar) / sample_rate
    bars = whole if left_s < _WHOLE_BAR_TOLERANCE_S else whole + 1
    short = f"{length / sample_rate:.2f} s is less than {needed_bars} bars"
    return bars * bar, [f"{short}: looped every {bars} bar{'s' if bars > 1 else ''}"]


def _riff(sample_rate: int, bpm: float | None, meter: str | None, needed_bars: int) -> Material:
    assets = resources.files("attacca.bridge") / "assets"
    facts: dict[str, Any] = json.loads((assets / "riff.json").read_text(encoding="utf-8"))
    with resources.as_file(assets / "riff.flac") as path:
        samples, rate = read_audio(path)
    own = decimal(facts["bpm"])
    tempo = own if bpm is None else decimal(bpm)
    signature = parse_meter(meter or facts["meter"])
    notes = []
    if tempo != own:
        notes.append(f"the riff is at {float(own):g} BPM: played at {float(tempo / own):.3f} of its speed")
    if signature != parse_meter(facts["meter"]):
        notes.append(f"the riff is in {facts['meter']}, the host in {signature[0]}/{signature[1]}")
    samples = _resampled(samples, float(rate * tempo / own), sample_rate)
    riff_bar = Fraction(4) * Fraction(*parse_meter(facts["meter"]))
    length = facts["bars"] * riff_bar * 60 * sample_rate / tempo
    return Material(
        name="riff",
        track=AudioTrack(samples, loop_samples=length),
        channels=samples.shape[1],
        bpm=tempo,
        meter=signature,
        notes=tuple(notes),
    )


def _resampled(samples: Samples, rate: float, sample_rate: int) -> Samples:
    if rate == sample_rate:
        return samples
    import soxr

    return np.ascontiguousarray(soxr.resample(samples, rate, sample_rate, quality="HQ"), dtype=np.float32)
