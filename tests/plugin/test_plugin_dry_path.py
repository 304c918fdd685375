"""What the plugin does to the sound that only passes through it: nothing, in any buffers, whatever comes in."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from conftest import Native
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_audio import OPENED, NativeAudio

from attacca.bridge.client_config import HostBlock
from attacca.bridge.client_network import Due
from attacca.bridge.protocol import Audio, Release, Trigger
from attacca.bridge.ring import Samples

pytestmark = pytest.mark.plugin

RATE = 48000
RAMP = round(0.005 * RATE)
STANDING = HostBlock(ppq=0.0, bpm=120.0, playing=False)
ON, OFF = b"\x90\x18\x64", b"\x80\x18\x00"
AT_ONCE = 0.0  # of the parameter quantum
FULL_SCALE_STEP = 2.0 / RAMP  # what a ramp of 5 ms adds to a signal's own steps, at full scale on both sides


def noise(count: int, channels: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, channels)).astype(np.float32)


def sounding(audio: NativeAudio, samples: int = 3 * RATE) -> None:
    """A take at once, all of it here: constant 0.5."""
    audio.note(OPENED)
    audio.set("quantum", AT_ONCE)
    audio.process(HostBlock(ppq=0.0, bpm=120.0), [], np.zeros((64, audio.channels), np.float32))
    playing = HostBlock(ppq=64 / RATE * 2, bpm=120.0)
    audio.process(playing, [(0, ON)], np.zeros((64, audio.channels), np.float32))
    due = next(record.message for record in audio.sent() if isinstance(record.message, Due))
    wet = np.full((samples, audio.channels), 0.5, np.float32)
    assert audio.write(128, wet, committed=True, generation=due.generation) == samples


def go_on(audio: NativeAudio, samples: Samples, block: int) -> Samples:
    """Blocks of the playing host from where it is."""
    out = []
    for start in range(0, len(samples), block):
        host = HostBlock(ppq=audio.meters["position"] / RATE * 2, bpm=120.0)
        out.append(audio.process(host, [], samples[start : start + block], in_place=start % 2 == 0))
    return np.concatenate(out)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    channels=st.integers(1, 2),
    blocks=st.lists(st.integers(0, 2048), min_size=1, max_size=8),
    in_place=st.booleans(),
    max_block=st.sampled_from((1, 64, 1000, 8192)),
    mix=st.sampled_from((0.0, 0.25, 0.5)),
)
def test_passes_bit_for_bit(
    native: Native, channels: int, blocks: list[int], in_place: bool, max_block: int, mix: float
) -> None:
    """Without a take, at any mix up to the middle; floats of every kind."""
    chance = np.random.default_rng(sum(blocks))
    with NativeAudio(native.library, rate=RATE, channels=channels, max_block_samples=max_block) as audio:
        audio.set("mix", mix)
        for count in blocks:
            sent = chance.integers(0, 2**32, (count, channels), dtype=np.uint32).view(np.float32)
            found = audio.process(STANDING, [], sent, in_place=in_place)
            assert found.tobytes() == sent.tobytes()


@pytest.mark.parametrize("channels", [1, 2])
def test_mix_0_is_dry_alone_while_a_take_sounds(native: Native, channels: int) -> None:
    with NativeAudio(native.library, rate=RATE, channels=channels) as audio:
        audio.set("mix", 0.0)
        sounding(audio)
        sent = noise(RATE, channels)
        assert go_on(audio, sent, 480).tobytes() == sent.tobytes()
        assert audio.meters["sounding"]


def test_bypass_is_exact_after_its_ramp_and_never_clicks(native: Native) -> None:
    with NativeAudio(native.library, rate=RATE, channels=2) as audio:
        audio.set("mix", 1.0)
        sounding(audio)
        sent = (0.8 * np.sin(np.arange(4 * 4800) / 200)).astype(np.float32)[:, None].repeat(2, axis=1)
        parts = []
        for index in range(4):
            audio.bypass(index % 2 == 1)
            parts.append(go_on(audio, sent[index * 4800 : (index + 1) * 4800], 100))
        heard = np.concatenate(parts)
        for index, part in enumerate(parts):
            passed = sent[index * 4800 : (index + 1) * 4800] if index % 2 else np.full_like(part, 0.5)
            assert part[RAMP + 1 :].tobytes() == passed[RAMP + 1 :].tobytes()
        assert np.abs(np.diff(heard[RAMP + 200 :], axis=0)).max() < FULL_SCALE_STEP + 0.005
        assert audio.meters["underrun_samples"] == 0  # it went on unheard


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_nonsense_passes_and_poisons_nothing(native: Native, bad: float) -> None:
    """What is no number goes out as it came in, to the engine as 0; nothing of it stays."""
    with NativeAudio(native.library, rate=RATE, channels=2) as audio:
        audio.set("solo", 1.0)  # gains move when the take enters
        sounding(audio, RATE)
        audio.sent()
        sent = noise(4800, 2)
        sent[100:200, 0] = bad
        go_on(audio, sent, 480)
        told = [np.frombuffer(record.payload, "<f4").reshape(-1, 2) for record in audio.sent() if record.payload]
        heard = np.concatenate(told)
        expected = np.where(np.isfinite(sent), sent, np.float32(0.0))
        assert heard[-len(expected) :].tobytes() == expected.tobytes()
        assert audio.call("bad_input") == (0 if np.isfinite(bad) else 100)
        after = go_on(audio, np.zeros((2 * RATE, 2), np.float32), 480)
        assert np.isfinite(after).all()
        assert not after[-480:].any()
        clean = noise(480, 2)
        assert go_on(audio, clean, 480).tobytes() == clean.tobytes()


def test_denormals_are_flushed_inside_and_only_there(native: Native) -> None:
    library = native.library
    with NativeAudio(library, rate=RATE) as audio:
        audio.set("mix", 0.75)  # dry at half
        tiny = np.full((64, 1), 1e-39, np.float32)
        assert not audio.process(STANDING, [], tiny).any()
    library.attacca_audio_flushes.restype = ctypes.c_int32
    assert not library.attacca_audio_flushes()


def test_no_input_is_silence_and_no_samples_are_a_block_too(native: Native) -> None:
    with NativeAudio(native.library, rate=RATE, channels=2) as audio:
        audio.note(OPENED)
        audio.set("quantum", AT_ONCE)
        assert not audio.process(STANDING, [], None, count=1000).any()
        assert len(audio.process(STANDING, [(0, ON), (7, OFF)], None, count=0)) == 0
        kinds = [type(record.message) for record in audio.sent()]
        assert kinds.count(Trigger) == kinds.count(Release) == 1
        assert kinds.count(Audio) == 1
        assert audio.meters["position"] == 1000
        assert not audio.process(STANDING, [], None, count=50).any()


def test_long_blocks_are_many_short_ones(native: Native) -> None:
    """Longer than it was told: every sample and record is as if the host had cut them."""
    sent, heard, told = noise(5000, 2), [], []
    for block, most in ((5000, 500), (500, 500)):
        with NativeAudio(native.library, rate=RATE, channels=2, max_block_samples=most) as audio:
            sounding(audio)
            audio.sent()
            heard.append(go_on(audio, sent, block))
            messages = [record.message for record in audio.sent()]
            told.append([message for message in messages if isinstance(message, Audio)])
    assert heard[0].tobytes() == heard[1].tobytes()
    assert told[0] == told[1]


def test_levels_are_noted_where_they_were(native: Native) -> None:
    with NativeAudio(native.library, rate=RATE, channels=2) as audio:
        sounding(audio)
        sent = np.zeros((4800, 2), np.float32)
        sent[1000, 1] = -0.25
        go_on(audio, sent, 700)
        found = np.zeros(3, np.float32)
        slots = {}
        for position in range(0, 4800, 240):
            audio.call("peaks", position, found.ctypes.data)
            slots[position] = found.tolist()
        at = (128 + 1000) // 240 * 240
        assert slots[at] == pytest.approx([0.25, 0.5, 0.0], abs=1e-4)
        assert all(slot[0] == 0.0 for position, slot in slots.items() if position != at)


# --- a trigger parameter out of a saved project ---------------------------------------------------------------


def takes_begun(audio: NativeAudio) -> tuple[int, int]:
    """Triggers and releases that one more block sends."""
    audio.process(STANDING, [], np.zeros((64, 1), np.float32))
    messages = [record.message for record in audio.sent()]
    return sum(isinstance(m, Trigger) for m in messages), sum(isinstance(m, Release) for m in messages)


@pytest.mark.parametrize("connected", ["before", "after"])
def test_a_trigger_saved_high_starts_nothing(native: Native, connected: str) -> None:
    with NativeAudio(native.library, rate=RATE) as audio:
        audio.set("quantum", AT_ONCE)
        if connected == "before":
            audio.note(OPENED)
        audio.restore("trigger", 1.0)
        assert takes_begun(audio) == (0, 0)
        if connected == "after":
            audio.note(OPENED)
        assert takes_begun(audio) == (0, 0)
        audio.set("trigger", 0.0)
        assert takes_begun(audio) == (0, 0)
        audio.set("trigger", 1.0)
        assert takes_begun(audio) == (1, 0)
        audio.set("trigger", 0.0)
        assert takes_begun(audio) == (0, 1)


@pytest.mark.parametrize("restored", [0.0, 1.0])
@pytest.mark.parametrize("acted", [False, True])
def test_a_state_loaded_over_a_held_trigger_lets_it_go(native: Native, restored: float, acted: bool) -> None:
    with NativeAudio(native.library, rate=RATE) as audio:
        audio.set("quantum", AT_ONCE)
        audio.note(OPENED)
        assert takes_begun(audio) == (0, 0)
        audio.set("trigger", 1.0)
        if acted:
            assert takes_begun(audio) == (1, 0)
        audio.restore("trigger", restored)
        assert takes_begun(audio) == (0, 1 if acted else 0)
        audio.set("trigger", 0.0)
        audio.set("trigger", 1.0)
        assert takes_begun(audio) == (1, 0)
