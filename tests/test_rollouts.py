"""A model's own takes of its training songs: under the song's commands, from the song's last seconds, once each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
import typer

from attacca.engine.bundle import load_bundle
from attacca.engine.generator import Sampling
from attacca.training import rollouts
from attacca.training.decoder_data import TokenSongs

pytestmark = pytest.mark.train
BUNDLE = Path(__file__).parent.parent / "engine" / "bundles" / "ostinato"


@pytest.fixture(scope="module")
def model():
    return replace(load_bundle(BUNDLE), levels=None)


def test_a_take_hears_the_last_seconds_and_obeys_the_commands(model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "CONTEXT_FRAMES", 20)
    monkeypatch.setattr(rollouts, "FRAMES", 24)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 1024, (90, model.pattern.num_codebooks)).astype(np.uint16)
    rows = rng.normal(size=(90, model.conditioning.width)).astype(np.float32)
    sampling = Sampling(seed=3, temperature=0.9, guidance=2.0)
    take = rollouts.roll_out(model, codes, rows, 50, sampling)
    assert take.shape == (24, model.pattern.num_codebooks)
    assert len(rollouts.roll_out(model, codes, rows, 80, sampling)) == 10

    def other(index: int, what: np.ndarray) -> bool:
        changed = codes.copy(), rows.copy()
        changed[0 if what is codes else 1][index] = what[index + 1]
        return not np.array_equal(rollouts.roll_out(model, *changed, 50, sampling), take)

    assert other(49, codes) and other(30, codes) and not other(29, codes) and not other(50, codes)
    assert other(49, rows) and other(50, rows) and not other(29, rows) and not other(85, rows)


def test_takes_begin_at_switches_half_of_the_time() -> None:
    rng = np.random.default_rng(0)
    starts = [rollouts.beginning(rng, 1000, np.array([300, 950])) for _ in range(400)]
    assert np.mean(np.array(starts) == 300) == pytest.approx(0.5, abs=0.1)
    assert min(starts) >= 100 and 850 < max(starts) <= 900
    assert {rollouts.beginning(rng, 1000, np.array([], int)) for _ in range(40)} != {300}


def test_each_song_once_and_read_by_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_decoder_train import write_songs

    root = write_songs(tmp_path, songs=2)
    for path in (root / "tokens" / "train").glob("*.npy"):
        np.save(path, np.random.default_rng(0).integers(0, 1024, (200, 6)).astype(np.uint16))
    app = typer.Typer()
    app.command()(rollouts.main)
    args = ["--data", str(root), "--bundle", str(BUNDLE), "--songs", "2", "--processes", "1"]
    assert CliRunner().invoke(app, args).exit_code == 0
    wrong = {
        "--data": ["--data", str(tmp_path / "nowhere"), *args[2:]],
        "--bundle": [*args[:3], "nobody", *args[4:]],
    }
    for option, given in wrong.items():
        refused = CliRunner().invoke(app, given)
        assert refused.exit_code == 2 and option in refused.output
    assert not (tmp_path / "nowhere").exists()
    files = sorted((root / "tokens" / "rollouts").iterdir())
    written = [path.stat().st_mtime_ns for path in files]
    assert [path.name for path in files] == ["00000.npz", "00001.npz"]
    assert CliRunner().invoke(app, args).exit_code == 0
    assert [path.stat().st_mtime_ns for path in files] == written
    songs = TokenSongs(root, "train")
    assert [song for song, _, _ in songs.rollouts] == [0, 1]
    for _, first, own in songs.rollouts:
        assert first >= 100 and own.shape[1] == 6 and len(own) == 200 - 64 - first
