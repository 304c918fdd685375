"""Several takes on one GPU, for benchmarks/gpu.py: steps that they share, and a whole engine that serves them.

Steps are made by the engine's own runner, queued as it queues them, the host's work for each take among them. The
engine is served as fast as it goes, all play heads together: below a factor of 1 every take is in real time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attacca.engine import device_codec
from attacca.engine.backends import checked_file, find_spec
from attacca.engine.backends import on_device as on_backend
from attacca.engine.bundle import load_bundle
from attacca.engine.company import Batch
from attacca.engine.device import DeviceError, Driver, HostDriver, ProgramMaker, Rows
from attacca.engine.device_sharing import DeviceStepper, SharedDevice
from attacca.engine.device_step import DEPTH
from attacca.engine.device_trial import Nothing, sharing_test
from attacca.engine.events import ChunkEvent, TakeEnded, TakeRequest
from attacca.engine.gpu_spec import GpuSpec
from attacca.engine.offline import SteadyController
from attacca.engine.service import Engine
from attacca.engine.sharing import Part
from attacca.export.gpu_bundle import write_graphs
from benchmarks.gpu_measure import SAMPLING, Bench, on_device, quantiles, spans
from benchmarks.gpu_models import FRAMES_PER_SECOND, Case, Flavour, device_decoder, device_runtime

_FAR = 1 << 20
_HEARD_S, _SILENT_S, _TICK_S = 1.0, 0.5, 0.04
_TAKE, _LATE_TAKE = 1, 2


def takes_at_once(
    bench: Bench, case: Case, flavour: Flavour, counts: tuple[int, ...], *, rounds: int
) -> Iterator[dict[str, Any]]:
    """Steps of several takes in one, each at a full window; how many takes that makes in real time."""
    one = bench.open(case, flavour)
    for count in counts:
        try:
            maker = one if count == 1 else bench.open(case, flavour, count)
            yield _shared_steps(bench, case, flavour, {1: one, count: maker}, rounds)
        except DeviceError as error:
            yield {"case": case.name, "flavour": flavour.name, "takes": count, "failed": str(error)}
            return


def _shared_steps(
    bench: Bench, case: Case, flavour: Flavour, makers: dict[int, ProgramMaker], rounds: int
) -> dict[str, Any]:
    step_ms = [1e3 * spent / DEPTH for spent in _queued(case, flavour, makers, rounds)]
    count = max(makers)
    alone = on_device(bench, case, flavour, makers[count], takes=count)
    middle = quantiles(step_ms)["p50"]
    rtf = middle * FRAMES_PER_SECOND * case.steps.steps_per_timestep / 1e3
    return {
        "case": case.name,
        "flavour": flavour.name,
        "takes": count,
        "step_ms": quantiles(step_ms),
        "device_ms": alone["device_ms"],
        "host_ms": alone["host_ms"],
        "steps_per_s": 1e3 * count / middle,
        "rtf_each": rtf,
        "takes_in_real_time": count / rtf,
    }


def _queued(case: Case, flavour: Flavour, makers: dict[int, ProgramMaker], rounds: int) -> list[float]:
    """Seconds of each round of DEPTH steps of as many takes as the largest graph has."""
    runtime = device_runtime(case, flavour, makers[1], several={n: maker for n, maker in makers.items() if n > 1})
    source = Nothing(case.manifest.conditioning.width)
    codes = np.random.default_rng(0).integers(0, case.codebook_size, (case.window, case.num_codebooks))
    takes = [device_decoder(case, runtime)]
    takes[0].listen(codes.astype(np.uint16), source.rows(0, case.window))
    takes += [takes[0].fork() for _ in range(max(makers) - 1)]
    parts = [
        Part(
            generator=take,
            until_frame=_FAR,
            source=source,
            sampling=replace(SAMPLING, seed=number, top_k=min(SAMPLING.top_k, case.codebook_size)),
        )
        for number, take in enumerate(takes)
    ]
    stepper = DeviceStepper(runtime)
    return spans(lambda: stepper.plan(parts, DEPTH), rounds)


class NoDriver(HostDriver):
    """A device that does nothing, for what the host has to do."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0

    def allocate(self, nbytes: int) -> int:
        self._next += nbytes
        return self._next

    def free(self, address: int) -> None:
        pass

    def view(self, address: int, nbytes: int) -> np.ndarray:
        return np.zeros(nbytes, np.uint8)

    def upload(self, address: int, source: np.ndarray) -> None:
        pass

    def download(self, target: np.ndarray, address: int) -> None:
        target[:] = 0

    def copy(self, target: int, source: int, nbytes: int) -> None:
        pass

    def clear_rows(self, rows: Rows) -> None:
        pass

    def clear(self, address: int, nbytes: int) -> None:
        pass


class NoMaker:
    """A graph that computes nothing: every token is 0."""

    def __init__(self, spec: GpuSpec, takes: int, driver: NoDriver) -> None:
        self.driver, self.described = driver, spec.described(takes)

    def bind(self, tensors: Any) -> NoMaker:
        return self

    def launch(self) -> None:
        pass

    def close(self) -> None:
        pass


def host_work(case: Case, *, takes: int, steps: int) -> dict[str, Any]:
    """Milliseconds of this process, for each take and step, with nothing computed: what limits takes on any GPU."""
    driver, flavour = NoDriver(), Flavour(precision="fp16", dialect="standard", attention="operator")
    makers = {count: NoMaker(case.spec(flavour.precision), count, driver) for count in (1, takes)}
    runtime = device_runtime(case, flavour, makers[1], several={takes: makers[takes]})
    source = Nothing(case.manifest.conditioning.width)
    sampling = replace(SAMPLING, top_k=min(SAMPLING.top_k, case.codebook_size))
    parts = [
        Part(
            generator=device_decoder(case, runtime),
            until_frame=_FAR,
            source=source,
            sampling=replace(sampling, seed=number),
        )
        for number in range(takes)
    ]
    stepper = DeviceStepper(runtime)
    stepper.plan(parts, DEPTH)
    began = time.process_time()
    ran = stepper.plan(parts, steps)
    spent = 1e3 * (time.process_time() - began) / sum(ran)
    busy = spent * FRAMES_PER_SECOND * case.steps.steps_per_timestep / 1e3
    return {"case": case.name, "takes": takes, "host_ms_each": spent, "takes_in_real_time": 1.0 / busy}


def engine(
    bench: Bench, bundle: Path, new_driver: Callable[[], Driver], counts: tuple[int, ...], *, seconds: float
) -> Iterator[dict[str, Any]]:
    """A bundle's whole path for several sessions with a take each: real-time factor, and a take that comes late."""
    loaded = load_bundle(bundle)
    write_graphs(bundle, bundle / "gpu", takes=tuple(sorted({1, *counts})))

    def opened(folder: Path, spec: GpuSpec, driver: Driver, takes: int = 1) -> ProgramMaker:
        return bench.open_graph(checked_file(folder, spec, bench.dialect, takes), driver)

    model: Any = on_backend(loaded, bundle, "device", bench.driver, opened)
    device, codec = model.device, "device"
    try:
        files = {role: bundle / entry.path for role, entry in loaded.manifest.files.items()}
        model = dataclasses.replace(model, codec=device_codec.chosen(loaded.codec, files, new_driver()))
    except DeviceError as error:
        codec = f"CPU: {error}"
    folder, spec = find_spec(bundle, loaded.manifest)
    device.share({n: opened(folder, spec, bench.driver, n) for n in counts if n > 1})
    pace = sharing_test(model, device, time.perf_counter)
    device.warm()
    model = dataclasses.replace(model, batch=Batch(runtime=SharedDevice(device), pace=pace))
    for count in counts:
        told = {"bundle": loaded.manifest.name, "codec": codec, "pays": pace.pays, "pace": list(pace.cost)}
        yield told | _served(model, count, seconds)


def _served(model: Any, count: int, seconds: float) -> dict[str, Any]:
    """Sessions with a take each, and one more take when all of them sound."""
    rate = model.codec.sample_rate
    made = Engine(model, max_sessions=count + 1, max_takes=count + 1)
    heard = (0.1 * np.random.default_rng(0).standard_normal((int(_HEARD_S * rate), 1))).astype(np.float32)
    start = len(heard)
    for session in range(count + 1):
        made.open(session, sample_rate=rate, channels=1, controller=SteadyController(sample_rate=rate, bpm=120.0))
        made.set_realtime(session, False)
        made.listen(session, 0, heard)
    while made.work():
        pass
    made.set_realtime(count, True)

    def begin(session: int, take: int, position: int) -> None:
        made.advance(session, position)
        sampling = replace(SAMPLING, seed=session, top_k=min(SAMPLING.top_k, model.manifest.codebook_size))
        stop = start + round(seconds * rate)
        made.start(
            session,
            TakeRequest(
                take=take, epoch=0, position=position, start_position=position, end_position=stop, sampling=sampling
            ),
        )

    for session in range(count):
        begin(session, _TAKE, start)
    began, late_began, first_ms = time.perf_counter(), 0.0, 0.0
    ends, head = set(range(count)), start
    while ends or (late_began and not first_ms):
        events = made.work()
        if not events:  # all is sent that is wanted yet: time goes on
            head += round(_TICK_S * rate)
            if head > start + 2 * seconds * rate:
                raise RuntimeError(f"takes of the sessions {sorted(ends)} stopped without an end")
            for session in ends:
                made.advance(session, head)
        for event in events:
            if isinstance(event, ChunkEvent) and event.committed and event.samples:
                if event.session == count and not first_ms:
                    first_ms = 1e3 * (time.perf_counter() - late_began)
            elif isinstance(event, TakeEnded):
                if event.reason != "end":
                    raise RuntimeError(f"a take ended: {event.reason}")
                ends.discard(event.session)
        if not late_began and head > start + _SILENT_S * rate:
            late_began = time.perf_counter()
            begin(count, _LATE_TAKE, start)
    spent = time.perf_counter() - began
    company = made._company
    return {
        "takes": count,
        "rtf": spent / seconds,
        "takes_in_real_time": count * seconds / spent,
        "first_audio_beside_ms": first_ms,
        "shared_steps": 0 if company is None else company.shared_steps,
    }
