"""Our side of `python -m benchmarks.peers`: a MusicGen shape's steps in each precision, and the whole path.

The graphs are written from the same random weights that the peers run. An 8-bit cache has scales calibrated on what
the model makes up itself; how far logits move by coarser weights and cache is measured against fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace as with_fields

from attacca.bridge.bench_bytes import cache_bytes, weight_bytes
from attacca.bridge.bench_path import codec_rows, whole_path_row
from attacca.bridge.bench_rows import ONNXRUNTIME, Row, Subject
from attacca.bridge.bench_shapes import Variant, runtimes
from attacca.bridge.bench_steps import Constant, StepJob, pattern_label, random_codes, rows_of, step_row
from attacca.engine.beside import Beside
from attacca.engine.bundle import PromptedModel
from attacca.engine.encodec import DECODER, ENCODER, Encodec
from attacca.engine.generator import Sampling
from attacca.engine.musicgen import PromptBox
from attacca.engine.onnx_weights import initializers
from attacca.engine.pattern import Pattern, make_pattern
from attacca.engine.prompted import Prompt, PromptedRuntime
from attacca.engine.runtime import StepRuntime
from attacca.engine.schedule import context_rows
from attacca.export import shapes
from attacca.export.calibrate import cache_scales
from attacca.export.encodec import DECODER_FILE, ENCODER_FILE, write_encodec
from attacca.export.encodec_checkpoint import random_checkpoint
from attacca.export.encodec_plan import EncodecConfig
from attacca.export.shapes import Shape
from benchmarks.peers_options import Options
from benchmarks.peers_transformers import GUIDANCE, TOP_K, CodecShape

SAMPLING = Sampling(guidance=GUIDANCE, top_k=TOP_K, seed=1)
_CALIBRATION_FRAMES, _FORCED_FRAMES = 128, 24


@dataclass(frozen=True, kw_only=True)
class Ours:
    """A written graph of one precision and what is needed to time it."""

    shape: Shape
    pattern: Pattern
    variant: Variant
    written: Any  # of attacca.export.shapes

    @property
    def frame_ms(self) -> float:
        return 1000.0 * self.shape.hop_samples / self.shape.sample_rate

    def subject(self, threads: int, backend: str = ONNXRUNTIME) -> Subject:
        """As rows have it."""
        cache = "" if self.variant.kv_bits == 32 else f", cache int{self.variant.kv_bits}"
        return Subject(
            model=self.shape.name,
            pattern=pattern_label(self.pattern),
            backend=backend,
            precision=self.variant.precision + cache,
            threads=threads,
            rows=rows_of(self.pattern),
            context=self.variant.window,
        )


def pattern_of(shape: Shape) -> Pattern:
    """Delay for MusicGen's shapes, stack-delay p=3 for ours."""
    return make_pattern("delay" if shape.musicgen else "stack-delay", shape.num_codebooks, p=3)


def write(variant: Variant, folder: Path) -> Ours:
    """Write a variant's graph into `folder`, calibrated where its cache is of 8 bits."""
    shape, pattern = variant.shape, pattern_of(variant.shape)
    common: dict[str, Any] = {"precision": variant.precision, "window": variant.window}
    scales = _calibrated(shape, pattern, folder / "calibration", common) if variant.kv_bits == 8 else None
    written = shapes.write_shape(shape, folder, kv_bits=variant.kv_bits, kv_scales=scales, **common)
    return Ours(shape=shape, pattern=pattern, variant=variant, written=written)


def _calibrated(shape: Shape, pattern: Pattern, folder: Path, common: dict[str, Any]) -> Any:
    """Scales read off what a cache of floats holds; a function, so that its graph is gone before the next."""
    runtime = shapes.write_shape(shape, folder, kv_bits=32, **common).load()
    decoder = shapes.decoder_of(runtime, pattern)
    decoder.plan(min(_CALIBRATION_FRAMES, common["window"]), Constant(50.0, shape.layout), SAMPLING)
    return cache_scales(decoder, runtime.shape)


def step_rows(ours: Ours, options: Options, *, bandwidth: dict[str, Any]) -> list[Row]:
    """Steps at the full window, on each backend with one thread and with as many as the run has."""
    weights = weight_bytes(initializers(ours.written.path))
    job = StepJob(
        pattern=ours.pattern,
        context=ours.variant.window,
        steps=options.steps,
        warm_up=min(20, options.steps - 1),
        limit_s=options.limit_s,
    )
    rows = []
    for backend, count, runtime in runtimes(ours.written, sorted({1, options.threads}), options.backend):
        rows.append(
            step_row(
                runtime,
                job,
                ours.subject(count, backend),
                weights=weights,
                cache_slot=cache_bytes(runtime.shape, 1),
                frame_ms=ours.frame_ms,
                source=Constant(1000.0 / ours.frame_ms, ours.shape.layout),
                sampling=SAMPLING,
                bandwidth=bandwidth.get(str(count), {}).get("read"),
                decoder=shapes.decoder_of(runtime, ours.pattern),
            )
        )
    return rows


def forced_logits(ours: Ours) -> Any:
    """Guided logits [steps, K, V], teacher-forced on random codes: what another precision's are compared with."""
    runtime: StepRuntime = ours.written.load()
    books, size = ours.shape.num_codebooks, ours.shape.codebook_size
    rows = context_rows(ours.pattern, size, random_codes(_FORCED_FRAMES, books, size))
    lane = shapes.decoder_of(runtime, ours.pattern)._lane
    lane.guidance[0], lane.temperature[0] = GUIDANCE, 0.0
    nothing, found = np.zeros((1, 0), np.float32), []
    for i in range(len(rows.level)):
        one = slice(i, i + 1)
        row = rows.stack[one], rows.level[one], rows.timestep[one], nothing
        lane.run(*row, slot=lane.cache.count, row_of_level=np.zeros(books, np.int64))
        lane.cache.keep([i])
        found.append(lane.logits.copy())
    return np.stack(found)


def distance(found: Any, exact: Any) -> float:
    """RMS distance over the RMS of the exact ones."""
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))


def whole_path(ours: Ours, codec: CodecShape, folder: Path, options: Options) -> list[Row]:
    """Codec rows, and a take with guidance through decoder, window, EnCodec and resampler: the target's row.

    On our kernels unless "cpu" was asked for. Of several threads one runs the steps, the others what is computed
    beside them (engine/beside.py).
    """
    shape = ours.shape
    config = EncodecConfig(
        sample_rate=shape.sample_rate,
        num_filters=codec.filters,
        ratios=codec.ratios,
        lstm_layers=codec.lstm_layers,
        hidden=codec.hidden,
        num_codebooks=shape.num_codebooks,
        codebook_size=shape.codebook_size,
    )
    section = write_encodec(random_checkpoint(config), folder)
    files = {ENCODER: folder / ENCODER_FILE, DECODER: folder / DECODER_FILE}
    loaded = Encodec.load(files, section)
    backend, _, runtime = next(runtimes(ours.written, (1,), options.backend))
    assert isinstance(runtime, PromptedRuntime)
    outputs = runtime.shape.prompt_outputs().items()
    tokens = shapes.TEXT_TOKENS
    zeros = {name: np.zeros([size or tokens for size in sizes], np.float32) for name, sizes in outputs}
    model = PromptedModel(
        manifest=with_fields(ours.written.manifest, codec=section),
        codec=loaded,
        runtime=runtime,
        pattern=ours.pattern,
        text=None,
        box=PromptBox(Prompt.of(zeros, np.ones(tokens, np.float32))),
        beside=Beside() if options.threads > 1 else None,
    )
    seconds, subject = options.path_s, ours.subject(options.threads, backend)
    rows = codec_rows(model, ours.subject(1), frames=max(64, round(0.25 * seconds * 1000.0 / ours.frame_ms)))
    return [*rows, whole_path_row(model, subject, SAMPLING, seconds=seconds)]
