"""The demo in real hosts: the built VST3 in DawDreamer and the built CLAP in our host, with the real engine.

The same riff, note and bars as `attacca demo`, in real time. The riff is muted by its arrangement while the
continuation plays, so that what the plugin adds is known sample by sample: what was recorded is held against what
the engine said (plugin_listener.py). Run by `make demo-plugin`; writes plugin-demo.json, .png and a WAV per host.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from attacca.bridge import machine
from attacca.bridge.audiofile import write_audio
from attacca.bridge.demo import LEAD_BARS, Score, score_of
from attacca.bridge.demo_material import load_material
from attacca.bridge.demo_measure import Marks, Trace
from attacca.bridge.engine_process import EngineProcess
from attacca.bridge.params import BY_NAME
from attacca.bridge.ring import Samples
from attacca.bridge.transport import nearest_sample
from benchmarks.plugin_drawing import Panel, draw_panels
from benchmarks.plugin_hosts import Host, HostError, Performance, Song, play_in_clap_host, play_in_dawdreamer
from benchmarks.plugin_listener import Listener

RATE, BLOCK, NOTE = 48000, 512, 24  # C1, in the engine's default trigger zone
HOSTS: dict[str, tuple[str, Host]] = {
    "dawdreamer": ("VST3 in DawDreamer", play_in_dawdreamer),
    "clap_host": ("CLAP in our own host", play_in_clap_host),
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One host's figures, and what the picture shows. `wet`: what the engine sent for each sample, 0 elsewhere."""

    figures: dict[str, Any]
    marks: Marks
    trace: Trace
    wet: Samples


def song_of(bpm: float | None, bars: int, seed: int) -> tuple[Song, Score, str]:
    """The song, where things are to happen in it, and the riff's name."""
    material = load_material(None, sample_rate=RATE, bpm=bpm, meter=None, needed_bars=LEAD_BARS + bars + 1)
    score = score_of(material.bpm, material.meter, bars)
    per_sample = material.bpm / (60 * RATE)
    start, off, end = (
        nearest_sample(at / per_sample) for at in (score.start_ppq, score.note_off_ppq, score.end_ppq)
    )
    track = material.track.render(Fraction(0), per_sample, end, 2).astype(np.float32)
    track[start:off] = 0.0
    row = BY_NAME["seed"]
    song = Song(
        track=track,
        rate=RATE,
        block=BLOCK,
        bpm=material.bpm,
        meter=material.meter,
        note=NOTE,
        note_on_ppq=score.note_on_ppq,
        note_off_ppq=score.note_off_ppq,
        seed=seed,
        seed_normalised=(seed - row.minimum) / (row.maximum - row.minimum),
    )
    return song, score, material.name


def measure(played: Performance, listener: Listener, song: Song, score: Score) -> Measured:
    """HostError if nothing was heard of a take."""
    per_sample = song.bpm / (60 * song.rate)
    bar_line, release = score.start_ppq / per_sample, nearest_sample(score.note_off_ppq / per_sample)
    take = [heard for heard in listener.chunks if heard.chunk.committed and heard.chunk.take == 1]
    wet = np.zeros_like(song.track)
    sent = np.zeros(len(wet), bool)
    for heard in take:
        at = heard.chunk.position
        length = max(0, min(len(heard.samples), len(wet) - at))
        wet[at : at + length] = heard.samples[:length]
        sent[at : at + length] = True
    differs = np.flatnonzero((played.output != song.track).any(axis=1))
    if not len(differs) or not take:
        raise HostError(f"no take was heard: {len(take)} chunks, {played.report}")
    first = int(differs[0])
    silent = int(np.argmax(wet[first - 1 :: -1].any(axis=1))) if first else 0  # sent as silence just before
    start = min(max(nearest_sample(bar_line), first - silent), first)
    heard_span = slice(start, release)
    wrong = ~sent[heard_span] | (played.output[heard_span] != wet[heard_span]).any(axis=1)
    trace = trace_of(played, listener, take_end=release, start=start, rate=song.rate)
    known = [status for _, status in trace.statuses if status.rtf_total > 0]
    ahead = np.array([samples for _, samples in trace.lookahead]) * 1000 / song.rate
    figures = {
        "start_error_samples": start - nearest_sample(bar_line),
        "start_error_exact_samples": round(float(start - bar_line), 4),
        "underruns": {
            "callbacks": len(set((np.flatnonzero(wrong) + start) // song.block)),
            "samples": int(wrong.sum()),
        },
        "rtf": {
            part: round(getattr(known[-1], f"rtf_{part}"), 4) if known else None
            for part in ("decoder", "codec", "total")
        },
        "lookahead_ms": {
            "p50": round(float(np.percentile(ahead, 50)), 1),
            "p5": round(float(np.percentile(ahead, 5)), 1),
            "min": round(float(ahead.min()), 1),
        },
        "chunks": len(take),
        "seed": next((status.seed for _, status in trace.statuses if status.take == 1), None),
    }
    trigger = nearest_sample(score.note_on_ppq / per_sample)
    marks = Marks(trigger=trigger, bar_line=bar_line, start=start, release=release)
    wet[:start] = wet[release:] = 0.0
    return Measured(figures=figures, marks=marks, trace=trace, wet=wet)


def trace_of(played: Performance, listener: Listener, *, take_end: int, start: int, rate: int) -> Trace:
    """Look-ahead before and after each chunk while the take sounds; statuses; both by the host's position then."""

    def position(at_s: float) -> int:
        return round((at_s - played.began_s) * rate)

    trace = Trace()
    end = 0
    for heard in listener.chunks:
        if not heard.chunk.committed:
            continue
        now = position(heard.at_s)
        reached = max(end, heard.chunk.position + len(heard.samples))
        if start <= now < take_end:
            trace.lookahead += [(now, end - now), (now, reached - now)]
        end = reached
    trace.statuses += [(position(at_s), status) for at_s, status in listener.statuses]
    return trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build/plugin"), help="what `make plugin` built")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--host", action="append", choices=sorted(HOSTS), help="default: all")
    parser.add_argument("--model", default="ostinato")
    parser.add_argument("--bpm", type=float)
    parser.add_argument("--bars", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    song, score, name = song_of(options.bpm, options.bars, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"hosts": {}}
    panels = []
    for host in options.host or HOSTS:
        title, play = HOSTS[host]
        seconds = len(song.track) / song.rate
        print(f"{title}: {seconds:.0f} s of {name} at {float(song.bpm):g} BPM, in real time", file=sys.stderr)
        with (
            EngineProcess(["--log-level", "warning", "--model", options.model, "--threads", "1"]) as engine,
            Listener(engine.publish) as listener,
        ):
            played = play(song, options.build.resolve(), engine.address, options.out.resolve())
        measured = measure(played, listener, song, score)
        write_audio(options.out / f"plugin-demo-{host}.wav", played.output, song.rate)
        report["hosts"][host] = measured.figures
        print(f"  {measured.figures}", file=sys.stderr)
        panels.append(
            Panel(
                title=title,
                dry=played.output - measured.wet,
                wet=measured.wet,
                marks=measured.marks,
                trace=measured.trace,
                figures=measured.figures,
            )
        )
    report |= {"machine": machine.machine(), "versions": machine.versions(), "commit": machine.commit()}
    report["song"] = {"name": name, "bpm": float(song.bpm), "rate": song.rate, "block": song.block}
    (options.out / "plugin-demo.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    about = f"{name}, {float(song.bpm):g} BPM, {song.meter[0]}/{song.meter[1]}"
    draw_panels(options.out / "plugin-demo.png", panels, song, score.bar_ppq, about)
    for file in options.out.glob("*.raw"):
        file.unlink()
    (options.out / "clap.script").unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        main()
    except HostError as error:
        sys.exit(str(error))
