"""What the exported decoder does on given codes: teacher-forced logits, and the ranges of its keys and values.

Beside the export: the numbers by which a graph is compared with torch or with another precision, and the scales of
an 8-bit cache. Uses the runtime's own lane and schedule, so what is compared is what will run.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Codes, Conditions, ConditionSource, Sampling
from attacca.engine.pattern import Pattern
from attacca.engine.runtime import StepRuntime, StepShape
from attacca.engine.schedule import Schedule, context_rows

Floats = npt.NDArray[np.float32]
_MARGIN = 1.2  # of the largest magnitude seen; what lies beyond is clipped


def forced_logits(
    runtime: StepRuntime,
    pattern: Pattern,
    codes: Codes,
    conditions: Conditions,
    *,
    prefix: int,
    guidance: float = 1.0,
) -> dict[tuple[int, int], Floats]:
    """Guided logits [V] of every (t, k), t < T, decoding with codes [T, K] forced after `prefix` known frames.

    `conditions` [>= T + lag + 1, C] begins with the vector of timestep -1, the row before the first.
    """
    lane, mask = runtime.lane(), runtime.shape.codebook_size
    lane.temperature[0], lane.guidance[0] = 0.0, guidance
    known = context_rows(pattern, mask, codes[:prefix])
    for stack, level, timestep in zip(*known, strict=True):
        row = (stack[None], level[None], timestep[None], conditions[None, timestep + 1])
        lane.run(*row, slot=lane.cache.count)
        lane.cache.keep([int(timestep)])
    schedule = Schedule(pattern, mask, prefix)
    schedule.prefix(codes[:prefix])
    found: dict[tuple[int, int], Floats] = {}
    while schedule.frontier < len(codes):
        rows = schedule.next_rows()
        slot = lane.cache.count - int(rows.rewrite)
        vectors = conditions[np.minimum(rows.timestep + 1, len(conditions) - 1)]
        lane.run(rows.stack, rows.level, rows.timestep, vectors, slot=slot, row_of_level=rows.row_of_level)
        if rows.advance:
            lane.cache.keep([rows.kept_timestep])
        tokens = np.zeros(pattern.num_codebooks, np.int64)
        for k, t in enumerate(rows.target.tolist()):
            if 0 <= t < len(codes):
                found[t, k] = lane.logits[k].copy()
                tokens[k] = codes[t, k]
        schedule.accept(tokens)
    return found


def calibrate_cache(
    runtime: StepRuntime, pattern: Pattern, source: ConditionSource, *, frames: int = 256, seed: int = 0
) -> dict[str, Floats]:
    """Scales of an 8-bit cache, key_L and value_L float32 [heads * head_dim], from a graph with a float cache.

    Read off the cache after as many frames as the model makes up itself under `source`.
    """
    decoder, shape = PatternDecoder(runtime, pattern), runtime.shape
    decoder.plan(min(frames, shape.window), source, Sampling(seed=seed))
    return cache_scales(decoder, shape)


def cache_scales(decoder: PatternDecoder, shape: StepShape) -> dict[str, Floats]:
    """Scales read off what a decoder's cache of floats holds now.

    A scale is a channel's largest magnitude, over both guidance branches and with a margin, divided by 127; the two
    channels of a rotary pair, which turn into each other, share theirs.
    """
    state = PatternDecoder.snapshot(decoder)  # what kinds of decoders add to it does not matter here
    largest = np.abs(state.cache.live).max(axis=2)  # [2 * branches * layers, heads, head_dim]
    largest = largest.reshape(-1, shape.layers, 2, shape.heads, 2, shape.head_dim // 2).max(axis=0)
    scales: dict[str, Floats] = {}
    for layer, (key, value) in enumerate(largest):
        key = np.broadcast_to(key.max(axis=1, keepdims=True), key.shape)
        for name, channels in ((f"key_{layer}", key), (f"value_{layer}", value)):
            scales[name] = np.maximum(channels.reshape(-1), 1e-6) * np.float32(_MARGIN / 127.0)
    return scales
