"""What keeps the path fast, by ratios and counts alone: nothing here hangs on how fast or how busy a machine is."""

from __future__ import annotations

import ctypes
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from decoder_fixtures import SAMPLING, TINY, Source, listening, random_codes, tiny_runtime
from phase_reference import PhaseReference
from stream_fakes import Host, request

from attacca.engine import native
from attacca.engine.bundle import manifest_pattern
from attacca.engine.code_levels import CodeLevels
from attacca.engine.decoder import PatternDecoder
from attacca.engine.native_lane import NativeKernels, NativeStep
from attacca.engine.native_weights import native_model
from attacca.engine.phase import StreamingPhase, noise_spectra
from attacca.engine.runtime import StepLane, StepRuntime
from attacca.engine.schedule import Schedule
from attacca.engine.spectral import SpectralConfig
from attacca.engine.stream import Costs, StreamConfig

FRAME_S = 0.02
STEPS = 24  # of a steady loop, and of no more than a block of the cache, so that nothing is moved within
BLOCKS_A_STEP = 2  # Python objects that a step may leave behind: conditions asked for ahead, timesteps kept
BYTES_A_STEP = 256  # with what numpy holds: no more than one timestep's noise is
CACHE_SHARE = 0.5  # of the cache's size, all that a step may hold at its height
# Of the tiny bundle's codes: the upper half is louder.
LEVELS = CodeLevels(np.tile((12.0 * (np.arange(16) >= 8))[:, None], (4, 1, 1)), [-60.0])
needs_kernels = pytest.mark.skipif(native.built() is None, reason="the kernels were not built: no C++ compiler")


def cpu_s(call: Callable[[], object], times: int = 5) -> float:
    """Least CPU time of several calls."""
    spent = []
    for _ in range(times):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent)


@pytest.fixture(scope="module")
def runtime() -> StepRuntime:
    return tiny_runtime()


class Forgetful(Source):
    """Remembers nothing: what is kept is the decoder's."""

    def rows(self, first_frame: int, count: int) -> np.ndarray:
        found = super().rows(first_frame, count)
        self.asked.clear()
        return found


@pytest.fixture(params=["onnxruntime", pytest.param("native", marks=needs_kernels)])
def steady(runtime: StepRuntime, request: pytest.FixtureRequest) -> Iterator[PatternDecoder]:
    """A decoder in the middle of a take: all that fills is full, its rows bound, its block of the cache just begun.

    What fills: the window, the attic behind it, and tables of the noise and of the level's hold.
    """
    if request.param == "native":
        graph = (TINY / "decoder.onnx").read_bytes()
        runtime = runtime.on_kernels(NativeKernels(model=native_model(graph, runtime.manifest)))
    decoder = PatternDecoder(runtime, manifest_pattern(runtime.manifest), levels=LEVELS)
    cache, source = decoder._cache, Forgetful()
    heard = cache.config.capacity + (1 + cache.config.attic_blocks) * cache.config.block
    tracemalloc.start()
    decoder.listen(random_codes(heard), source.rows(0, heard))
    decoder.plan(decoder.frontier + 100, source, SAMPLING)
    while cache.room(cache.count) < cache.config.block - 2:
        decoder.plan(decoder.frontier + 100, source, SAMPLING, max_steps=1)
    yield decoder
    tracemalloc.stop()


def test_phases_of_a_call_take_a_part_of_the_reference_s_time() -> None:
    config = SpectralConfig(hop_samples=960, sub_hop_samples=480, window_samples=3072, group_bins=8)
    levels = np.random.default_rng(0).normal(-4.0, 2.0, (16, config.num_bins)).astype(np.float32)
    noise = noise_spectra(config)
    fast, slow = StreamingPhase(config, noise), PhaseReference(config, noise)
    whole = cpu_s(lambda: fast.push(levels))
    assert 4.0 * whole < cpu_s(lambda: [slow.push(level) for level in levels], times=2)


def test_a_steady_step_leaves_nothing_behind(steady: PatternDecoder) -> None:
    """No object is kept that the next step does not let go of, and no array is as large as the cache."""
    source = Forgetful()
    until = steady.frontier + 1000
    steady.plan(until, source, SAMPLING, max_steps=STEPS // 2)
    tracemalloc.reset_peak()
    blocks, (held, _) = sys.getallocatedblocks(), tracemalloc.get_traced_memory()
    steady.plan(until, source, SAMPLING, max_steps=STEPS)
    kept = sys.getallocatedblocks() - blocks
    now, height = tracemalloc.get_traced_memory()
    assert kept <= STEPS * BLOCKS_A_STEP
    assert now - held <= STEPS * BYTES_A_STEP
    assert height - held < CACHE_SHARE * steady._cache.live.nbytes


def parts(lane: StepLane) -> list[object]:
    """What computes a lane's steps, and where; that our kernels' cache is the lane's is seen to."""
    step = lane._executor
    if not isinstance(step, NativeStep):
        return [step]
    assert step.call.cache == lane.cache.live.ctypes.data
    return [step, ctypes.addressof(step.call), step._workspace]


def test_a_steady_step_copies_no_cache_and_binds_nothing_anew(
    steady: PatternDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = steady._lane
    where = steady._cache.live.ctypes.data
    bound: list[int] = []
    bind = StepLane._bind

    def counted(self: StepLane, count: int) -> object:
        bound.append(count)
        return bind(self, count)

    monkeypatch.setattr(StepLane, "_bind", counted)
    before = parts(lane)
    steady.plan(steady.frontier + 1000, Source(), SAMPLING, max_steps=STEPS)
    assert not bound
    assert parts(lane) == before
    assert steady._cache.live.ctypes.data == where
    for (_, value), tensor in zip(lane.cache_values, steady._cache.live, strict=True):
        assert value.data_ptr() == tensor.ctypes.data  # the graph's cache is the cache, as input and as output


def test_rows_that_idle_are_not_computed_and_change_nothing(
    runtime: StepRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    run = StepLane.run

    def counted(self: StepLane, stack: np.ndarray, *args: object, **kwargs: object) -> None:
        rows.append(len(stack))
        run(self, stack, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(StepLane, "run", counted)
    decoder = listening(runtime, 20)
    rows.clear()
    decoder.plan(30, Source(), SAMPLING)
    full = runtime.shape.num_codebooks + 1
    assert rows[0] == 2 and max(rows) == full and rows[-1] == full

    def whole(self: PatternDecoder, schedule: Schedule, *rest: object) -> None:
        step, conditions, slot = self._next(schedule, *rest)  # type: ignore[arg-type]
        self._lane.run(step.stack, step.level, step.timestep, conditions, slot=slot, row_of_level=step.row_of_level)
        self._take(schedule, step)

    monkeypatch.setattr(PatternDecoder, "_step", whole)
    other = listening(runtime, 20)
    other.plan(30, Source(), SAMPLING)
    np.testing.assert_array_equal(other.read(0, 30), decoder.read(0, 30))


def test_a_first_chunk_is_as_short_as_the_next_one_lets_it_be() -> None:
    """Less than a frame of it may lie before the join, and a slice passes before it is sent."""
    config = StreamConfig()
    costs = Costs(FRAME_S, config)
    assert costs.first_chunk_frames() == config.first_chunk_frames  # unknown: no promise
    assert costs.chunk_frames(0.0) == config.chunk_frames
    for share in np.linspace(0.02, 0.95, 40):
        costs.step_s = share * FRAME_S
        first = costs.first_chunk_frames()
        assert first <= config.chunk_frames
        assert first <= config.first_chunk_frames or share > 0.2
        left_s, sent = -FRAME_S - config.slice_s, first
        for _ in range(8):
            left_s += sent * FRAME_S
            sent = costs.chunk_frames(left_s)
            spent = sent * costs.step_s * 1.3
            assert spent <= left_s or share > 0.7
            left_s -= spent
        assert sent == config.chunk_frames or share > 0.5
    quick, slow = (Costs(FRAME_S, config) for _ in range(2))
    quick.step_s, slow.step_s = 0.05 * FRAME_S, 0.3 * FRAME_S
    assert quick.first_chunk_frames() < slow.first_chunk_frames()


def test_no_size_hangs_on_the_machine_while_the_host_waits() -> None:
    """Offline, a slow machine's chunks are a quick one's."""
    cut = []
    for step_s in (0.0, 0.001, 0.5):
        host = Host(32000, first_chunk_frames=4, chunk_frames=8)
        host.engine._costs.step_s = step_s
        host.play(32000)
        host.engine.start(1, request(host.head))
        host.play(32000)
        cut.append([(chunk.position, chunk.samples) for chunk in host.chunks()])
    assert len(cut[0]) > 3 and cut[0] == cut[1] == cut[2]


def test_two_groups_heard_at_once_are_what_one_after_the_other_is(runtime: StepRuntime) -> None:
    """So beside a take, where there is less time, more is heard at once."""
    heard = [listening(runtime, 20) for _ in range(2)]
    codes, rows = random_codes(48, seed=3), Source().rows(20, 48)
    for first in range(0, 48, 8):
        heard[0].listen(codes[first : first + 8], rows[first : first + 8])
    for first in range(0, 48, 16):
        heard[1].listen(codes[first : first + 16], rows[first : first + 16])
    for decoder in heard:
        decoder.plan(90, Source(), SAMPLING)
    np.testing.assert_array_equal(heard[0].read(0, 90), heard[1].read(0, 90))


def test_beside_a_take_two_groups_are_heard_at_once() -> None:
    host, waited = Host(32000, block=640, listen_frames=8), []
    for playing in (False, True):
        if playing:
            host.engine.start(1, request(host.head))
        host.play(32000)
        listener, most = host.engine._sessions[1].listener, 0
        for _ in range(32):
            host.play(640)
            most = max(most, listener.pending_samples // 640)
        waited.append(most)
    assert waited == [7, 15]
