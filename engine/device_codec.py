"""A codec's graphs on a device: a stream of their own beside the decoder's, recorded and replayed like its steps.

Between a loaded codec (engine/codec.py, engine/encodec.py) and engine/ort_device.py. The codec's arithmetic around
the graphs stays on the CPU, and so do its states, which go there and back with each call. It counts only if it
computes what the CPU computes, and faster.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .codec import Codec
from .codec_stream import DECODER, ENCODER
from .device import DeviceError, Driver
from .device_memory import Block
from .encodec import Encodec
from .ort_device import OrtMaker

TOLERANCE = 1e-2  # RMS of the difference of samples over their RMS
LEAST_EQUAL = 0.98  # of codes: rounding can turn what is nearly a tie
_FRAMES, _CALLS = 12, 4
Array = npt.NDArray[Any]


class DeviceSession:
    """Stands where a codec has an onnxruntime session. Thread-safe: one call at a time."""

    def __init__(self, graph: Path, driver: Driver) -> None:
        """DeviceError if the graph cannot be loaded or memory is full."""
        maker = OrtMaker(graph, driver)
        self._driver, self._lock = driver, threading.Lock()
        self._in = Block.of({name: maker.described[name] for name in maker.input_names})
        self._out = Block.of({n: kind for n, kind in maker.described.items() if n not in maker.input_names})
        self._addresses = [driver.allocate(block.nbytes) for block in (self._in, self._out)]
        self._sent, self._back = driver.staging(self._in.nbytes), driver.staging(self._out.nbytes)
        self._fed, self._made = self._in.views(self._sent), self._out.views(self._back)
        tensors = self._in.tensors(self._addresses[0]) | self._out.tensors(self._addresses[1])
        self._program = maker.bind(tensors)

    def run(self, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """As onnxruntime's: outputs by name, of the inputs given."""
        with self._lock:
            for name, array in feed.items():
                self._fed[name][:] = array
            self._driver.upload(self._addresses[0], self._sent)
            self._program.launch()
            self._driver.download(self._back, self._addresses[1])
            self._driver.synchronize()
            return [self._made[name].copy() for name in names]


def on_device(codec: Codec | Encodec, files: Mapping[str, Path], driver: Driver) -> Codec | Encodec:
    """The same codec with its graphs on a device. DeviceError if that fails."""
    encoder, decoder = (DeviceSession(files[role], driver) for role in (ENCODER, DECODER))
    moved: Any = copy.copy(codec)
    if isinstance(codec, Encodec):
        moved.encoder_graph, moved.decoder_graph = copy.copy(codec.encoder_graph), copy.copy(codec.decoder_graph)
        moved.encoder_graph._session, moved.decoder_graph._session = encoder, decoder
    else:
        moved._encoder, moved._decoder = encoder, decoder
    found: Codec | Encodec = moved
    return found


def chosen(
    codec: Codec | Encodec,
    files: Mapping[str, Path],
    driver: Driver,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Codec | Encodec:
    """The codec on the device if that computes the same, faster; else DeviceError says why not."""
    moved = on_device(codec, files, driver)
    codes = (
        np.random.default_rng(0).integers(0, codec.codebook_size, (_FRAMES, codec.num_codebooks)).astype(np.uint16)
    )
    wanted, found = (each.decoder().push(codes) for each in (codec, moved))
    apart = float(np.sqrt(np.mean((found - wanted) ** 2) / max(1e-12, float(np.mean(wanted**2)))))
    if not apart <= TOLERANCE:
        raise DeviceError(f"its audio differs from the CPU's by {apart:.3g}, allowed: {TOLERANCE}")
    heard, again = (each.encoder().push(wanted) for each in (codec, moved))
    equal = float(np.mean(heard == again)) if heard.size else 1.0
    if equal < LEAST_EQUAL:
        raise DeviceError(f"{equal:.3f} of its codes are the CPU's, allowed: {LEAST_EQUAL} or more")
    cpu_s, device_s = (_seconds(each, codes, clock) for each in (codec, moved))
    if device_s >= cpu_s:
        raise DeviceError(f"it takes {1e3 * device_s:.1f} ms where the CPU takes {1e3 * cpu_s:.1f}")
    return moved


def _seconds(codec: Codec | Encodec, codes: Array, clock: Callable[[], float]) -> float:
    """Of a few calls, the quickest."""
    decoder, times = codec.decoder(), []
    for _ in range(_CALLS):
        began = clock()
        decoder.push(codes)
        times.append(clock() - began)
    return min(times)
