"""pedalboard as a host, in a process of its own: loads a VST3, does one thing with it, prints one JSON line.

pedalboard has no transport and renders offline. Run as a script, with one of the actions below.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pedalboard


def queued() -> float:
    """Seconds for which this thread was ready and other processes had the cores (Linux; 0 elsewhere)."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def values(plugin: Any) -> dict[str, float]:
    """Parameters by the names that musicians see, normalised."""
    return {parameter.name: parameter.raw_value for parameter in plugin.parameters.values()}


def load(plugin: Any, _: argparse.Namespace) -> dict[str, Any]:
    """What it says of itself."""
    return {
        "name": plugin.name,
        "is_effect": plugin.is_effect,
        "is_instrument": plugin.is_instrument,
        "latency_samples": plugin.reported_latency_samples,
        "parameters": [
            {
                "name": parameter.name,
                "unit": parameter.label or "",
                "default": parameter.raw_value,
                # Text at both ends of the range.
                "ends": [parameter.get_text_for_raw_value(end) for end in (0.0, 1.0)],
                "words": None if parameter.type is not str else list(parameter.valid_values),
            }
            for parameter in plugin.parameters.values()
        ],
    }


def set_all(plugin: Any, entries: list[str]) -> None:
    """Sets parameters; they reach the plugin with the next block, as in any host."""
    by_name = {parameter.name: parameter for parameter in plugin.parameters.values()}
    for entry in entries:
        name, value = entry.split("=")
        by_name[name].raw_value = float(value)
    plugin(np.zeros((2, 512), np.float32), 48000)


def save(plugin: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Sets parameters, gives the state both as pedalboard's own and as a .vstpreset."""
    set_all(plugin, options.set)
    keep = {"raw_state": plugin.raw_state, "preset_data": plugin.preset_data}
    return {"values": values(plugin)} | {name: base64.b64encode(data).decode() for name, data in keep.items()}


def restore(plugin: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Sets a state from a file, gives the parameters' values before and after, and the state once more."""
    before = values(plugin)
    setattr(plugin, options.kind, options.state.read_bytes())
    return {"before": before, "values": values(plugin), "again": base64.b64encode(plugin.raw_state).decode()}


def process(plugin: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Noise through it at several rates and block sizes, whole and in pieces; which came out as they went in."""
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 9001)).astype(np.float32)
    same: dict[str, Any] = {}
    for rate, block in itertools.product((44100, 48000, 96000), (1, 64, 480, 8192)):
        whole = plugin(noise, rate, buffer_size=block)
        halves = [plugin(part, rate, buffer_size=block, reset=False) for part in np.split(noise, [4000], axis=1)]
        same[f"{rate}/{block}"] = [np.array_equal(got, noise) for got in (whole, np.hstack(halves))]
    try:
        mono = plugin(noise[:1], 48000)
        same["mono"] = [np.array_equal(mono, noise[:1])]
    except ValueError as error:
        same["mono"] = str(error)
    return same


def play(plugin: Any, options: argparse.Namespace) -> dict[str, Any]:
    """A note in the trigger zone, from 0.1 s on, into a file: float32 [samples, 2]."""
    set_all(plugin, options.set)
    note = [([0x90, 24, 100], 0.1), ([0x80, 24, 0], 2.9)]
    audio = plugin(note, duration=2.5, sample_rate=float(options.rate), num_channels=2, buffer_size=512)
    np.ascontiguousarray(audio.T, np.float32).tofile(options.out)
    return {"shape": audio.shape}


def main() -> None:
    actions = {action.__name__: action for action in (load, save, restore, process, play)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plugin", type=Path)
    parser.add_argument("action", choices=sorted(actions))
    parser.add_argument("--set", action="append", default=[], help="PARAMETER NAME=NORMALISED VALUE")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--kind", choices=["raw_state", "preset_data"], default="raw_state")
    parser.add_argument("--rate", type=int, default=48000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    began_s, queued_s = time.perf_counter(), queued()
    plugin = pedalboard.load_plugin(str(options.plugin))
    load_s = time.perf_counter() - began_s - (queued() - queued_s)
    print(json.dumps({"load_s": load_s} | actions[options.action](plugin, options)), flush=True)
    os._exit(0)  # its threads are not worth waiting for


if __name__ == "__main__":
    main()
