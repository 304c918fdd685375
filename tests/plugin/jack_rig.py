"""A JACK host in a process of its own: dummy server, timebase master, MIDI in, recording out; prints one JSON line.

Around a plugin's standalone or an LV2 host (jalv). The timebase rounds its ticks down to whole ones, as JACK
masters do, so what a client is told of bars is off by up to a tick; the transport frame is exact. With --still
there is neither transport nor timebase, and frames count from when everything was connected. Run as a script.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import jack
import numpy as np
import soundfile

TICKS = 1920  # of a beat, as many masters have it
_BARS, _BARS_OFFSET = 0x10, 0x40  # JackPositionBBT, JackBBTFrameOffset


class Rig:
    """Two clients in one process: what feeds the plugin (MIDI, transport) and what records it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.bpm = Fraction(options.bpm)
        self.meter_num, self.meter_den = (int(part) for part in options.meter.split("/"))
        self.first_ppq = Fraction(options.first_ppq)
        self.still_from: int | None = None  # JACK's frame time that counts as 0 with --still
        self.notes = [(int(at), bytes.fromhex(data)) for at, data in (note.split(":") for note in options.midi)]
        self.lines = [(float(at), text) for at, _, text in (line.partition(":") for line in options.say)]
        self.deeds = [(float(at), command) for at, _, command in (deed.partition(":") for deed in options.do)]
        self.played: np.ndarray | None = None  # [samples, 2], round and round from frame 0
        if options.play is not None:
            samples, rate = soundfile.read(options.play, dtype="float32", always_2d=True)
            if rate != options.rate:
                raise ValueError(f"{options.play} is at {rate} Hz, the server at {options.rate} Hz")
            self.played = np.repeat(samples[:, :1], 2, axis=1) if samples.shape[1] == 1 else samples[:, :2]
        self.sent: list[int] = []
        self.cycles: dict[int, int] = {}  # JACK's frame time -> transport frame
        self.recorded: dict[int, np.ndarray] = {}
        self.xruns = 0
        self.feeder = jack.Client("feeder", servername=options.server, no_start_server=True)
        self.taker = jack.Client("taker", servername=options.server, no_start_server=True)
        self.midi = self.feeder.midi_outports.register("midi")
        self.sources = [self.feeder.outports.register(f"out{index}") for index in range(2)]
        self.inputs = [self.taker.inports.register(f"in{index}") for index in range(2)]
        self.feeder.set_process_callback(self._feed)
        self.feeder.set_xrun_callback(self._xrun)
        self.taker.set_process_callback(self._take)
        if not options.still:
            self.feeder.set_timebase_callback(self._timebase)

    def _xrun(self, _delayed_us: float) -> None:
        self.xruns += 1

    def _feed(self, frames: int) -> None:
        self.midi.clear_buffer()
        for port in self.sources:
            port.get_array()[:] = 0.0
        state, position = self.feeder.transport_query_struct()
        frame = position.frame
        if self.still_from is not None:
            frame = self.feeder.last_frame_time - self.still_from
        if frame < 0 or (state != jack.ROLLING and self.still_from is None):
            return
        self.cycles[self.feeder.last_frame_time] = frame
        if self.played is not None:
            block = self.played[np.arange(frame, frame + frames) % len(self.played)]
            for index, port in enumerate(self.sources):
                port.get_array()[:] = block[:, index]
        for at, data in self.notes:
            if frame <= at < frame + frames:
                self.midi.write_midi_event(at - frame, data)
                self.sent.append(at)

    def _take(self, _frames: int) -> None:
        self.recorded[self.taker.last_frame_time] = np.stack([port.get_array() for port in self.inputs], axis=1)

    def _timebase(self, _state: int, _blocksize: int, position: object, _new: bool) -> None:
        at = position.frame - self.options.bbt_offset
        ppq = self.first_ppq + Fraction(at) * self.bpm / (60 * self.feeder.samplerate)
        beats = ppq * Fraction(self.meter_den, 4)
        whole = math.floor(beats)
        position.valid = _BARS | (_BARS_OFFSET if self.options.bbt_offset else 0)
        position.bbt_offset = self.options.bbt_offset
        position.bar = whole // self.meter_num + 1
        position.beat = whole % self.meter_num + 1
        position.tick = math.floor((beats - whole) * TICKS)
        position.bar_start_tick = float((position.bar - 1) * self.meter_num * TICKS)
        position.beats_per_bar = float(self.meter_num)
        position.beat_type = float(self.meter_den)
        position.ticks_per_beat = float(TICKS)
        # JACK counts tempo in beats of the meter; what a master with a quarter-note tempo must convert.
        position.beats_per_minute = float(self.bpm * Fraction(self.meter_den, 4))

    def wait_for(self, pattern: str, *, midi: bool, inputs: bool, count: int) -> list[jack.Port]:
        deadline = time.monotonic() + 45.0
        while time.monotonic() < deadline:
            ports = self.feeder.get_ports(
                pattern, is_midi=midi, is_audio=not midi, is_input=inputs, is_output=not inputs
            )
            if len(ports) >= count:
                return ports
            time.sleep(0.1)
        raise TimeoutError(f"no {count} ports like {pattern!r}: {[port.name for port in self.feeder.get_ports()]}")

    def connect(self, source: object, to: object) -> None:
        """A client's ports are there before it is active; until it is, JACK refuses."""
        deadline = time.monotonic() + 10.0
        while True:
            try:
                return self.feeder.connect(source, to)
            except jack.JackErrorCode:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def run(self, say: Callable[[str], object]) -> None:
        """Connect, roll, record; `say` writes to the plugin's host."""
        self.feeder.activate()
        self.taker.activate()
        pattern = re.escape(self.options.client)
        midi_in = self.wait_for(pattern, midi=True, inputs=True, count=1)[0]
        outputs = self.wait_for(pattern, midi=False, inputs=False, count=self.options.channels)
        self.connect(self.midi, midi_in)
        for port, source in zip(self.inputs, outputs, strict=False):
            self.connect(source, port)
        if self.played is not None:
            audio_in = self.wait_for(pattern, midi=False, inputs=True, count=self.options.channels)
            for source, port in zip(self.sources, audio_in, strict=False):
                self.connect(source, port)
        time.sleep(self.options.settle_s)
        if self.options.still:
            self.still_from = self.feeder.last_frame_time + 10 * self.feeder.blocksize
        else:
            self.feeder.transport_locate(self.options.start_frame)
            time.sleep(0.1)
            self.feeder.transport_start()
        began = time.monotonic()
        while time.monotonic() < began + self.options.seconds:
            time.sleep(0.05)
            while self.lines and time.monotonic() >= began + self.lines[0][0]:
                say(self.lines.pop(0)[1] + "\n")
            while self.deeds and time.monotonic() >= began + self.deeds[0][0]:
                subprocess.run(shlex.split(self.deeds.pop(0)[1]), check=True)
        self.feeder.transport_stop()
        time.sleep(0.2)

    def result(self) -> np.ndarray:
        """[samples, 2] from the first frame that rolled on; holes are NaN."""
        if not self.cycles:
            raise RuntimeError("the transport never rolled")
        cycles = dict(self.cycles)  # the server's thread still adds to it
        first, last = min(cycles.values()), max(cycles.values())
        block = self.feeder.blocksize
        audio = np.full((last - first + block, 2), np.nan, np.float32)
        for at, frame in cycles.items():
            if at in self.recorded:
                audio[frame - first : frame - first + block] = self.recorded[at]
        return audio


def screen() -> tuple[subprocess.Popen[str] | None, dict[str, str]]:
    """A virtual screen for the standalone's window where there is none, and what tells of it. To be ended."""
    if "DISPLAY" in os.environ or shutil.which("Xvfb") is None:
        return None, {}
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "900x621x24"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    return server, {"DISPLAY": f":{server.stdout.readline().strip()}", "LIBGL_ALWAYS_SOFTWARE": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default=f"attacca-{os.getpid()}")
    parser.add_argument("--rate", type=int, default=48000)
    parser.add_argument("--block", type=int, default=256)
    parser.add_argument("--bpm", default="120")
    parser.add_argument("--meter", default="4/4")
    parser.add_argument("--midi", action="append", default=[], help="FRAME:HEX, e.g. 40000:901864")
    parser.add_argument("--first-ppq", default="0", help="quarters at frame 0, e.g. 1/3")
    parser.add_argument(
        "--bbt-offset", type=int, default=0, help="frames before a cycle of which the timebase tells"
    )
    parser.add_argument("--say", action="append", default=[], help="SECONDS:TEXT, to the command while it rolls")
    parser.add_argument("--play", type=Path, help="sound that the plugin hears, round and round from frame 0")
    parser.add_argument("--do", action="append", default=[], help="SECONDS:COMMAND, run while it rolls, in order")
    parser.add_argument("--still", action="store_true", help="no transport, no timebase")
    parser.add_argument("--start-frame", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--settle-s", type=float, default=0.5)
    parser.add_argument("--client", required=True, help="a part of the plugin's JACK client name")
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("command", nargs="+", help="what to run; it must become a JACK client")
    options = parser.parse_args()
    server = subprocess.Popen(
        ["jackd", "-n", options.server, "-r", "-d", "dummy", "-r", str(options.rate), "-p", str(options.block)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    plugin = None
    display, shown = screen()
    try:
        environment = os.environ | shown | {"JACK_DEFAULT_SERVER": options.server, "JACK_NO_START_SERVER": "1"}
        deadline = time.monotonic() + 10.0
        while True:
            try:
                rig = Rig(options)
                break
            except jack.JackError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.2)
        plugin = subprocess.Popen(
            options.command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            text=True,
            bufsize=1,
        )
        assert plugin.stdin is not None
        rig.run(plugin.stdin.write)
        audio = rig.result()
        audio.tofile(options.out)
        first = min(rig.cycles.values())
        alive = plugin.poll() is None
        print(json.dumps({"first_frame": first, "sent": rig.sent, "xruns": rig.xruns, "alive": alive}), flush=True)
    finally:
        for process in (plugin, server, display):
            if process is not None:
                process.terminate()
                try:
                    process.wait(3.0)
                except subprocess.TimeoutExpired:
                    process.kill()
    os._exit(0)  # JACK's own threads would wait for a server that is gone


if __name__ == "__main__":
    main()
