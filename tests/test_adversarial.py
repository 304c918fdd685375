"""The codec's adversarial stage: it fools discriminators better, resumes, and touches the decoder alone."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attacca.engine.spectral import SpectralConfig  # noqa: E402
from attacca.export.codec import tiny_codec  # noqa: E402
from attacca.training import codec_train  # noqa: E402
from attacca.training.adversarial import (  # noqa: E402
    AdversarialConfig,
    Discriminators,
    Maps,
    Opponent,
    discriminator_loss,
    generator_loss,
)
from attacca.training.codec_model import CodecNet, tiny_config  # noqa: E402
from attacca.training.codec_train import State, TrainConfig, run_stage, train_codec  # noqa: E402
from attacca.training.gpu_crops import DeviceCrops  # noqa: E402
from attacca.training.gpu_stop import Deadline, Stopped  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)

SMALL = AdversarialConfig(channels=4, warm_up=3, resolutions=((1, 1), (2, 4)))
STEREO = replace(
    tiny_config(), spectral=SpectralConfig(window_samples=1280, linear_bins=64, group_bins=16, pan_bands=8)
)


class Heard:
    """Stands in for Songs: frames of two songs, a bright and a dark one."""

    def __init__(self, width: int, level_width: int) -> None:
        rng = np.random.default_rng(3)
        self.floor, self.level_width = 3e-5, level_width
        shapes = [np.linspace(-8.0, low, width) for low in (-2.0, -9.0)]
        self.frames = [
            (shape + rng.normal(0, 0.5, (length, width))).astype(np.float16)
            for shape, length in zip(shapes, (90, 60), strict=True)
        ]
        self.folders: list[Path] = []

    def crops(self, batch: int, length: int, rng: np.random.Generator) -> object:
        return DeviceCrops(self, torch.device("cpu")).crops(batch, length, rng)  # type: ignore[arg-type]

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate(self.frames).astype(np.float32)


@pytest.fixture
def heard() -> Heard:
    spectral = tiny_config().spectral
    return Heard(spectral.width, spectral.level_width)


@pytest.fixture
def quantised() -> State:
    net, quantizer = tiny_codec(tiny_config())
    return State(net=net, quantizer=quantizer, stage="adversarial")


def test_maps_hold_every_level_at_its_time_and_band_and_the_side_it_is_on() -> None:
    spectral = STEREO.spectral
    maps = Maps(STEREO, torch.full((spectral.width,), -2.0), torch.tensor(4.0))
    frames = torch.randn(2, 3, spectral.width)
    found = maps(frames)
    assert found.shape == (2, 3, 3 * spectral.sub_frames, spectral.num_bands)
    for sub in range(spectral.sub_frames):
        for band in (0, 17, spectral.num_bands - 1):
            level = frames[1, 2, sub * spectral.num_bands + band]
            assert found[1, 0, 2 * spectral.sub_frames + sub, band] == pytest.approx(
                float((level + 2) / 4), abs=1e-6
            )
    first = int(spectral.pan_edges[3])
    band = int(np.flatnonzero(spectral.band_starts >= first)[0])
    pan = frames[0, 1, spectral.level_width + 3]
    assert found[0, 1, spectral.sub_frames, band] == pytest.approx(math.tanh(float(pan) / 3.0), abs=1e-6)


def test_patches_see_their_own_resolution() -> None:
    net = Discriminators(SMALL, STEREO, torch.zeros(STEREO.spectral.width), torch.ones(()))
    fine, coarse = net(torch.randn(2, 16, STEREO.spectral.width))
    assert len(fine) == len(coarse) == 6
    assert fine[0].shape[2] == 16 * STEREO.spectral.sub_frames == 2 * coarse[0].shape[2]
    assert coarse[0].shape[3] < fine[0].shape[3] / 3
    assert fine[-1].shape[:2] == (2, 1)


@pytest.mark.parametrize(("loss", "worst"), [("hinge", 4.0), ("least-squares", 2.0)])
def test_losses_have_their_known_values(loss: str, worst: float) -> None:
    one, low = torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), -1.0 if loss == "hinge" else 0.0)
    real, made = [[2 * one, one]], [[3 * one, low]]
    assert float(discriminator_loss(real, made, loss)) == 0.0
    swapped = [[one, low]], [[one, one]]
    assert float(discriminator_loss(*swapped, loss)) == worst
    score, apart = generator_loss(real, made, loss)
    assert (float(score), float(apart)) == (1.0, 0.5)
    assert [float(part) for part in generator_loss(real, real, loss)] == [-1.0 if loss == "hinge" else 0.0, 0.0]


def test_the_opponent_waits_warms_up_and_takes_turns() -> None:
    config = replace(SMALL, every=2)
    assert [config.share(n) for n in (0, 2, 3, 4, 5, 6, 90)] == [0, 0, 0, 1 / 3, 2 / 3, 1, 1]
    opponent = Opponent(config, STEREO, torch.zeros(STEREO.spectral.width), torch.ones(()), torch.device("cpu"))
    frames = torch.randn(2, 8, STEREO.spectral.width)
    assert [math.isnan(opponent.learn(frames, frames + 1)) for _ in range(4)] == [True, False, True, False]


def test_the_decoder_comes_to_fool_discriminators_that_stand_still() -> None:
    """Gradients of the adversarial loss alone lower it; none reach the discriminators."""
    torch.manual_seed(0)
    config = replace(SMALL, features=0.0, adversarial=1.0, warm_up=0, learning_rate=0.01)
    width = STEREO.spectral.width
    opponent = Opponent(config, STEREO, torch.zeros(width), torch.ones(()), torch.device("cpu"))
    real, made = torch.randn(4, 16, width), torch.randn(4, 16, width).mul(0.1).requires_grad_()
    for _ in range(20):
        opponent.learn(real, made)
    before = {name: value.clone() for name, value in opponent.net.state_dict().items()}
    optimizer = torch.optim.Adam([made], lr=0.05)
    scores = []
    for _ in range(15):
        loss, score = opponent.against(real, made)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scores.append(float(score))
    assert scores[-1] < scores[0] - 0.1
    assert all(torch.equal(value, before[name]) for name, value in opponent.net.state_dict().items())


def test_the_stage_stops_resumes_and_leaves_encoder_and_quantiser_to_the_bit(
    heard: Heard, quantised: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(codec_train, "time", SimpleNamespace(monotonic=lambda: 0.4 * next(seconds)))
    state, path = quantised, tmp_path / "codec.pt"
    before = {name: value.clone() for name, value in state.net.state_dict().items()}
    codes = {name: value.clone() for name, value in state.quantizer.state().items()}  # type: ignore[union-attr]
    recipe = TrainConfig(adversarial_minutes=0.06, adversarial=SMALL, batch=2, crop_frames=16)
    ticks = iter([0.0, 0.1, 0.1, 0.1, 9.0])
    with pytest.raises(Stopped):
        run_stage(state, recipe, heard, heard, path, Deadline(1.0, clock=lambda: next(ticks)))  # type: ignore[arg-type]
    stopped = State.load(path)
    assert (stopped.stage, stopped.updates) == ("adversarial", 4)
    assert stopped.opponent is not None and stopped.opponent["updates"] == 4
    assert stopped.elapsed_s == pytest.approx(1.6)
    run_stage(stopped, recipe, heard, heard, path, Deadline(None))  # type: ignore[arg-type]
    finished = State.load(path)
    assert finished.updates == finished.opponent["updates"] == 9  # type: ignore[index]
    for name, value in finished.net.state_dict().items():
        same = torch.equal(value, before[name])
        assert same == (not name.startswith("decoder.")), name
    for name, value in finished.quantizer.state().items():  # type: ignore[union-attr]
        assert torch.equal(value, codes[name])


def test_it_is_off_until_minutes_are_asked_for(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_train, "Songs", lambda *folders, **options: heard)
    recipe = TrainConfig(auto_minutes=0.003, decoder_minutes=0.003, batch=2, crop_frames=16, fit_frames=60)
    arguments = (tmp_path, tmp_path / "run", tiny_config())
    assert train_codec(*arguments, recipe).stage == "decoder"
    more = replace(recipe, adversarial_minutes=0.005, adversarial=SMALL)
    state = train_codec(*arguments, more, until="adversarial")
    assert state.stage == "adversarial" and state.opponent is not None
    assert [line["stage"] for line in state.history] == ["auto", "fit", "decoder", "adversarial"]
    again = train_codec(*arguments, recipe)  # without it: nothing is undone
    assert (again.stage, again.updates) == ("adversarial", state.updates)


def test_checkpoints_from_before_the_stage_load(tmp_path: Path) -> None:
    state = State(net=CodecNet(tiny_config()))
    state.save(tmp_path / "codec.pt")
    values = torch.load(tmp_path / "codec.pt", weights_only=True)
    del values["opponent"]
    torch.save(values, tmp_path / "codec.pt")
    assert State.load(tmp_path / "codec.pt").opponent is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("loss", "wasserstein"), ("adversarial", -1), ("learning_rate", 0), ("every", 0), ("resolutions", ((0, 1),))],
)
def test_values_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} (is|are) .*allowed"):
        AdversarialConfig(**{field: value})
    with pytest.raises(ValueError, match="adversarial_minutes is -1"):
        TrainConfig(adversarial_minutes=-1)


def test_crops_on_a_device_are_the_songs_at_other_levels(heard: Heard) -> None:
    crops = DeviceCrops(heard, torch.device("cpu"))  # type: ignore[arg-type]
    batch = next(crops.crops(64, 80, np.random.default_rng(0))).double().numpy()
    assert batch.shape == (64, 80, heard.frames[0].shape[1])
    silent = math.log(heard.floor)
    linear = [np.maximum(np.exp(song.astype(np.float64)) - heard.floor, 0.0) for song in heard.frames]
    seen = set()
    for crop in batch:
        made = np.exp(crop) - heard.floor
        errors = {}
        for song, truth in enumerate(linear):
            for start in range(max(1, len(truth) - 79)):
                part = truth[start : start + 80]
                gain = (made[: len(part)] * part).sum() / np.square(part).sum()
                errors[song, start] = np.abs(made[: len(part)] - gain * part).max()
        song, start = min(errors, key=lambda key: errors[key])
        assert errors[song, start] < 1e-3
        if song == 1:
            np.testing.assert_allclose(crop[60:], silent, atol=1e-5)
        seen.add((song, start))
    assert {song for song, _ in seen} == {0, 1} and len(seen) > 8
