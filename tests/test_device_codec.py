"""A codec's graphs on a device: the same codes and audio as on the CPU, and reasons to stay there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from decoder_fixtures import TINY
from fake_gpu import FakeDriver

from attacca.engine import device_codec
from attacca.engine.bundle import load_bundle
from attacca.engine.codec import Codec
from attacca.engine.device import DeviceError, OutOfMemory
from attacca.engine.device_codec import chosen, on_device

MODEL = load_bundle(TINY)
FILES = {role: TINY / entry.path for role, entry in MODEL.manifest.files.items()}


def ticking(*seconds: float) -> object:
    """A clock by which each call takes the next of these times, the last one from then on."""
    state = {"now": 0.0, "calls": 0}

    def clock() -> float:
        state["calls"] += 1
        if state["calls"] % 2 == 0:
            state["now"] += seconds[min(state["calls"] // 2 - 1, len(seconds) - 1)]
        return state["now"]

    return clock


def sound(codec: Codec) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a noise pushed in uneven pieces, and the audio of them."""
    encoder, decoder = codec.encoder(), codec.decoder()
    noise = np.random.default_rng(1).standard_normal(codec.hop_samples * 21).astype(np.float32) * 0.1
    codes = np.concatenate([encoder.push(part) for part in np.split(noise, [100, 2000, 2100])])
    return codes, np.concatenate([decoder.push(part) for part in np.split(codes, [1, 9])])


def test_streams_on_a_device_are_the_cpus() -> None:
    driver = FakeDriver()
    moved = on_device(MODEL.codec, FILES, driver)
    for wanted, found in zip(sound(MODEL.codec), sound(moved), strict=True):
        assert len(wanted) > 5
        np.testing.assert_array_equal(wanted, found)
    assert len(driver.sizes) == 4  # inputs and outputs of two graphs
    assert MODEL.codec.decoder()  # which still has sessions of its own


def test_it_is_taken_if_it_is_faster() -> None:
    calls = device_codec._CALLS
    fast = chosen(MODEL.codec, FILES, FakeDriver(), clock=ticking(*[2.0] * calls, 1.0))
    assert fast is not MODEL.codec
    with pytest.raises(DeviceError, match=r"it takes 2000.0 ms where the CPU takes 1000.0"):
        chosen(MODEL.codec, FILES, FakeDriver(), clock=ticking(*[1.0] * calls, 2.0))


def test_what_it_computes_otherwise_keeps_it_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    run = device_codec.DeviceSession.run

    def louder(self: object, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        first, *states = run(self, names, feed)
        return [first + np.float32(1.0) if first.dtype == np.float32 else first, *states]

    monkeypatch.setattr(device_codec.DeviceSession, "run", louder)
    with pytest.raises(DeviceError, match="its audio differs from the CPU's by"):
        chosen(MODEL.codec, FILES, FakeDriver())

    def other(self: object, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        first, *states = run(self, names, feed)
        return [first if first.dtype == np.float32 else first ^ 1, *states]

    monkeypatch.setattr(device_codec.DeviceSession, "run", other)
    with pytest.raises(DeviceError, match=r"0\.000 of its codes are the CPU's"):
        chosen(MODEL.codec, FILES, FakeDriver())


def test_memory_that_is_full_and_files_that_are_missing_are_said(tmp_path: Path) -> None:
    driver = FakeDriver()
    driver.memory_left = 100
    with pytest.raises(OutOfMemory):
        on_device(MODEL.codec, FILES, driver)
    with pytest.raises(DeviceError, match="onnxruntime cannot load the graph"):
        on_device(MODEL.codec, dict.fromkeys(FILES, tmp_path / "none.onnx"), FakeDriver())
