"""Beyond what a model sees (benchmarks/rolling.py): what going on costs a frame; all ways told the same songs."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from attacca.engine.rolling import HEARD_ROWS  # noqa: E402
from benchmarks.rolling import Sizes, compare, force, song, train, ways  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
SIZES = Sizes(horizon=48, songs=1, frames=160, layers=1, dim=64, updates=12, batch=4)
ENGINES = "rolling, a third kept (the engine's)"


def test_a_window_that_is_heard_ahead_never_costs_a_frame_more_than_one_prefill() -> None:
    model = train(SIZES, SIZES.horizon, lambda line: None)
    made = ways(model, SIZES)
    codes = song(np.random.default_rng(3), SIZES.frames)
    told = {name: force(make, codes) for name, make in made.items()}
    bits = {name: part[0] for name, part in told.items()}
    rows = {name: part[1][SIZES.horizon :] for name, part in told.items()}
    assert rows[ENGINES].max() == 1 + HEARD_ROWS  # a step, and one call of known frames
    assert rows["rolling, half kept"].max() == 1 + HEARD_ROWS
    assert rows["prefilled anew every eighth"].max() > 30 and rows["prefilled anew every frame"].min() > 40
    assert (rows["all of it, positions go on"] == 1).all()
    first = slice(0, SIZES.horizon)  # until then all ways are one
    assert all(np.allclose(part[first], bits[ENGINES][first], atol=1e-4) for part in bits.values())
    beyond = slice(SIZES.horizon, None)  # from then on no two are
    every = [tuple(np.round(part[beyond], 4)) for part in bits.values()]
    assert len(set(every)) == len(every)


def test_the_comparison_is_of_all_ways_on_the_same_songs() -> None:
    lines: list[str] = []
    found = compare(SIZES, lines.append)
    assert found[0].name == ENGINES and len(found) == 6 and len(lines) == 6
    first = {round(way.after[0], 3) for way in found}
    assert len(first) == 1  # one model, one beginning
    assert all(0.0 < way.bits_per_frame < 30.0 and len(way.after) == 4 and way.most_ms > 0.0 for way in found)
