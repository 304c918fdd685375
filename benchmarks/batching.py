"""Whether takes stepped together cost less than one after another: sizes x precisions x numbers of takes.

`python -m benchmarks.batching --out batching.json` prints a table. Both ways are run in turns in one process, on
the same weights at the same context, so that their ratio holds on a busy machine; processor time is compared, wall
time is told beside it. Logits of both ways are compared too: the benchmark fails if a bit differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attacca.bridge.bench_rows import NATIVE, OURS
from attacca.bridge.bench_shapes import on_kernels
from attacca.bridge.machine import commit, machine, versions
from attacca.engine.batch import BatchRuntime
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Conditions, Sampling
from attacca.engine.musicgen import MusicgenDecoder, PromptBox
from attacca.engine.native_lane import NativeBatch
from attacca.engine.pace import LanesTogether
from attacca.engine.pattern import make_pattern
from attacca.engine.prompted import Prompt, PromptedRuntime
from attacca.engine.runtime import StepRuntime
from attacca.engine.sharing import Part, plan_together
from attacca.export.batch import build_decoder_batch, build_step_batch, share_weights
from attacca.export.decoder import DecoderExport
from attacca.export.musicgen import MusicgenExport
from attacca.export.shapes import SHAPES, TEXT_TOKENS, Shape, musicgen_shape, random_weights, write_shape

TAKES = (2, 4, 8)
WARM_UP = 3
SUBJECTS = (
    ("ostinato", 6, "stack-delay", "int8"),
    ("ostinato", 6, "delay", "int8"),
    ("musicgen-small", 6, "delay", "int8"),
    ("musicgen-small", 6, "delay", "int4"),
)


class Conditioned:
    """The same vector for every frame."""

    def __init__(self, width: int) -> None:
        self._width = width

    def rows(self, first_frame: int, count: int) -> Conditions:
        return np.zeros((count, self._width), np.float32)


def load(
    shape: Shape, precision: str, window: int, folder: Path, backend: str
) -> tuple[StepRuntime, LanesTogether] | None:
    """Both graphs of one set of random weights, or our kernels over one; None if there are none."""
    weights = random_weights(shape)
    written = write_shape(shape, folder, precision=precision, window=window, weights=weights)
    if backend == NATIVE:
        ours = on_kernels(written)
        return None if ours is None else (ours, NativeBatch(ours, max(TAKES)))
    single = written.load()
    common: dict[str, Any] = {"window_frames": window, "precision": precision}
    if shape.musicgen:
        graph = build_step_batch(weights, musicgen_shape(shape), MusicgenExport(**common), max(TAKES))
    else:
        graph = build_decoder_batch(weights, DecoderExport(heads=shape.heads, **common), max(TAKES))
    path = folder / "batch.onnx"
    path.write_bytes(share_weights(graph, written.path).SerializeToString())
    return single, BatchRuntime(str(path), single)


def decoders(runtime: StepRuntime, pattern: str, context: int, count: int) -> list[PatternDecoder]:
    """Takes that heard so much, each something else, a few frames more than the one before."""
    made = make_pattern(pattern, runtime.shape.num_codebooks, p=3)
    box = None
    if isinstance(runtime, PromptedRuntime):
        outputs = runtime.shape.prompt_outputs().items()
        zeros = {name: np.zeros([size or TEXT_TOKENS for size in sizes], np.float32) for name, sizes in outputs}
        box = PromptBox(Prompt.of(zeros, np.ones(TEXT_TOKENS, np.float32)))
    found: list[PatternDecoder] = []
    for number in range(count):
        if isinstance(runtime, PromptedRuntime) and box is not None:
            decoder: PatternDecoder = MusicgenDecoder(runtime, made, box)
        else:
            decoder = PatternDecoder(runtime, made)
        size = (context + 3 * number, runtime.shape.num_codebooks)
        codes = np.random.default_rng(number).integers(0, runtime.shape.codebook_size, size)
        decoder.listen(codes.astype(np.uint16), np.zeros((size[0], runtime.shape.conditioning_width), np.float32))
        found.append(decoder)
    return found


def measure(
    single: StepRuntime, batch: LanesTogether, pattern: str, context: int, steps: int
) -> list[dict[str, float]]:
    """Milliseconds of a step of all takes: one after another, and together by two, four, eight."""
    source = Conditioned(single.shape.conditioning_width)
    samplings = [Sampling(seed=n, guidance=3.0, top_k=250) for n in range(max(TAKES))]
    ways: dict[int, list[PatternDecoder]] = {size: [] for size in (1, *TAKES)}
    for number, decoder in enumerate(decoders(single, pattern, context, max(TAKES))):
        for way in ways.values():
            way.append(decoder if way is ways[1] else decoder.fork())
        samplings[number] = replace(samplings[number], seed=number)
    steppers = {size: batch.stepper() for size in TAKES}
    wall: dict[int, list[float]] = {size: [] for size in ways}
    processor: dict[int, list[float]] = {size: [] for size in ways}
    for _ in range(steps + WARM_UP):
        for size, group in ways.items():
            began, began_processor = time.perf_counter(), time.process_time()
            for start in range(0, len(group), size):
                parts = [
                    Part(generator=group[n], until_frame=1 << 30, source=source, sampling=samplings[n])
                    for n in range(start, start + size)
                ]
                if size == 1:
                    group[start].plan(1 << 30, source, samplings[start], max_steps=1)
                else:
                    plan_together(steppers[size], parts, 1)
            processor[size].append(1e3 * (time.process_time() - began_processor) / len(group))
            wall[size].append(1e3 * (time.perf_counter() - began) / len(group))
    for size in TAKES:
        for one, other in zip(ways[1], ways[size], strict=True):
            if not np.array_equal(one._lane.logits, other._lane.logits) or one.frontier != other.frontier:
                raise AssertionError(f"takes stepped together by {size} are not what they are alone")
    alone = float(np.median(processor[1][WARM_UP:]))
    return [
        {
            "takes": size,
            "processor_ms": float(np.median(processor[size][WARM_UP:])),
            "wall_p50_ms": float(np.median(wall[size][WARM_UP:])),
            "gain": alone / float(np.median(processor[size][WARM_UP:])),
        }
        for size in ways
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--context", type=int, default=250, help="frames heard before")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sizes", nargs="+", default=sorted({name for name, *_ in SUBJECTS}))
    parser.add_argument("--backends", nargs="+", default=OURS, choices=OURS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    told = "takes together, processor ms a step and take, wall, gain"
    print(f"size, layers, pattern, weights, backend | {told}", flush=True)
    chosen = [row for row in SUBJECTS if row[0] in arguments.sizes]
    for (name, layers, pattern, precision), backend in itertools.product(chosen, arguments.backends):
        shape = replace(SHAPES[name], layers=layers)
        with tempfile.TemporaryDirectory() as folder:
            loaded = load(shape, precision, arguments.context, Path(folder), backend)
            for figures in measure(*loaded, pattern, arguments.context, arguments.steps) if loaded else ():
                subject = {"size": name, "layers": layers, "pattern": pattern, "precision": precision}
                rows.append(subject | {"backend": backend, "context": arguments.context} | figures)
                told = " ".join(f"{value:.2f}" for value in figures.values())
                print(f"{name} {layers} layers, {pattern}, {precision}, {backend} | {told}", flush=True)
    if arguments.out is not None:
        told_all = {"machine": machine(), "versions": versions(), "commit": commit(), "rows": rows}
        arguments.out.write_text(json.dumps(told_all, indent=2) + "\n")


if __name__ == "__main__":
    main()
