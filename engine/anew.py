"""A take begins anew at a bar line, where its beat or its level has gone too far to be repaired.

Asked by a take around each chunk. The chunk in which the bar line lies is cut there; what follows is made from the
last bars of what was played, heard once more, and joined to it over 2 ms, as a client joins takes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .planner import Chunk, Planner
from .take_state import TakeState

_JOIN_S = 0.002


def begin_if_due(state: TakeState, planner: Planner) -> None:
    """Before a chunk is made: whether all up to the bar line is committed."""
    if state.anew_at is not None and state.committed_end == state.anew_at:
        planner.begin_anew(state.anew_at)
        state.anew_at, state.short_next = None, True


def joined(state: TakeState, planner: Planner, chunk: Chunk) -> Chunk:
    """A chunk as it is to be heard: faded into what was before the bar line, cut at the next."""
    if state.joint is not None and state.joint[0] == chunk.position:
        chunk = replace(chunk, pcm=_faded(state.joint[1], chunk.pcm))
    if state.anew_at is None or state.anew_at <= chunk.position:  # the latter: it was skipped
        state.anew_at = planner.anew_at(chunk.position)
    if state.anew_at is None or state.anew_at - chunk.position > len(chunk.pcm):
        return chunk
    kept = state.anew_at - chunk.position
    join = max(1, round(_JOIN_S * planner.timeline.host_rate))
    state.joint = (state.anew_at, chunk.pcm[max(0, kept - join) : kept][::-1].copy())
    return replace(chunk, pcm=chunk.pcm[:kept])


def _faded(past: np.ndarray, pcm: np.ndarray) -> np.ndarray:
    """`pcm` from what sounded before, newest first, over its length."""
    count = min(len(past), len(pcm))
    ramp = ((np.arange(count) + 1.0) / (count + 1.0)).reshape(-1, *[1] * (pcm.ndim - 1))
    out = pcm.copy()
    out[:count] = (ramp * pcm[:count] + (1.0 - ramp) * past[:count]).astype(np.float32)
    return out
