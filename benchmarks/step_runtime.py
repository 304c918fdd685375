"""Time of a decoder step with random weights: sizes x precisions x cache bits x threads, at a full window.

`python benchmarks/step_runtime.py --out step_runtime.json` prints a table and writes every figure. Wall time says
what a listener gets on this machine now; processor time is what remains comparable when the machine is busy.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from attacca.bridge.machine import commit, machine, versions
from attacca.engine.conditioning import DEFAULT_LAYOUT
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Sampling
from attacca.engine.manifest import ConditioningSection, DecoderSection, Manifest, PatternSection
from attacca.engine.pattern import make_pattern
from attacca.engine.runtime import StepRuntime
from attacca.export.calibrate import calibrate_cache, forced_logits
from attacca.export.decoder import DecoderExport, build_decoder
from attacca.export.tiny import random_decoder

CODEBOOKS, SIZE, WARM_UP = 4, 1024, 30
PATTERN = make_pattern("stack-delay", CODEBOOKS, p=3)
VARIANTS = [("fp32", 32), ("int8", 32), ("int8", 8), ("int4", 32)]


class Noise:
    """Conditions that are the same for a frame whenever it is asked for."""

    def rows(self, first_frame: int, count: int) -> np.ndarray:
        frames, width = range(first_frame, first_frame + count), DEFAULT_LAYOUT.width
        return np.stack([np.random.default_rng(t).standard_normal(width) for t in frames]).astype(np.float32)


def manifest(layers: int, dim: int, precision: str, kv_bits: int, window: int) -> Manifest:
    return Manifest(
        format_version=1,
        name="random",
        version="1",
        licence="none",
        sample_rate=32000,
        hop_samples=640,
        num_codebooks=CODEBOOKS,
        codebook_size=SIZE,
        window_frames=window,
        pattern=PatternSection(name=PATTERN.name, p=PATTERN.p),
        conditioning=ConditioningSection.of(DEFAULT_LAYOUT),
        decoder=DecoderSection(
            layers=layers, heads=dim // 64, head_dim=64, dim=dim, precision=precision, kv_bits=kv_bits
        ),
        codec={},
        files={},
    )


def measure(runtime: StepRuntime, steps: int) -> dict[str, float]:
    """Milliseconds of a step at a full window, Python and all, and of a prefilled row."""
    decoder, window = PatternDecoder(runtime, PATTERN), runtime.shape.window
    codes = np.random.default_rng(0).integers(0, SIZE, (window, CODEBOOKS)).astype(np.uint16)
    conditions = Noise().rows(0, window)
    began = time.process_time()
    decoder.listen(codes, conditions)
    prefill_ms = (time.process_time() - began) * 1e3 / window
    sampling, horizon = Sampling(guidance=2.0), window + WARM_UP + 2 * steps
    source = Noise()
    decoder.plan(horizon, source, sampling, max_steps=WARM_UP)
    wall, processor = [], []
    for _ in range(steps):
        began, began_processor = time.perf_counter(), time.process_time()
        decoder.plan(horizon, source, sampling, max_steps=1)
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_processor)
    fork_began = time.process_time()
    decoder.fork()
    figures = {f"wall_p{p}_ms": 1e3 * float(np.percentile(wall, p)) for p in (10, 50, 95)}
    return figures | {
        "processor_p50_ms": 1e3 * float(np.percentile(processor, 50)),
        "prefill_row_ms": prefill_ms,
        "fork_ms": (time.process_time() - fork_began) * 1e3,
    }


def distance(runtime: StepRuntime, exact: StepRuntime) -> float:
    """RMS distance of logits over the RMS of the fp32 ones, teacher-forced on random codes."""
    codes = np.random.default_rng(1).integers(0, SIZE, (40, CODEBOOKS)).astype(np.uint16)
    conditions = Noise().rows(0, 80)
    near, far = (forced_logits(r, PATTERN, codes, conditions, prefix=10) for r in (runtime, exact))
    apart = np.stack([near[cell] - far[cell] for cell in far])
    return float(np.sqrt(np.mean(apart**2)) / np.sqrt(np.mean(np.stack(list(far.values())) ** 2)))


def run(size: str, window: int, steps: int, threads: list[int]) -> list[dict[str, Any]]:
    layers, dim = (int(part) for part in size.split("x"))
    hidden = round(dim * 8 / 3 / 64) * 64
    weights = random_decoder(
        layers=layers,
        dim=dim,
        hidden=hidden,
        num_codebooks=CODEBOOKS,
        codebook_size=SIZE,
        conditioning_width=DEFAULT_LAYOUT.width,
    )
    rows: list[dict[str, Any]] = []
    exact: StepRuntime | None = None
    scales = None
    for precision, kv_bits in VARIANTS:
        options = DecoderExport(heads=dim // 64, window_frames=window, precision=precision, kv_bits=kv_bits)
        graph = build_decoder(weights, options, scales if kv_bits == 8 else None).SerializeToString()
        described = manifest(layers, dim, precision, kv_bits, window)
        runtime = StepRuntime(graph, described)
        if exact is None:
            exact, scales = runtime, calibrate_cache(runtime, PATTERN, Noise(), frames=64)
        apart = distance(runtime, exact)
        for count in threads:
            for spinning in (False, True) if count > 1 else (False,):
                timed = StepRuntime(graph, described, threads=count, spinning=spinning)
                row: dict[str, Any] = {
                    "size": size,
                    "window": window,
                    "precision": precision,
                    "kv_bits": kv_bits,
                    "threads": count,
                }
                row |= {"spinning": spinning, "megabytes": len(graph) / 1e6, "logit_distance": apart}
                row |= measure(timed, steps)
                rows.append(row)
                print(" | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", nargs="+", default=["6x384", "8x512"], help="layers x dim")
    parser.add_argument("--window", type=int, default=500, help="attention window in frames")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    print("size, window, weights, cache, threads, spinning, MB, logits, wall p10 p50 p95, cpu p50, prefill, fork")
    rest = (arguments.window, arguments.steps, arguments.threads)
    rows = [row for size in arguments.size for row in run(size, *rest)]
    told = {"machine": machine(), "versions": versions(), "commit": commit(), "rows": rows}
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
