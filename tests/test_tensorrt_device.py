"""The TensorRT runner over a driver and a package that are not there: memory, capture, replay, errors, teardown."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import numpy as np
import pytest
from decoder_fixtures import SAMPLING, TINY, Source, listening, random_codes, tiny_decoder, tiny_runtime
from fake_gpu import FakeDriver, FakeTensorrt, tiny_gpu_graph, tiny_gpu_spec

from attacca.engine import tensorrt_device
from attacca.engine.bundle import manifest_pattern
from attacca.engine.device import DeviceError, DeviceInfo, NotAvailable, OutOfMemory
from attacca.engine.device_decoder import DeviceDecoder, first_steps
from attacca.engine.device_lane import DeviceRuntime
from attacca.engine.manifest import read_manifest
from attacca.engine.pattern import make_pattern
from attacca.engine.tensorrt_device import TensorrtMaker, engine_key, load_tensorrt

MANIFEST = read_manifest(TINY)
FRAMES = 40


def maker(driver: FakeDriver, module: FakeTensorrt | None = None) -> TensorrtMaker:
    return TensorrtMaker(tiny_gpu_graph().read_bytes(), driver, module or FakeTensorrt(driver))


def runtime(driver: FakeDriver, module: FakeTensorrt | None = None) -> DeviceRuntime:
    return DeviceRuntime(maker(driver, module), tiny_gpu_spec(), MANIFEST, name="tensorrt")


def decoder(device: DeviceRuntime) -> DeviceDecoder:
    return DeviceDecoder(device, manifest_pattern(MANIFEST))


def played(made: object) -> np.ndarray:
    source = Source()
    made.listen(random_codes(10), source.rows(0, 10))
    made.plan(FRAMES, source, SAMPLING)
    return made.read(0, FRAMES)


def test_a_take_is_the_cpus_with_one_replay_a_step() -> None:
    driver = FakeDriver()
    made = decoder(runtime(driver))
    assert (driver.computed, driver.launches) == (1, 0)  # the warm-up; what is recorded is not computed
    made.listen(random_codes(10), Source().rows(0, 10))
    prefill = driver.launches
    assert prefill == 3  # BOS and ten frames, five rows a call
    steps = made.plan(FRAMES, Source(), SAMPLING)
    assert (driver.computed, driver.launches) == (1, prefill + steps)
    np.testing.assert_array_equal(made.read(0, FRAMES), played(tiny_decoder(tiny_runtime())))


@pytest.mark.parametrize("call", ["begin_capture", "end_capture"])
def test_what_cannot_be_recorded_is_queued_step_by_step(call: str) -> None:
    driver = FakeDriver()
    driver.fail[call] = DeviceError("answers 801: operation not supported")
    np.testing.assert_array_equal(played(decoder(runtime(driver))), played(tiny_decoder(tiny_runtime())))
    assert driver.launches == 0
    assert driver.recording is None


def test_a_step_that_fails_while_it_is_recorded_leaves_the_stream_usable() -> None:
    driver = FakeDriver()
    module = FakeTensorrt(driver)
    begin = driver.begin_capture

    def refuse() -> None:
        begin()
        module.queues = False

    def end() -> int:
        module.queues = True
        return FakeDriver.end_capture(driver)

    driver.begin_capture, driver.end_capture = refuse, end
    np.testing.assert_array_equal(played(decoder(runtime(driver, module))), played(tiny_decoder(tiny_runtime())))
    assert driver.launches == 0
    assert list(driver.graphs.values()) == [[]]  # destroyed


def test_takes_share_what_is_pooled_and_everything_is_given_back() -> None:
    driver = FakeDriver()
    module = FakeTensorrt(driver)
    device = runtime(driver, module)
    first = played(decoder(device))
    gc.collect()
    held, staged = len(driver.sizes), driver.staged
    assert held == 6
    np.testing.assert_array_equal(
        played(decoder(device)), first
    )  # in the memory of the first, with nothing left of it
    gc.collect()
    assert (len(driver.sizes), driver.staged, module.contexts) == (held, staged, 1)
    takes = [decoder(device) for _ in range(4)]
    assert module.contexts == 4
    del takes
    gc.collect()
    assert len(driver.sizes) == 2 * held  # two wait for the next take
    device.close()
    assert (driver.sizes, driver.staged) == ({}, 0)
    assert not any(driver.graphs.values())


def test_snapshots_hold_memory_as_long_as_they_live() -> None:
    driver = FakeDriver()
    made = decoder(runtime(driver))
    played(made)
    held = len(driver.sizes)
    state = made.snapshot()
    assert len(driver.sizes) == held + 1
    made.plan(FRAMES + 10, Source(), SAMPLING)
    ahead = made.read(0, FRAMES + 10)
    made.restore(state)
    made.plan(FRAMES + 10, Source(), SAMPLING)
    np.testing.assert_array_equal(made.read(0, FRAMES + 10), ahead)
    del state
    gc.collect()
    assert len(driver.sizes) == held


@pytest.mark.parametrize("blocks", range(6))
def test_out_of_memory_is_said_and_leaves_nothing(blocks: int) -> None:
    whole = FakeDriver()
    made = decoder(runtime(whole))
    sizes = list(whole.sizes.values())
    assert len(sizes) == 6
    del made
    driver = FakeDriver()
    driver.memory_left = sum(sizes[:blocks]) + sizes[blocks] - 1
    with pytest.raises(OutOfMemory, match="out of memory"):
        decoder(runtime(driver))
    gc.collect()
    assert (driver.sizes, driver.staged) == ({}, 0)


def test_a_step_that_cannot_be_queued_is_said() -> None:
    driver = FakeDriver()
    made = decoder(runtime(driver))
    driver.fail["launch"] = DeviceError("cuGraphLaunch answers 700: an illegal memory access was encountered")
    with pytest.raises(DeviceError, match="700"):
        made.plan(FRAMES, Source(), SAMPLING)


def test_logits_that_are_not_finite_stop_the_take_and_keep_what_was_planned() -> None:
    driver = FakeDriver()
    left = {"steps": 20}

    def spoil(views: dict[str, np.ndarray]) -> None:
        left["steps"] -= 1
        if left["steps"] == 0:
            views["checksum"][:] = np.nan

    made = decoder(runtime(driver, FakeTensorrt(driver, spoil)))
    with pytest.raises(FloatingPointError, match="not finite at frame"):
        made.plan(FRAMES, Source(), SAMPLING)
    known = made.frontier
    assert 0 < known < FRAMES
    made.plan(FRAMES, Source(), SAMPLING)
    exact = tiny_decoder(tiny_runtime())
    exact.plan(FRAMES, Source(), SAMPLING)
    np.testing.assert_array_equal(made.read(0, FRAMES), exact.read(0, FRAMES))


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("takes_engine", "TensorRT 10.16.0 does not take this engine"),
        ("aliased", "key_0.out shares memory with nothing"),
        ("takes_address", "does not take 'stack' at"),
        ("queues", "could not queue a step"),
    ],
)
def test_what_a_package_refuses_is_said(flaw: str, message: str) -> None:
    driver = FakeDriver()
    module = FakeTensorrt(driver)
    setattr(module, flaw, False)
    with pytest.raises(DeviceError, match=message):
        decoder(runtime(driver, module))
    gc.collect()
    assert driver.sizes == {}


def test_a_graph_of_other_sizes_is_refused_by_name() -> None:
    import msgspec

    driver = FakeDriver()
    spec = msgspec.structs.replace(tiny_gpu_spec(), history=99)
    with pytest.raises(DeviceError, match="the graph's 'history' is"):
        DeviceRuntime(maker(driver), spec, MANIFEST).lane()
    assert driver.sizes == {}


def test_an_engine_is_named_by_what_it_fits() -> None:
    info = DeviceInfo(name="NVIDIA H200", compute_capability=(9, 0), driver_version=13000, memory_bytes=1)
    module = SimpleNamespace(__name__="tensorrt", __version__="10.16.0")
    name = engine_key(module, info, "abc" * 30, precision="fp16", takes=4)
    assert name == "trt10.16.0_nvidia-h200_sm90_abcabcabcabcabca_fp16_t4"
    other = SimpleNamespace(__name__="tensorrt_rtx_bindings", __version__="10.16.0")
    assert engine_key(other, info, "abc" * 30, precision="fp16", takes=4) != name


def test_the_first_package_that_loads_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(name: str) -> object:
        asked.append(name)
        if name == "tensorrt":
            raise ModuleNotFoundError(name)
        if name == "tensorrt_rtx":
            raise OSError("libcudart.so.13: cannot open shared object file")
        return name

    monkeypatch.setattr(tensorrt_device.importlib, "import_module", load)
    assert load_tensorrt() == "tensorrt_rtx_bindings"
    assert asked == list(tensorrt_device.MODULES)
    monkeypatch.setattr(tensorrt_device, "MODULES", ("tensorrt",))
    with pytest.raises(NotAvailable, match=r"not installed: pip install 'attacca\[gpu\]'"):
        load_tensorrt()
    monkeypatch.setattr(tensorrt_device, "MODULES", ("tensorrt_rtx",))
    with pytest.raises(NotAvailable, match=r"tensorrt_rtx cannot be loaded: libcudart.so.13"):
        load_tensorrt()


def test_the_listening_decoder_of_the_fixtures_is_the_devices_too() -> None:
    driver = FakeDriver()
    made, exact = decoder(runtime(driver)), listening(tiny_runtime(), 30)
    made.listen(random_codes(30), Source().rows(0, 30))
    made.rollback(22)
    exact.rollback(22)
    for each in (made, exact):
        each.plan(FRAMES, Source(), SAMPLING)
    np.testing.assert_array_equal(made.read(0, FRAMES), exact.read(0, FRAMES))


def test_tokens_too_old_to_be_fed_back_are_refused() -> None:
    lane = runtime(FakeDriver()).lane()
    spec = tiny_gpu_spec()
    newest, oldest = lane.pending(np.array([1, spec.history]), np.array([0, 3]))
    assert (newest, oldest) == (-1 - (spec.history - 1) * 4, -1 - 3)
    with pytest.raises(ValueError, match=rf"ages 1\.\.{spec.history + 1} of pending tokens"):
        lane.pending(np.array([1, spec.history + 1]), np.array([0, 0]))


@pytest.mark.parametrize(
    ("name", "p"), [("stack-delay", 3), ("stack-delay", 1), ("stack", 1), ("flat", 1), ("delay", 1)]
)
def test_first_steps_are_the_patterns(name: str, p: int) -> None:
    pattern = make_pattern(name, 4, p=p)
    timesteps = np.arange(40)
    wanted = [pattern.first_step_of(t) for t in timesteps.tolist()]
    np.testing.assert_array_equal(first_steps(pattern, timesteps), wanted)
