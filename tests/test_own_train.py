"""`attacca train`: a folder to a bundle that loads, interrupted and gone on, in two processes as in one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from own_music import RATE, make_music, write_folder

pytest.importorskip("librosa")
torch = pytest.importorskip("torch")

import soundfile  # noqa: E402

from attacca.bridge.cli import app  # noqa: E402
from attacca.engine.bundle import load_bundle  # noqa: E402
from attacca.engine.manifest import read_manifest  # noqa: E402
from attacca.export.bundle import write_bundle  # noqa: E402
from attacca.export.codec import tiny_codec, tiny_config, write_codec  # noqa: E402
from attacca.training.decoder_data import TokenSongs  # noqa: E402
from attacca.training.decoder_train import load_decoder  # noqa: E402
from attacca.training.own import finetune  # noqa: E402
from attacca.training.own.dataset import Job, load_labels, look  # noqa: E402
from attacca.training.own.distributed import World, world  # noqa: E402
from attacca.training.own.run import OwnOptions, train_own  # noqa: E402
from attacca.training.own.scorecard import continue_codes, f1_score, pick_onsets  # noqa: E402
from attacca.training.own.sound import SoundFile, find_sounds, read_sound  # noqa: E402
from attacca.training.own.weights import read_decoder  # noqa: E402

pytestmark = pytest.mark.train
TINY = Path(__file__).parent / "data" / "tiny"
UPDATES = 24
Run = Callable[..., tuple[int, str, str]]
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two songs of four seconds, two long enough for beats that are sure, and what cannot be used."""
    folder = write_folder(tmp_path_factory.mktemp("mine") / "music", songs=2, seconds=4.0)
    for index in range(2):
        soundfile.write(folder / f"long {index}.wav", make_music(bpm=120.0, seconds=26.0, seed=9), RATE)
    return folder


@pytest.fixture
def attacca(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: object) -> tuple[int, str, str]:
        code = app([str(arg) for arg in args], standalone_mode=False)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def command(music: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("train", "--data", music, "--model", TINY, "--out", out, "--updates", UPDATES, "--learning-rate", 0.02,
            "--workers", 1, *more)  # fmt: skip


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_decoder(path).state_dict()


def test_a_folder_becomes_a_bundle_and_an_interrupted_run_the_same_bundle(
    attacca: Run, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = attacca(*command(music, tmp_path / "whole"))
    assert code == 0, err
    assert "4 files, 1.0 min; 4 skipped" in out and "skipped: too short: 0.1 s" in out and "held-out songs" in out
    assert f"attacca serve --model {tmp_path / 'whole'}" in out
    assert attacca("models", "verify", tmp_path / "whole")[0] == 0
    manifest, base = read_manifest(tmp_path / "whole"), read_manifest(TINY)
    assert (manifest.name, manifest.decoder.precision) == ("whole", "int8")
    assert manifest.provenance["fine_tuned_from"] == "tiny 1" and manifest.provenance["files"] == 4
    assert manifest.files["codec_encoder"].sha256 == base.files["codec_encoder"].sha256
    assert manifest.sampling == base.sampling
    model = load_bundle(tmp_path / "whole")
    assert model.runtime.shape.window == base.window_frames
    scorecard = json.loads((tmp_path / "whole.training" / "scorecard.json").read_text())["bits"]
    assert scorecard["after"]["bits_per_frame"] < scorecard["before"]["bits_per_frame"] - 1.0
    assert len(scorecard["after"]["bits"]) == 4

    updates = 0

    def interrupt(self: finetune.FineTuner, songs: object) -> list[float]:
        nonlocal updates
        updates += 1
        if updates == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, songs)

    update = finetune.FineTuner.update
    monkeypatch.setattr(finetune.FineTuner, "update", interrupt)
    assert attacca(*command(music, tmp_path / "parts"))[0] == 130
    assert not (tmp_path / "parts").exists()
    monkeypatch.undo()
    code, out, err = attacca(*command(music, tmp_path / "parts", "--json"))
    assert (code, updates) == (0, 7), err
    assert json.loads(out)["bits"] == scorecard
    one, other = (weights(tmp_path / f"{name}.training" / "decoder.pt") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    graphs = [(tmp_path / name / "decoder.onnx").read_bytes() for name in ("whole", "parts")]
    assert graphs[0] == graphs[1] != (TINY / "decoder.onnx").read_bytes()
    # Once more: all is there, nothing is trained, the bundle may be written again.
    assert attacca(*command(music, tmp_path / "parts"))[0] == 0
    assert (tmp_path / "parts" / "decoder.onnx").read_bytes() == graphs[0]


def test_onsets_of_held_out_songs_are_scored_where_beats_are_sure(attacca: Run, tmp_path: Path) -> None:
    for index in range(2):
        (tmp_path / "music").mkdir(exist_ok=True)
        audio = make_music(bpm=120.0, seconds=40.0, seed=index)
        soundfile.write(tmp_path / "music" / f"{index}.wav", audio, RATE)
    code, out, err = attacca(*command(tmp_path / "music", tmp_path / "b", "--updates", 1, "--json"))
    assert code == 0, err
    onsets = json.loads(out)["onset_f1_70ms"]
    assert onsets["songs"] == 1 and set(onsets) == {"songs", "song", "before", "after"}
    for name in ("song", "before", "after"):
        assert 0.0 <= onsets[name]["f1"] <= 1.0 and 0.0 < onsets[name]["chance"] < 0.7
    data = tmp_path / "b.training" / "data"
    (labels,) = (data / "heldout").glob("*.npz")
    codes = np.load(data / "tokens" / "heldout" / f"{labels.stem}.npy")[:600]
    made = continue_codes(load_bundle(TINY), codes, load_labels(labels).slice(0, 600), seed=3)
    np.testing.assert_array_equal(made[:200], codes[:200])
    assert made.shape == codes.shape and (made[200:] != codes[200:]).mean() > 0.5


def test_a_bundle_of_a_stereo_codec_is_fine_tuned_on_both_sides(music: Path, tmp_path: Path) -> None:
    small, base = tiny_config(), read_manifest(TINY)
    config = replace(small, spectral=replace(small.spectral, pan_bands=6))
    section = write_codec(*tiny_codec(config, seed=2), tmp_path)
    shutil.copyfile(TINY / "decoder.onnx", tmp_path / "decoder.onnx")
    given = ("licence", "sample_rate", "hop_samples", "num_codebooks", "codebook_size", "window_frames", "pattern")
    fields = {name: getattr(base, name) for name in (*given, "conditioning", "decoder", "sampling")}
    files = {role: entry.path for role, entry in base.files.items()}
    write_bundle(tmp_path, {"name": "two", "version": "1", "codec": section, **fields}, files)
    options = OwnOptions(data=music, out=str(tmp_path / "s"), model=str(tmp_path), updates=1, workers=1)
    train_own(options, lambda *told: None, show=lambda rows, splits: None)
    made = load_bundle(tmp_path / "s")
    assert made.codec.audio_channels == 2
    (left,) = [look(Job(file=file, bundle=tmp_path, shortest_s=1.0, keep=tmp_path))
               for file in find_sounds(music) if file.name == "song 0.wav"]  # fmt: skip
    codes = np.load(tmp_path / f"{left.key}.npy")
    pcm = read_sound(music / "song 0.wav", sample_rate=RATE, audio_channels=2, shortest_s=1.0)
    np.testing.assert_array_equal(codes, made.codec.encoder().push(pcm))
    assert np.abs(pcm[:, 1] - 0.5 * pcm[:, 0]).max() < 1e-3


def test_onsets_are_picked_on_clicks() -> None:
    audio = make_music(bpm=100.0, seconds=20.0, rate=22050, start_s=0.5)
    picked, beats = pick_onsets(audio, 0.6), 0.5 + 0.6 * np.arange(33)
    assert f1_score(picked, beats, 0.03) > 0.97
    assert f1_score(picked, beats + 0.3, 0.07) < 0.1


def test_a_dry_run_only_looks(attacca: Run, music: Path, tmp_path: Path) -> None:
    options = ("train", "--data", music, "--model", TINY, "--out", tmp_path / "out", "--workers", 1, "--dry-run")
    code, out, err = attacca(*options)
    assert code == 0, err
    assert "long 0.wav" in out and "4 files, 1.0 min; 4 skipped" in out
    assert list(tmp_path.iterdir()) == []
    rows = {row["name"]: row for row in json.loads(attacca(*options, "--json")[1])}
    assert rows["long 0.wav"]["bpm"] == pytest.approx(120.0, abs=1.0)
    assert rows["long 0.wav"]["beat_confidence"] > 0.6 and rows["long 0.wav"]["chord_known"] > 0.8
    assert rows["silent.flac"]["problem"] == "silent"


def test_mistakes_are_one_line(attacca: Run, music: Path, tmp_path: Path) -> None:
    def line(*more: object, data: Path = music) -> str:
        code, out, err = attacca("train", "--data", data, "--model", TINY, "--workers", 1, *more)
        assert (code, out) == (2, "")
        (found,) = [text for text in err.splitlines() if text.startswith("attacca: ")]
        return found

    assert "is not a folder" in line("--out", tmp_path / "a", data=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no audio files" in line("--out", tmp_path / "b", data=tmp_path / "empty")
    assert "minutes is 0, allowed" in line("--minutes", 0)
    assert "precision is 'int2', allowed" in line("--precision", "int2")
    assert "the bundle's name is 'Mine!'" in line("--out", "Mine!")
    assert "was not made by attacca train" in line("--out", TINY)
    (tmp_path / "c.training").mkdir()
    (tmp_path / "c.training" / "plan.json").write_text(json.dumps({"seed": 5}))
    assert "was begun with" in line("--out", tmp_path / "c")


def test_a_checkpoint_to_start_from_must_fit(music: Path, tmp_path: Path) -> None:
    base = read_decoder(TINY)
    values = {"config": {**base.config.as_dict(), "layers": 1}, "ema": base.state_dict()}
    values["ema"] = {name: value for name, value in values["ema"].items() if not name.startswith("layers.1.")}
    torch.save(values, tmp_path / "decoder.pt")
    options = OwnOptions(data=music, out=str(tmp_path / "d"), model=str(TINY), checkpoint=tmp_path / "decoder.pt",
                         updates=1, workers=1)  # fmt: skip
    with pytest.raises(ValueError, match="holds DecoderConfig"):
        train_own(options, lambda *told: None, show=lambda rows, splits: None)


def test_a_world_of_one_is_what_it_is_without_torchrun() -> None:
    with world("cpu") as here:
        assert here == World() and here.first and here.share(8) == slice(0, 8)
    assert World(rank=2, size=4).share(8) == slice(4, 6)


def test_two_processes_do_what_one_does(music: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    arguments = [str(part) for part in command(music, tmp_path / "two", "--updates", 3, "--json")]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "attacca.bridge.cli", *arguments],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=90) for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    assert told[1][0] == ""
    assert json.loads(told[0][0])["bits"]["after"]["updates"] == 3
    options = OwnOptions(data=music, out=str(tmp_path / "one"), model=str(TINY), updates=3, batch=16, workers=1,
                         learning_rate=0.02)  # fmt: skip
    train_own(options, lambda *said: None, show=lambda rows, splits: None)
    one, two = (
        torch.load(tmp_path / f"{name}.training" / "decoder.pt", weights_only=True) for name in ("one", "two")
    )
    assert one["random"]["numpy"] == two["random"]["numpy"]  # the same batches were drawn
    start = read_decoder(TINY).state_dict()
    for name, weight in one["model"].items():
        moved, apart = (weight - start[name]).abs().max(), (weight - two["model"][name]).abs().mean()
        assert apart < 0.1 * moved, name


def test_helpers_on_other_cores_share_the_batch(music: Path, tmp_path: Path) -> None:
    options = OwnOptions(data=music, out=str(tmp_path / "h"), model=str(TINY), updates=2, workers=1)
    train_own(options, lambda *told: None, show=lambda rows, splits: None)
    config = finetune.recipe(window_frames=48, minutes=1.0, updates=2, batch=8, seed=0, workers=2)
    data, layout = tmp_path / "h.training" / "data", read_manifest(TINY).conditioning.layout
    finetune.fine_tune(read_decoder(TINY), layout, data, tmp_path / "run", config, World())
    one, other = (
        torch.load(path / "decoder.pt", weights_only=True) for path in (tmp_path / "h.training", tmp_path / "run")
    )
    start = read_decoder(TINY).state_dict()
    for name, weight in one["model"].items():
        moved = (weight - start[name]).abs().max()
        assert (weight - other["model"][name]).abs().mean() < 0.1 * moved, name


def test_training_ends_where_the_held_out_songs_have_long_got_no_better(music: Path, tmp_path: Path) -> None:
    options = OwnOptions(data=music, out=str(tmp_path / "g"), model=str(TINY), updates=12, workers=1)
    train_own(options, lambda *told: None, show=lambda rows, splits: None)
    layout = read_manifest(TINY).conditioning.layout
    heldout = TokenSongs(tmp_path / "g.training" / "data", "heldout", layout=layout)
    config = finetune.recipe(window_frames=48, minutes=1.0, updates=1000, batch=8, seed=0, workers=1)
    tuner = finetune.FineTuner(read_decoder(TINY), config, World(), tmp_path, heldout)
    tuner.load(tmp_path / "g.training" / "decoder.pt")
    assert [line["updates"] for line in tuner.history] == [0, 10, 12] and tuner.progress == 12 / 1000
    best = torch.load(tmp_path / "g.training" / "best.pt", weights_only=True)
    bits = {line["updates"]: line["bits_per_frame"] for line in tuner.history[1:]}
    assert best["updates"] == min(bits, key=lambda updates: bits[updates])
    tuner.history += [{"updates": 15, "bits_per_frame": 1.0}, {"updates": 140, "bits_per_frame": 2.0}]
    assert tuner.progress == 12 / 1000
    tuner.history += [{"updates": 141, "bits_per_frame": 2.0}]
    assert tuner.progress == 1.0


def test_looking_at_a_file_that_vanished_is_a_problem_not_an_error(music: Path, tmp_path: Path) -> None:
    gone = SoundFile(name="gone.wav", path=tmp_path / "gone.wav")
    assert look(Job(file=gone, bundle=TINY, shortest_s=1.0, keep=tmp_path)).problem.startswith("cannot be read")
