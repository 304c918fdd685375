"""What benchmarks/gpu.py measures, a function for each kind of part; each returns what its JSON holds.

Correctness first: tokens in fp32 and distance of logits in the flavour that is timed, against the engine's own CPU
runtime. Then times, of the device by its own marks and of the host by its clock; what lies between is launch gaps.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attacca.engine import device_codec
from attacca.engine.backends import checked_file
from attacca.engine.backends import on_device as on_backend
from attacca.engine.bundle import load_bundle
from attacca.engine.decoder import PatternDecoder
from attacca.engine.device import DeviceError, Driver, ProgramMaker
from attacca.engine.device_step import DEPTH, DeviceStep
from attacca.engine.device_trial import Nothing, full, self_test
from attacca.engine.generator import Sampling
from attacca.engine.gpu_spec import GpuSpec
from attacca.engine.ring_slots import RingSlots
from attacca.export.gpu_bundle import write_graphs
from benchmarks.gpu_models import (
    FRAMES_PER_SECOND,
    Case,
    Flavour,
    cpu_decoder,
    device_decoder,
    device_runtime,
    gpu_graph,
)

SAMPLING = Sampling(seed=1, temperature=1.0, top_k=250, guidance=3.0)
Opener = Callable[[Path, Driver], ProgramMaker]
_SHALLOW, _FORCED, _HEARD = 4, 24, 8
_CHUNK_FRAMES = 5


class Bench:
    """A backend to measure: its driver, how it opens a graph, and where graphs lie."""

    def __init__(self, driver: Driver, opener: Opener, folder: Path, dialect: str = "onnxruntime") -> None:
        self.driver, self.open_graph, self.folder, self.dialect = driver, opener, folder, dialect

    def open(self, case: Case, flavour: Flavour, takes: int = 1) -> ProgramMaker:
        return self.open_graph(gpu_graph(case, flavour, self.folder, takes=takes), self.driver)


def correct(bench: Bench, case: Case, flavour: Flavour) -> dict[str, Any]:
    """Against the CPU, all widths and few layers: share of equal tokens in fp32, distance of logits as timed."""
    case = case.shallow(_SHALLOW)
    sampling = replace(SAMPLING, top_k=min(SAMPLING.top_k, case.codebook_size))
    exact = cpu_decoder(case)
    wanted = forced(exact, case)
    exact.reset()
    exact.choose = None
    exact.plan(_FORCED, Nothing(case.manifest.conditioning.width), sampling)
    floats = Flavour(precision="fp32", dialect=flavour.dialect, attention=flavour.attention)
    found = {}
    for kind in (floats, flavour):
        runtime = device_runtime(case, kind, bench.open(case, kind))
        made = forced(full(device_decoder(case, runtime)), case)
        found[kind.precision] = float(np.sqrt(np.mean((made - wanted) ** 2) / np.mean(wanted**2)))
        if kind is floats:
            decoder = device_decoder(case, runtime)
            decoder.plan(_FORCED, Nothing(case.manifest.conditioning.width), sampling)
            equal = float(np.mean(decoder.read(0, _FORCED) == exact.read(0, _FORCED)))
    return {
        "case": case.name,
        "flavour": flavour.name,
        "tokens_equal_fp32": equal,
        "logits_rms_fp32": found["fp32"],
        "logits_rms": found[flavour.precision],
    }


def forced(decoder: PatternDecoder, case: Case) -> np.ndarray:
    """Guided logits [steps, K, V] with random codes forced."""
    codes = np.random.default_rng(0).integers(0, case.codebook_size, (_HEARD + 8 * _FORCED, case.num_codebooks))
    source, logits = Nothing(case.manifest.conditioning.width), []

    def choose(frames: np.ndarray, found: np.ndarray) -> np.ndarray:
        logits.append(np.where(frames[:, None] >= 0, found, 0.0))
        return codes[np.clip(frames, 0, len(codes) - 1), np.arange(case.num_codebooks)]

    decoder.listen(codes[:_HEARD].astype(np.uint16), source.rows(0, _HEARD))
    decoder.choose = choose
    PatternDecoder.plan(decoder, _HEARD + _FORCED, source, Sampling(seed=1, guidance=2.0))
    return np.stack(logits)


def steps(bench: Bench, case: Case, flavour: Flavour, *, count: int) -> dict[str, Any]:
    """One take at a full window: a step queued, a step waited for, by the host's clock; and of the device alone."""
    maker = bench.open(case, flavour)
    began = time.perf_counter()
    decoder = device_decoder(case, device_runtime(case, flavour, maker))
    capture_s = time.perf_counter() - began
    source = Nothing(case.manifest.conditioning.width)
    sampling = replace(SAMPLING, top_k=min(SAMPLING.top_k, case.codebook_size))
    codes = np.random.default_rng(0).integers(0, case.codebook_size, (case.window, case.num_codebooks))
    began = time.perf_counter()
    decoder.listen(codes.astype(np.uint16), source.rows(0, case.window))
    decoder.plan(1 << 20, source, sampling, max_steps=1)
    prefill_s = time.perf_counter() - began
    queued = [
        1e3 * spent / DEPTH for spent in spans(lambda: planned(decoder, source, sampling, DEPTH), count // DEPTH)
    ]
    single = [1e3 * spent for spent in spans(lambda: planned(decoder, source, sampling, 1), max(8, count // 8))]
    device_ms = on_device(bench, case, flavour, maker, takes=1)["device_ms"]
    per_frame = 1.0 / case.steps.steps_per_timestep
    return {
        "case": case.name,
        "flavour": flavour.name,
        "queued_ms": quantiles(queued),
        "single_ms": quantiles(single),
        "device_ms": device_ms,
        "launch_gap_ms": quantiles(queued)["p50"] - device_ms,
        "steps_per_s": 1e3 / quantiles(queued)["p50"],
        "rtf": quantiles(queued)["p50"] * FRAMES_PER_SECOND / per_frame / 1e3,
        "capture_s": capture_s,
        "prefill_frame_ms": 1e3 * prefill_s / case.window,
    }


def path(bench: Bench, bundle: Path, new_driver: Callable[[], Driver], *, chunks: int) -> dict[str, Any]:
    """A bundle's whole path on the device: from a trigger to the first audio while listening, and steady chunks.

    Compute alone: no host, no wire. The first fork allocates and records a lane, later ones find one.
    """
    model = load_bundle(bundle)
    write_graphs(bundle, bundle / "gpu")

    def opened(folder: Path, spec: GpuSpec, driver: Driver) -> ProgramMaker:
        return bench.open_graph(checked_file(folder, spec, bench.dialect), driver)

    device = on_backend(model, bundle, "device", bench.driver, opened)
    codec = "device"
    try:
        files = {role: bundle / entry.path for role, entry in model.manifest.files.items()}
        device = dataclasses.replace(device, codec=device_codec.chosen(model.codec, files, new_driver()))
    except DeviceError as error:
        codec = f"CPU: {error}"
    source, books = Nothing(model.conditioning.width), model.manifest.num_codebooks
    heard = np.random.default_rng(0).integers(
        0, model.manifest.codebook_size, (model.manifest.window_frames, books)
    )
    listener = device.generator()
    listener.listen(heard.astype(np.uint16), source.rows(0, len(heard)))
    first, steady = [], []
    for _ in range(8):
        began = time.perf_counter()
        take, decoder = listener.fork(), device.codec.decoder()
        for spent in (first, *[steady] * chunks):
            at = take.frontier
            take.plan(at + _CHUNK_FRAMES, source, SAMPLING)
            decoder.push(take.read(at, at + _CHUNK_FRAMES))
            spent.append(1e3 * (time.perf_counter() - began))
            began = time.perf_counter()
        del take
    frames_ms = 1e3 * _CHUNK_FRAMES / model.manifest.frames_per_second
    return {
        "bundle": model.manifest.name,
        "codec": codec,
        "logits_rms": self_test(model, device),
        "first_take_ms": first[0],
        "first_audio_ms": quantiles(first[1:]),
        "chunk_ms": quantiles(steady),
        "rtf": quantiles(steady)["p50"] / frames_ms,
    }


def planned(decoder: Any, source: Any, sampling: Sampling, count: int) -> None:
    decoder.plan(1 << 20, source, sampling, max_steps=count)


def spans(call: Callable[[], None], count: int) -> list[float]:
    """Seconds of each call after a few that do not count."""
    found = []
    for _ in range(3 + max(1, count)):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found[3:]


def quantiles(values: list[float]) -> dict[str, float]:
    points = {"p50": 50, "p99": 99, "p999": 99.9, "max": 100}
    return {name: float(np.percentile(values, point)) for name, point in points.items()}


def on_device(bench: Bench, case: Case, flavour: Flavour, maker: ProgramMaker, *, takes: int) -> dict[str, Any]:
    """Milliseconds of a step by the device's marks, and of the host to write one step's inputs."""
    step = DeviceStep(maker, case.spec(flavour.precision), takes)
    rings = [RingSlots(step.spec.ring) for _ in range(takes)]
    for ring in rings:
        for timestep in range(case.window + 7):
            ring.place(ring.count)
            ring.keep([timestep])
    written = spans(lambda: write(step, rings, case), 5)
    for _ in range(2):  # every staging buffer is written once, and the device is warm
        for _ in range(DEPTH):
            write(step, rings, case)
            step.submit()
        step.collect()
    rounds = []
    for _ in range(5):
        first = bench.driver.mark()
        for _ in range(DEPTH):
            step.submit(again=True)
        last = bench.driver.mark()
        step.collect()
        rounds.append(bench.driver.between_ms(first, last) / DEPTH)
    step.close()
    return {
        "case": case.name,
        "flavour": flavour.name,
        "takes": takes,
        "device_ms": float(np.median(rounds)),
        "host_ms": 1e3 * float(np.median(written)),
    }


def write(step: DeviceStep, rings: list[RingSlots], case: Case) -> None:
    """The inputs of a step of all takes, each as a lane writes them."""
    generator = np.random.default_rng(0)
    for take, ring in enumerate(rings):
        inputs = step.at(take)
        for array in inputs.values():
            array[...] = 0
        inputs["stack"][:] = generator.integers(0, case.codebook_size, inputs["stack"].shape)
        inputs["noise"][:] = 0.5
        inputs["temperature"][:], inputs["guidance"][:] = 1.0, 3.0
        inputs["top_k"][:] = min(250, case.codebook_size)
        inputs["write_slots"][:] = ring.place(ring.count - 1)
        ring.mask(ring.count - 1, inputs["mask"])
        for name in ("cos", "sin"):
            if name in inputs:
                inputs[name][:] = np.sqrt(0.5)
