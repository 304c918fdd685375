"""Speed of this machine with a model: decoder step, prefill, codec both ways, each apart from its first output.

Beside the path: `attacca bench` runs it. It drives the same generator and codec objects as a take does, one call at
a time, warms up, and judges tails (p50, p99, p99.9, max), not means; the RTF of a row is its steady time over the
audio it stands for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attacca.bridge.config import Settings
from attacca.bridge.machine import commit, machine, versions
from attacca.engine.channels import fold
from attacca.engine.conditioning import ConditioningLayout, Controls, encode
from attacca.engine.events import Model
from attacca.engine.generator import Conditions, Sampling
from attacca.engine.manifest import Manifest

ClockNs = Callable[[], int]


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How long each row is measured."""

    steps: int = 1500  # of the decoder, 30 s of audio for 50 Hz frames
    codec_frames: int = 1500
    chunk_frames: int = 5  # decoded at once, as a take does
    context_s: float = 10.0
    warm_up: int = 20  # calls that count only as first outputs

    def __post_init__(self) -> None:
        for name in ("steps", "codec_frames"):
            if getattr(self, name) <= self.warm_up * self.chunk_frames:
                raise ValueError(f"BenchOptions.{name} {getattr(self, name)} is spent by the warm-up")
        if not 0.0 < self.context_s <= 60.0:
            raise ValueError(f"BenchOptions.context_s {self.context_s} is outside 0..60")


QUICK = BenchOptions(steps=250, codec_frames=250)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured thing. `first_ms` is the very first call; the rest is of steady calls."""

    name: str
    call: str  # what one call is
    calls: int
    audio_ms: float  # of audio a call stands for
    first_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    rtf: float


class Constant:
    """A condition source that commands the same everywhere: 120 BPM in 4/4, everyone plays."""

    def __init__(self, frames_per_second: float, layout: ConditioningLayout) -> None:
        self._layout = layout
        self._quarters_per_frame = 2.0 / frames_per_second

    def rows(self, first_frame: int, count: int) -> Conditions:
        """See ConditionSource."""
        ppq = np.arange(first_frame, first_frame + count, dtype=np.float64) * self._quarters_per_frame
        known = np.ones(count, dtype=np.bool_)
        return encode(
            Controls(
                ppq=ppq,
                bar_start_ppq=np.floor(ppq / 4.0) * 4.0,
                bpm=np.full(count, 120.0),
                meter_num=np.full(count, 4, dtype=np.int16),
                meter_den=np.full(count, 4, dtype=np.int16),
                pitch_classes=np.tile(np.isin(np.arange(12), (0, 4, 7)), (count, 1)),
                instruments=np.ones((count, 4), dtype=np.bool_),
                style=np.zeros(count, dtype=np.int16),
                beat_known=known,
                chord_known=known,
                instruments_known=known,
                style_known=known,
            ),
            self._layout,
        )


def measure(
    model: Model, options: BenchOptions, sampling: Sampling, *, clock_ns: ClockNs = time.perf_counter_ns
) -> list[Row]:
    """All rows for a model: codec encode, prefill, decoder step, codec decode."""
    hop_samples, rate_hz = model.codec.hop_samples, model.codec.sample_rate
    frame_ms = 1000.0 * hop_samples / rate_hz
    source = Constant(1000.0 / frame_ms, model.conditioning)

    encoder = model.codec.encoder()
    signal = fold(_test_signal(options.codec_frames * hop_samples, rate_hz)[:, None], model.codec.audio_channels)
    hops = signal.reshape(-1, hop_samples, *signal.shape[1:])
    parts, encode_ns = _timed(encoder.push, hops, clock_ns)
    codes = np.concatenate(parts)
    chunks = [codes[at : at + options.chunk_frames] for at in range(0, len(codes), options.chunk_frames)]
    chunks = [chunk for chunk in chunks if len(chunk) == options.chunk_frames]

    generator = model.generator()
    context = chunks[: round(options.context_s * 1000.0 / frame_ms / options.chunk_frames)]
    _, prefill_ns = _timed(
        lambda chunk: generator.listen(chunk, source.rows(generator.frontier, len(chunk))), context, clock_ns
    )

    begin = generator.frontier
    until = begin + 2 * options.steps + 64  # never reached: every call is exactly one step
    _, step_ns = _timed(
        lambda _: generator.plan(until, source, sampling, max_steps=1), range(options.steps), clock_ns
    )
    frames_per_step = (generator.frontier - begin) / options.steps

    _, decode_ns = _timed(model.codec.decoder().push, chunks, clock_ns)

    chunk_ms = options.chunk_frames * frame_ms
    measured = (
        ("codec encode", "frame", frame_ms, encode_ns),
        ("prefill", f"{options.chunk_frames} frames", chunk_ms, prefill_ns),
        ("decoder step", "step", frame_ms * frames_per_step, step_ns),
        ("codec decode", f"{options.chunk_frames} frames", chunk_ms, decode_ns),
    )
    return [
        summarise(name, call, audio_ms, spent_ns, options.warm_up) for name, call, audio_ms, spent_ns in measured
    ]


def summarise(name: str, call: str, audio_ms: float, spent_ns: Sequence[int], warm_up: int) -> Row:
    """Durations of consecutive calls (ns) as a row; the first `warm_up` count only as the first output."""
    steady = np.asarray(spent_ns[min(warm_up, len(spent_ns) - 1) :], dtype=np.float64) / 1e6
    p50, p99, p999 = (float(np.percentile(steady, q)) for q in (50, 99, 99.9))
    return Row(
        name=name,
        call=call,
        calls=len(steady),
        audio_ms=audio_ms,
        first_ms=spent_ns[0] / 1e6,
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=float(steady.max()),
        rtf=float(steady.mean() / audio_ms) if audio_ms > 0 else float("inf"),
    )


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """RTF of the decoder, of the codec (decode), of all a playing take costs, and of listening."""
    rtf = {row.name: row.rtf for row in rows}
    return {
        "rtf_decoder": rtf["decoder step"],
        "rtf_codec": rtf["codec decode"],
        "rtf_total": rtf["decoder step"] + rtf["codec decode"],
        "rtf_listening": rtf["codec encode"] + rtf["prefill"],
    }


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured. It goes into every row, so that rows of several reports can stand in one table."""

    model: str
    pattern: str
    backend: str
    precision: str
    threads: int
    rows: int  # of one decoder step, both guidance branches counted
    context: int  # most frames attended to


def subject_of(model: Model, name: str, *, threads: int, sampling: Sampling) -> Subject:
    """Read from a loaded bundle; anything else is the fake, which has neither rows nor context."""
    manifest = getattr(model, "manifest", None)
    if not isinstance(manifest, Manifest):
        return Subject(
            model=name, pattern="fake", backend="fake", precision="none", threads=threads, rows=0, context=0
        )
    stack = manifest.pattern.name in {"stack", "stack-delay"}
    return Subject(
        model=name,
        pattern=manifest.pattern.name,
        backend="onnxruntime-cpu",
        precision=manifest.decoder.precision,
        threads=threads,
        rows=(manifest.num_codebooks + 1 if stack else 1) * (1 if sampling.guidance == 1.0 else 2),
        context=manifest.window_frames,
    )


def report(rows: Sequence[Row], subject: Subject, *, options: BenchOptions) -> dict[str, Any]:
    """Everything for machines: rows, ratios, machine, versions, commit."""
    return {
        "model": subject.model,
        "threads": subject.threads,
        "options": asdict(options),
        "rows": [asdict(row) | asdict(subject) for row in rows],
        "ratios": ratios(rows),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
    }


def _timed(call: Callable[[Any], Any], arguments: Iterable[Any], clock_ns: ClockNs) -> tuple[list[Any], list[int]]:
    """Call with each argument; results and durations in ns."""
    results, spent_ns = [], []
    for argument in arguments:
        started = clock_ns()
        results.append(call(argument))
        spent_ns.append(clock_ns() - started)
    return results, spent_ns


def _test_signal(samples: int, rate_hz: int) -> npt.NDArray[np.float32]:
    """A chord with a pulse and some noise: nothing special to any part, and nothing denormal."""
    t = np.arange(samples) / rate_hz
    chord = sum(np.sin(2 * np.pi * frequency * t) for frequency in (130.8, 164.8, 196.0, 261.6))
    pulse = np.exp(-8.0 * (t % 0.5))
    noise = np.random.default_rng(0).standard_normal(samples)
    return (0.08 * chord + 0.1 * pulse * noise + 0.001 * noise).astype(np.float32)


def run(settings: Settings, *, quick: bool, as_json: bool) -> None:
    """Load, measure and print; ManifestError if the model cannot be loaded."""
    from attacca.bridge.loading import load_model, sampling_of

    options = QUICK if quick else BenchOptions()
    name = "fake" if settings.fake else settings.model
    model, sampling = load_model(settings), sampling_of(settings)
    rows = measure(model, options, sampling)
    told = report(rows, subject_of(model, name, threads=settings.threads, sampling=sampling), options=options)
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        print_report(told, f"attacca bench: {name}")


def print_report(told: dict[str, Any], title: str) -> None:
    """The report as a table."""
    from attacca.bridge.tables import console, print_rows

    columns = ("what", "one call", "calls", "first ms", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "RTF")
    cells = [
        (
            row["name"],
            row["call"],
            row["calls"],
            *(f"{row[key]:.2f}" for key in ("first_ms", "p50_ms", "p99_ms", "p999_ms", "max_ms")),
            f"{row['rtf']:.3f}",
        )
        for row in told["rows"]
    ]
    print_rows(title, columns, cells, numeric=columns[2:])
    ratio = told["ratios"]
    print_line = console().print
    print_line(
        f"RTF: decoder {ratio['rtf_decoder']:.3f}, codec {ratio['rtf_codec']:.3f}, "
        f"playing {ratio['rtf_total']:.3f}, listening {ratio['rtf_listening']:.3f} (below 1 is real time)"
    )
    print_line(f"{told['machine']['cpu']}, {told['machine']['cores']} cores, {told['threads']} thread(s) a model")
