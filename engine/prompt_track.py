"""Which prompt each row of a sequence attends to: changes by frame, faded over a stated number of steps.

Beside the decoders that are told by prompts (engine/musicgen.py). The track is a value: what a row attends to
follows from its frame and the changes alone, never from when it was run, so a row that is run again after a
rollback attends to what it attended to before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from .prompted import Prompt

MAX_FADE_STEPS = 4096
_REACH_FRAMES = 1 << 14  # far beyond any rollback: changes older than that need not be told apart
Shares = tuple[tuple[Prompt, float], ...]  # of prompts in what a row attends to; they sum to 1


@runtime_checkable
class Told(Protocol):
    """A generator that is told by prompts what to play."""

    def tell(self, prompt: Prompt, fade_steps: int = 0) -> None:
        """Follow a prompt from the next step on, wholly after so many steps."""
        ...


@dataclass(frozen=True, eq=False)
class Change:
    """From the row at `frame` on another prompt, wholly so `fade_steps` rows later."""

    frame: int
    prompt: Prompt
    fade_steps: int


@dataclass(frozen=True, eq=False)
class PromptTrack:
    """The prompt a sequence begins with, and its changes, frames ascending. Any thread: it never changes."""

    first: Prompt
    changes: tuple[Change, ...] = ()

    @property
    def last(self) -> Prompt:
        """The one that holds in the end."""
        return self.changes[-1].prompt if self.changes else self.first

    def told(self, frame: int, prompt: Prompt, fade_steps: int) -> PromptTrack:
        """Changed from the row at `frame` on; changes there or later are forgotten. ValueError out of range."""
        if not 0 <= fade_steps <= MAX_FADE_STEPS:
            raise ValueError(f"fade_steps {fade_steps} is outside 0..{MAX_FADE_STEPS}")
        kept = tuple(change for change in self.changes if change.frame < frame)
        track = PromptTrack(self.first, kept)
        while len(track.changes) > 1 and track.changes[1].frame < frame - _REACH_FRAMES:
            track = PromptTrack(track.changes[0].prompt, track.changes[1:])
        if track.last is prompt:
            return track
        return replace(track, changes=(*track.changes, Change(frame, prompt, fade_steps)))

    def heard(self, frame: int) -> Prompt:
        """What a row of known codes attends to: no fade, for nothing is drawn from it."""
        for change in reversed(self.changes):
            if change.frame <= frame:
                return change.prompt
        return self.first

    def shares(self, frame: int) -> Shares:
        """What a row that is drawn from attends to. Within a fade all earlier prompts keep what is left."""
        found: list[tuple[Prompt, float]] = []
        left = 1.0
        for change in reversed(self.changes):
            if change.frame > frame:
                continue
            into = frame - change.frame
            share = 1.0 if into >= change.fade_steps else (into + 1) / (change.fade_steps + 1)
            found.append((change.prompt, left * share))
            left *= 1.0 - share
            if left == 0.0:
                break
        if left > 0.0:
            found.append((self.first, left))
        return tuple(reversed(found))

    def next_change(self, frame: int) -> int | None:
        """The first change after a frame."""
        return next((change.frame for change in self.changes if change.frame > frame), None)
