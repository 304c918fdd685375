"""The two hosts of the plugin demo, each in a process of its own and in real time: DawDreamer (VST3), ours (CLAP).

Between plugin_demo.py and the programs that tests use as hosts, too: both say a word when they begin to roll.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from attacca.bridge.ring import Samples

ROOT = Path(__file__).resolve().parents[1]
DAWDREAMER_HOST = ROOT / "tests" / "plugin" / "dawdreamer_host.py"
_ROLLING = "rendering"  # what both print when they begin
_SLACK_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Song:
    """What a host plays. Times in quarter notes from the song's start; `track`: float32 [samples, 2]."""

    track: Samples
    rate: int
    block: int
    bpm: Fraction
    meter: tuple[int, int]
    note: int
    note_on_ppq: Fraction
    note_off_ppq: Fraction
    seed_normalised: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Performance:
    """What came out, float32 [samples, 2], when it began (time.monotonic) and what the host reported."""

    output: Samples
    began_s: float
    report: dict[str, Any]


Host = Callable[[Song, Path, str, Path], Performance]


class HostError(RuntimeError):
    """A host failed; the message ends with what it said last."""


def play_in_dawdreamer(song: Song, build: Path, address: str, folder: Path) -> Performance:
    """The VST3, with the pacer in front. DawDreamer is in 4/4, whatever the song is in."""
    track, out = folder / "dawdreamer-in.raw", folder / "dawdreamer.raw"
    song.track.astype("<f4").tofile(track)
    beats = song.note_off_ppq - song.note_on_ppq
    words = [
        *(sys.executable, DAWDREAMER_HOST, build / "bin" / "Attacca.vst3"),
        *("--pacer", build / "pacer" / "AttaccaPacer.vst3", "--rate", song.rate, "--block", song.block),
        *("--bpm", float(song.bpm), "--seconds", len(song.track) / song.rate, "--input", track, "--out", out),
        *("--note", f"{song.note}:{float(song.note_on_ppq)}:{float(beats)}"),
        *("--set", f"Seed={song.seed_normalised}"),
    ]
    began_s, report = _run(words, address, len(song.track) / song.rate)
    return Performance(output=_output(out, song), began_s=began_s, report=report)


def play_in_clap_host(song: Song, build: Path, address: str, folder: Path) -> Performance:
    """The CLAP in the scriptable host (plugin_stub/tests/clap_host_script.cpp has its words)."""
    track, out = folder / "clap-in.raw", folder / "clap.raw"
    song.track.astype("<f4").tofile(track)
    per_sample = song.bpm / (60 * song.rate)
    on, off = (round(ppq / per_sample) for ppq in (song.note_on_ppq, song.note_off_ppq))
    lines = [
        f'plugin "{build / "bin" / "Attacca.clap"}"',
        *(f"rate {song.rate}", f"length {len(song.track)}", f"blocks {song.block}", "pace 1"),
        *(f'input raw "{track}"', f'record "{out}"'),
        *(f"@0 tempo {song.bpm}", "@0 meter {} {}".format(*song.meter), "@0 seek 0", "@0 play"),
        *(f"@0 flush seed {song.seed}", "@0 wait connection 1 10", f"@0 say {_ROLLING}"),
        *(f"@{on} note_on 0 {song.note} 0.8", f"@{off} note_off 0 {song.note} 0.0"),
    ]
    script = folder / "clap.script"
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    began_s, report = _run([build / "clap_host", script], address, len(song.track) / song.rate)
    return Performance(output=_output(out, song), began_s=began_s, report=report)


def _output(file: Path, song: Song) -> Samples:
    output = np.fromfile(file, "<f4").reshape(-1, 2)
    if len(output) < len(song.track):
        raise HostError(f"{file.name} has {len(output)} samples, expected {len(song.track)}")
    return output[: len(song.track)]


def _run(words: list[Any], address: str, seconds: float) -> tuple[float, dict[str, Any]]:
    """When it began to roll, and the JSON line that it printed last. HostError if it fails."""
    process = subprocess.Popen(
        [str(word) for word in words],
        env=os.environ | {"ATTACCA_ENGINE": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    began_s, last = 0.0, ""
    assert process.stdout is not None and process.stderr is not None
    try:
        for line in process.stdout:
            if line.strip() == _ROLLING:
                began_s = time.monotonic()
            last = line
        told = process.stderr.read()
        code = process.wait(seconds + _SLACK_S)
    finally:
        process.kill()
    if code or not began_s:
        raise HostError(f"{Path(str(words[0])).name} failed (exit code {code}): {told[-1500:]}")
    report: dict[str, Any] = json.loads(last)
    return began_s, report
