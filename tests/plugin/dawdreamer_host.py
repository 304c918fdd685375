"""DawDreamer as a host, in a process of its own: a VST3 rendered along a tempo curve, paced or as fast as it goes.

DawDreamer is always in 4/4 from bar 0 and never says that it renders offline. It is paced by a plugin of our own
in front (plugin_stub/tests/pacer), which sleeps until each block is due. Run as a script; prints "rendering" when
it begins, and one JSON line at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

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


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plugin", type=Path)
    parser.add_argument("--pacer", type=Path)
    parser.add_argument("--rate", type=int, default=48000)
    parser.add_argument("--block", type=int, default=512)
    parser.add_argument("--bpm", default="120")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--note", action="append", default=[], help="PITCH:START_BEAT:BEATS")
    parser.add_argument("--set", action="append", default=[], help="PARAMETER NAME=NORMALISED VALUE")
    parser.add_argument("--automate", action="append", default=[], help="PARAMETER NAME=BEAT:VALUE,BEAT:VALUE...")
    parser.add_argument("--load", type=Path, help="a .vstpreset to load before the render")
    parser.add_argument("--save", type=Path, help="where the state goes after it")
    parser.add_argument("--input", type=Path, help="float32 raw, stereo interleaved")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def prepare(plugin: Any, options: argparse.Namespace) -> None:
    """State, parameters, automation and notes, in this order."""
    names = {row["name"]: row["index"] for row in plugin.get_parameters_description()}
    if options.load is not None:
        plugin.load_vst3_preset(str(options.load))  # load_state wants a window
    for entry in options.set:
        name, value = entry.split("=")
        plugin.set_parameter(names[name], float(value))
    for entry in options.automate:
        name, points = entry.split("=")
        values = np.zeros(int(options.seconds * 400 / 60) * PPQN, np.float32)
        for point in points.split(","):
            beat, value = map(float, point.split(":"))
            values[int(beat * PPQN) :] = value
        plugin.set_automation(names[name], values, ppqn=PPQN)
    for entry in options.note:
        pitch, start, beats = entry.split(":")
        plugin.add_midi_note(int(pitch), 100, float(start), float(beats), beats=True)


def main() -> None:
    options = parse()
    engine = dawdreamer.RenderEngine(options.rate, options.block)
    curve = tempo_curve(options.bpm, options.seconds * 300 / 60)
    if isinstance(curve, float):
        engine.set_bpm(curve)
    else:
        engine.set_bpm(curve, PPQN)
    began = time.perf_counter()
    plugin = engine.make_plugin_processor("attacca", str(options.plugin))
    load_s = time.perf_counter() - began
    described = plugin.get_parameters_description()
    prepare(plugin, options)
    audio = np.zeros((2, int(options.seconds * options.rate) + options.rate), np.float32)
    if options.input is not None:
        given = np.fromfile(options.input, np.float32).reshape(-1, 2).T[:, : audio.shape[1]]
        audio[:, : given.shape[1]] = given
    source = engine.make_playback_processor("input", audio)
    graph = [(source, []), (plugin, ["input"])]
    if options.pacer is not None:
        pacer = engine.make_plugin_processor("pacer", str(options.pacer))
        graph = [(source, []), (pacer, ["input"]), (plugin, ["pacer"])]
    engine.load_graph(graph)
    print("rendering", flush=True)
    began = time.perf_counter()
    engine.render(options.seconds)
    rendered_s = time.perf_counter() - began
    np.ascontiguousarray(engine.get_audio().T, np.float32).tofile(options.out)
    if options.save is not None:
        plugin.save_state(str(options.save))
    report = {
        "load_s": load_s,
        "rendered_s": rendered_s,
        "latency_samples": plugin.get_latency_samples(),
        "parameters": described,
        "values": {row["name"]: plugin.get_parameter(row["index"]) for row in described},
    }
    print(json.dumps(report), flush=True)
    os._exit(0)  # its threads are not worth waiting for


if __name__ == "__main__":
    main()
