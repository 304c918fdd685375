"""The codec's training resumes and freezes what tokens hang on; tokens are the runtime's; the report measures."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from attacca.engine.codec import Codec  # noqa: E402
from attacca.export.codec import export_codec  # noqa: E402
from attacca.training import codec_report, codec_train, tokenise  # noqa: E402
from attacca.training.codec_data import Songs, load_audio  # noqa: E402
from attacca.training.codec_loss import Energy  # noqa: E402
from attacca.training.codec_model import CodecNet, tiny_config, v1_config  # noqa: E402
from attacca.training.codec_train import State, TrainConfig, evaluate, train_codec  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)

FRAMES = 120
RECIPE = TrainConfig(auto_minutes=0.05, decoder_minutes=0.01, batch=4, crop_frames=32, fit_frames=300)


def write_song(path: Path, seed: int) -> None:
    """FRAMES frames of decaying tones and noise bursts, with labels that say nothing."""
    rng = np.random.default_rng(seed)
    time = np.arange(FRAMES * 640) / 32000
    audio = np.zeros(len(time))
    for start in np.arange(0.0, FRAMES / 50, 0.2):
        after = np.clip(time - start, 0.0, None)
        hz = 110.0 * 2 ** (rng.integers(36) / 12)
        envelope = (time >= start) * np.exp(-8.0 * after)
        audio += 0.2 * envelope * np.sin(2 * np.pi * hz * after)
        audio += 0.05 * envelope**4 * rng.standard_normal(len(time))
    soundfile.write(path.with_suffix(".flac"), audio.clip(-1, 1), 32000, subtype="PCM_16")
    zero, yes = np.zeros(FRAMES), np.ones(FRAMES, np.bool_)
    known = {f"{name}_known": yes for name in ("beat", "chord", "instruments", "style")}
    numbers = dict.fromkeys(("ppq", "bar_start_ppq", "bpm", "meter_num", "meter_den", "style"), zero + 4)
    players = {"pitch_classes": np.zeros((FRAMES, 12), np.bool_), "instruments": np.zeros((FRAMES, 4), np.bool_)}
    np.savez(path.with_suffix(".npz"), **known, **numbers, **players)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for part, count in (("train", 3), ("heldout", 2)):
        (folder / part).mkdir()
        for i in range(count):
            write_song(folder / part / f"{i:05d}", seed=10 * count + i)
    return folder


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the whole recipe."""
    run = tmp_path_factory.mktemp("run")
    train_codec(data, run, tiny_config(), RECIPE)
    return run


def test_a_stopped_stage_goes_on_where_it_was(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(codec_train, "time", SimpleNamespace(monotonic=lambda: 0.1 * next(seconds)))
    first = train_codec(data, tmp_path, tiny_config(), replace(RECIPE, auto_minutes=0.01), until="auto")
    loaded = State.load(tmp_path / "codec.pt")
    assert (loaded.stage, loaded.updates, loaded.history) == ("auto", first.updates, first.history)
    second = train_codec(data, tmp_path, tiny_config(), replace(RECIPE, auto_minutes=0.02), until="auto")
    assert (first.elapsed_s, second.elapsed_s) == (pytest.approx(0.6), pytest.approx(1.2))
    assert (first.updates, second.updates) == (6, 12)
    assert second.history[: len(first.history)] == first.history
    assert second.optimizer is not None
    assert {float(s["step"]) for s in second.optimizer["state"].values()} == {float(second.updates)}
    third = train_codec(data, tmp_path, tiny_config(), replace(RECIPE, auto_minutes=0.02), until="auto")
    assert third.updates == second.updates
    assert [path.name for path in tmp_path.iterdir()] == ["codec.pt"]


def test_encoder_and_quantiser_are_frozen_once_fitted(data: Path, tmp_path: Path) -> None:
    fitted = train_codec(data, tmp_path, tiny_config(), RECIPE, until="fit")
    assert fitted.quantizer is not None
    for parameter in fitted.net.encoder.parameters():
        assert torch.equal(parameter, parameter.half().float())
    changed = replace(RECIPE, whitening=0.5, seed=9)  # would fit another quantiser
    for until in ("fit", "decoder"):
        state = train_codec(data, tmp_path, tiny_config(), changed, until=until)
        assert state.quantizer is not None
        for name, value in fitted.quantizer.state().items():
            assert torch.equal(state.quantizer.state()[name], value)
        for name, value in fitted.net.encoder.state_dict().items():
            assert torch.equal(state.net.encoder.state_dict()[name], value)
    assert state.stage == "decoder"
    assert not torch.equal(state.net.decoder.leave.weight, fitted.net.decoder.leave.weight)


def test_training_brings_the_songs_nearer(data: Path, finished: Path) -> None:
    config = tiny_config()
    torch.manual_seed(0)
    start = State(net=CodecNet(config))
    start.net.start_from_pca(Songs(data / "train", config=config).sample(300, np.random.default_rng(0)))
    trained = State.load(finished / "codec.pt")
    trained.quantizer = None
    heldout = Songs(data / "heldout", config=config)
    assert evaluate(trained, heldout) < evaluate(start, heldout)
    assert [line["stage"] for line in trained.history].index("fit") > 0


def test_songs_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no songs"):
        train_codec(tmp_path, tmp_path / "run", tiny_config(), RECIPE)


@pytest.mark.parametrize(
    ("field", "value"),
    [("auto_minutes", 0), ("learning_rate", 2), ("batch", 0), ("noise", -0.1), ("whitening", -2)],
)
def test_recipe_names_what_is_out_of_range(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}, allowed"):
        TrainConfig(**{field: value})


def test_crops_change_level_and_nothing_else(data: Path) -> None:
    config = tiny_config()
    songs = Songs(data / "train", config=config)
    songs.frames = [song[:40] for song in songs.frames]
    batch = next(songs.crops(64, 64, np.random.default_rng(0))).numpy()
    assert batch.shape == (64, 64, config.spectral.width)
    assert np.isfinite(batch).all()
    floor = np.log(config.spectral.floor)
    np.testing.assert_allclose(batch[:, 40:], floor, atol=1e-3)  # past the song's end
    originals = np.stack([song.astype(np.float64) for song in songs.frames])
    linear = np.exp(originals) - config.spectral.floor
    for crop in np.exp(batch[:, :40].astype(np.float64)) - config.spectral.floor:
        gains = (crop * linear).sum(axis=(1, 2)) / np.square(linear).sum(axis=(1, 2))
        errors = np.abs(crop - gains[:, None, None] * linear).max(axis=(1, 2))
        assert errors.min() < 1e-4


def test_tokens_are_those_of_the_runtime(data: Path, finished: Path, tmp_path: Path) -> None:
    tokenise.main(data=data, codec=finished, out=tmp_path / "tokens", threads=1)
    section = export_codec(finished / "codec.pt", tmp_path)
    runtime = Codec.load({name: tmp_path / f"{name}.onnx" for name in ("codec_encoder", "codec_decoder")}, section)
    files = sorted((tmp_path / "tokens").rglob("*"))
    assert [str(f.relative_to(tmp_path / "tokens")) for f in files if f.is_file()] == [
        f"{part}/{i:05d}.npy" for part, count in (("heldout", 2), ("train", 3)) for i in range(count)
    ]
    for part in ("train", "heldout"):
        tokens = np.load(tmp_path / "tokens" / part / "00001.npy")
        assert tokens.dtype == np.uint16 and tokens.shape == (FRAMES, 4)
        audio = load_audio(data / part / "00001.npz", tiny_config())
        np.testing.assert_array_equal(runtime.encoder().push(audio), tokens)


def test_tokens_that_are_there_are_kept(data: Path, finished: Path, tmp_path: Path) -> None:
    state = State.load(finished / "codec.pt")
    assert tokenise.tokenise_folder(data / "train", tmp_path, state, threads=1) == 3
    whole = np.load(tmp_path / "00001.npy")
    np.save(tmp_path / "00001.npy", whole[:5])
    (tmp_path / "00002.npy").unlink()
    assert tokenise.tokenise_folder(data / "train", tmp_path, state, threads=1) == 1
    assert len(np.load(tmp_path / "00001.npy")) == 5
    assert tokenise.tokenise_folder(data / "train", tmp_path, state, again=True, threads=1) == 3
    np.testing.assert_array_equal(np.load(tmp_path / "00001.npy"), whole)


def test_songs_are_there_at_other_levels_too(data: Path, finished: Path, tmp_path: Path) -> None:
    state = State.load(finished / "codec.pt")
    tokenise.tokenise_folder(data / "train", tmp_path, state, levels=2, threads=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        f"{i:05d}{level}.npy" for i in range(3) for level in ("", ".level1", ".level2")
    )
    audio = load_audio(data / "train" / "00001.npz", tiny_config())
    for name in ("00001.level1", "00001.level2"):
        other = tokenise.at_level(audio, name)
        gain = float(np.linalg.norm(other) / np.linalg.norm(audio))
        np.testing.assert_allclose(other, gain * audio, atol=1e-6)
        assert -18.01 <= 20 * np.log10(gain) <= 3.01 and np.abs(other).max() <= 1.0
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), tokenise.tokens_of(other, state))
    loud = audio / np.abs(audio).max()
    assert all(np.abs(tokenise.at_level(loud, str(i))).max() <= 1.0 for i in range(50))


def test_tokens_need_a_quantiser() -> None:
    with pytest.raises(ValueError, match="no quantiser yet"):
        tokenise.tokens_of(np.zeros(6400, np.float32), State(net=CodecNet(tiny_config())))


def test_log_mel_distance_of_a_gain_is_its_size_in_decades() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 32000)
    assert codec_report.log_mel_distance(noise, noise, sample_rate=32000) == 0.0
    assert codec_report.log_mel_distance(noise, 10 * noise, sample_rate=32000) == pytest.approx(1.0, abs=0.01)
    assert codec_report.log_mel_distance(noise, 0 * noise, sample_rate=32000) > 1.5


def test_report_measures_in_place_and_draws(
    data: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "codec.png"
    codec_report.main(data=data, run=finished, songs=1, seconds=2.0, figure=figure, wav=tmp_path / "wav")
    scores = json.loads(capsys.readouterr().out)
    assert set(scores) == {"phase", "unquantised", "codec", "untrained"}
    assert scores["phase"] < scores["unquantised"] < scores["untrained"]
    assert scores["codec"] < scores["untrained"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    original, _ = soundfile.read(tmp_path / "wav" / "00000-original.wav")
    phase, _ = soundfile.read(tmp_path / "wav" / "00000-phase.wav")
    smooth = np.ones(160) / 160
    loud, made = (np.convolve(np.square(x), smooth, mode="same") for x in (original, phase))
    lags = range(-1600, 1601, 40)
    match = [float(np.dot(loud[3200:35200], np.roll(made, lag)[3200:35200])) for lag in lags]
    assert abs(lags[int(np.argmax(match))]) <= 160  # no delay is left


def test_energy_is_blind_to_where_in_a_band_a_tone_stands_and_not_to_its_level() -> None:
    config = v1_config()
    energy = Energy(config, torch.device("cpu"))
    silence = torch.full((1, 3, config.spectral.width), math.log(config.spectral.floor))
    tone, moved, quiet = silence.clone(), silence.clone(), silence.clone()
    tone[..., 200], moved[..., 201], quiet[..., 200] = -1.0, -1.0, -3.0
    assert float(energy(tone, tone)) == 0.0
    assert float(energy(tone, moved)) < 1e-6
    # two nats in one of all bands of both sub-frames
    assert float(energy(tone, quiet)) == pytest.approx(2.0 / (2 * energy._widths.shape[1]), rel=1e-3)
