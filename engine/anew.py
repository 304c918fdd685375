"""A take begins anew at a bar line, where its beat or its level has gone too far to be repaired.

Asked by a take around each chunk. The chunk in which the bar line lies is cut there; while it waits to be played,
the last bars of what was played before the take are heard once more. What follows is made from these, and joined to
it over 2 ms, as a client joins takes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .planner import Chunk, Planner
from .take_state import TakeState

_JOIN_S = 0.002


def may_rehearse(state: TakeState, planner: Planner) -> bool:
    """Whether the last chunk before the bar line waits, and there is something to hear meanwhile."""
    chunk, at = state.planned, state.anew_at
    if at is None or chunk is None or state.committed_end is None or chunk.position + len(chunk.pcm) != at:
        return False
    return not planner.rehearsed(at)


def rehearse(state: TakeState, planner: Planner) -> None:
    """One slice of that, if so."""
    if may_rehearse(state, planner) and state.anew_at is not None:
        planner.rehearse(state.anew_at)


def begin_if_due(state: TakeState, planner: Planner) -> bool:
    """Before a chunk is made: once all up to the bar line is committed. False if this was a slice of rehearsal."""
    if state.anew_at is None or state.committed_end != state.anew_at:
        return True
    if not planner.rehearsed(state.anew_at):
        planner.rehearse(state.anew_at)
        return False
    planner.begin_anew()
    state.anew_at, state.short_next = None, True
    return True


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
