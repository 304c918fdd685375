"""What a user would pick instead, in the same run: `python -m benchmarks.peers --json p.json [--minutes 15]`.

transformers' MusicGen `generate`, its static-cache form through torch.compile, a streamer that decodes the whole
prefix every chunk, and our decoders in plain torch, eager and compiled; beside our runtime, on the same shapes, the
same random weights, the same threads. Each runs in a process of its own, one after another, so that none has the
other's memory. A full run takes about half an hour on two idle cores; each part's peak memory is in the report.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from attacca.bridge.bench_bandwidth import probe
from attacca.bridge.bench_growth import Series
from attacca.bridge.bench_rows import NATIVE, OURS, Row, Subject, as_json, summarise
from attacca.bridge.bench_shapes import Variant
from attacca.bridge.machine import commit, machine, versions
from attacca.export.shapes import Shape
from benchmarks.peers_options import TINY, Options

TARGET = ("int4", 8)  # precision of weights, bits of the cache: the row that the CPU target is for
VARIANTS = (("fp32", 32), TARGET, ("int8", 8), ("int8", 32), ("int4", 32), ("fp32", 8))
_LOGITS = "logits.npy"


def ours(options: Options, precision: str, kv_bits: int) -> dict[str, Any]:
    """Steps of the MusicGen shape in a precision; of the target's, the whole path too."""
    from benchmarks import peers_ours
    from benchmarks.peers_transformers import ENCODEC_32K, ENCODEC_TINY

    folder = Path(options.folder) / f"ours-{precision}-{kv_bits}"
    variant = Variant(
        shape=options.musicgen, precision=precision, kv_bits=kv_bits, window=options.window, threads=(1,)
    )
    written = peers_ours.write(variant, folder)
    bandwidth = probe([1, options.threads], buffer_bytes=options.buffer_bytes)
    rows = peers_ours.step_rows(written, options, bandwidth=bandwidth)
    found, exact = peers_ours.forced_logits(written), Path(options.folder) / _LOGITS
    if (precision, kv_bits) == ("fp32", 32):
        np.save(exact, found)
    told: dict[str, Any] = {"bandwidth": bandwidth}
    if exact.is_file():
        label = rows[0].subject.precision
        told["logits"] = {label: round(peers_ours.distance(found, np.load(exact)), 5)}
    if (precision, kv_bits) == TARGET:
        codec = ENCODEC_TINY if options.tiny else ENCODEC_32K
        rows += peers_ours.whole_path(written, codec, folder, options)
    return told | {"rows": [as_json(row) for row in rows]}


def our_shape(options: Options) -> dict[str, Any]:
    """Steps of the shape that this repository trains, in its own precision and in fp32."""
    from benchmarks import peers_ours

    rows = []
    bandwidth = probe([1, options.threads], buffer_bytes=options.buffer_bytes)
    for precision in ("fp32", "int8"):
        folder = Path(options.folder) / f"our-shape-{precision}"
        variant = Variant(shape=options.ours, precision=precision, kv_bits=32, window=options.window, threads=(1,))
        rows += peers_ours.step_rows(peers_ours.write(variant, folder), options, bandwidth=bandwidth)
    return {"rows": [as_json(row) for row in rows]}


def plain_torch(options: Options, shape: Shape, compiler: str | None) -> dict[str, Any]:
    """Our decoder's arithmetic in torch, driven by our step loop."""
    from attacca.bridge.bench_steps import Constant, StepJob, rows_of, time_steps
    from attacca.engine.decoder import PatternDecoder
    from attacca.export.shapes import random_weights
    from benchmarks.peers_ours import SAMPLING, pattern_of
    from benchmarks.peers_torch import TorchRuntime

    _threads(options.threads)
    pattern = pattern_of(shape)
    runtime: Any = TorchRuntime(random_weights(shape), shape, options.window, compiler=compiler)
    job = StepJob(
        pattern=pattern,
        context=options.window,
        steps=options.steps,
        warm_up=min(20, options.steps - 1),
        limit_s=options.limit_s,
    )
    spent_ns = time_steps(
        PatternDecoder(runtime, pattern),
        job,
        window=options.window,
        codebook_size=shape.codebook_size,
        source=Constant(shape.sample_rate / shape.hop_samples, shape.layout),
        sampling=SAMPLING,
    )
    backend = "torch eager" if compiler is None else f"torch.compile ({compiler})"
    row = _row(options, shape, "decoder step", backend, spent_ns, rows_of(pattern), warm_up=job.warm_up)
    return {"rows": [as_json(row)]}


def transformers_generate(options: Options, *, static: bool = False) -> dict[str, Any]:
    """Steps inside `generate` around a context of `window`; `static`: a static cache and torch.compile."""
    from benchmarks import peers_transformers as peer

    _threads(options.threads)
    shape = options.musicgen
    model = peer.build(shape, peer.ENCODEC_TINY if options.tiny else peer.ENCODEC_32K)
    known = max(1, options.window - options.peer_steps // 2)
    more: dict[str, Any] = {}
    if static:
        from transformers import CompileConfig

        compiling = CompileConfig(backend=options.compiler, fullgraph=False, dynamic=False, mode="default")
        compiling._compile_all_devices = True
        slots = known + options.peer_steps + shape.num_codebooks
        plain = peer.generate(model, known=known, steps=options.peer_steps, stamps=peer.Stamps(), sampled=False)
        told = peer.generate(
            model,
            known=known,
            steps=options.peer_steps,
            stamps=peer.Stamps(),
            sampled=False,
            past_key_values=peer.static_cache(model, slots),
            compile_config=compiling,
        )
        more = {"past_key_values": peer.static_cache(model, slots), "compile_config": compiling}
        same = plain.shape == told.shape and bool((plain - told).abs().max() < 1e-4)
    stamps = peer.Stamps()
    peer.generate(model, known=known, steps=options.peer_steps, stamps=stamps, **more)
    backend = f"transformers generate, static cache, torch.compile ({options.compiler})"
    backend = backend if static else "transformers generate"
    spent_ns = stamps.spent_ns()
    row = _row(options, shape, "decoder step", backend, spent_ns, 2, warm_up=min(5, len(spent_ns) // 2))
    found: dict[str, Any] = {"rows": [as_json(row)]}
    if static and not same:
        found["notes"] = ["transformers, static cache: greedy audio differs from that of its dynamic cache"]
    return found


def streamer(options: Options) -> dict[str, Any]:
    """`generate`, and the whole prefix decoded every chunk."""
    from benchmarks import peers_transformers as peer

    _threads(options.threads)
    shape = options.musicgen
    model = peer.build(shape, peer.ENCODEC_TINY if options.tiny else peer.ENCODEC_32K)
    frame_s = shape.hop_samples / shape.sample_rate
    done = peer.stream(model, chunk_frames=options.chunk_frames, chunks=options.chunks, frame_s=frame_s)
    backend = "transformers generate, prefix decoded again every chunk"
    row = _row(options, shape, "whole path", backend, done.chunk_ns, 2, warm_up=1, call="chunk")
    row = replace(row, audio_ms=1000.0 * options.chunk_frames * frame_s)
    row = replace(row, rtf=sum(done.chunk_ns) / 1e9 / done.seconds[-1])
    growth = Series(
        against="take length",
        unit="s",
        of=f"decode of the prefix, {options.chunk_frames * frame_s:g} s chunks",
        x=[round(second, 3) for second in done.seconds],
        p50_ms=[spent / 1e6 for spent in done.decode_ns],
    )
    return {"rows": [as_json(row)], "growth": [asdict(growth)]}


def _threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _row(
    options: Options,
    shape: Shape,
    name: str,
    backend: str,
    spent_ns: Sequence[int],
    rows: int,
    *,
    warm_up: int,
    call: str = "step",
) -> Row:
    from attacca.bridge.bench_steps import pattern_label
    from benchmarks.peers_ours import pattern_of

    subject = Subject(
        model=shape.name,
        pattern=pattern_label(pattern_of(shape)),
        backend=backend,
        precision="fp32",
        threads=options.threads,
        rows=rows,
        context=options.window,
    )
    frame_ms = 1000.0 * shape.hop_samples / shape.sample_rate
    group = "step" if name == "decoder step" else "path"
    return summarise(name, spent_ns, group=group, call=call, subject=subject, audio_ms=frame_ms, warm_up=warm_up)


def peers(options: Options) -> dict[str, Callable[[Options], dict[str, Any]]]:
    """Every part of a run by name, in order: fp32 first, whose logits the others are compared with, then what a
    table cannot do without, then what has to be compiled first, then our other precisions."""
    own = {
        f"ours-{precision}-{bits}": lambda o, p=precision, b=bits: ours(o, p, b)  # type: ignore[misc]
        for precision, bits in VARIANTS
    }
    found: dict[str, Callable[[Options], dict[str, Any]]] = {name: own[name] for name in list(own)[:3]}
    found |= {"our-shape": our_shape, "transformers": transformers_generate, "streamer": streamer}
    for compiler, kind in ((None, "torch"), (options.compiler, "torch-compiled")):
        for label, shape in (("our-shape", options.ours), ("musicgen", options.musicgen)):
            found[f"{kind}-{label}"] = lambda o, s=shape, c=compiler: plain_torch(o, s, c)  # type: ignore[misc]
    found["transformers-static"] = lambda o: transformers_generate(o, static=True)
    return found | own


def merge(parts: dict[str, dict[str, Any]], options: Options, notes: list[str]) -> dict[str, Any]:
    """One report of all parts."""
    rows = [row for part in parts.values() for row in part["rows"]]
    logits = {label: value for part in parts.values() for label, value in part.get("logits", {}).items()}
    names = ("torch", "transformers")
    found = {name: metadata.version(name) for name in names}
    return {
        "tiny": options.tiny,
        "options": {name: value for name, value in asdict(options).items() if name != "folder"},
        "rows": rows,
        "ratios": ratios(rows),
        "growth": [series for part in parts.values() for series in part.get("growth", [])],
        "logit_distance": logits,
        "target": target(rows),
        "memory_mb": {name: part["memory_mb"] for name, part in parts.items() if "memory_mb" in part},
        "bandwidth": next((part["bandwidth"] for part in parts.values() if "bandwidth" in part), {}),
        "notes": [*notes, *(note for part in parts.values() for note in part.get("notes", []))],
        "machine": machine(),
        "versions": versions() | found,
        "commit": commit(),
    }


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """{against: times as long as ours takes}, for an equal number of threads; ours in its fastest precision.

    Our own kernels have one thread, and stand beside any number.
    """
    found = {}
    for row in rows:
        if row["backend"] in OURS:
            continue
        alike = [
            other["rtf"]
            for other in rows
            if other["backend"] in OURS
            and all(other[key] == row[key] for key in ("name", "model"))
            and (other["threads"] == row["threads"] or other["backend"] == NATIVE)
        ]
        if alike and row["rtf"]:
            found[f"{row['model']}, {row['name']}: {row['backend']}"] = round(row["rtf"] / min(alike), 3)
    return found


def target(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The CPU target: whole path with guidance, 4-bit weights, int8 cache and EnCodec below real time."""
    whole = [row for row in rows if row["name"] == "whole path" and row["backend"] in OURS]
    if not whole:
        return {}
    best = min(whole, key=lambda row: row["rtf"])
    keys = ("model", "backend", "precision", "threads", "context", "rtf")
    return {key: best[key] for key in keys} | {"wanted": "rtf below 1", "met": best["rtf"] < 1.0}


def measure(name: str, options: Options) -> dict[str, Any]:
    """One part, in this process."""
    found = peers(options)[name](options)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {"memory_mb": round(kilobytes / 1e3, 1)}


def run(
    options: Options, names: Sequence[str], *, apart: bool, clock: Callable[[], float] = time.monotonic
) -> dict[str, Any]:
    """All named parts; `apart` in processes of their own. One that fails, or has no time left, becomes a note."""
    parts: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    until = None if options.minutes is None else clock() + 60.0 * options.minutes
    with tempfile.TemporaryDirectory(prefix="attacca-peers-") as folder:
        options = replace(options, folder=folder)
        for name in names:
            left_s = None if until is None else until - clock()
            if left_s is not None and left_s < 0.02 * 60.0 * (options.minutes or 0.0):
                notes.append(f"{name} was left out: the {options.minutes:g} minutes were over")
                continue
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                parts[name] = _apart(name, options, left_s) if apart else measure(name, options)
            except subprocess.TimeoutExpired:
                notes.append(f"{name} gave no figure in the {left_s:.0f} s that were left for it")
            except (subprocess.SubprocessError, RuntimeError, ValueError) as error:
                notes.append(f"{name} gave no figure: {str(error)[-500:]}")
            for leftover in Path(folder).rglob("*.onnx*"):  # graphs of up to 1.7 GB
                leftover.unlink()
    return merge(parts, options, notes)


def _apart(name: str, options: Options, limit_s: float | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.peers", "--part", name, "--options", json.dumps(asdict(options))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            told, _ = process.communicate(timeout=limit_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # its compilers too
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    found: dict[str, Any] = json.loads(told.strip().splitlines()[-1])
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: everything runs, figures mean nothing")
    parser.add_argument("--threads", type=int, help="of every model, 2 if not given")
    parser.add_argument("--backend", choices=("auto", "native", "cpu"), help="of ours; both if not given")
    parser.add_argument("--minutes", type=float, help="most that the run may take; what it leaves out is noted")
    parser.add_argument("--only", nargs="+", help="parts to run")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(measure(given.part, Options(**json.loads(given.options)))))
        return
    options = TINY if given.tiny else Options()
    if given.threads:
        options = replace(options, threads=given.threads)
    if given.backend:
        options = replace(options, backend=given.backend)
    if given.minutes:
        options = options.within(given.minutes)
    told = run(options, given.only or list(peers(options)), apart=True)
    text = json.dumps(told, indent=1, allow_nan=False)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
