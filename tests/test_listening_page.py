"""The listening page: takes as the engine plays them, the same bytes for the same bundle, nothing missing in it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import typer

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")
import soundfile

from attacca.engine.bundle import load_bundle
from attacca.engine.conditioning import Controls
from attacca.engine.generator import Sampling
from benchmarks import listening, listening_clips, listening_page, listening_takes
from benchmarks.listening import Plan
from benchmarks.listening_clips import RATE, Clip
from benchmarks.listening_takes import FRAME_SAMPLES, Commands, Held
from benchmarks.robustness_signals import Missing

TINY = Path(__file__).parent / "data" / "tiny"
BPM = 120.0
needs_fluidsynth = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="needs the fluidsynth program")


def _labels(frames: int) -> Controls:
    ppq = np.arange(frames) * 0.02 * BPM / 60.0
    classes = np.zeros((frames, 12), np.bool_)
    classes[:, [0, 4, 7]] = True
    yes = np.ones(frames, np.bool_)
    return Controls(
        ppq=ppq,
        bar_start_ppq=np.floor(ppq / 4.0 + 1e-9) * 4.0,
        bpm=np.full(frames, BPM),
        meter_num=np.full(frames, 4, np.int16),
        meter_den=np.full(frames, 4, np.int16),
        pitch_classes=classes,
        instruments=np.ones((frames, 4), np.bool_),
        style=np.zeros(frames, np.int16),
        beat_known=yes,
        chord_known=yes,
        instruments_known=yes,
        style_known=yes,
    )


def _held(number: int = 0, after_s: float = 2.0, **asked: object) -> Held:
    """Two seconds (a bar at 120 BPM) of tones before the join, clicks on the beats, and what follows."""
    del asked
    samples = round((2.0 + after_s) * RATE)
    time = np.arange(samples) / RATE
    tone = 0.1 * np.sin(2 * np.pi * (220.0 + number) * time) * np.exp(-8.0 * (time % 0.5))
    return Held(
        seed=number,
        style="house",
        meter=(4, 4),
        bpm=BPM,
        audio=np.stack([tone, 0.5 * tone], axis=1).astype(np.float32),
        labels=_labels(round((2.0 + after_s) * 50) + 200),
        join=2 * RATE,
    )


def test_a_take_goes_on_where_the_song_was_cut_and_repeats() -> None:
    model, held = load_bundle(TINY), _held()
    takes = [listening_takes.perform(model, held, Commands(held, model), 1.0, Sampling(seed=3)) for _ in range(2)]
    assert takes[0].shape == (3 * RATE, 2)
    assert np.array_equal(takes[0][: held.join], held.audio[: held.join])
    assert takes[0][held.join :].any()
    assert np.array_equal(*takes)


def test_a_step_of_tempo_keeps_what_was_before_it_and_moves_the_grid() -> None:
    model, held = load_bundle(TINY), _held()
    step = held.join + RATE
    commands = Commands(held, model, step=(step, 150.0))
    assert commands.controls(np.array([float(step + RATE)])).bpm[0] == BPM  # a surprise: not known before
    steady = listening_takes.perform(model, held, Commands(held, model), 2.0, Sampling())
    stepped = listening_takes.perform(model, held, commands, 2.0, Sampling())
    assert np.array_equal(stepped[:step], steady[:step])
    assert not np.array_equal(stepped[step:], steady[step:])
    after = commands.controls(np.array([step - 1.0, float(step), float(step + RATE)]))
    assert after.bpm.tolist() == [BPM, 150.0, 150.0]
    assert after.ppq == pytest.approx([6.0, 6.0, 8.5], abs=1e-4)
    clip = listening_takes.shown(held, commands, "stepped", stepped)
    first = 2.0 - clip.join_s
    assert clip.step_s == pytest.approx(3.0 - first)
    assert clip.bars_s == pytest.approx(
        [t - first for t in (0.0, 2.0, 3.0 + 2.0 / 2.5)][-len(clip.bars_s) :], abs=1e-3
    )
    assert np.diff(clip.beats_s) == pytest.approx(
        np.where(np.array(clip.beats_s[1:]) <= clip.step_s + 1e-3, 0.5, 0.4), abs=1e-3
    )


def test_commands_replace_what_they_are_asked_to() -> None:
    model, held = load_bundle(TINY), _held()
    chords = listening_takes.progression([(0, 3, 7), (5, 9, 0)])
    rows = Commands(held, model, chords=chords).frames(0, 6 * RATE)
    assert len(rows) == 300
    bars = [set(np.flatnonzero(rows.pitch_classes[frame])) for frame in (50, 110, 210)]
    assert bars == [{0, 4, 7}, {0, 3, 7}, {0, 5, 9}]
    untold = Commands(held, model, told=False).frames(0, RATE)
    assert not any(getattr(untold, f"{name}_known").any() for name in ("beat", "chord", "instruments", "style"))
    assert not rows.style_known.any() or "house" in model.conditioning.styles


def test_figures_know_the_beats_that_are_there() -> None:
    model, held = load_bundle(TINY), _held(after_s=6.0)
    scores = listening_takes.figures(held, Commands(held, model), held.audio)
    assert scores["beat F1 70 ms"] == pytest.approx(1.0)
    assert "beat F1 70 ms" not in listening_takes.figures(held, Commands(held, model), held.audio[: 3 * RATE])
    off = np.roll(held.audio, FRAME_SAMPLES * 12, axis=0)  # 240 ms: nearly half a beat
    assert listening_takes.figures(held, Commands(held, model), off)["beat F1 70 ms"] < 0.2


def test_a_serial_number_is_set_and_the_sound_stays(tmp_path: Path) -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal((RATE, 2)).astype(np.float32)
    for name in ("a", "b"):
        listening_clips.write_sound(tmp_path / f"{name}.ogg", sound, serial=7)
    assert (tmp_path / "a.ogg").read_bytes() == (tmp_path / "b.ogg").read_bytes()
    heard, rate = soundfile.read(tmp_path / "a.ogg")  # refuses a page whose checksum is wrong
    assert (rate, heard.shape) == (RATE, sound.shape)
    same = np.repeat(sound[:, :1], 2, axis=1)
    listening_clips.write_sound(tmp_path / "mono.ogg", same, serial=1)
    assert soundfile.info(tmp_path / "mono.ogg").channels == 1
    with pytest.raises(ValueError, match="no Ogg page"):
        listening_clips.with_serial(b"RIFF" + bytes(40), 1)


def test_the_spectrogram_stands_where_the_tone_is() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 900.0 * np.arange(RATE) / RATE)[:, None]
    picture = listening_clips.spectrogram(tone.astype(np.float32), 10)
    rows = np.geomspace(45.0, 18000.0, len(picture))
    assert rows[picture[:, 5].argmax()] == pytest.approx(900.0, rel=0.03)
    assert -12.0 < picture[:, 5].max() < -5.5  # -6 dBFS, less what falls between rows
    assert np.median(picture[:, 5]) < -60.0


class _Links(HTMLParser):
    """Every file that a page names; fails on tags left open or closed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.files: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.files += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _page(folder: Path) -> _Links:
    links = _Links()
    links.feed((folder / "index.html").read_text(encoding="utf-8"))
    links.close()
    assert not links.open
    return links


_SMALL = Plan(pieces=("noise-bursts", "gone"), songs=1, styles=("house",), seconds=1.6, step_s=2.6)


def test_the_page_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing(*_: object) -> None:
        raise Missing("a package")

    noise = next(item for item in listening.ITEMS if item.name == "noise-bursts")
    monkeypatch.setattr(
        listening, "ITEMS", (noise, replace(noise, name="gone", about="a lost song", package="lost", make=nothing))
    )
    monkeypatch.setattr(listening, "held_song", _held)
    monkeypatch.setattr(listening, "QUICK", _SMALL)
    listening.main(bundle=str(TINY), out=tmp_path, seed=0, quick=True, packages=tmp_path, threads=1)
    links = _page(tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    assert files == {"index.html", *links.files}  # nothing missing, nothing left over
    assert len(links.files) == 2 * (2 * 3 + 4 + 1 + 2 + 3)  # a sound and a picture a clip
    assert sum((tmp_path / path).stat().st_size for path in files) < 600_000
    assert "6 rows" in capsys.readouterr().out
    assert "a lost song (Debian: lost)" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_page_too_large_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_BYTES", 1000)
    monkeypatch.setattr(listening, "make_sections", lambda *_: [])
    (tmp_path / "large").write_bytes(bytes(1001))
    with pytest.raises(typer.Exit):
        listening.main(bundle=str(TINY), out=tmp_path, seed=0, quick=True, packages=tmp_path, threads=1)


def test_what_was_on_an_older_page_goes_and_names_are_unique(tmp_path: Path) -> None:
    clip = Clip(title="a <b> & c", audio=np.full((RATE, 2), 0.1, np.float32), bars_s=(0.5,), join_s=0.5)
    row = listening_page.Row(name="row", title="<t>", about="", clips=(clip,), numbers=("",))
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "old-0.ogg").write_bytes(b"old")
    sections = [listening_page.Section(title="s", text="", rows=(row,))]
    size = listening_page.write_page(tmp_path, "title", "", sections, "")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    listening_page.write_page(tmp_path, "title", "", sections, "")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert size == sum(path.stat().st_size for path in tmp_path.rglob("*.*"))
    assert sorted(_page(tmp_path).files) == ["audio/row-0.ogg", "img/row-0.webp"]
    assert not (tmp_path / "audio" / "old-0.ogg").exists()
    with pytest.raises(ValueError, match="one name"):
        listening_page.write_page(tmp_path, "title", "", sections * 2, "")


@needs_fluidsynth
def test_a_held_out_song_is_cut_on_a_bar_line_with_everyone_playing() -> None:
    held = listening_takes.held_song(5, 2.0, style="metal", bpm=150.0, meter=(4, 4))
    bar = 4 * 60.0 / 150.0 * RATE
    assert held.seed >= 1_000_000
    assert held.join % bar == pytest.approx(0.0, abs=1.0)
    assert held.join >= 6 * RATE
    assert len(held.audio) >= held.join + 2 * RATE
    assert held.labels.instruments.all()
    assert (held.labels.bpm == pytest.approx(150.0)) and held.meter == (4, 4)
