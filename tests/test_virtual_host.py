"""The virtual host: exact musical time, blocks, tracks, loops, scripts, and pacing on an injected clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.bridge.client_config import At, HostBlock
from attacca.bridge.host_tracks import AudioTrack, MidiTrack
from attacca.bridge.host_transport import HostConfig, Loop, Meter, Play, Seek, Stop, Tempo
from attacca.bridge.protocol import Param
from attacca.bridge.virtual_host import FlatOut, VirtualHost


class Probe:
    """A plugin that notes its calls and passes audio through, negated."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, HostBlock]] = []
        self.events: list[tuple[int, object]] = []
        self.wet = np.zeros((0, 1), np.float32)

    def process(self, position: int, host: HostBlock, events: Sequence[At], audio: np.ndarray) -> np.ndarray:
        self.calls.append((position, len(audio), host))
        self.events += [(position + at.offset, at.event) for at in events]
        self.wet = -audio
        return -audio


def host_of(rate: int = 48000, block: int = 512, **settings: object) -> VirtualHost:
    tracks = {name: settings.pop(name) for name in ("audio", "midi", "clock") if name in settings}
    return VirtualHost(
        HostConfig(sample_rate=rate, block_samples=block, **settings), **{"clock": FlatOut(), **tracks}
    )


@pytest.mark.parametrize("rate", [32000, 44100, 48000, 96000])
@pytest.mark.parametrize("bpm", ["60", "97", "123.45", "180"])
def test_blocks_are_contiguous_and_time_is_exact(rate: int, bpm: str) -> None:
    host, probe = host_of(rate, 441, bpm=Fraction(bpm), meter=(7, 8)), Probe()
    host.run(probe, 3 * rate)
    position = 0
    for at, count, block in probe.calls:
        assert at == position
        position += count
        exact = at * Fraction(bpm) / (60 * rate)
        assert block.ppq == float(exact)
        assert block.bar_start_ppq == float(exact // Fraction(7, 2) * Fraction(7, 2))
    assert position == 3 * rate


@settings(max_examples=50, deadline=None)
@given(
    script=st.lists(
        st.tuples(
            st.integers(0, 9000),
            st.sampled_from(
                [Play(), Stop(), Seek(ppq=Fraction(13, 3)), Tempo(bpm=Fraction(97)), Meter(num=7, den=8)]
            ),
        ),
        max_size=6,
    ),
    block=st.sampled_from([1000, 64, 333]),
)
def test_block_size_changes_nothing_but_the_cuts(script: list, block: int) -> None:
    """Any block size sees the same musical time at the same stream position."""
    fine, coarse = Probe(), Probe()
    host_of(8000, 250).run(fine, 10000, script=script)
    host_of(8000, block).run(coarse, 10000, script=script)
    seen = {at: host for at, _, host in fine.calls}
    shared = [(at, host) for at, _, host in coarse.calls if at in seen]
    assert len(shared) >= 1
    assert all(seen[at] == host for at, host in shared)
    assert {at for at, _ in script} <= set(seen) & {at for at, _, _ in coarse.calls}


def test_script_of_transport_gives_exact_blocks() -> None:
    host, probe = host_of(8000, 4000), Probe()
    host.run(
        probe,
        20000,
        script=[(4000, Stop()), (8000, Play()), (9000, Tempo(bpm=Fraction(60))), (12000, Seek(ppq=Fraction(64)))],
    )
    rows = [(at, count, block.ppq, block.bpm, block.playing) for at, count, block in probe.calls]
    assert rows == [
        (0, 4000, 0.0, 120.0, True),
        (4000, 4000, 1.0, 120.0, False),
        (8000, 1000, 1.0, 120.0, True),
        (9000, 3000, 1.25, 60.0, True),
        (12000, 4000, 64.0, 60.0, True),
        (16000, 4000, 64.5, 60.0, True),
    ]


def test_loop_wraps_on_the_sample_and_never_drifts() -> None:
    host, probe = host_of(44100, 512, bpm=Fraction("123.45")), Probe()
    start, end = Fraction(0), Fraction(4)
    host.run(probe, 20 * 44100, script=[(0, Loop(start_ppq=start, end_ppq=end))])
    per = Fraction("123.45") / (60 * 44100)
    wraps = [at for (at, _, a), (_, _, b) in zip(probe.calls[1:], probe.calls, strict=False) if a.ppq < b.ppq]
    assert wraps == [math.ceil(4 * n / per) for n in range(1, len(wraps) + 1)]
    assert len(wraps) == 10
    for at, _, block in probe.calls:
        assert block.ppq == float(at * per % 4)
        assert block.loop == (0.0, 4.0)


def test_audio_track_plays_by_song_position_and_loops_without_drift() -> None:
    samples = np.arange(1, 1001, dtype=np.float32)[:, None] / 1000
    per = Fraction(2, 8000)
    track = AudioTrack(samples, loop_samples=Fraction(1001, 2))
    heard = np.concatenate([track.render(at * per, per, 77, 1) for at in range(0, 77 * 40, 77)])[:, 0]
    expected = [samples[at - math.ceil(at // Fraction(1001, 2) * Fraction(1001, 2)), 0] for at in range(77 * 40)]
    np.testing.assert_array_equal(heard, np.array(expected, np.float32))
    once = AudioTrack(samples)
    assert not once.render(Fraction(1000) * per, per, 50, 1).any()
    np.testing.assert_array_equal(once.render(Fraction(990) * per, per, 50, 2)[:10, 1], samples[990:, 0])


def test_audio_track_goes_on_through_a_tempo_change_and_can_be_muted() -> None:
    samples = np.arange(1, 4001, dtype=np.float32)[:, None] / 4000
    host = host_of(8000, 100, audio=AudioTrack(samples, mute_from_ppq=Fraction(3, 4)))
    dry = host.run(Probe(), 4000, script=[(1000, Tempo(bpm=Fraction(60)))]).dry[:, 0]
    np.testing.assert_array_equal(dry, samples[:4000, 0])  # the mute lies at sample 5000
    muted = host_of(8000, 100, audio=AudioTrack(samples, mute_from_ppq=Fraction(1, 4)))
    dry = muted.run(Probe(), 2000).dry[:, 0]
    np.testing.assert_array_equal(dry[:1000], samples[:1000, 0])
    assert not dry[1000:].any()


def test_midi_notes_fall_on_the_first_sample_at_or_after_their_beat() -> None:
    host = host_of(44100, 64, bpm=Fraction(97), midi=MidiTrack.note(60, Fraction(1, 3), Fraction(3, 4), channel=3))
    probe = Probe()
    recording = host.run(probe, 44100)
    per = Fraction(97) / (60 * 44100)
    on, off = math.ceil(Fraction(1, 3) / per), math.ceil(Fraction(3, 4) / per)
    assert recording.events == [(on, bytes([0x93, 60, 100])), (off, bytes([0x83, 60, 0]))]
    assert [at for at, _ in probe.events] == [on, off]


def test_midi_file_is_read_by_beats(tmp_path: Path) -> None:
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=600000)]))
    file.tracks.append(
        mido.MidiTrack([mido.Message("note_on", note=30, time=720), mido.Message("note_off", note=30, time=240)])
    )
    path = tmp_path / "clip.mid"
    file.save(str(path))
    found = MidiTrack.from_file(path).events(Fraction(0), Fraction(1, 100), 1000)
    assert [at.offset for at in found] == [150, 200]
    path.write_bytes(b"MThd nonsense")
    with pytest.raises(ValueError, match="no readable MIDI file"):
        MidiTrack.from_file(path)


def test_scripted_plugin_events_arrive_at_their_position() -> None:
    probe, event = Probe(), Param(name="drums", value=1.0)
    host_of(8000, 512).run(probe, 4000, script=[(0, At(offset=9, event=event)), (1033, At(offset=0, event=event))])
    assert [at for at, _ in probe.events] == [0, 1033]
    assert [count for _, count, _ in probe.calls][:3] == [512, 512, 512]


class Paced:
    """A clock whose sleeps take a little longer than asked, as real ones do."""

    def __init__(self) -> None:
        self.now = 100.0

    def now_s(self) -> float:
        return self.now

    def sleep_until(self, at_s: float) -> None:
        self.now = max(self.now, at_s) + 0.0003


class Slow(Probe):
    def __init__(self, clock: Paced, block: int) -> None:
        super().__init__()
        self.clock, self.block = clock, block

    def process(self, position: int, host: HostBlock, events: Sequence[At], audio: np.ndarray) -> np.ndarray:
        self.clock.now += 0.030 if position == 10 * self.block else 0.001
        return super().process(position, host, events, audio)


def test_pacing_does_not_drift_and_late_callbacks_are_counted() -> None:
    clock = Paced()
    recording = host_of(8000, 80, clock=clock).run(Slow(clock, 80), 8000 * 5)
    assert clock.now - 100.0 == pytest.approx(5.0 - 0.01 + 0.0013, abs=1e-6)
    assert 1 <= recording.late_callbacks <= 4
    assert not recording.blocks[0].host.non_realtime


@pytest.mark.parametrize(
    "setting",
    [{"sample_rate": 100}, {"block_samples": 0}, {"channels": 3}, {"bpm": Fraction(0)}, {"meter": (4, 5)}],
)
def test_configuration_is_validated(setting: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(setting)).split("_")[0]):
        HostConfig(**{"sample_rate": 48000, "block_samples": 64, **setting})


def test_recording_holds_what_was_fed_heard_and_generated() -> None:
    samples = np.linspace(-1, 1, 1000, dtype=np.float32)[:, None]
    recording = host_of(8000, 64, audio=AudioTrack(samples)).run(Probe(), 1000)
    np.testing.assert_array_equal(recording.dry, samples)
    np.testing.assert_array_equal(recording.output, -samples)
    np.testing.assert_array_equal(recording.wet, -samples)
