"""DawDreamer as a host, in a process of its own: a VST3 rendered along a tempo curve, paced or as fast as it goes.

DawDreamer is always in 4/4 from bar 0 and never says that it renders offline. It is paced by a plugin of our own
in front (plugin_stub/tests/pacer), which sleeps until each block is due. Run as a script; prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import dawdreamer
import numpy as np

PPQN = 960


def tempo_curve(text: str, beats: float) -> np.ndarray | float:
    """`120`, or `0:100,16:130` (steps at beats), or `0:100-16:130` (a ramp between two beats)."""
    if ":" not in text:
        return float(text)
    curve = np.zeros(int(beats * PPQN) + 1, np.float32)
    if "-" in text:
        (start, low), (stop, high) = (map(float, point.split(":")) for point in text.split("-"))
        at = np.arange(len(curve)) / PPQN
        curve[:] = np.interp(at, [start, stop], [low, high])
        return curve
    for point in text.split(","):
        beat, bpm = map(float, point.split(":"))
        curve[int(beat * PPQN) :] = bpm
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plugin", type=Path)
    parser.add_argument("--pacer", type=Path)
    parser.add_argument("--rate", type=int, default=48000)
    parser.add_argument("--block", type=int, default=512)
    parser.add_argument("--bpm", default="120")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--note", action="append", default=[], help="PITCH:START_BEAT:BEATS")
    parser.add_argument("--set", action="append", default=[], help="PARAMETER NAME=NORMALISED VALUE")
    parser.add_argument("--input", type=Path, help="float32 raw, stereo interleaved")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    engine = dawdreamer.RenderEngine(options.rate, options.block)
    curve = tempo_curve(options.bpm, options.seconds * 300 / 60)
    if isinstance(curve, float):
        engine.set_bpm(curve)
    else:
        engine.set_bpm(curve, PPQN)
    began = time.perf_counter()
    plugin = engine.make_plugin_processor("attacca", str(options.plugin))
    load_s = time.perf_counter() - began
    names = {row["name"]: row["index"] for row in plugin.get_parameters_description()}
    for entry in options.set:
        name, value = entry.split("=")
        plugin.set_parameter(names[name], float(value))
    for entry in options.note:
        pitch, start, beats = entry.split(":")
        plugin.add_midi_note(int(pitch), 100, float(start), float(beats), beats=True)
    samples = int(options.seconds * options.rate) + options.rate
    audio = np.zeros((2, samples), np.float32)
    if options.input is not None:
        given = np.fromfile(options.input, np.float32).reshape(-1, 2).T[:, :samples]
        audio[:, : given.shape[1]] = given
    source = engine.make_playback_processor("input", audio)
    graph = [(source, []), (plugin, ["input"])]
    if options.pacer is not None:
        pacer = engine.make_plugin_processor("pacer", str(options.pacer))
        graph = [(source, []), (pacer, ["input"]), (plugin, ["pacer"])]
    engine.load_graph(graph)
    began = time.perf_counter()
    engine.render(options.seconds)
    rendered_s = time.perf_counter() - began
    np.ascontiguousarray(engine.get_audio().T, np.float32).tofile(options.out)
    report = {
        "load_s": load_s,
        "rendered_s": rendered_s,
        "latency_samples": plugin.get_latency_samples(),
        "parameters": list(names),
    }
    print(json.dumps(report), flush=True)
    os._exit(0)  # its threads are not worth waiting for


if __name__ == "__main__":
    main()
