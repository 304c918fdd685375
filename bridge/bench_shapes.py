"""Sizes that nobody trained, as step rows: graphs of random weights. For `attacca bench`, where onnx is installed.

Beside the path. The graphs are written by attacca.export.shapes, which the runtime does not depend on: it is handed
in by the bench, which looks it up by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacca.bridge.bench_bytes import cache_bytes, weight_bytes
from attacca.bridge.bench_growth import CODEBOOKS_MARK
from attacca.bridge.bench_line import Line, line_of
from attacca.bridge.bench_rows import NATIVE, ONNXRUNTIME, Row, Subject
from attacca.bridge.bench_steps import Constant, StepJob, pattern_label, rows_of, step_row
from attacca.engine.generator import Sampling
from attacca.engine.native import NativeError
from attacca.engine.native_lane import NativeKernels
from attacca.engine.native_weights import native_model
from attacca.engine.onnx_weights import initializers
from attacca.engine.pattern import make_pattern
from attacca.engine.runtime import StepRuntime

Read = Callable[[int], float | None]  # threads -> bytes per second
WINDOW = 500
CONTEXTS = (250, 500, 1500)
CODEBOOKS = (2, 4, 8, 12)
_SMALL_PRECISIONS = (("fp32", 32), ("int8", 32), ("int8", 8), ("int4", 32), ("int4", 8))
_LARGE_PRECISIONS = (("int8", 32), ("int4", 32), ("int4", 8))
_GUIDANCE = Sampling(guidance=3.0)
_SMALL_DIM = 512  # narrower ones are run at every context
_LINE_ROUNDS = 50


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A graph to be written, and with how many threads it is timed."""

    shape: Any  # of attacca.export.shapes
    precision: str
    kv_bits: int
    window: int
    threads: tuple[int, ...]

    @property
    def lined(self) -> bool:
        """Whether what rows cost is worked out too: of our kind, once for each precision of the weights."""
        usual = self.window == WINDOW and self.kv_bits == 32 and CODEBOOKS_MARK not in self.shape.name
        return usual and not self.shape.musicgen


@dataclass(frozen=True, kw_only=True)
class ShapeJob:
    """A variant, ready to be measured."""

    label: str
    seconds: float
    measure: Callable[
        [Read, float], tuple[list[Row], list[Line]]
    ]  # takes what a core does in 10^9 products a second


def variants(shapes: Any, names: Sequence[str], *, cores: int) -> Iterator[Variant]:
    """Precisions at one window; of a small shape, contexts and codebooks too. KeyError: no such shape."""
    threads = (1,) if cores < 2 else (1, 2)
    for name in names:
        shape = shapes.SHAPES[name]
        small = shape.dim < _SMALL_DIM
        for precision, kv_bits in _SMALL_PRECISIONS if small else _LARGE_PRECISIONS:
            yield Variant(shape=shape, precision=precision, kv_bits=kv_bits, window=WINDOW, threads=threads)
        if small:
            for window in (context for context in CONTEXTS if context != WINDOW):
                yield Variant(shape=shape, precision="int8", kv_bits=32, window=window, threads=(1,))
            for books in CODEBOOKS:
                grown = shapes.with_codebooks(shape, books)
                yield Variant(shape=grown, precision="int8", kv_bits=32, window=WINDOW, threads=(1,))


def shape_jobs(
    shapes: Any,
    names: Sequence[str],
    folder: Path,
    *,
    steps: int,
    cores: int,
    limit_s: float | None = None,
    context_limit_s: float | None = None,
) -> Iterator[ShapeJob]:
    """A job for each variant; it writes its graph into a folder of its own below `folder`.

    `limit_s`: a row ends after so long; `context_limit_s`: one of a small shape in int8, whatever its context.
    """
    for index, variant in enumerate(variants(shapes, names, cores=cores)):
        contexts = variant.shape.dim < _SMALL_DIM and (variant.precision, variant.kv_bits) == ("int8", 32)
        limit = context_limit_s if contexts and CODEBOOKS_MARK not in variant.shape.name else limit_s

        def measure(
            read: Read, gmacs: float, variant: Variant = variant, index: int = index, limit: float | None = limit
        ) -> tuple[list[Row], list[Line]]:
            apart = folder / str(index)
            found = rows_of_variant(shapes, variant, apart, steps=steps, read=read, gmacs=gmacs, limit_s=limit)
            for file in apart.iterdir():
                file.unlink()
            return found

        words = (variant.shape.name, variant.precision, f"cache {variant.kv_bits} bits", f"window {variant.window}")
        seconds = len(variant.threads) * steps * 4e-11 * variant.shape.layers * variant.shape.dim**2 * 14
        yield ShapeJob(label=", ".join(words), seconds=seconds, measure=measure)


def rows_of_variant(
    shapes: Any,
    variant: Variant,
    folder: Path,
    *,
    steps: int,
    read: Read,
    gmacs: float,
    limit_s: float | None = None,
) -> tuple[list[Row], list[Line]]:
    """Delay for MusicGen's shapes, stack-delay p=3 for ours, at a full window; what rows cost in ours."""
    shape = variant.shape
    pattern = make_pattern("delay" if shape.musicgen else "stack-delay", shape.num_codebooks, p=3)
    written = shapes.write_shape(
        shape, folder, precision=variant.precision, kv_bits=variant.kv_bits, window=variant.window
    )
    tensors = initializers(written.path)
    frame_ms = 1000.0 * shape.hop_samples / shape.sample_rate
    rows: list[Row] = []
    lines: list[Line] = []
    for backend, threads, runtime in runtimes(written, variant.threads):
        subject = Subject(
            model=shape.name,
            pattern=pattern_label(pattern),
            backend=backend,
            precision=variant.precision + ("" if variant.kv_bits == 32 else f", cache int{variant.kv_bits}"),
            threads=threads,
            rows=rows_of(pattern),
            context=variant.window,
        )
        rows.append(
            step_row(
                runtime,
                StepJob(pattern=pattern, context=variant.window, steps=steps, limit_s=limit_s),
                subject,
                weights=weight_bytes(tensors),
                cache_slot=cache_bytes(runtime.shape, 1),
                frame_ms=frame_ms,
                source=Constant(1000.0 / frame_ms, shape.layout),
                sampling=_GUIDANCE,
                bandwidth=read(threads),
                decoder=shapes.decoder_of(runtime, pattern),
            )
        )
        if threads == 1 and variant.lined:
            lines.append(
                line_of(
                    runtime,
                    tensors,
                    model=shape.name,
                    backend=backend,
                    precision=subject.precision,
                    core_gmacs=gmacs,
                    rounds=_LINE_ROUNDS if shape.dim < _SMALL_DIM else _LINE_ROUNDS // 5,
                )
            )
    return rows, lines


def runtimes(written: Any, threads: Sequence[int], backend: str = "auto") -> Iterator[tuple[str, int, StepRuntime]]:
    """(backend, threads, runtime) of a written graph: our kernels, which have one thread, then onnxruntime.

    `backend`: both are "auto"; "native" is the kernels alone, if they can; "cpu" is onnxruntime alone.
    """
    native = on_kernels(written) if backend != "cpu" else None
    alone = native is not None and backend == "native"
    if native is not None:
        yield NATIVE, 1, native
        del native
    for count in () if alone else threads:
        yield ONNXRUNTIME, count, written.load(threads=count)


def on_kernels(written: Any) -> StepRuntime | None:
    """A written graph on our kernels; None if there are none, or none for it."""
    try:
        kernels = NativeKernels(model=native_model(written.path, written.manifest))
    except NativeError:
        return None
    runtime: StepRuntime = written.load()
    return runtime.on_kernels(kernels)
