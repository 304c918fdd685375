"""What a device must show before it plays: that it computes what the CPU computes, queued, alone and shared.

Under engine/backends.py, which says what becomes of one that does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle import Model
from .decoder import PatternDecoder
from .device import DeviceError
from .device_lane import DeviceRuntime
from .device_sharing import DeviceStepper
from .generator import Conditions, Sampling
from .pace import Pace
from .sharing import Part

TOLERANCE = 0.05  # RMS of the difference of logits over their RMS; int8 weights against halves lie near 0.01
_LISTENED, _FORCED, _TIMED_STEPS = 8, 16, 48
_TRIED = 3  # takes of different lengths
_FAR = 1 << 20


def self_test(cpu: Model, device: Model) -> float:
    """How far the device's logits lie from the CPU's, relative. DeviceError if too far, or feedback fails."""
    wanted = forced_logits(cpu.decoder(), cpu)
    try:
        found = forced_logits(full(device.decoder()), cpu)
    except FloatingPointError:
        raise DeviceError("its logits are not finite") from None
    apart = float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))
    if not apart <= TOLERANCE:
        raise DeviceError(f"its logits differ from the CPU's by {apart:.3g}, allowed: {TOLERANCE}")
    queued, single = device.decoder(), device.decoder()
    sampling, source = Sampling(seed=1), Nothing(cpu.conditioning.width)
    queued.plan(_FORCED, source, sampling)
    while single.frontier < _FORCED:
        single.plan(_FORCED, source, sampling, max_steps=1)
    if not np.array_equal(queued.read(0, _FORCED), single.read(0, _FORCED)):
        raise DeviceError("steps queued on it draw other tokens than steps made one by one")
    return apart


def forced_logits(decoder: PatternDecoder, model: Model) -> npt.NDArray[np.float32]:
    """Guided logits [steps, K, V], zeros for codebooks without a frame: some frames heard, random codes forced."""
    manifest, logits = model.manifest, []
    books, size = manifest.num_codebooks, manifest.codebook_size
    codes = np.random.default_rng(0).integers(0, size, (_LISTENED + 4 * _FORCED, books))
    source = Nothing(model.conditioning.width)
    decoder.listen(codes[:_LISTENED].astype(np.uint16), source.rows(0, _LISTENED))

    def force(frames: npt.NDArray[np.int64], found: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        logits.append(np.where(frames[:, None] >= 0, found, 0.0))
        chosen: npt.NDArray[np.int64] = codes[np.clip(frames, 0, len(codes) - 1), np.arange(books)]
        return chosen

    decoder.choose = force
    PatternDecoder.plan(decoder, _LISTENED + _FORCED, source, Sampling(seed=1, guidance=2.0), max_steps=8 * _FORCED)
    return np.stack(logits).astype(np.float32)


def sharing_test(model: Model, device: DeviceRuntime, clock: Callable[[], float]) -> Pace:
    """What sharing steps is worth on a device. DeviceError if takes are not in company what they are alone.

    Logits of a shared step lie near those of the same step alone (kernels for more rows round in other places), and
    in a graph of so many takes the tokens of one are the same to the bit whoever else steps, or nobody.
    """
    _company_test(model, device)
    return _pace(model, device, clock)


def _company_test(model: Model, device: DeviceRuntime) -> None:
    stepper, source = DeviceStepper(device), Nothing(model.conditioning.width)
    parts = []
    for number in range(min(_TRIED, device.counts[-1])):
        decoder = full(model.decoder())
        codes = np.random.default_rng(number).integers(
            0, model.manifest.codebook_size, (_LISTENED * (1 + number), model.manifest.num_codebooks)
        )
        decoder.listen(codes.astype(np.uint16), source.rows(0, len(codes)))
        sampling = Sampling(seed=number, guidance=1.0 + number)
        parts.append(Part(generator=decoder, until_frame=len(codes) + _FORCED, source=source, sampling=sampling))
    states = [_taken(part).snapshot() for part in parts]
    alone = [_one_step(part) for part in parts]
    for count in device.counts[1:]:
        _back(parts, states)
        stepper.plan(parts[:count], 1, least=count)
        for part, wanted in zip(parts[:count], alone, strict=False):
            _near(stepper.logits(part.generator), wanted, count)
        drawn = []
        for company in (parts[:count], parts[:1]):
            _back(parts, states)
            stepper.plan(company, 8 * _FORCED, least=count)
            drawn.append(_taken(parts[0]).read(0, parts[0].until_frame))
        if not np.array_equal(drawn[0], drawn[1]):
            raise DeviceError(f"a take among {count} draws other tokens beside others than beside none")


def _taken(part: Part) -> PatternDecoder:
    decoder: Any = part.generator
    found: PatternDecoder = decoder
    return found


def _back(parts: list[Part], states: list[Any]) -> None:
    for part, state in zip(parts, states, strict=True):
        _taken(part).restore(state)


def _one_step(part: Part) -> npt.NDArray[np.float32]:
    decoder = _taken(part)
    PatternDecoder.plan(decoder, _FAR, part.source, part.sampling, max_steps=1)
    return decoder._lane.logits.copy()


def _near(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32], count: int) -> None:
    apart = float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))
    if not apart <= TOLERANCE:
        words = f"logits of a take among {count} differ from those alone by {apart:.3g}"
        raise DeviceError(f"{words}, allowed: {TOLERANCE}")


def _pace(model: Model, device: DeviceRuntime, clock: Callable[[], float]) -> Pace:
    """Seconds of steps of as many takes as each graph has, the host's work for each among them."""
    stepper, source, sampling = DeviceStepper(device), Nothing(model.conditioning.width), Sampling(seed=1)
    takes = [model.decoder() for _ in range(device.counts[-1])]
    parts = [Part(generator=take, until_frame=_FAR, source=source, sampling=sampling) for take in takes]
    seconds = {}
    for count in device.counts:
        spent = []
        for _ in range(2):
            began = clock()
            stepper.plan(parts[:count], _TIMED_STEPS // 3)
            spent.append(clock() - began)
        seconds[count] = max(min(spent), 1e-9)
    needed = [next(count for count in device.counts if count >= n) for n in range(1, device.counts[-1] + 1)]
    return Pace(cost=tuple(seconds[count] / seconds[1] for count in needed))


def full(decoder: PatternDecoder) -> PatternDecoder:
    """The decoder with all logits brought back from the device."""
    lane: Any = decoder._lane
    lane.full_logits = True
    return decoder


def seconds_a_step(model: Model, clock: Callable[[], float]) -> float:
    """Of a few steps, queued as a take queues them."""
    decoder, source = model.decoder(), Nothing(model.conditioning.width)
    sampling = Sampling(seed=1)
    decoder.plan(1 << 20, source, sampling, max_steps=_TIMED_STEPS)
    began = clock()
    decoder.plan(1 << 20, source, sampling, max_steps=_TIMED_STEPS)
    return (clock() - began) / _TIMED_STEPS


class Nothing:
    """A condition source that commands nothing."""

    def __init__(self, width: int) -> None:
        self._width = width

    def rows(self, first_frame: int, count: int) -> Conditions:
        """See ConditionSource."""
        return np.zeros((count, self._width), np.float32)
