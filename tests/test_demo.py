"""The demo end to end with the fake backend, its material, its measures and its picture."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from direct_engine import DirectEngine, connected
from paced import paced
from rich.console import Console

from attacca.bridge import demo, demo_measure
from attacca.bridge.audiofile import AudioFileError
from attacca.bridge.client_config import At
from attacca.bridge.client_network import Arrival
from attacca.bridge.demo import LEAD_BARS, DemoError, DemoOptions, run_demo, score_of
from attacca.bridge.demo_material import load_material, parse_meter
from attacca.bridge.drawing import mel_spectrogram
from attacca.bridge.host_transport import HostConfig
from attacca.bridge.protocol import Chunk, Trigger
from attacca.bridge.transport import nearest_sample
from attacca.bridge.virtual_host import FlatOut, VirtualHost

QUIET = Console(quiet=True)
KEYS = {"rtf", "ttfa_ms", "start_error_samples", "underruns", "control_latency_ms", "late_samples", "fallbacks",
        "lookahead_ms", "machine", "versions", "options"}  # fmt: skip


def tone(path: Path, rate: int, seconds: float, channels: int) -> Path:
    t = np.arange(round(rate * seconds)) / rate
    samples = 0.3 * np.sin(2 * np.pi * np.array([220.0, 330.0])[None, :channels] * t[:, None])
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def test_riff_flat_out_leaves_three_files_and_true_figures(tmp_path: Path) -> None:
    result = run_demo(DemoOptions(fake=True, flat_out=True, bars=2, out=tmp_path), console=QUIET)
    told = json.loads((tmp_path / "demo.json").read_text())
    assert set(told) >= KEYS
    assert set(told["rtf"]) == {"decoder", "codec", "total"}
    assert told["start_error_samples"] == 0
    assert told["underruns"] == {"callbacks": 0, "samples": 0}
    assert 0 < told["rtf"]["total"] < 5
    assert told["ttfa_ms"] is None  # flat out, the host waits
    assert told["control_latency_ms"] is None or 0 < told["control_latency_ms"] < 1000
    assert told["seed"] == 1
    samples, rate = soundfile.read(tmp_path / "demo.wav")
    assert (rate, len(samples)) == (48000, (LEAD_BARS + 2 + 1) * 2 * 48000)
    assert (tmp_path / "demo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert result.png == tmp_path / "demo.png"


def test_a_text_for_a_model_that_takes_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="takes no text; leave --text out"):
        run_demo(DemoOptions(fake=True, flat_out=True, bars=1, text="slow jazz", out=tmp_path), console=QUIET)


@pytest.mark.timeout(300)
def test_an_offline_render_is_the_same_every_time(tmp_path: Path) -> None:
    """The shipped model, two engine processes: whatever the machine was busy with, the same samples."""
    renders = []
    for name in ("one", "other"):
        run_demo(DemoOptions(flat_out=True, bars=1, out=tmp_path / name), console=QUIET)
        renders.append(soundfile.read(tmp_path / name / "demo.wav", dtype="float32")[0])
    assert np.abs(renders[0][LEAD_BARS * 96000 :]).max() > 0.01
    assert np.array_equal(renders[0], renders[1])


def test_users_file_in_seven_eight(tmp_path: Path) -> None:
    """44.1 kHz host, 441 samples a block, 97 BPM, a stereo file of another rate that is too short."""
    options = DemoOptions(
        input=tone(tmp_path / "my.wav", 22050, 3.1, 2),
        bpm=97,
        meter="7/8",
        sample_rate=44100,
        block=441,
        bars=1,
        fake=True,
        flat_out=True,
        out=tmp_path / "new" / "folder",
    )
    said = Console(record=True, file=(tmp_path / "said").open("w"))
    measures = run_demo(options, console=said).measures
    assert measures["start_error_samples"] == 0
    assert 0 < abs(measures["start_error_exact_samples"]) <= 0.5
    text = " ".join(said.export_text().split())
    assert "resampled from 22050 to 44100 Hz" in text
    assert "looped every 2 bars" in text
    assert soundfile.info(options.out / "demo.wav").channels == 2


@paced
def test_paced_demo_keeps_time(tmp_path: Path) -> None:
    options = DemoOptions(bpm=240, bars=1, fake=True, out=tmp_path)
    measures = run_demo(options, console=QUIET).measures
    assert measures["start_error_samples"] == 0
    assert measures["underruns"]["samples"] == 0
    assert measures["ttfa_ms"] < 1000


@pytest.mark.parametrize("bpm", ["60", "97", "123.45", "180", "240"])
@pytest.mark.parametrize("meter", [(4, 4), (3, 4), (5, 4), (6, 8), (7, 8), (1, 4)])
def test_note_comes_in_the_middle_of_a_beat_of_the_last_bar(bpm: str, meter: tuple[int, int]) -> None:
    score = score_of(Fraction(bpm), meter, 8)
    beat = Fraction(4, meter[1])
    assert score.start_ppq == LEAD_BARS * meter[0] * beat
    assert score.start_ppq - score.bar_ppq <= score.note_on_ppq < score.start_ppq
    assert score.note_on_ppq / beat % 1 == Fraction(1, 2)
    assert score.note_off_ppq == score.start_ppq + 8 * score.bar_ppq
    lead_s = (score.start_ppq - score.note_on_ppq) * 60 / Fraction(bpm)
    assert lead_s >= Fraction(6, 10) or score.note_on_ppq - beat < score.start_ppq - score.bar_ppq


def test_riff_follows_the_tempo_like_a_tape() -> None:
    slow = load_material(None, sample_rate=32000, bpm=60.0, meter=None, needed_bars=13)
    assert slow.bpm == 60
    assert "0.500 of its speed" in slow.notes[0]
    plain = load_material(None, sample_rate=32000, bpm=None, meter=None, needed_bars=13)
    assert plain.notes == ()
    assert (plain.bpm, plain.meter) == (120, (4, 4))
    # Four bars later it is the same again: the loop is exact.
    per = Fraction(120, 60 * 32000)
    first = plain.track.render(Fraction(0), per, 32000, 1)
    again = plain.track.render(Fraction(16), per, 32000, 1)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first).max() > 0.05


@pytest.mark.parametrize(
    ("seconds", "looped"), [(8.0, "4 bars"), (8.05, "4 bars"), (8.3, "5 bars"), (0.5, "1 bar"), (60.0, None)]
)
def test_short_files_loop_in_whole_bars(tmp_path: Path, seconds: float, looped: str | None) -> None:
    path = tone(tmp_path / "a.wav", 8000, seconds, 1)
    material = load_material(path, sample_rate=8000, bpm=120.0, meter="4/4", needed_bars=13)
    assert (f"looped every {looped}" in " ".join(material.notes)) == (looped is not None)
    assert material.notes == () or looped is not None


@pytest.mark.parametrize("text", ["", "4", "4-4", "x/4", "/", "3/4/5"])
def test_bad_meters_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="not of the form 7/8"):
        parse_meter(text)


@pytest.mark.parametrize("setting", [{"bpm": 5.0}, {"bars": 0}, {"sample_rate": 100}, {"block": 0}, {"seed": -1}])
def test_options_are_validated(setting: dict) -> None:
    with pytest.raises(ValueError, match="outside"):
        DemoOptions(**setting)


def test_what_cannot_be_read_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="no such file"):
        run_demo(DemoOptions(input=tmp_path / "none.wav", fake=True, out=tmp_path), console=QUIET)


def test_engine_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"(?s)the engine ended.*no-such-model"):
        run_demo(DemoOptions(model="no-such-model", out=tmp_path), console=QUIET)


def test_midi_file_without_a_trigger_is_refused(tmp_path: Path) -> None:
    import mido

    file = mido.MidiFile()
    file.tracks.append(mido.MidiTrack([mido.Message("note_on", note=90, time=480)]))
    file.save(str(tmp_path / "high.mid"))
    options = DemoOptions(midi=tmp_path / "high.mid", bars=1, fake=True, flat_out=True, out=tmp_path)
    with pytest.raises(DemoError, match="starts a take"):
        run_demo(options, console=QUIET)


def test_no_picture_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run_demo(DemoOptions(bars=1, fake=True, flat_out=True, out=tmp_path), console=QUIET)
    assert result.png is None
    assert result.wav.exists()


@pytest.mark.parametrize("shift", [0, 1, -3, 250])
def test_start_error_is_measured_not_assumed(shift: int) -> None:
    """An engine that places its chunks wrongly, or begins with silence, is seen for what it does."""

    def displaced(chunk: Chunk, payload: bytes) -> list[tuple[Chunk, bytes]]:
        samples = np.frombuffer(payload, "<f4").copy()
        samples[: max(0, 8040 - chunk.position)] = 0.0
        fields = {name: getattr(chunk, name) for name in chunk.__struct_fields__}
        return [(Chunk(**fields | {"position": chunk.position + shift}), samples.tobytes())]

    rate = 32000
    client = connected(DirectEngine(spoil=displaced), rate)
    config = HostConfig(sample_rate=rate, block_samples=512, start_ppq=Fraction(7, 2))
    host = VirtualHost(config, clock=FlatOut(), non_realtime=False)
    recording = host.run(client, 20000, script=[(2000, At(offset=0, event=Trigger(take=0, position=0)))])
    marks = demo_measure.marks_of(client, recording, client.takes.records[0], Fraction(8000))
    assert marks.start is not None
    assert marks.start - nearest_sample(marks.bar_line) == shift


def arrival(position: int, *, committed: bool, read_end: int, level: float = 0.0) -> Arrival:
    chunk = Chunk(
        session=1, epoch=1, take=1, seq=0, position=position, ppq=0.0, samples=1000, channels=1, first_frame=0,
        frames=0, committed=committed,
    )  # fmt: skip
    head = np.zeros((4, 1), np.float32)
    return Arrival(at_s=0.0, chunk=chunk, kept_samples=1, read_end=read_end, head=head, digest=round(level * 10))


def test_control_latency_does_not_count_what_was_under_way() -> None:
    arrivals = [
        arrival(1000, committed=False, read_end=0),
        arrival(1000, committed=True, read_end=200),
        arrival(2000, committed=False, read_end=400),
        arrival(2000, committed=True, read_end=600),
        arrival(3000, committed=False, read_end=600),  # under way when the control changed
        arrival(3000, committed=False, read_end=650),  # planned again
        arrival(3000, committed=True, read_end=900),
    ]
    latency = demo_measure._control_latency_ms
    assert latency(arrivals, 500, 1000, told=None) == 2500.0
    assert latency(arrivals, None, 1000, told=None) is None
    plain = [entry for entry in arrivals if entry.read_end != 650]
    assert latency(plain, 500, 1000, told=None) is None
    later = [*plain, arrival(4000, committed=False, read_end=900)]
    assert latency(later, 500, 1000, told=3500) == 3500.0
    assert latency(later, 500, 1000, told=3900) == 3900.0  # from the middle of a chunk on
    assert latency(later, 500, 1000, told=4500) is None
    other = [*plain[:-1], arrival(3000, committed=True, read_end=900, level=0.5)]  # committed, but not as planned
    assert latency(other, 500, 1000, told=None) == 2500.0


def test_a_demo_without_a_generated_sample_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_measure, "_measured_start", lambda *_: None)
    with pytest.raises(DemoError, match="no generated sample was heard"):
        run_demo(DemoOptions(fake=True, flat_out=True, bars=1, out=tmp_path), console=QUIET)
    assert not (tmp_path / "demo.json").exists()


def test_spectrogram_finds_a_tone() -> None:
    rate = 32000
    levels, centres = mel_spectrogram(np.sin(2 * np.pi * 1000 * np.arange(rate) / rate), rate)
    loudest = centres[levels[len(levels) // 2].argmax()]
    assert abs(loudest - 1000) < 60


def test_a_dead_engine_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = demo.EngineProcess.__enter__

    def killed(self: demo.EngineProcess) -> demo.EngineProcess:
        engine = begin(self)
        perform = demo._perform

        def perform_and_kill(client, running, *rest):  # type: ignore[no-untyped-def]
            running.process.kill()
            running.process.wait()
            return perform(client, running, *rest)

        monkeypatch.setattr(demo, "_perform", perform_and_kill)
        return engine

    monkeypatch.setattr(demo.EngineProcess, "__enter__", killed)
    with pytest.raises(DemoError, match="in the middle of the demo"):
        run_demo(DemoOptions(fake=True, flat_out=True, bars=1, out=tmp_path), console=QUIET)
