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
from .generator import Sampling
from .pace import Pace
from .sharing import Part
from .trial import FORCED, LISTENED, TOLERANCE, Nothing, apart, forced

_TIMED_STEPS = 48
_TRIED = 3  # takes of different lengths
_FAR = 1 << 20


def self_test(cpu: Model, device: Model) -> float:
    """How far the device's logits lie from the CPU's, relative. DeviceError if too far, or feedback fails."""
    wanted = forced(cpu.decoder(), cpu.manifest).logits
    try:
        found = forced(full(device.decoder()), cpu.manifest).logits
    except FloatingPointError:
        raise DeviceError("its logits are not finite") from None
    far = apart(found, wanted)
    if not far <= TOLERANCE:
        raise DeviceError(f"its logits differ from the CPU's by {far:.3g}, allowed: {TOLERANCE}")
    queued, single = device.decoder(), device.decoder()
    sampling, source = Sampling(seed=1), Nothing(cpu.conditioning.width)
    queued.plan(FORCED, source, sampling)
    while single.frontier < FORCED:
        single.plan(FORCED, source, sampling, max_steps=1)
    if not np.array_equal(queued.read(0, FORCED), single.read(0, FORCED)):
        raise DeviceError("steps queued on it draw other tokens than steps made one by one")
    return far


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
            0, model.manifest.codebook_size, (LISTENED * (1 + number), model.manifest.num_codebooks)
        )
        decoder.listen(codes.astype(np.uint16), source.rows(0, len(codes)))
        sampling = Sampling(seed=number, guidance=1.0 + number)
        parts.append(Part(generator=decoder, until_frame=len(codes) + FORCED, source=source, sampling=sampling))
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
            stepper.plan(company, 8 * FORCED, least=count)
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
    far = apart(found, wanted)
    if not far <= TOLERANCE:
        words = f"logits of a take among {count} differ from those alone by {far:.3g}"
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
