"""A row of a MusicGen graph is the same to the bit alone and among others, in each precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from attacca.engine.pattern import make_pattern
from attacca.engine.prompted import PromptedRuntime
from attacca.engine.runtime import MIN_ROWS, StepLane
from attacca.export.shapes import Shape, decoder_of, write_shape

pytestmark = pytest.mark.train

SHAPE = Shape(name="small", layers=2, dim=128, hidden=256, codebook_size=32, musicgen=True)
FRAMES, WINDOW = 11, 8


def fed(runtime: PromptedRuntime, pieces: list[int]) -> StepLane:
    """The lane after FRAMES random rows, in calls of so many."""
    lane = decoder_of(runtime, make_pattern("delay", SHAPE.num_codebooks))._lane
    stack = np.random.default_rng(0).integers(0, SHAPE.codebook_size, (FRAMES, SHAPE.num_codebooks))
    lane.guidance[0] = 3.0
    start = 0
    for count in pieces:
        level, timestep = np.zeros(count, np.int64), np.arange(start, start + count)
        lane.run(stack[timestep], level, timestep, np.zeros((count, 0), np.float32), slot=start)
        lane.cache.keep(timestep.tolist())
        start += count
    return lane


@pytest.mark.parametrize(("precision", "kv_bits"), [("fp32", 32), ("int8", 32), ("int8", 8), ("int4", 8)])
def test_a_row_alone_is_the_row_among_others(tmp_path: Path, precision: str, kv_bits: int) -> None:
    runtime = write_shape(SHAPE, tmp_path, precision=precision, kv_bits=kv_bits, window=WINDOW).load()
    assert isinstance(runtime, PromptedRuntime)
    assert (runtime.least_rows, runtime.least_slots) == (1, 1 if kv_bits == 8 else MIN_ROWS)
    alone = fed(runtime, [1] * FRAMES)
    for pieces in ([2] * 5 + [1], [3, 7, 1], [10, 1]):
        lane = fed(runtime, pieces)
        np.testing.assert_array_equal(lane.cache.live[:, :, :FRAMES], alone.cache.live[:, :, :FRAMES])
        np.testing.assert_array_equal(lane.logits, alone.logits)
