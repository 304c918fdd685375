"""Takes without end from models that see a limited number of frames: a window that is prefilled anew ahead of need.

Stands between stream and a MusicGen decoder, as a Generator itself. Positions are absolute within a segment of
`horizon` frames. While a segment's last `keep` frames are made, the next one's decoder hears them, a group at a
time and from position 0 on, so that it is ready when the segment ends. Which segment makes a frame follows from the
frame alone; where segments change, the schedule restarts, as it does after a prompt. A segment is kept until the
next but one begins, so a rollback reaches at least `horizon` - 2 `keep` frames back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

from .beside import Beside, Hearing
from .frames import FrameStore
from .generator import Codes, Conditions, ConditionSource, Sampling
from .musicgen import PromptedDecoder
from .prompt_track import PromptTrack
from .prompted import Prompt
from .runtime import Floats, StepLane

HEARD_ROWS = 8  # of a call that hears ahead of need; more are no quicker by the row, and hold steps up longer
Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class RollingState:
    """A snapshot of a RollingDecoder; never changed after it was taken."""

    known: int
    end: int | None
    segments: tuple[tuple[int, object], ...]
    frames: FrameStore
    track: PromptTrack


class RollingDecoder:
    """A Generator over decoders that take no conditions. Not thread-safe; decode thread."""

    def __init__(
        self,
        make: Callable[[], PromptedDecoder],
        *,
        horizon: int,
        keep: int,
        num_codebooks: int,
        beside: Beside | None = None,
    ) -> None:
        """`make` gives an empty decoder, whose window holds `horizon` frames. ValueError if keep is none or all.

        `beside`: other threads, on which the next segment is heard, and steps run while a codec decodes.
        """
        if not 0 < keep < horizon:
            raise ValueError(f"keep {keep} is outside 1..{horizon - 1}")
        self._make = make
        self._beside = beside
        self._horizon = horizon
        self._keep = keep
        self._stride = horizon - keep
        self._books = num_codebooks
        self._frames = FrameStore(2 * horizon, num_codebooks, 0)
        self._known = 0
        self._end: int | None = None
        self._segments: dict[int, PromptedDecoder] = {0: make()}
        self._hearing: tuple[int, Hearing] | None = None  # first frame of the segment that is heard ahead
        self._track = self._segments[0].track

    @property
    def frontier(self) -> int:
        """Every timestep below it is known: listened or planned."""
        return self._known

    @property
    def lag_frames(self) -> int:
        """Steps that a plan needs beyond its frames."""
        return self._segments[self._base(self._known)].lag_frames

    def end_at(self, end_frame: int | None) -> None:
        """As PatternDecoder's."""
        if end_frame is not None and end_frame < self._known:
            raise ValueError(f"end_frame {end_frame} is below the frontier {self._known}")
        self._end = end_frame
        base = self._base(self._known)
        self._segments[base].end_at(None if end_frame is None else end_frame - base)

    def tell(self, prompt: Prompt, fade_steps: int = 0) -> None:
        """Follow a prompt from the next step on, as PromptedDecoder's; segments to come follow it too."""
        self._settle()
        base = self._base(self._known)
        self._track = self._track.told(base + self._segments[base].next_row, prompt, fade_steps)
        for decoder in self._segments.values():
            decoder.track = self._track

    def listen(self, codes: Codes, conditions: Conditions) -> None:
        """Append known frames [n, K] at the frontier; unfinished frames are dropped. ValueError on other shapes."""
        done = 0
        while True:
            base = self._base(self._known)
            stop = min(len(codes), done + base + self._horizon - self._known)
            self._segments[base].listen(codes[done:stop], conditions[done:stop])
            self._advance(base)
            if stop == len(codes):
                return
            done = stop

    def force(self, codes: Codes, source: ConditionSource) -> None:
        """Take known frames at the frontier as if they had been planned."""
        if len(codes):
            self.listen(codes, source.rows(self._known, len(codes)))

    def plan(
        self, until_frame: int, source: ConditionSource, sampling: Sampling, *, max_steps: int | None = None
    ) -> int:
        """Run steps until `frontier >= until_frame` or `max_steps` were run; returns the steps run."""
        steps = 0
        while self._known < until_frame and (max_steps is None or steps < max_steps):
            decoder, target = self.stepping(until_frame)
            left = None if max_steps is None else max_steps - steps
            steps += decoder.plan(target, source, sampling, max_steps=left)
            self.stepped()
        return steps

    def plan_beside(
        self, job: Callable[[], Found], until_frame: int, source: ConditionSource, sampling: Sampling
    ) -> Found:
        """Run a job that does not touch this; meanwhile, on another thread if there is one, steps as of `plan`.

        How many hangs on how long the job takes. The last is waited for.
        """
        if self._beside is None:
            return job()
        done = threading.Event()

        def steps() -> None:
            while self._known < until_frame and not done.is_set():
                self.plan(until_frame, source, sampling, max_steps=1)

        running = self._beside.submit(steps)
        try:
            return job()
        finally:
            done.set()
            if not running.cancel():
                running.result()

    def stepping(self, until_frame: int) -> tuple[PromptedDecoder, int]:
        """The decoder that makes the frame at the frontier, and how far, of its own frames, it is to go."""
        base = self._base(self._known)
        return self._segments[base], min(until_frame, base + self._horizon) - base

    def stepped(self) -> None:
        """That decoder has gone on."""
        self._advance(self._base(self._known))

    def open_step(self, source: ConditionSource, sampling: Sampling, fetched: dict[int, Floats]) -> StepLane:
        """As PatternDecoder's."""
        return self._segments[self._base(self._known)].open_step(source, sampling, fetched)

    def close_step(self) -> None:
        """As PatternDecoder's."""
        base = self._base(self._known)
        self._segments[base].close_step()
        self._advance(base)

    def read(self, start_frame: int, stop_frame: int) -> Codes:
        """Known codes uint16 [n, K] of [start_frame, stop_frame); ValueError outside what is kept."""
        oldest = max(0, self._known - self._horizon)
        if not oldest <= start_frame <= stop_frame <= self._known:
            raise ValueError(f"frames [{start_frame}, {stop_frame}) are outside the kept {oldest}..{self._known}")
        return self._frames.codes(start_frame, stop_frame)

    def rollback(self, to_frame: int) -> None:
        """Forget every timestep at or after `to_frame`. ValueError past the frontier or further back than kept."""
        if not 0 <= to_frame <= self._known:
            raise ValueError(f"rollback to frame {to_frame} is outside 0..{self._known}")
        self._settle()
        base = self._base(to_frame)
        if base not in self._segments:
            raise ValueError(f"rollback to frame {to_frame} is further back than the kept window")
        self._segments[base].rollback(to_frame - base)
        self._known = to_frame
        later = base + self._stride
        for start in [start for start in self._segments if start > base]:
            if start == later and to_frame > later:
                # Back to a whole group, so that it is filled by the groups it would have been filled by.
                whole = (to_frame - later) // HEARD_ROWS * HEARD_ROWS
                self._segments[start].rollback(min(self._segments[start].frontier, whole))
            else:
                del self._segments[start]

    def fork(self) -> Self:
        """An independent copy with the same state; the weights are shared."""
        sizes = {"horizon": self._horizon, "keep": self._keep, "num_codebooks": self._books}
        other = type(self)(self._make, **sizes, beside=self._beside)
        other.restore(self.snapshot())
        return other

    def reset(self) -> None:
        """Forget everything but what was told last; timestep 0 is next."""
        self._settle()
        self._known, self._end = 0, None
        self._track = PromptTrack(self._track.last)
        self._segments = {0: self._begun(0)}

    def snapshot(self) -> object:
        """The whole state; `restore` of it continues to the bit."""
        self._settle()
        segments = tuple((base, decoder.snapshot()) for base, decoder in self._segments.items())
        return RollingState(self._known, self._end, segments, self._frames.copy(), self._track)

    def restore(self, state: object) -> None:
        """Back to a snapshot of a decoder of the same model. TypeError on anything else."""
        if not isinstance(state, RollingState):
            raise TypeError(f"state is a {type(state).__name__}, allowed: a RollingDecoder's snapshot")
        self._settle()
        self._known, self._end, self._frames = state.known, state.end, state.frames.copy()
        self._track = state.track
        had, self._segments = self._segments, {}
        for base, inner in state.segments:
            self._segments[base] = had[base] if base in had else self._begun(base)
            self._segments[base].restore(inner)

    def _base(self, frame: int) -> int:
        """First frame of the segment that makes `frame`."""
        return self._stride * max(0, (frame - self._keep) // self._stride)

    def _begun(self, base: int) -> PromptedDecoder:
        decoder = self._make()
        decoder.origin = base
        decoder.track = self._track
        return decoder

    def _advance(self, base: int) -> None:
        """What the segment at `base` has made is known; the next one hears it, and takes over at the end."""
        decoder = self._segments[base]
        found = base + min(
            decoder.frontier, self._horizon
        )  # patterns that finish out of order may have gone beyond
        self._frames.put_codes(self._known, decoder.read(self._known - base, found - base))
        self._known = found
        later = base + self._stride
        if found <= later:
            return
        if later not in self._segments:
            self._segments = {base: decoder, later: self._begun(later)}  # older ones are out of reach now
        over = found == base + self._horizon
        if self._hearing is None or self._hearing[0] != later:
            self._hearing = later, Hearing(self._segments[later], self._beside)
        heard = self._hearing[1]
        while (have := later + heard.frontier) < found and (over or found - have >= HEARD_ROWS):
            heard.hear(self._frames.codes(have, min(found, have + HEARD_ROWS)))
        if over:
            self._settle()
            self._segments[later].end_at(None if self._end is None else self._end - later)

    def _settle(self) -> None:
        """Wait until all that the next segment was given is heard. Raises what listening raised."""
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            hearing[1].settle()
