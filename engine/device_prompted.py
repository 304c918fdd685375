"""Decoders on a device that attend to a prompt: MusicGen's, as engine/prompted.py and musicgen.py on the CPU.

Beside engine/device_lane.py. A prompt's keys and values are padded to the graph's fixed number of tokens and copied
once; while one fades into another, a step changes the mask alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .device_decoder import DeviceDecoder
from .device_lane import DeviceLane, DeviceRuntime
from .gpu_spec import GpuSpec
from .musicgen import MusicgenDecoder, PromptBox
from .pattern import Pattern
from .prompted import MASK, Prompt
from .runtime import Floats, Ints
from .schedule import Schedule, StepRows
from .stacked import positions

_MASKED = np.float32(-3e4)  # what halves can hold, and e to the power of it is 0


class DevicePromptedLane(DeviceLane):
    """A DeviceLane with a prompt. Rows have no conditions; without levels, outputs are those of the first row."""

    def __init__(self, runtime: DeviceRuntime) -> None:
        super().__init__(runtime)
        self._told: tuple[Prompt, ...] = ()
        self._mask = np.zeros(self.spec.prompt_tokens, np.float32)

    def attend(self, shares: Sequence[tuple[Prompt, float]]) -> None:
        """As PromptedLane's. Prompts that do not fit in side by side do not fade: the greatest share counts alone.

        ValueError if that alone has more tokens than the graph.
        """
        tokens = sum(len(prompt.values[MASK]) for prompt, _ in shares)
        if tokens > self.spec.prompt_tokens and len(shares) > 1:
            shares = [(max(shares, key=lambda each: each[1])[0], 1.0)]
        prompts = tuple(prompt for prompt, _ in shares)
        if len(shares) == 1 and prompts == self._told:
            return
        masks = [prompt.values[MASK] + np.float32(np.log(share)) for prompt, share in shares]
        mask = padded_mask(np.concatenate(masks), self.spec)
        if prompts != self._told:
            self.tell(padded(prompts[0] if len(prompts) == 1 else Prompt.side_by_side(prompts), self.spec))
        self._mask, self._told = mask, prompts

    def _fill(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        count: int,
        stack: Ints,
        level: Ints,
        timestep: Ints,
        cond: Floats,
    ) -> None:
        if self.spec.rows > 1:
            timestep = positions(timestep, level, self.spec.num_codebooks, self.spec.channels)
        super()._fill(inputs, count, stack, level, timestep, cond)
        inputs[MASK][:] = self._mask


def padded(prompt: Prompt, spec: GpuSpec) -> dict[str, npt.NDArray[Any]]:
    """A prompt's keys and values as the graph takes them, [1, heads, P, hd]. ValueError if it is too long."""
    found = {}
    for name, (dtype, shape) in spec.prompt(1).items():
        values = prompt.values[name]
        rows = values.transpose(0, 2, 1) if name.startswith("cross_key") else values
        if rows.shape[1] > shape[2]:
            raise ValueError(f"a prompt of {rows.shape[1]} tokens, allowed on this device: {shape[2]}")
        found[name] = np.zeros(shape, dtype)
        found[name][0, :, : rows.shape[1]] = rows
    return found


def padded_mask(mask: Floats, spec: GpuSpec) -> Floats:
    """float32 [P]: what is added to the scores. ValueError if it is too long."""
    if len(mask) > spec.prompt_tokens:
        raise ValueError(f"a prompt of {len(mask)} tokens, allowed on this device: {spec.prompt_tokens}")
    found = np.full(spec.prompt_tokens, _MASKED, np.float32)
    found[: len(mask)] = np.maximum(mask, _MASKED)
    return found


class DevicePromptedRuntime(DeviceRuntime):
    """A prompted bundle's graph on a device."""

    def lane(self) -> DevicePromptedLane:
        """Buffers and an empty cache for one stream, without a prompt."""
        return DevicePromptedLane(self)


class DeviceMusicgenDecoder(DeviceDecoder, MusicgenDecoder):
    """MusicGen over a DevicePromptedRuntime. Not thread-safe; decode thread."""

    def __init__(self, runtime: Any, pattern: Pattern, box: PromptBox) -> None:
        super().__init__(runtime, pattern, box)

    def _before(self, ahead: Schedule, rows: StepRows) -> None:
        if self._pattern.family == "row":
            self._prompted_lane.attend(self.track.shares(ahead.origin + ahead.step + self.origin))
        else:  # see PromptedDecoder
            kept = max(rows.kept_timestep, 0)
            self._prompted_lane.attend(((self.track.heard(kept + self.origin), 1.0),))

    @property
    def _prompted_lane(self) -> Any:
        return self._lane
