"""What a host commands by a song's labels at any position, and a long take that a session plays under it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from attacca.engine.bundle import load_bundle
from attacca.engine.conditioning import Controls
from attacca.engine.generator import Sampling
from attacca.training.music.composer import compose
from benchmarks import obedience, songs
from benchmarks.played import Commanded, score_played

TINY = Path(__file__).parent / "data" / "tiny"


def test_positions_are_commanded_what_the_labels_say() -> None:
    rate, hop = 32000, 640
    labels = compose(5, bpm=97.0, meter=(7, 8), min_seconds=31.0).controls(1500, hop, rate)
    told = Commanded(labels, rate)
    on_frames = told.controls(np.arange(1500.0) * hop)
    for name in Controls.__dataclass_fields__:
        np.testing.assert_allclose(getattr(on_frames, name), getattr(labels, name), atol=1e-9)
    between = np.sort(np.random.default_rng(0).uniform(0.0, 1499.0 * hop, 400))
    found = told.controls(between)
    ppq = between / rate * 97.0 / 60.0
    np.testing.assert_allclose(found.ppq, ppq, atol=1e-4)
    near = np.abs(ppq / 3.5 - np.round(ppq / 3.5)) < 1e-3
    np.testing.assert_allclose(found.bar_start_ppq[~near], (np.floor(ppq / 3.5) * 3.5)[~near], atol=1e-4)
    past = told.controls(np.array([3000.0 * hop]))
    assert past.ppq[0] == pytest.approx(60.0 * 97.0 / 60.0, abs=1e-3) and past.style[0] == labels.style[-1]


def test_a_session_plays_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_bundle(TINY)
    rate, hop = model.codec.sample_rate, model.codec.hop_samples
    controls = compose(5, bpm=120.0, meter=(4, 4), min_seconds=20.0).controls(1000, hop, rate)
    audio = 0.1 * np.random.default_rng(0).normal(size=1000 * hop).astype(np.float32)
    case = songs.cut(audio, controls, rate=rate, longest_s=4.0)
    heard = {}

    def judged(after: np.ndarray, before: np.ndarray, told: Controls) -> dict[str, float]:
        heard.update(after=after, before=before, told=told)
        return {"level": 1.0}

    monkeypatch.setattr("benchmarks.played.long_scores", judged)
    assert score_played(model, case, Sampling(seed=1), bars=2) == {"level_played": 1.0}
    assert len(heard["after"]) == 4 * 32000 and len(heard["before"]) == case.join_heard
    wanted = obedience.go_on(controls, case.join, 200).slice(case.join, case.join + 200)
    np.testing.assert_array_equal(heard["told"].ppq, wanted.ppq)
