"""The comparison of patterns: words agree with figures, the embedding learns, the command runs at toy size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attacca.training.recipe import SIZES, run, run_process, stages  # noqa: E402
from benchmarks import embedding, patterns, patterns_report  # noqa: E402
from benchmarks.ears import Ears  # noqa: E402

pytestmark = pytest.mark.train


def row(value: float, interval: tuple[float, float], cost: float) -> dict:
    return {"frechet_trained": {"value": value, "interval_95": list(interval)}, "ms_per_s": cost}


def test_words_say_what_the_figures_say() -> None:
    rows = {
        "delay": row(2.0, (1.8, 2.2), 10.0),
        "flat": row(1.0, (0.9, 1.1), 40.0),
        "stack": row(1.05, (0.95, 1.2), 38.0),
        "stack-delay p=1": row(1.9, (1.7, 2.1), 11.0),
        "stack-delay p=3": row(1.1, (1.0, 1.3), 11.0),
    }
    flat, stack, three, one = patterns_report.against_the_paper(rows)
    assert "-50 % at 4.00 x the time (intervals apart)" in flat
    assert "+5 % at 0.95 x" in stack and "not told apart" in stack
    assert "-45 % at 1.10 x the time (intervals apart)" in three
    assert "-5 %" in one and "not told apart" in one


def test_the_embedding_learns_what_it_is_shown() -> None:
    torch.manual_seed(0)
    style = torch.arange(60) % 3
    mels = torch.full((60, 32, 80), -3.0)
    for i, s in enumerate(style):
        mels[i, :, 20 * int(s) : 20 * int(s) + 15] = -1.0
    notes = torch.zeros(60, 12)
    notes[torch.arange(60), style] = 1.0
    songs = embedding.Examples(
        mels=mels.half(), style=style, players=(style[:, None] == torch.arange(2)).float(), notes=notes
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
    sound = 0.1 * np.random.default_rng(0).standard_normal(3 * 32000)
    assert found.players(sound).shape == (3, 4)


@pytest.mark.slow
def test_the_whole_command_at_toy_size(tmp_path: Path) -> None:
    root = tmp_path / "run"
    run(root, stages(root, replace(SIZES["tiny"], seconds=24.0))[:4], runner=run_process)  # up to the tokens
    report = tmp_path / "p.json"
    for _ in range(2):  # the second goes on from what is there
        patterns.main(
            data=root / "data", codec=root / "codec", out=tmp_path / "out", json_path=report,
            plot=tmp_path / "p.png", updates=4, size="1x64", seeds=1, songs=2, workers=1, tiny=True,
        )  # fmt: skip
    found = json.loads(report.read_text())
    assert list(found["patterns"])[:7] == [patterns.name_of(*pair) for pair in patterns.PATTERNS]
    assert all(np.isfinite(row["frechet_trained"]["value"]) for row in found["patterns"].values())
    assert (tmp_path / "p.png").stat().st_size > 10_000
