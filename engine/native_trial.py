"""Whether our own kernels play a model in onnxruntime's place: built, near its logits on this machine, and faster.

Between loading (engine/bundle.py) and engine/native_lane.py. Both are forced through the same codes, under a prompt
of noise where there is one, and their steps are timed meanwhile. What fails leaves onnxruntime's session as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from .decoder import PatternDecoder
from .manifest import Manifest
from .melody import MelodyDecoder, MelodyRuntime
from .musicgen import MusicgenDecoder, PromptBox
from .native import NativeError
from .native_lane import NativeKernels
from .native_weights import native_model
from .pattern import Pattern
from .prompted import Prompt, PromptedRuntime
from .runtime import StepRuntime
from .trial import apart, forced

WANTED = ("cpu", "native", "auto")
# Of logits, RMS of the difference over their RMS. What lies at the edge between two 8-bit codes rounds to the other
# where sums were added up in another order, and every layer makes more of it: 24 layers of random int4 weights are
# 0.045 apart, and kernels of ours no less among themselves. Floats have no such edges.
TOLERANCE, FLOAT_TOLERANCE = 0.15, 0.01
_TOKENS = 4  # of the prompt of noise
_LIMIT_S = 0.4  # of onnxruntime's steps; of a small model all are made before that
Say = Callable[[str], None]
Runtime = TypeVar("Runtime", bound=StepRuntime)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`apart`: of the kernels' logits from onnxruntime's; median seconds of a step of each."""

    apart: float
    ours_s: float
    theirs_s: float


def natively(
    runtime: Runtime, graph: bytes | str | Path, pattern: Pattern, *, wanted: str, say: Say, threads: int = 1
) -> Runtime:
    """The runtime on our kernels if they are wanted and pass, else as it is; why not is said if they were asked.

    `wanted`: "cpu" is onnxruntime, "native" the kernels, "auto" the kernels if their steps take less. Load thread.
    """
    if wanted not in WANTED:
        raise ValueError(f"steps on the CPU are wanted by {wanted!r}, allowed: {', '.join(WANTED)}")
    if wanted == "cpu":
        return runtime
    try:
        found = runtime.on_kernels(NativeKernels(model=native_model(graph, runtime.manifest)))
        verdict = compare(runtime, found, pattern, clock=time.thread_time if threads == 1 else time.perf_counter)
    except (NativeError, MemoryError) as error:
        if wanted == "native":
            say(f"backend native: {error}; onnxruntime plays")
        return runtime
    return found if wanted == "native" or verdict.ours_s <= verdict.theirs_s else runtime


def compare(
    theirs: StepRuntime,
    ours: StepRuntime,
    pattern: Pattern,
    *,
    clock: Callable[[], float] = time.thread_time,
    limit_s: float = _LIMIT_S,
) -> Verdict:
    """Run both through the same codes. NativeError if the kernels' logits lie too far from onnxruntime's."""
    wanted = forced(trial_decoder(theirs, pattern), theirs.manifest, limit_s=limit_s, clock=clock)
    try:
        steps = len(wanted.steps_s)
        found = forced(trial_decoder(ours, pattern), ours.manifest, steps=steps, clock=clock)
    except (ValueError, FloatingPointError) as error:
        raise NativeError(str(error)) from None
    far, allowed = apart(found.logits, wanted.logits), tolerance_of(theirs.manifest)
    if not far <= allowed:
        raise NativeError(f"the kernels' logits differ from onnxruntime's by {far:.3g}, allowed: {allowed}")
    ours_s, theirs_s = (float(np.median(each.steps_s)) for each in (found, wanted))
    return Verdict(apart=far, ours_s=ours_s, theirs_s=theirs_s)


def tolerance_of(manifest: Manifest) -> float:
    """How far a bundle's logits may lie apart."""
    floats = manifest.decoder.precision in ("fp32", "fp16") and manifest.decoder.kv_bits == 32
    return FLOAT_TOLERANCE if floats else TOLERANCE


def trial_decoder(runtime: StepRuntime, pattern: Pattern) -> PatternDecoder:
    """A fresh decoder; of a prompted model under a prompt of noise, the same each time."""
    if not isinstance(runtime, PromptedRuntime):
        return PatternDecoder(runtime, pattern)
    random = np.random.default_rng(1)
    outputs = runtime.shape.prompt_outputs().items()
    noise = {
        name: random.standard_normal([size or _TOKENS for size in sizes], np.float32) for name, sizes in outputs
    }
    prompt: Prompt = runtime.shape.prompt_of(noise, np.ones(_TOKENS, np.float32))
    if isinstance(runtime, MelodyRuntime):
        return MelodyDecoder(runtime, pattern, PromptBox(prompt))
    return MusicgenDecoder(runtime, pattern, PromptBox(prompt))
