"""The ears of the scorecards: they learn what they are shown, from what sounds, and hear the same without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from attacca.engine.conditioning import INSTRUMENTS, Controls  # noqa: E402
from attacca.training.music.songs import Rendered  # noqa: E402
from benchmarks import embedding  # noqa: E402
from benchmarks.ears import EARS_FILE, Ears  # noqa: E402

pytestmark = pytest.mark.train
RATE, SECONDS = 32000, 10


def test_the_embedding_learns_what_it_is_shown() -> None:
    torch.manual_seed(0)
    style = torch.arange(60) % 3
    mels = torch.full((60, 32, 80), -3.0)
    for i, s in enumerate(style):
        mels[i, :, 20 * int(s) : 20 * int(s) + 15] = -1.0
    notes = torch.zeros(60, 12)
    notes[torch.arange(60), style] = 1.0
    songs = embedding.Examples(
        mels=mels.half(),
        style=style,
        players=(style[:, None] == torch.arange(2)).float(),
        notes=notes,
        style_weight=torch.ones(60),
        notes_weight=torch.ones(60),
    )
    _, skill = embedding.train_embedding(songs, songs, styles=3, minutes=0.05, batch=16)
    assert skill["style"] > 0.95 and skill["players"] > 0.95 and skill["notes"] > 0.95


def test_ears_without_torch_hear_what_torch_hears(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = embedding.Embedding(styles=3, players=4).eval()
    model.ears({"style": 0.5}).save(tmp_path / "ears.npz")
    found = Ears.load(tmp_path / "ears.npz")
    assert found.skill == {"style": 0.5}
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())
        windows = np.random.default_rng(0).normal(-2.0, 1.0, (5, 250, 80))
        expected = model(torch.from_numpy(windows)).double().numpy()
    np.testing.assert_allclose(found.vectors(windows), expected, atol=1e-4)
    heard = found.listen(0.1 * np.random.default_rng(0).standard_normal(3 * RATE))
    assert heard.players.shape == (3, 4) and heard.styles.shape == (3, 3)
    np.testing.assert_allclose(heard.styles.sum(axis=1), 1.0)


def test_ears_begin_as_others_but_for_the_styles() -> None:
    torch.manual_seed(2)
    other, model = embedding.Embedding(styles=3, players=4), embedding.Embedding(styles=5, players=4)
    before = model.heads["style"].weight.detach().clone()
    model.begin_as(other.ears({}))
    assert torch.equal(model.heads["style"].weight, before)
    mels = torch.randn(2, 250, 80) - 2.0
    assert torch.equal(model(mels), other(mels))
    assert torch.equal(model.heads["players"].weight, other.heads["players"].weight)


def song() -> Rendered:
    """Four tones as stems: all keys are down all the time, but the second stem is silent in the second half."""
    frames = SECONDS * 50
    time = np.arange(SECONDS * RATE) / RATE
    tones = [0.1 * np.sin(2 * np.pi * hz * time) for hz in (200.0, 500.0, 1000.0, 3000.0)]
    tones[1] = tones[1] * (time < SECONDS / 2)
    stems = np.stack([side for tone in tones for side in (tone, tone)], axis=1).astype(np.float32)
    yes, chord = np.ones(frames, np.bool_), np.zeros((frames, 12), np.bool_)
    chord[:, [0, 4, 7]] = True
    controls = Controls(
        ppq=np.arange(frames) / 25.0,
        bar_start_ppq=np.zeros(frames),
        bpm=np.full(frames, 120.0),
        meter_num=np.full(frames, 4, np.int16),
        meter_den=np.full(frames, 4, np.int16),
        pitch_classes=chord,
        instruments=np.ones((frames, 4), np.bool_),
        style=np.full(frames, 2, np.int16),
        beat_known=yes,
        chord_known=yes,
        instruments_known=yes,
        style_known=yes,
    )
    audio = sum(tones).astype(np.float32)[:, None]  # type: ignore[union-attr]
    sounding = np.ones((frames, 4), np.bool_)
    return Rendered(audio=audio, controls=controls, sounding=sounding, stems=stems, about={"rate": RATE})


def test_who_plays_is_who_sounds_in_the_subset() -> None:
    """Bands of the spectrum are lit by exactly those who are said to play."""
    rng = np.random.default_rng(0)
    parts = [part for _ in range(6) for part in embedding.subset_examples(song(), rng, every=1)]
    joined = embedding.joined(parts)
    assert joined.mels.shape[1:] == (250, 80) and 0.2 < float(joined.players.mean()) < 0.8
    level = joined.mels.float().mean(dim=1)
    bands = [int((level * joined.players[:, i : i + 1]).sum(0).argmax()) for i in range(4)]
    lit = torch.stack([level[:, band - 1 : band + 2].amax(dim=1) > -2.5 for band in bands], dim=1)
    np.testing.assert_array_equal(lit.numpy(), joined.players.numpy() > 0)
    silent = [p for i, p in enumerate(parts) if len(p) and bool((p.players[:, 1] == 0).all())]
    assert len(silent) >= len(parts) // 2  # keys are down, nothing sounds
    assert set(joined.style.tolist()) == {2}
    pitched = joined.players[:, 1:].any(dim=1)
    np.testing.assert_array_equal(joined.notes_weight.numpy(), pitched.float().numpy())


def test_a_song_as_mixed_has_all_its_windows() -> None:
    found = embedding.mix_examples(song(), every=1)
    assert len(found) == 17 and bool((found.players == 1).all()) and bool((found.style_weight == 1).all())
    np.testing.assert_array_equal(found.notes[0].nonzero().ravel(), [0, 4, 7])


def test_the_shipped_ears_are_small_and_say_what_they_can() -> None:
    assert EARS_FILE.stat().st_size < 1_000_000
    skill = Ears.load().skill
    assert skill["players"] > 0.9 and skill["style"] > 0.6 and skill["notes"] > 0.8
    assert all(skill[f"subsets_{name}"] > 0.8 for name in INSTRUMENTS)


def test_songs_without_stems_teach_no_subsets(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no songs"):
        list(embedding.load_subsets(tmp_path, 1, times=1))
    (tmp_path / "00000.npz").touch()
    (tmp_path / "00000.flac").touch()
    with pytest.raises(ValueError, match="no stems"):
        list(embedding.load_subsets(tmp_path, 1, times=1))
