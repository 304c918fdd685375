"""What `attacca bench` measures of a model, in which order: the jobs that fill a report.

Beside the path. A job does one thing and puts rows, figures or a series into the report; bridge/bench.py runs them
and judges.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attacca.bridge import bench_growth, bench_live, bench_path, bench_steps
from attacca.bridge.bench_bandwidth import probe
from attacca.bridge.bench_bytes import cache_bytes, weight_bytes
from attacca.bridge.bench_growth import Series
from attacca.bridge.bench_line import Line, core_gmacs, line_of
from attacca.bridge.bench_neighbours import Neighbours
from attacca.bridge.bench_options import QUICK, BenchOptions
from attacca.bridge.bench_rows import ONNXRUNTIME, Figure, Row, Subject
from attacca.bridge.bench_shapes import ShapeJob, shape_jobs
from attacca.bridge.bench_steps import Constant, StepJob, pattern_label, rows_of
from attacca.engine.backends import CPU_BACKENDS, backend_of, precision_of
from attacca.engine.bundle import Model as Bundle
from attacca.engine.bundle import PromptedModel
from attacca.engine.events import Model
from attacca.engine.generator import Generator, Sampling
from attacca.engine.manifest import DECODER_ROLE
from attacca.engine.onnx_weights import initializers
from attacca.engine.runtime import StepShape
from attacca.engine.stream import StreamConfig

__all__ = ["QUICK", "BenchOptions", "Job", "Plan", "Report", "precision_label", "subject_of"]

_SHAPES = "attacca.export.shapes"
_NO_ONNX = "sizes of random weights: onnx is not installed (pip install 'attacca[export]')"


@dataclass(kw_only=True)
class Report:
    """What was found so far."""

    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    growth: list[Series] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    bandwidth: dict[str, Any] = field(default_factory=dict)
    core_gmacs: float = 0.0  # of one thread
    left_out: list[str] = field(default_factory=list)

    def read(self, threads: int) -> float | None:
        """Bytes per second that so many threads read, if it was measured."""
        found = self.bandwidth.get(str(threads), {}).get("read")
        return None if found is None else float(found)

    @property
    def slow(self) -> bool:
        """Whether the model's own steps take half of real time or more: then no thousand chunks are waited for."""
        return next((row.rtf or 0.0 for row in self.rows if row.name == "decoder step"), 0.0) > 0.5


@dataclass(frozen=True, kw_only=True)
class Job:
    """A named piece of the run; `seconds` is a rough guess for the progress bar."""

    label: str
    seconds: float
    do: Callable[[Report], None]


def subject_of(model: Model, name: str, *, threads: int) -> Subject:
    """Read from a loaded bundle; anything else is the fake, which has neither rows nor context."""
    if not isinstance(model, Bundle):
        return Subject(
            model=name, pattern="fake", backend="fake", precision="none", threads=threads, rows=0, context=0
        )
    decoder = model.manifest.decoder
    return Subject(
        model=name,
        pattern=pattern_label(model.pattern),
        backend=ONNXRUNTIME if backend_of(model) == "cpu" else backend_of(model),
        precision=precision_of(model) or precision_label(decoder.precision, decoder.kv_bits),
        threads=threads,
        rows=rows_of(model.pattern),
        context=model.manifest.window_frames,
    )


def _fixed(model: Bundle) -> bool:
    """Whether nothing but the model's own decoder runs its steps."""
    return isinstance(model, PromptedModel) or backend_of(model) not in CPU_BACKENDS


def precision_label(precision: str, kv_bits: int) -> str:
    """As a row has it."""
    return precision if kv_bits == 32 else f"{precision}, cache int{kv_bits}"


class Plan:
    """Which jobs there are for a model."""

    def __init__(
        self,
        model: Model,
        name: str,
        sampling: Sampling,
        options: BenchOptions,
        *,
        threads: int,
        reload: Callable[[int, str], Model] | None = None,
        folder: Path | None = None,
        engine_arguments: Sequence[str] = (),
        cores: int | None = None,
    ) -> None:
        """`reload`: the model with so many threads on a backend; `folder`: the bundle's; arguments: to serve it."""
        self._model, self._sampling, self._options = model, sampling, options
        self._folder, self._reload, self._arguments = folder, reload, engine_arguments
        self._threads = threads
        self._cores = cores or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self.subject = subject_of(model, name, threads=threads)
        self._frame_ms = 1000.0 * model.codec.hop_samples / model.codec.sample_rate
        self._source = Constant(1000.0 / self._frame_ms, model.conditioning)

    def jobs(self) -> Iterator[Job]:
        """In the order in which they run."""
        parts = self._options.parts
        yield Job(label="memory bandwidth", seconds=2.0, do=self._bandwidth)
        if "steps" in parts and isinstance(self._model, Bundle):
            yield from self._step_jobs(self._model)
        if "shapes" in parts and self._options.shapes:
            yield from self._shape_jobs()
        if "path" in parts:
            yield from self._path_jobs()
        if "growth" in parts:
            yield Job(label="length of a take", seconds=0.3 * self._options.growth_s, do=self._take_length)
        if "live" in parts:
            seconds = 3 * self._options.live_runs * 5.0 + 2 * self._options.long_s
            yield Job(label="live, in real time", seconds=seconds, do=self._live)

    def _bandwidth(self, report: Report) -> None:
        report.bandwidth = probe([1, self._threads, self._cores], buffer_bytes=self._options.buffer_bytes)
        report.core_gmacs = core_gmacs()

    def _step_jobs(self, model: Bundle) -> Iterator[Job]:
        steps = self._options.steps
        fixed = _fixed(model)
        jobs = bench_steps.bundle_jobs(
            model.pattern,
            model.manifest.window_frames,
            steps=steps,
            limit_s=self._options.step_limit_s,
            every_pattern=not fixed,
        )
        for job in jobs:
            yield self._step_job(job, model, self._threads)
        if not fixed and self._folder is not None:
            yield Job(label="rows of a step", seconds=0.05 * self._options.line_rounds, do=self._line)
        other = self._cores if self._threads == 1 else 1
        for threads in sorted({self._threads, other}) if self._reload is not None else ():
            # onnxruntime's, beside what plays: of our kernels' steps a thread runs each by itself
            if threads != self._threads or backend_of(model) == "native":
                label = f"step by onnxruntime, {threads} thread(s)"
                yield Job(label=label, seconds=0.005 * steps, do=self._again(jobs[0], threads, model))

    def _again(self, job: StepJob, threads: int, model: Bundle) -> Callable[[Report], None]:
        """The model loaded anew on onnxruntime, or on the device that it is on."""
        reload, backend = self._reload, backend_of(model)
        assert reload is not None

        def again(report: Report) -> None:
            loaded = reload(threads, "cpu" if backend in CPU_BACKENDS else backend)
            assert isinstance(loaded, Bundle)
            self._step_job(job, loaded, threads).do(report)

        return again

    def _line(self, report: Report) -> None:
        assert isinstance(self._model, Bundle) and self._folder is not None
        report.lines.append(
            line_of(
                self._model.runtime,
                initializers(self._decoder_file(self._folder, self._model)),
                model=self.subject.model,
                backend=self.subject.backend,
                precision=self.subject.precision,
                core_gmacs=report.core_gmacs,
                rounds=self._options.line_rounds,
            )
        )

    @staticmethod
    def _decoder_file(folder: Path, model: Bundle) -> Path:
        return folder / model.manifest.files[DECODER_ROLE].path

    def _step_job(self, job: StepJob, model: Bundle, threads: int) -> Job:
        def do(report: Report) -> None:
            decoder = model.decoder() if _fixed(model) else None
            self._add_step(
                report,
                model.runtime.shape,
                self._weights(model),
                runtime=model.runtime,
                job=job,
                subject=subject_of(model, self.subject.model, threads=threads),
                frame_ms=self._frame_ms,
                source=self._source,
                decoder=decoder,
            )

        label = f"step: {pattern_label(job.pattern)}, context {job.context}, {threads} thread(s)"
        return Job(label=label, seconds=0.005 * job.steps, do=do)

    def _add_step(self, report: Report, shape: StepShape, weights: int, **parts: Any) -> None:
        report.rows.append(
            bench_steps.step_row(
                weights=weights,
                cache_slot=cache_bytes(shape, 1),
                sampling=self._sampling,
                bandwidth=report.read(parts["subject"].threads),
                **parts,
            )
        )

    def _weights(self, model: Bundle) -> int:
        """Bytes of weights that a step of the bundle reads; 0 where its folder is not known, and on a device."""
        if self._folder is None or backend_of(model) not in CPU_BACKENDS:
            return 0
        return weight_bytes(initializers(self._decoder_file(self._folder, model)))

    def _shape_jobs(self) -> Iterator[Job]:
        if importlib.util.find_spec("onnx") is None:
            yield Job(label="sizes", seconds=0.0, do=lambda report: report.left_out.append(_NO_ONNX))
            return
        temporary = tempfile.TemporaryDirectory(prefix="attacca-bench-")
        shapes = importlib.import_module(_SHAPES)
        o, folder = self._options, Path(temporary.name)
        limits = {"limit_s": o.shape_limit_s, "context_limit_s": o.context_limit_s}
        for job in shape_jobs(shapes, o.shapes, folder, steps=o.steps, cores=self._cores, **limits):

            def do(report: Report, job: ShapeJob = job) -> None:
                rows, lines = job.measure(report.read, report.core_gmacs)
                report.rows += rows
                report.lines += lines

            yield Job(label=job.label, seconds=job.seconds, do=do)
        temporary.cleanup()

    def _path_jobs(self) -> Iterator[Job]:
        o, model, subject = self._options, self._model, self.subject

        def parts(report: Report) -> None:
            report.rows += bench_path.codec_rows(model, subject, frames=o.codec_frames)
            report.rows += bench_path.resample_rows(model, subject, calls=o.calls)
            report.rows.append(bench_path.queue_row(subject, calls=o.calls))
            report.rows.append(bench_path.wire_row(subject, calls=o.calls))

        yield Job(label="codec, resampler, queue, wire", seconds=0.002 * o.codec_frames, do=parts)
        alone_s = (o.chunks + 2 * bench_path.UNSTEADY) * StreamConfig().chunk_frames * self._frame_ms / 1000.0
        for takes, busy in [(1, 0), *((takes, 0) for takes in o.takes if takes > 1), (1, 1), (1, self._cores)]:
            seconds = alone_s if takes == 1 else o.path_s

            def whole(report: Report, takes: int = takes, busy: int = busy, seconds: float = seconds) -> None:
                if report.slow:
                    seconds = min(seconds, o.path_s)
                with Neighbours(busy):
                    row = bench_path.whole_path_row(
                        model, subject, self._sampling, seconds=seconds, takes=takes, busy=busy
                    )
                report.rows.append(row)

            told = f", {busy} busy" if busy else ""
            yield Job(label=f"whole path: {takes} take(s){told}", seconds=0.4 * takes * seconds, do=whole)

    def _take_length(self, report: Report) -> None:
        model = self._model
        manifest = getattr(model, "manifest", None)
        generator: Generator = model.generator()
        series = bench_growth.take_length(
            generator,
            heard_frames=manifest.window_frames if isinstance(model, Bundle) and manifest is not None else 64,
            num_codebooks=model.codec.num_codebooks,
            codebook_size=manifest.codebook_size if isinstance(model, Bundle) and manifest is not None else 1024,
            frame_s=self._frame_ms / 1000.0,
            seconds=self._options.growth_s,
            source=self._source,
            sampling=self._sampling,
        )
        report.growth.append(series)

    def _live(self, report: Report) -> None:
        o = self._options
        live = bench_live.LiveOptions(
            engine_arguments=self._arguments,
            runs=o.live_runs,
            lead_s=o.live_lead_s,
            play_s=o.live_play_s,
            long_s=o.long_s,
            busy=0 if o.quick else self._cores,
        )
        found = bench_live.measure_live(live, self.subject)
        report.rows += found.rows
        report.figures += found.figures
        report.left_out += found.left_out
