"""The fake backend: a model with no weights, behind the same interfaces; its audio says where each sample belongs.

Stands in for a bundle in tests and with `--fake`. Codes spell out their timestep and the generation of the plan,
audio is its own model-time sample index (timestep * hop + i, exact in float32 below 2**24), so a recording proves
alignment to the sample. A cost hook runs at every step, to make the backend as slow as a test wants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .conditioning import DEFAULT_LAYOUT, ConditioningLayout
from .generator import Codes, Conditions, ConditionSource, Sampling

_DIGIT_BITS = 10
_HISTORY_FRAMES = 4096


@dataclass(frozen=True, kw_only=True)
class FakeConfig:
    """Shape and behaviour. `cost(steps)` runs after every step and prefill; `tone` emits sound, not indices."""

    sample_rate: int = 32000
    hop_samples: int = 640
    num_codebooks: int = 4
    delay_samples: int = 0
    look_ahead_samples: int = 0  # of the encoder
    lag_steps: int = 9  # steps after a restart before its first frame is complete
    cost: Callable[[int], None] | None = None
    tone: bool = False
    audio_channels: int = 1  # 2: the right channel is minus the left

    def __post_init__(self) -> None:
        limits = {
            "sample_rate": (8000, 192000),
            "hop_samples": (1, 65536),
            "num_codebooks": (3, 32),
            "delay_samples": (0, 1 << 20),
            "look_ahead_samples": (0, 1 << 20),
            "lag_steps": (0, 4096),
            "audio_channels": (1, 2),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"FakeConfig.{name} {getattr(self, name)} is outside {low}..{high}")

    @property
    def codebook_size(self) -> int:
        return 1 << _DIGIT_BITS


def fake_codes(timesteps: npt.NDArray[np.int64], generation: int, num_codebooks: int) -> Codes:
    """Codes uint16 [n, K]: timestep in two digits of ten bits, then the generation, then zeros."""
    codes = np.zeros((len(timesteps), num_codebooks), np.uint16)
    mask = (1 << _DIGIT_BITS) - 1
    codes[:, 0] = timesteps & mask
    codes[:, 1] = (timesteps >> _DIGIT_BITS) & mask
    codes[:, 2] = generation & mask
    return codes


def fake_timesteps(codes: Codes) -> npt.NDArray[np.int64]:
    """The timesteps that fake_codes spelled, modulo 2**20."""
    return codes[:, 0].astype(np.int64) + (codes[:, 1].astype(np.int64) << _DIGIT_BITS)


class FakeGenerator:
    """Generator whose codes are their timestep. A rollback starts a new generation; so does a restart of a plan."""

    def __init__(self, config: FakeConfig) -> None:
        self._config = config
        self._ring = np.zeros((_HISTORY_FRAMES, config.num_codebooks), np.uint16)
        self._frontier = 0
        self._generation = 0
        self._warm_steps = 0

    @property
    def frontier(self) -> int:
        return self._frontier

    @property
    def generation(self) -> int:
        """How often something known was forgotten."""
        return self._generation

    def listen(self, codes: Codes, conditions: Conditions) -> None:
        if len(codes) != len(conditions):
            raise ValueError(f"conditions have {len(conditions)} rows, allowed: {len(codes)}")
        self._append(codes)
        self._warm_steps = 0

    def force(self, codes: Codes, source: ConditionSource) -> None:
        source.rows(self._frontier, len(codes))
        self._append(codes)
        self._warm_steps = 0

    def plan(
        self, until_frame: int, source: ConditionSource, sampling: Sampling, *, max_steps: int | None = None
    ) -> int:
        steps = 0
        while self._frontier < until_frame and (max_steps is None or steps < max_steps):
            steps += 1
            self._spend(1)
            if self._warm_steps < self._config.lag_steps:
                self._warm_steps += 1
                continue
            source.rows(self._frontier, 1)
            at = np.array([self._frontier], np.int64)
            self._put(fake_codes(at, self._generation, self._config.num_codebooks))
        return steps

    def read(self, start_frame: int, stop_frame: int) -> Codes:
        oldest = max(0, self._frontier - _HISTORY_FRAMES)
        if not oldest <= start_frame <= stop_frame <= self._frontier:
            raise ValueError(
                f"frames [{start_frame}, {stop_frame}) are outside the kept {oldest}..{self._frontier}"
            )
        found: Codes = self._ring[np.arange(start_frame, stop_frame) % _HISTORY_FRAMES]
        return found

    def rollback(self, to_frame: int) -> None:
        if not max(0, self._frontier - _HISTORY_FRAMES) <= to_frame <= self._frontier:
            raise ValueError(f"rollback to frame {to_frame} is outside the kept window up to {self._frontier}")
        self._generation += to_frame < self._frontier
        self._frontier = to_frame
        self._warm_steps = 0

    def fork(self) -> Self:
        other = type(self)(self._config)
        other.restore(self.snapshot())
        return other

    def reset(self) -> None:
        self._frontier = 0
        self._generation = 0
        self._warm_steps = 0

    def snapshot(self) -> object:
        return (self._ring.copy(), self._frontier, self._generation, self._warm_steps)

    def restore(self, state: Any) -> None:
        ring, self._frontier, self._generation, self._warm_steps = state
        self._ring = ring.copy()

    def _append(self, codes: Codes) -> None:
        if codes.ndim != 2 or codes.shape[1] != self._config.num_codebooks:
            raise ValueError(f"codes have shape {codes.shape}, allowed: [n, {self._config.num_codebooks}]")
        for row in codes:
            self._put(row[None])
        self._spend(len(codes))

    def _put(self, codes: Codes) -> None:
        self._ring[self._frontier % _HISTORY_FRAMES] = codes[0]
        self._frontier += 1

    def _spend(self, steps: int) -> None:
        if self._config.cost is not None:
            self._config.cost(steps)


class FakeEncoder:
    """Frame t of what was pushed has the codes of timestep t, whatever it sounds like."""

    def __init__(self, config: FakeConfig) -> None:
        self._config = config
        self.look_ahead_samples = config.look_ahead_samples
        self.reset()

    def reset(self) -> None:
        self._rest_samples = -self.look_ahead_samples
        self._frame = 0

    def push(self, pcm: npt.NDArray[np.float32]) -> Codes:
        """Samples [n] -> codes [frames now complete, K]."""
        frames = max(0, self._rest_samples + len(pcm)) // self._config.hop_samples
        self._rest_samples += len(pcm) - frames * self._config.hop_samples
        at = np.arange(self._frame, self._frame + frames, dtype=np.int64)
        self._frame += frames
        return fake_codes(at, 0, self._config.num_codebooks)

    def snapshot(self) -> object:
        return (self._rest_samples, self._frame)

    def restore(self, state: Any) -> None:
        self._rest_samples, self._frame = state


class FakeDecoder:
    """Sample i of output is model sample i - delay_samples: its index by its frame's codes, or a tone."""

    def __init__(self, config: FakeConfig) -> None:
        self._config = config
        self.delay_samples = config.delay_samples
        self.reset()

    def reset(self) -> None:
        sides = () if self._config.audio_channels == 1 else (2,)
        self._tail: npt.NDArray[np.float32] = np.zeros((self.delay_samples, *sides), np.float32)

    def push(self, codes: Codes) -> npt.NDArray[np.float32]:
        """Codes [frames, K] -> samples [frames * hop] or [.., 2]."""
        hop = self._config.hop_samples
        index = (fake_timesteps(codes)[:, None] * hop + np.arange(hop)).reshape(-1).astype(np.float64)
        if self._config.tone:  # a soft 220 Hz, so that the fake can be listened to
            index = 0.1 * np.sin(2.0 * np.pi * 220.0 * index / self._config.sample_rate)
        samples = index.astype(np.float32)
        if self._config.audio_channels == 2:
            samples = np.stack([samples, -samples], axis=1)
        joined = np.concatenate([self._tail, samples])
        self._tail = joined[len(index) :]
        return joined[: len(index)]

    def snapshot(self) -> object:
        return self._tail.copy()

    def restore(self, state: Any) -> None:
        self._tail = state.copy()


@dataclass(frozen=True, kw_only=True)
class FakeCodec:
    """Makes fake codec streams."""

    config: FakeConfig

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def hop_samples(self) -> int:
        return self.config.hop_samples

    @property
    def num_codebooks(self) -> int:
        return self.config.num_codebooks

    @property
    def audio_channels(self) -> int:
        return self.config.audio_channels

    def encoder(self) -> FakeEncoder:
        return FakeEncoder(self.config)

    def decoder(self) -> FakeDecoder:
        return FakeDecoder(self.config)


@dataclass(frozen=True, kw_only=True)
class FakeModel:
    """Looks like a loaded bundle (engine/bundle.py); its manifest is its configuration."""

    manifest: FakeConfig = field(default_factory=FakeConfig)

    @property
    def codec(self) -> FakeCodec:
        return FakeCodec(config=self.manifest)

    @property
    def conditioning(self) -> ConditioningLayout:
        return DEFAULT_LAYOUT

    def generator(self) -> FakeGenerator:
        return FakeGenerator(self.manifest)
