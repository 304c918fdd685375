"""A chunk's work against its duration beside busy neighbours: threads, spinning, priority, cores, locked memory.

`python -m benchmarks.placement --out placement.json` prints a table. Each way has a thread of its own with a model
of its own; they make a chunk (tokens and sound) in turns, so that all meet the same machine. Neighbours are
processes of this command that keep every core at work and end with it. What the system refuses is told.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attacca.bridge.bench_neighbours import Neighbours
from attacca.bridge.bench_steps import Constant
from attacca.bridge.machine import commit, machine, versions
from attacca.bridge.placement import Placement, place
from attacca.engine.bundle import find_bundle, load_bundle
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Sampling
from attacca.engine.runtime import StepRuntime
from attacca.engine.stream import StreamConfig

CHUNK_FRAMES = StreamConfig().chunk_frames
WARM_UP = 5


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of running the decode thread."""

    name: str
    threads: int = 1
    spinning: bool = False
    placement: Placement = field(default_factory=Placement)


WAYS = (
    Way(name="1 thread"),
    Way(name="2 threads", threads=2),
    Way(name="2 threads, spinning", threads=2, spinning=True),
    Way(name="1 thread, one core", placement=Placement(cores=(0,))),
    Way(name="1 thread, high priority", placement=Placement(priority="high")),
    Way(name="1 thread, realtime priority", placement=Placement(priority="realtime", lock_memory=True)),
)


class Runner:
    """A thread that makes a chunk whenever it is told to; `seconds` and `processor` are what each took."""

    def __init__(self, way: Way, model: str) -> None:
        self.way, self.refused = way, ""
        self.seconds: list[float] = []
        self.processor: list[float] = []
        self._model = model
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._done.acquire()

    def chunk(self) -> None:
        self._go.release()
        self._done.acquire()

    def end(self) -> None:
        self._ending = True
        self._go.release()
        self._thread.join()

    def _run(self) -> None:
        bundle = find_bundle(self._model)
        model = load_bundle(bundle, threads=self.way.threads)
        graph = str(bundle / model.manifest.files["decoder"].path)
        runtime = StepRuntime(graph, model.manifest, threads=self.way.threads, spinning=self.way.spinning)
        source = Constant(model.manifest.frames_per_second, model.conditioning)
        generator, codec = PatternDecoder(runtime, model.pattern), model.codec.decoder()
        sampling, window = Sampling(guidance=2.0), model.manifest.window_frames
        generator.force(np.zeros((window, model.manifest.num_codebooks), np.uint16), source)
        self.refused = "; ".join(f"{o.what} {o.found}" for o in place(self.way.placement) if not o.done)
        self._done.release()
        while True:
            self._go.acquire()
            if self._ending:
                return
            began, processor = time.perf_counter(), time.process_time()
            first = generator.frontier
            generator.plan(first + CHUNK_FRAMES, source, sampling)
            codec.push(generator.read(first, first + CHUNK_FRAMES))
            self.seconds.append(time.perf_counter() - began)
            self.processor.append(time.process_time() - processor)
            self._done.release()


def measure(model: str, ways: tuple[Way, ...], neighbours: int, chunks: int) -> list[dict[str, Any]]:
    """Percentiles of a chunk's wall time over its duration, and processor milliseconds, by way."""
    runners = [Runner(way, model) for way in ways]
    frames_per_second = load_bundle(find_bundle(model)).manifest.frames_per_second
    with Neighbours(neighbours, limit_s=600.0):
        for _ in range(chunks + WARM_UP):
            for runner in runners:
                runner.chunk()
    duration = CHUNK_FRAMES / frames_per_second
    rows = []
    for runner in runners:
        runner.end()
        share = np.array(runner.seconds[WARM_UP:]) / duration
        row: dict[str, Any] = {"way": runner.way.name, "neighbours": neighbours, "chunks": chunks}
        row |= {f"p{p:g}".replace(".", ""): float(np.percentile(share, p)) for p in (50, 99, 99.9)}
        row |= {"max": float(share.max()), "late": int((share > 1.0).sum())}
        row |= {"processor_p50_ms": 1e3 * float(np.median(runner.processor[WARM_UP:])), "refused": runner.refused}
        rows.append(row)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ostinato")
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--ways", nargs="+", default=[way.name for way in WAYS], choices=[w.name for w in WAYS])
    parser.add_argument("--chunks", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    print("way | neighbours | of a chunk's duration: p50 p99 p99.9 max | late | processor p50, ms | refused")
    rows: list[dict[str, Any]] = []
    ways = tuple(way for way in WAYS if way.name in arguments.ways)
    for neighbours in arguments.neighbours:
        for row in measure(arguments.model, ways, neighbours, arguments.chunks):
            rows.append(row)
            told = " ".join(f"{row[key]:.2f}" for key in ("p50", "p99", "p999", "max"))
            rest = f"{row['late']} | {row['processor_p50_ms']:.1f} | {row['refused'] or '-'}"
            print(f"{row['way']} | {neighbours} | {told} | {rest}", flush=True)
    if arguments.out is not None:
        told_all = {"machine": machine(), "versions": versions(), "commit": commit(), "rows": rows}
        arguments.out.write_text(json.dumps(told_all, indent=2) + "\n")


if __name__ == "__main__":
    main()
