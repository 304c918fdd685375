"""Can this processor play a model of MusicGen's size? `python -m benchmarks.in_time` answers in about a minute.

Random weights of the size, a take with guidance along the whole path (fork, steps, window, EnCodec, resampler, the
engine's choices), longer than the window, so that segments change. Wall time says whether it is in time; processor
time is told beside it, which a busy machine changes less. No torch; needs '.[export]'.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace as with_fields

from attacca.bridge.bench_bandwidth import BUFFER_BYTES, probe
from attacca.bridge.bench_bytes import cache_bytes, weight_bytes
from attacca.bridge.bench_path import whole_path_row
from attacca.bridge.bench_rows import NATIVE, ONNXRUNTIME, Subject, as_json
from attacca.bridge.bench_steps import Constant, StepJob, pattern_label, rows_of, step_row
from attacca.bridge.machine import commit, machine, versions
from attacca.engine.beside import WANTED, beside_for
from attacca.engine.bundle import KEPT_OF_WINDOW, PromptedModel
from attacca.engine.encodec import DECODER, ENCODER, Encodec
from attacca.engine.generator import Sampling
from attacca.engine.musicgen import PromptBox
from attacca.engine.native_trial import WANTED as BACKENDS
from attacca.engine.native_trial import natively
from attacca.engine.onnx_weights import initializers
from attacca.engine.pattern import make_pattern
from attacca.engine.prompted import Prompt, PromptedRuntime
from attacca.export.encodec import DECODER_FILE, ENCODER_FILE, write_encodec
from attacca.export.encodec_checkpoint import random_checkpoint
from attacca.export.encodec_plan import EncodecConfig
from attacca.export.shapes import SHAPES, TEXT_TOKENS, Shape, Written, decoder_of, manifest_of, write_shape

SAMPLING = Sampling(guidance=3.0, top_k=250, seed=1)
TINY_SHAPE: dict[str, Any] = {
    "layers": 1,
    "dim": 64,
    "hidden": 128,
    "codebook_size": 64,
    "sample_rate": 8000,
    "hop_samples": 160,
}
TINY_CODEC: dict[str, Any] = {
    "sample_rate": 8000,
    "num_filters": 4,
    "ratios": (16, 10),
    "lstm_layers": 1,
    "hidden": 16,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is played, and how."""

    shape: str = "musicgen-small"
    precision: str = "int4"
    kv_bits: int = 8
    codec_precision: str = "fp32"
    window: int = 500
    seconds: float = 20.0
    steps: int = 200
    threads: int = 1
    spinning: bool = False
    backend: str = "auto"
    second_core: str = "auto"
    tiny: bool = False

    @property
    def graph(self) -> str:
        """Name of the step graph's folder."""
        return f"{'tiny-' if self.tiny else ''}{self.shape}-{self.precision}-{self.kv_bits}-{self.window}"

    def sizes(self) -> Shape:
        """Of the decoder."""
        shape = SHAPES[self.shape]
        return replace(shape, **TINY_SHAPE) if self.tiny else shape


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Measure; graphs are written into `folder`, or used if they are there."""
    shape = options.sizes()
    written = _written(options, shape, folder / options.graph)
    pattern = make_pattern("delay", shape.num_codebooks)
    loaded = written.load(threads=options.threads, spinning=options.spinning)
    choice: dict[str, Any] = {"wanted": options.backend, "threads": options.threads, "say": _say}
    runtime = natively(loaded, written.path, pattern, **choice)
    del loaded  # its session, if our kernels play
    assert isinstance(runtime, PromptedRuntime)
    frame_ms = 1000.0 * shape.hop_samples / shape.sample_rate
    subject = Subject(
        model=shape.name,
        pattern=pattern_label(pattern),
        backend=NATIVE if runtime.kernels is not None else ONNXRUNTIME,
        precision=options.precision + ("" if options.kv_bits == 32 else f", cache int{options.kv_bits}"),
        threads=options.threads,
        rows=rows_of(pattern),
        context=options.window,
    )
    bandwidth = probe([options.threads], buffer_bytes=1 << 22 if options.tiny else BUFFER_BYTES)
    read = bandwidth.get(str(options.threads), {}).get("read")
    job = StepJob(pattern=pattern, context=options.window, steps=options.steps, warm_up=min(20, options.steps - 1))
    step = step_row(
        runtime,
        job,
        subject,
        weights=weight_bytes(initializers(written.path)),
        cache_slot=cache_bytes(runtime.shape, 1),
        frame_ms=frame_ms,
        source=Constant(1000.0 / frame_ms, shape.layout),
        sampling=SAMPLING,
        bandwidth=read,
        decoder=decoder_of(runtime, pattern),
    )
    model = _model(options, shape, runtime, with_fields(written.manifest), folder)
    model = replace(model, beside=beside_for(runtime, frame_ms / 1000.0, options.second_core))
    before = time.process_time(), time.thread_time()
    path = whole_path_row(model, subject, SAMPLING, seconds=options.seconds)
    spent = time.process_time() - before[0], time.thread_time() - before[1]
    assert path.rtf is not None
    return {
        "in_time": path.rtf < 1.0,
        "rtf": round(path.rtf, 3),
        "second_core": model.beside is not None,
        "processor_s_per_s": round(spent[0] / options.seconds, 3),  # of all threads, and of a second heard before
        "decode_thread_s_per_s": round(spent[1] / options.seconds, 3),
        "heard_again_per_frame": round(1.0 / (KEPT_OF_WINDOW - 1), 3),
        "least_step_ms": None if read is None or step.bytes_per_step is None else step.bytes_per_step / read * 1e3,
        "rows": [as_json(step), as_json(path)],
        "bandwidth": bandwidth,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _written(options: Options, shape: Shape, folder: Path) -> Written:
    """The graph, which may be there from another run."""
    manifest = manifest_of(shape, options.precision, options.kv_bits, options.window)
    found = sorted(folder.glob("*.onnx"))
    if found:
        return Written(path=found[0], shape=shape, manifest=manifest)
    sizes = {"kv_bits": options.kv_bits, "window": options.window}
    return write_shape(shape, folder, precision=options.precision, **sizes)


def _model(options: Options, shape: Shape, runtime: PromptedRuntime, manifest: Any, folder: Path) -> PromptedModel:
    config = EncodecConfig(
        num_codebooks=shape.num_codebooks,
        codebook_size=shape.codebook_size,
        **(TINY_CODEC if options.tiny else {}),
    )
    section = write_encodec(random_checkpoint(config), folder, precision=options.codec_precision)
    files = {ENCODER: folder / ENCODER_FILE, DECODER: folder / DECODER_FILE}
    outputs = runtime.shape.prompt_outputs().items()
    values = {name: np.zeros([size or TEXT_TOKENS for size in sizes], np.float32) for name, sizes in outputs}
    return PromptedModel(
        manifest=with_fields(manifest, codec=section),
        codec=Encodec.load(files, section, threads=options.threads),
        runtime=runtime,
        pattern=make_pattern("delay", shape.num_codebooks),
        text=None,
        box=PromptBox(Prompt.of(values, np.ones(TEXT_TOKENS, np.float32))),
    )


def lines(told: dict[str, Any]) -> list[str]:
    """For people."""
    step, path = told["rows"]
    size = f"{step['model']}, {step['precision']}, window {step['context']}"
    about = f"{size}, threads {step['threads']}, {step['backend']}"
    least = "" if told["least_step_ms"] is None else f"; its bytes alone {told['least_step_ms']:.1f}"
    used = "with a second core" if told["second_core"] else "on one core"
    return [
        f"{about}, {used}: {'in time' if told['in_time'] else 'NOT in time'}, RTF {told['rtf']:.2f}",
        f"step at the full window: p50 {step['p50_ms']:.1f} ms, p99 {step['p99_ms']:.1f}{least}",
        f"{path['audio_ms']:.0f} ms of sound: p50 {path['p50_ms']:.0f} ms, p99 {path['p99_ms']:.0f}",
        f"processor: {told['processor_s_per_s']:.2f} s per second of sound, "
        f"{told['decode_thread_s_per_s']:.2f} of it on the decode thread",
    ]


def main() -> None:
    """Command line."""
    plain = Options()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: everything runs, figures mean nothing")
    parser.add_argument("--shape", default=plain.shape, choices=[name for name in SHAPES if SHAPES[name].musicgen])
    parser.add_argument("--precision", default=plain.precision, choices=["fp32", "fp16", "int8", "int4"])
    parser.add_argument("--kv-bits", type=int, default=plain.kv_bits, choices=[8, 32])
    parser.add_argument("--codec-precision", default=plain.codec_precision, choices=["fp32", "fp16", "int8"])
    parser.add_argument("--window", type=int, default=plain.window, help="frames that a frame sees")
    parser.add_argument("--seconds", type=float, default=plain.seconds, help="of sound")
    parser.add_argument("--steps", type=int, default=plain.steps, help="timed by themselves")
    parser.add_argument("--threads", type=int, default=plain.threads, help="inside operations")
    parser.add_argument("--spinning", action="store_true", help="threads wait for work awake: on idle cores alone")
    parser.add_argument("--backend", default=plain.backend, choices=BACKENDS, help="cpu is onnxruntime")
    parser.add_argument("--second-core", default=plain.second_core, choices=WANTED)
    parser.add_argument("--keep", type=Path, help="folder of the graphs: written once, used again")
    given = vars(parser.parse_args())
    path, keep = given.pop("json"), given.pop("keep")
    with tempfile.TemporaryDirectory(prefix="attacca-in-time-") as folder:
        told = run(Options(**given), keep or Path(folder))
    print("\n".join(lines(told)))
    if path is not None:
        path.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
