"""The plugin's audio half: record for record and bit for bit what the reference client's does, under any script."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from audio_twins import ACTIONS, CHANNEL_OF, KEYS, RING_S, TURNED, Twins, drawn
from conftest import Native
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_audio import NativeAudio

from attacca.bridge.host_transport import Play, Seek, Stop, Tempo

pytestmark = pytest.mark.plugin

LONG_RUNS = 20

pitches = st.sampled_from(KEYS)
notes = st.builds(
    lambda pitch, kind, velocity: bytes((kind | CHANNEL_OF[pitch], pitch, velocity)),
    pitches, st.sampled_from((0x90, 0x90, 0x80)), st.sampled_from((0, 1, 64, 127)),
)  # fmt: skip
controls = st.builds(
    lambda channel, number, value: bytes((0xB0 | channel, number, value)),
    st.integers(0, 2), st.sampled_from((64, 64, 64, 120, 121, 123, 1)), st.sampled_from((0, 63, 64, 127)),
)  # fmt: skip
others = st.sampled_from((b"\xe0\x00\x40", b"\xc0\x05", b"\xd1\x20"))
actions = st.sampled_from(ACTIONS)
sizes = st.one_of(st.integers(1, 2048), st.sampled_from((0, 1, 64, 441, 512, 2048)))
aheads = st.one_of(st.integers(-3000, 6000), st.integers(-50, 50))
blocks = st.tuples(st.just("block"), sizes)
chunks = st.tuples(st.just("chunk"), st.integers(0, 2), aheads, st.integers(1, 4000), st.booleans())
full_chunks = st.tuples(st.just("chunk"), st.just(0), st.integers(0, 500), st.integers(2000, 9000), st.just(True))
press = st.tuples(st.just("midi"), st.integers(0, 2048), st.just(b"\x90\x18\x64"))
steps = st.one_of(
    blocks,
    blocks,
    blocks,
    chunks,
    full_chunks,
    full_chunks,
    press,
    st.tuples(st.just("midi"), st.integers(0, 2048), st.one_of(notes, notes, controls, others)),
    st.tuples(st.just("parameter"), st.sampled_from(TURNED), st.sampled_from((0.0, 0.3, 0.5, 0.62, 1.0))),
    st.tuples(st.just("restore"), st.sampled_from(("trigger", "mode")), st.sampled_from((0.0, 1.0))),
    st.tuples(st.just("host_does"), actions),
    st.tuples(st.just("glide"), st.sampled_from((-0.02, -0.004, 0.003, 0.01)), sizes, st.integers(1, 12)),
    st.tuples(st.just("on_launch"), st.integers(-200, 200), st.integers(1, 4000)),
    st.tuples(st.just("session"), st.booleans()),
    st.tuples(st.just("end"), st.integers(0, 1), st.integers(0, 1), aheads),
    st.tuples(st.just("engine_take"), st.integers(0, 1), st.integers(0, 1), aheads),
    st.tuples(st.just("bypass"), st.booleans()),
    st.tuples(st.just("go_offline"), st.booleans()),
    st.tuples(st.just("settle")),
)
QUICK = [("parameter", "quantum", 0.125), ("parameter", "lookahead_ms", 0.5)]  # 1/16


def run(native: Native, rate: int, channels: int, bpm: str, meter: tuple[int, int], script: list) -> Twins:
    with NativeAudio(native.library, rate=rate, channels=channels, ring_s=RING_S) as audio:
        twins = Twins(audio, rate=rate, channels=channels, bpm=bpm, meter=meter)
        for name, *arguments in [("session", True), *QUICK, *script, ("block", 100)]:
            getattr(twins, name)(*arguments)
        return twins


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.sampled_from((8000, 44100, 48000)),
    channels=st.integers(1, 2),
    bpm=st.sampled_from(("60", "123.45", "480", "999.5")),
    meter=st.sampled_from(((4, 4), (7, 8), (5, 4))),
    script=st.lists(steps, max_size=60),
)
def test_any_script_as_the_reference(
    native: Native, rate: int, channels: int, bpm: str, meter: tuple[int, int], script: list
) -> None:
    run(native, rate, channels, bpm, meter, script)


UP, DOWN = ("midi", 3, b"\x80\x18\x00"), ("midi", 3, b"\x90\x18\x64")
ON_BARS = [("parameter", "quantum", 0.625), ("parameter", "release_quantized", 1.0)]
SOUNDS = [DOWN, ("block", 500), ("feed", 2.0, False), *[("block", 500)] * 10]  # at 480 BPM a bar is half a second
SCENES = {
    "stopped while held, then a new session": [
        *SOUNDS, ("host_does", Stop()), ("block", 500), ("session", True), ("block", 500), ("host_does", Play()),
        *[("block", 500)] * 3,
    ],
    "a session lost and found under a held take": [
        *SOUNDS, ("session", False), *[("block", 2000)] * 12, ("session", True), ("block", 500),
        ("feed", 0.5, True),
        *[("block", 500)] * 8,
    ],
    "a take of the engine's while ours waits for its end": [
        *ON_BARS, *SOUNDS, UP, ("block", 500), ("engine_take", 0, 0, 100), ("block", 500), ("feed", 0.5, False),
        *[("block", 500)] * 4,
    ],
    "a tempo change while a take waits for its end": [
        *ON_BARS, *SOUNDS, UP, ("block", 500), ("host_does", Tempo(bpm=Fraction(97))), *[("block", 1500)] * 12,
    ],
    "a glide under a take that sounds": [
        *ON_BARS, *SOUNDS, *[("glide", 0.005, 200, 4), ("feed", 0.3, False)] * 6, UP, ("glide", 0.005, 200, 6),
        ("feed", 0.3, False), *[("block", 500)] * 8,
    ],
    "a glide under a take that the engine begins meanwhile": [
        *ON_BARS, DOWN, ("glide", -0.005, 200, 6), ("on_launch", -12, 4000), ("glide", -0.005, 200, 4),
        ("block", 500), ("feed", 0.3, False), *[("block", 500)] * 8,
    ],
    "a glide while nothing comes": [*SOUNDS, ("glide", 0.004, 200, 60), *[("block", 1500)] * 6],
    "an armed take moves with a seek": [
        *ON_BARS, DOWN, ("block", 500), ("host_does", Seek(ppq=Fraction(801, 100))), ("block", 500),
        ("feed", 1.0, False), *[("block", 500)] * 10,
    ],
    "offline, a wait for what does not come": [
        ("go_offline", True), DOWN, ("block", 500), ("settle",), ("block", 500), ("feed", 1.0, False),
        *[("settle",), ("block", 500)] * 8,
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SCENES)
def test_scenes_as_the_reference(native: Native, name: str) -> None:
    assert run(native, 8000, 2, "480", (4, 4), SCENES[name]).dues, "nothing was ever due"


def long_run(native: Native, seed: int, count: int) -> Twins:
    chance = np.random.default_rng(seed)
    rate, bpm = int(chance.choice((8000, 44100, 48000))), str(chance.choice(("97", "123.45", "480", "999.5")))
    meter = ((4, 4), (7, 8), (5, 4))[seed % 3]
    return run(native, rate, 1 + seed % 2, bpm, meter, drawn(chance, count))


def test_long_sessions_as_the_reference(native: Native) -> None:
    """Sessions of 250 blocks each; together they meet every rung of the ladder and every way into a take."""
    runs = [long_run(native, seed, 250) for seed in range(LONG_RUNS)]
    counters = [vars(run.reference.playback.counters) for run in runs]
    for name in counters[0]:
        assert sum(count[name] for count in counters) > 0, f"no run met {name}"
    assert sum(run.reference.wait_timeouts for run in runs) > 0
    assert sum(run.heard > 0.0 for run in runs) > LONG_RUNS / 2


@pytest.mark.slow
def test_many_long_sessions_as_the_reference(native: Native) -> None:
    for seed in range(LONG_RUNS, 30 * LONG_RUNS):
        long_run(native, seed, 250)
