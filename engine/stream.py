"""Sizes and bounds of streaming, and the running costs that slices of work are cut by."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import ceil

from .company import Company
from .lookahead import LookAheadConfig
from .pattern import Pattern

_SMOOTHING = 0.1
_PREFILL_STEPS = 3  # what hearing a few frames anew costs, in steps
_RESTART_STEPS, _OPEN_FRAMES = 12, 24  # of a model without a pattern
_BESIDE_STEPS = 1.5  # a chunk's time over that of its steps: codec, listening, what else the thread does
_BESIDE_FIRST_STEPS = 2.0  # the same while nothing lies ahead yet, so that one hold-up more is heard


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """How streams are cut. Frames are codec frames."""

    chunk_frames: int = 8
    first_chunk_frames: int = 4  # beyond what codec and resampler hold back; a take's first sound comes sooner
    warm_frames: int = 16  # context decoded unheard before a take's first sample, so that there is no seam
    slice_s: float = 0.02  # aimed-at compute of one slice
    max_slice_frames: int = 16
    listen_frames: int = 8  # heard at a time while no take waits; one costs codec and prefill nearly as much
    armed_ahead_s: float = 4.0  # a start further ahead than this is not yet worked for
    answer_lead_s: float = 0.4  # an answer stops listening this long before it starts
    emit_planned: bool = True  # send each chunk as a plan as soon as it is decoded
    max_gap_s: float = 5.0  # longer holes in the audio restart listening
    max_pending_s: float = 10.0  # audio not yet listened to; more restarts listening
    max_catch_up_s: float = 2.0  # a trigger further behind the heard audio moves the context up to it
    max_lag_s: float = 1.0  # a take further behind the play head goes on from now, whole bars later
    text_fade_steps: int = 25  # a text told while a take sounds counts more and more over so many; half a second
    look_ahead: LookAheadConfig = field(default_factory=LookAheadConfig)

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = {
            "chunk_frames": (1, 256),
            "first_chunk_frames": (1, 256),
            "warm_frames": (0, 256),
            "max_slice_frames": (1, 256),
            "listen_frames": (1, 256),
            "text_fade_steps": (0, 4096),
        }
        for entry in fields(self):
            value = getattr(self, entry.name)
            low, high = bounds.get(entry.name, (0.0, 60.0))
            if isinstance(value, int | float) and not low <= value <= high:
                raise ValueError(f"StreamConfig.{entry.name} {value} is outside {low}..{high}")


class Costs:
    """Smoothed compute times on this machine, shared by all sessions of a model. Only pacing hangs on them."""

    def __init__(
        self,
        frame_s: float,
        config: StreamConfig,
        company: Company | None = None,
        pattern: Pattern | None = None,
    ) -> None:
        """`pattern`: of the model, if it has one."""
        self.frame_s = frame_s  # duration of a codec frame
        # What a plan begun anew costs beside its frames, in steps; and no frame so far past the frontier has begun.
        self.restart_steps, self.open_frames = _RESTART_STEPS, _OPEN_FRAMES
        if pattern is not None:
            self.restart_steps = pattern.lag_steps + _PREFILL_STEPS
            self.open_frames = ceil(pattern.lag_steps / pattern.steps_per_timestep)
        self.company = company  # of takes whose steps are shared; None: each steps alone
        self.step_s = 0.0
        self.listen_frame_s = 0.0
        self._config = config

    def stepped(self, seconds: float, steps: int) -> None:
        """So many decoder steps took so long."""
        self.step_s = self._smooth(self.step_s, seconds / max(1, steps))

    def listened(self, seconds: float, frames: int) -> None:
        """Encoding and prefilling so many frames took so long."""
        self.listen_frame_s = self._smooth(self.listen_frame_s, seconds / max(1, frames))

    def steps_per_slice(self) -> int:
        """Decoder steps that fit into a slice."""
        return self._fitting(self.step_s)

    def first_chunk_frames(self) -> int:
        """Frames of a take's first chunk: so many that the next, a short one, is there before they end.

        All but one count: the take joins somewhere in a frame. The slice that decodes it passes, too, before it is
        sent. Unknown costs: as many as a short one has.
        """
        config = self._config
        if self.step_s <= 0.0:
            return config.first_chunk_frames
        needed_s = config.slice_s + config.first_chunk_frames * self.step_s * _BESIDE_FIRST_STEPS
        frames = 1 + ceil(needed_s / self.frame_s)
        return min(frames, max(config.chunk_frames, config.first_chunk_frames))

    def chunk_frames(self, left_s: float) -> int:
        """Frames of the next chunk, to be sent within `left_s`: a short one if a full one would come too late."""
        frames = self._config.chunk_frames
        in_time = frames * self.step_s * _BESIDE_STEPS <= left_s
        return frames if in_time else min(frames, self._config.first_chunk_frames)

    def listen_frames_per_slice(self) -> int:
        """Frames to listen to that fit into a slice; at least as many as are heard at a time."""
        return max(self._fitting(self.listen_frame_s), self._config.listen_frames)

    def _fitting(self, cost_s: float) -> int:
        fitting = self._config.max_slice_frames if cost_s <= 0.0 else int(self._config.slice_s / cost_s)
        return min(max(fitting, 1), self._config.max_slice_frames)

    @staticmethod
    def _smooth(old: float, new: float) -> float:
        return new if old == 0.0 else old + _SMOOTHING * (new - old)
