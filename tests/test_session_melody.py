"""Notes played into a session are the melody of models that read one: their chroma, and the tokens it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from musicgen_fixtures import make_melody, save, save_tokenizer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from attacca.bridge import protocol  # noqa: E402
from attacca.bridge.cli import app  # noqa: E402
from attacca.bridge.midi import read_melody  # noqa: E402
from attacca.bridge.protocol import Midi, Param, Release, Transport, Trigger  # noqa: E402
from attacca.bridge.queues import ALL_SESSIONS, Told  # noqa: E402
from attacca.bridge.session import Session  # noqa: E402
from attacca.bridge.teller import Teller  # noqa: E402
from attacca.engine.bundle import PromptedModel, load_bundle  # noqa: E402
from attacca.engine.chroma import chord_rows, fitted, phrase_rows  # noqa: E402
from attacca.engine.events import ChunkEvent  # noqa: E402
from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.piece import make_piece  # noqa: E402
from attacca.engine.service import Engine  # noqa: E402
from attacca.export.musicgen_bundle import ConvertOptions, convert_musicgen  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
RATE, ROWS, SEED = 8000, 11, 5  # the codec's rate too
BEFORE_S = 0.6  # stream time when the take is triggered


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("melody")
    source = save(make_melody(chroma_length=ROWS), root / "source")
    save_tokenizer(source)
    convert_musicgen(source, root / "bundle", ConvertOptions(window_frames=400))
    return root / "bundle"


@pytest.fixture(scope="module")
def model(folder: Path) -> PromptedModel:
    found = load_bundle(folder)
    assert isinstance(found, PromptedModel)
    return found


class Stage:
    """A session of an offline host; texts and melodies are seen as they are made, in order."""

    def __init__(self, model: PromptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = Engine(model, clock=lambda: 0.0)
        self.chroma: list[np.ndarray | None] = []
        self.texts: list[str] = []
        made = model.prompt

        def prompt(text: str, chroma: np.ndarray | None = None) -> Any:
            self.texts.append(text)
            self.chroma.append(None if chroma is None else fitted(chroma, ROWS))
            return made(text, chroma)

        monkeypatch.setattr(PromptedModel, "prompt", lambda _, text, chroma=None: prompt(text, chroma))
        self.teller = Teller(model, lambda _: None)
        hello = protocol.Hello(client="test", sample_rate=RATE, channels=1)
        self.session = Session(
            1, hello, engine=self.engine, send=lambda _: None, choose_seed=lambda: SEED,
            initial={"top_k": 0, "guidance": 3.0, "temperature": 1.0}, teller=self.teller, now=0.0,
        )  # fmt: skip
        self.codes: list[np.ndarray] = []
        self.send(
            Transport(
                epoch=1, position=0, ppq=0.0, bpm=120.0, meter_num=4, meter_den=4, bar_start_ppq=0.0, playing=True,
                non_realtime=True,
            )
        )  # fmt: skip

    def send(self, message: protocol.Message) -> None:
        self.session.receive(message, b"", 0.0)
        self.session.flush(0.0)
        while events := self.engine.work():
            for event in events:
                self.session.event(event)
                if isinstance(event, ChunkEvent) and event.committed:
                    self.codes.append(event.codes)

    def note(self, at_s: float, note: int, *, on: bool = True) -> None:
        self.send(Midi(position=round(at_s * RATE), data=bytes([0x90 if on else 0x80, note, 100])))

    def trigger(self, at_s: float = BEFORE_S, take: int = 1) -> None:
        self.send(Trigger(take=take, position=round(at_s * RATE), quantum_bars=None, quantum_ppq=0.0))

    def hear(self, from_s: float, to_s: float) -> None:
        """The host's play head moves on."""
        for at in np.arange(from_s, to_s, 0.05):
            self.engine.advance(1, round(at * RATE))
            self.send(Param(name="mix", value=1.0))

    def taken(self, take: int = 1) -> np.ndarray:
        self.send(Release(take=take, position=round(60 * RATE)))
        return np.concatenate(self.codes)


@pytest.fixture
def stage(model: PromptedModel, monkeypatch: pytest.MonkeyPatch) -> Stage:
    model.tell("slow jazz")
    return Stage(model, monkeypatch)


def generated(model: PromptedModel, chroma: np.ndarray | None, frames: int) -> np.ndarray:
    """What `attacca generate --melody` gives, drawn as the session draws."""
    model.tell("slow jazz", chroma)
    return make_piece(model, frames=frames, sampling=Sampling(seed=SEED, guidance=3.0)).codes


def test_a_held_chord_is_the_melody_of_a_take(stage: Stage, model: PromptedModel) -> None:
    for note in (67, 60, 64, 72):
        stage.note(0.1, note)
    assert stage.chroma == []  # nothing plays
    stage.trigger()
    stage.hear(BEFORE_S, 1.6)
    codes = stage.taken()[:40]
    assert len(stage.chroma) == 1
    assert stage.chroma[0].argmax(axis=1).tolist() == [0, 4, 7, 0, 4, 7, 0, 4, 7, 0, 4]
    assert np.array_equal(codes, generated(model, chord_rows([0, 4, 7], ROWS), 60)[:40])
    assert not np.array_equal(codes, generated(model, None, 60)[:40])


def test_what_was_played_before_a_trigger_is_its_melody(stage: Stage, model: PromptedModel) -> None:
    stage.note(0.0, 62)
    for at_s, note in ((0.10, 76), (0.25, 69)):  # the highest note counts
        stage.note(at_s, note)
        stage.note(at_s + 0.14, note, on=False)
    stage.note(0.45, 62, on=False)
    stage.trigger()
    stage.hear(BEFORE_S, 1.6)
    codes = stage.taken()[:40]
    phrase = phrase_rows([0.0, 0.10, 0.24, 0.25, 0.39, 0.45], [2, 4, 2, 9, 2, None], BEFORE_S)
    assert phrase.argmax(axis=1).tolist() == [2, 4, 9, 9, 2]
    assert np.array_equal(stage.chroma[-1], fitted(phrase, ROWS))
    assert np.array_equal(codes, generated(model, phrase, 60)[:40])
    stage.trigger(2.0, take=2)  # nothing was played since
    assert stage.chroma[-1] is None or np.array_equal(stage.chroma[-1], fitted(phrase, ROWS))


def test_a_chord_played_into_a_take_counts_from_the_next_step_on(
    model: PromptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.tell("slow jazz")
    found = []
    for notes in ((), (61, 65)):
        stage = Stage(model, monkeypatch)
        stage.note(0.1, 60)
        stage.trigger()
        stage.hear(BEFORE_S, 1.0)
        done = sum(len(codes) for codes in stage.codes)
        for note in notes:
            stage.note(1.0, note)
        stage.hear(1.0, 2.0)
        found.append(stage.taken())
        monkeypatch.undo()
    assert [None if chroma is None else sorted(set(chroma.argmax(axis=1).tolist())) for chroma in stage.chroma] == [
        [0],
        [0, 1],
        [0, 1, 5],
    ]
    plain, played = found
    length = min(len(plain), len(played))
    first = int(np.flatnonzero((plain[:length] != played[:length]).any(axis=1))[0])
    assert done <= first < done + 30  # what was committed is as it was


def test_text_and_notes_stay_together(stage: Stage, model: PromptedModel) -> None:
    stage.note(0.1, 60)
    stage.trigger()
    stage.send(protocol.Prompt(text="loud techno"))
    assert stage.texts[-1] == "loud techno" and stage.chroma[-1] is not None
    assert set(stage.chroma[-1].argmax(axis=1)) == {0}
    stage.send(Param(name="chord_follow", value=0.0))
    made = len(stage.chroma)
    stage.note(0.3, 64)
    assert len(stage.chroma) == made  # notes command nothing then
    model.tell("drums")
    stage.session.told(Told(session=ALL_SESSIONS, prompt=model.box.prompt))
    stage.teller.close()
    assert stage.session._telling._text == "" and stage.session._telling._melody is not None


def test_notes_of_a_midi_file_are_a_melody(model: PromptedModel, folder: Path, tmp_path: Path) -> None:
    """By the file's own tempo, its highest note; and as the command takes it."""
    song = mido.MidiFile(ticks_per_beat=100)
    low, high = mido.MidiTrack(), mido.MidiTrack()
    song.tracks += [low, high]
    low.append(mido.MetaMessage("set_tempo", tempo=400_000, time=0))  # 0.4 s a quarter
    low += [mido.Message("note_on", note=48, velocity=90), mido.Message("note_off", note=48, time=200)]
    for note in (61, 65):
        high.append(mido.Message("note_on", note=note, velocity=90, time=25))
        high.append(mido.Message("note_on", note=note, velocity=0, time=25))  # off
    song.save(tmp_path / "phrase.mid")
    starts, notes, end_s = read_melody(tmp_path / "phrase.mid")
    assert np.allclose(starts, [0.0, 0.1, 0.2, 0.3, 0.4, 0.8]) and notes == [0, 1, 0, 5, 0, None] and end_s == 0.8
    flags = ["generate", "--model", str(folder), "--text", "slow jazz", "--frames", "12", "--seed", "5"]
    flags += ["--temperature", "1", "--top-k", "0", "--guidance", "3", "--codes", str(tmp_path / "codes.npy")]
    result = CliRunner().invoke(app, [*flags, "--melody", str(tmp_path / "phrase.mid")])
    assert result.exit_code == 0, result.output
    expected = generated(model, phrase_rows(starts, notes, end_s), 12)
    assert np.array_equal(np.load(tmp_path / "codes.npy").T, expected)
    mido.MidiFile().save(tmp_path / "empty.mid")
    refused = CliRunner().invoke(app, [*flags, "--melody", str(tmp_path / "empty.mid")])
    assert refused.exit_code != 0 and "has no notes" in f"{refused.output} {refused.exception}"
