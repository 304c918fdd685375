"""Sizes that nobody trained, as step rows: graphs of random weights. For `attacca bench`, where onnx is installed.

Beside the path. The graphs are written by attacca.export.shapes, which the runtime does not depend on: it is handed
in by the bench, which looks it up by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacca.bridge.bench_bytes import cache_bytes, initializers, weight_bytes
from attacca.bridge.bench_rows import Row, Subject
from attacca.bridge.bench_steps import Constant, StepJob, pattern_label, rows_of, step_row
from attacca.engine.generator import Sampling
from attacca.engine.pattern import make_pattern

Read = Callable[[int], float | None]  # threads -> bytes per second
WINDOW = 500
CONTEXTS = (250, 500, 1500)
CODEBOOKS = (2, 4, 8, 12)
_SMALL_PRECISIONS = (("fp32", 32), ("int8", 32), ("int8", 8), ("int4", 32), ("int4", 8))
_LARGE_PRECISIONS = (("int8", 32), ("int4", 32), ("int4", 8))
_GUIDANCE = Sampling(guidance=3.0)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A graph to be written, and with how many threads it is timed."""

    shape: Any  # of attacca.export.shapes
    precision: str
    kv_bits: int
    window: int
    threads: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ShapeJob:
    """A variant, ready to be measured."""

    label: str
    seconds: float
    measure: Callable[[Read], list[Row]]


def variants(shapes: Any, names: Sequence[str], *, cores: int) -> Iterator[Variant]:
    """Precisions at one window; of a small shape, contexts and codebooks too. KeyError: no such shape."""
    threads = (1,) if cores < 2 else (1, 2)
    for name in names:
        shape = shapes.SHAPES[name]
        small = shape.dim < 512
        for precision, kv_bits in _SMALL_PRECISIONS if small else _LARGE_PRECISIONS:
            yield Variant(shape=shape, precision=precision, kv_bits=kv_bits, window=WINDOW, threads=threads)
        if small:
            for window in (context for context in CONTEXTS if context != WINDOW):
                yield Variant(shape=shape, precision="int8", kv_bits=32, window=window, threads=(1,))
            for books in CODEBOOKS:
                grown = shapes.with_codebooks(shape, books)
                yield Variant(shape=grown, precision="int8", kv_bits=32, window=WINDOW, threads=(1,))


def shape_jobs(shapes: Any, names: Sequence[str], folder: Path, *, steps: int, cores: int) -> Iterator[ShapeJob]:
    """A job for each variant; it writes its graph into a folder of its own below `folder`."""
    for index, variant in enumerate(variants(shapes, names, cores=cores)):

        def measure(read: Read, variant: Variant = variant, index: int = index) -> list[Row]:
            return rows_of_variant(shapes, variant, folder / str(index), steps=steps, read=read)

        words = (variant.shape.name, variant.precision, f"cache {variant.kv_bits} bits", f"window {variant.window}")
        seconds = len(variant.threads) * steps * 4e-11 * variant.shape.layers * variant.shape.dim**2 * 14
        yield ShapeJob(label=", ".join(words), seconds=seconds, measure=measure)


def rows_of_variant(shapes: Any, variant: Variant, folder: Path, *, steps: int, read: Read) -> list[Row]:
    """Delay for MusicGen's shapes, stack-delay p=3 for ours, at a full window."""
    shape = variant.shape
    pattern = make_pattern("delay" if shape.musicgen else "stack-delay", shape.num_codebooks, p=3)
    written = shapes.write_shape(
        shape, folder, precision=variant.precision, kv_bits=variant.kv_bits, window=variant.window
    )
    weights = weight_bytes(initializers(written.path))
    frame_ms = 1000.0 * shape.hop_samples / shape.sample_rate
    rows = []
    for threads in variant.threads:
        runtime = written.load(threads=threads)
        subject = Subject(
            model=shape.name,
            pattern=pattern_label(pattern),
            backend="onnxruntime-cpu",
            precision=variant.precision + ("" if variant.kv_bits == 32 else f", cache int{variant.kv_bits}"),
            threads=threads,
            rows=rows_of(pattern),
            context=variant.window,
        )
        rows.append(
            step_row(
                runtime,
                StepJob(pattern=pattern, context=variant.window, steps=steps),
                subject,
                weights=weights,
                cache_slot=cache_bytes(runtime.shape, 1),
                frame_ms=frame_ms,
                source=Constant(1000.0 / frame_ms, shape.layout),
                sampling=_GUIDANCE,
                bandwidth=read(threads),
                decoder=shapes.decoder_of(runtime, pattern),
            )
        )
    for file in folder.iterdir():
        file.unlink()
    return rows
