"""FluidSynth as a library: one pass gives every track of a song dry, in stereo; between the song and the desk.

Notes are placed by sample, from the song's exact tempo map, on FluidSynth's 64-sample blocks: an onset is at most
half a block (0.67 ms at 48 kHz) from its place, whatever the tempo does, and never drifts.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from attacca.training.music.song import Song
from attacca.training.music.soundfont import RenderError, find_soundfont

BLOCK_SAMPLES = 64
BEND_CENTS = 200.0  # a full pitch bend, FluidSynth's default
_BEND_EVERY_S = 0.1
_DRUM_TYPE, _VOLUME = 1, 7
_FLOAT_POINTER = ctypes.POINTER(ctypes.c_float)
Cents = npt.NDArray[np.float64]
Tracks = npt.NDArray[np.float32]  # [tracks, 2, samples]


@cache
def library() -> ctypes.CDLL:
    """libfluidsynth 2 or later, which the fluidsynth program brings. Raises RenderError naming the package."""
    name = ctypes.util.find_library("fluidsynth")
    if name is None:
        raise RenderError("libfluidsynth is not installed; on Debian: apt install fluidsynth fluid-soundfont-gm")
    lib = ctypes.CDLL(name)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    floats = ctypes.POINTER(_FLOAT_POINTER)
    signatures: dict[str, tuple[object, tuple[object, ...]]] = {
        "new_fluid_settings": (pointer, ()),
        "delete_fluid_settings": (None, (pointer,)),
        "fluid_settings_setint": (number, (pointer, text, number)),
        "fluid_settings_setnum": (number, (pointer, text, ctypes.c_double)),
        "new_fluid_synth": (pointer, (pointer,)),
        "delete_fluid_synth": (None, (pointer,)),
        "fluid_synth_sfload": (number, (pointer, text, number)),
        "fluid_synth_set_channel_type": (number, (pointer, number, number)),
        "fluid_synth_program_change": (number, (pointer, number, number)),
        "fluid_synth_cc": (number, (pointer, number, number, number)),
        "fluid_synth_pitch_bend": (number, (pointer, number, number)),
        "fluid_synth_noteon": (number, (pointer, number, number, number)),
        "fluid_synth_noteoff": (number, (pointer, number, number)),
        "fluid_synth_process": (number, (pointer, number, number, floats, number, floats)),
        "fluid_set_log_function": (pointer, (number, pointer, pointer)),
    }
    for symbol, (result, arguments) in signatures.items():
        function = getattr(lib, symbol)
        function.restype, function.argtypes = result, list(arguments)
    for level in (2, 3, 4):  # warnings and below: a kit's missing keys are no news
        lib.fluid_set_log_function(level, None, None)
    return lib


class _Synth:
    """A synthesiser with a channel and an output pair per track; a context manager."""

    def __init__(self, tracks: int, rate: int, gain: float) -> None:
        self._lib = library()
        self._settings = self._lib.new_fluid_settings()
        numbers = {"synth.sample-rate": float(rate), "synth.gain": gain}
        wholes = {
            "synth.audio-channels": tracks,
            "synth.audio-groups": tracks,
            "synth.chorus.active": 0,
            "synth.reverb.active": 0,
            "synth.midi-channels": 16 * -(-tracks // 16),  # its steps; tracks beyond them would be silent
            "synth.polyphony": 512,
            "synth.cpu-cores": 1,
            "synth.threadsafe-api": 0,
            "synth.lock-memory": 0,
            "synth.dynamic-sample-loading": 1,
        }
        for name, number in numbers.items():
            self._lib.fluid_settings_setnum(self._settings, name.encode(), number)
        for name, whole in wholes.items():
            self._lib.fluid_settings_setint(self._settings, name.encode(), whole)
        self.handle = self._lib.new_fluid_synth(self._settings)

    def __enter__(self) -> _Synth:
        font = find_soundfont()
        if self.handle is None or self._lib.fluid_synth_sfload(self.handle, str(font).encode(), 1) < 0:
            self.__exit__()
            raise RenderError(f"fluidsynth cannot load {font}")
        return self

    def __exit__(self, *_: object) -> None:
        if self.handle is not None:
            self._lib.delete_fluid_synth(self.handle)
        self._lib.delete_fluid_settings(self._settings)

    def process(self, out: Tracks, start: int, count: int) -> None:
        """Add `count` samples to out[:, :, start:]."""
        pairs = out.shape[0] * 2
        base, stride = out.ctypes.data + 4 * start, 4 * out.shape[2]
        pointers = (_FLOAT_POINTER * pairs)(*(ctypes.cast(base + i * stride, _FLOAT_POINTER) for i in range(pairs)))
        self._lib.fluid_synth_process(self.handle, count, 0, None, pairs, pointers)


def play(
    song: Song, num_samples: int, *, rate: int = 48000, cents: Sequence[Cents] = (), gain: float = 0.5
) -> Tracks:
    """The first `num_samples` of every track, dry: float32 [tracks, 2, num_samples].

    cents: per track, its tuning against 440 Hz, a value each 100 ms (the last one holds). Raises RenderError.
    """
    blocks = -(-num_samples // BLOCK_SAMPLES)
    out = np.zeros((len(song.tracks), 2, blocks * BLOCK_SAMPLES), dtype=np.float32)
    lib = library()
    with _Synth(len(song.tracks), rate, gain) as synth:
        for number, track in enumerate(song.tracks):
            lib.fluid_synth_set_channel_type(synth.handle, number, _DRUM_TYPE * (track.instrument == "drums"))
            lib.fluid_synth_program_change(synth.handle, number, track.program)
            lib.fluid_synth_cc(synth.handle, number, _VOLUME, track.level)
        now = 0
        for block, kind, channel, first, second in _events(song, rate, cents, blocks):
            if block > now:
                synth.process(out, now * BLOCK_SAMPLES, (block - now) * BLOCK_SAMPLES)
                now = block
            if kind == 0:
                lib.fluid_synth_noteoff(synth.handle, channel, first)
            elif kind == 1:
                lib.fluid_synth_pitch_bend(synth.handle, channel, first)
            else:
                lib.fluid_synth_noteon(synth.handle, channel, first, second)
        if blocks > now:
            synth.process(out, now * BLOCK_SAMPLES, (blocks - now) * BLOCK_SAMPLES)
    return out[:, :, :num_samples]


def _events(song: Song, rate: int, cents: Sequence[Cents], blocks: int) -> list[tuple[int, int, int, int, int]]:
    """(block, kind, channel, first, second) in order; at one block notes end, tunings change, notes begin."""
    events: list[tuple[int, int, int, int, int]] = []

    def block_of(tick: int) -> int:
        return (song.tempo.sample(tick, rate) + BLOCK_SAMPLES // 2) // BLOCK_SAMPLES

    for note in song.notes:
        begin = block_of(note.start_ticks)
        if begin < blocks:
            end = max(begin + 1, block_of(note.start_ticks + note.duration_ticks))
            events.append((begin, 2, note.track, note.pitch, note.velocity))
            events.append((end, 0, note.track, note.pitch, 0))
    for channel, curve in enumerate(cents):
        last = -1
        for i, value in enumerate(curve):
            bend = int(np.clip(round(8192 * (1.0 + value / BEND_CENTS)), 0, 16383))
            if bend != last:
                events.append((round(i * _BEND_EVERY_S * rate / BLOCK_SAMPLES), 1, channel, bend, 0))
                last = bend
    return sorted(e for e in events if e[0] < blocks)
