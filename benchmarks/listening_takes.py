"""Takes for the listening page: a held-out song of composer v1 is played to the engine, which goes on with it.

What comes out is what a host hears: the live path's session and take, under commands that can change in mid-take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attacca.engine.bundle import Model
from attacca.engine.conditioning import INSTRUMENTS, Controls
from attacca.engine.events import ChunkEvent, TakeEnded, TakeRequest
from attacca.engine.generator import Sampling
from attacca.engine.service import Engine
from attacca.training.music.catalogue import HELDOUT_SEED
from attacca.training.music.composer import compose
from attacca.training.music.mixing import render
from benchmarks import harmony, onsets, spectra
from benchmarks.listening_clips import RATE, Clip, Samples
from benchmarks.robustness_measures import resampled

FRAME_SAMPLES = RATE // 50
_CONTEXT_S, _SHOWN_S = 6.0, 2.5  # heard by the model, and of that played on the page: whole bars, at least so long
_FADE_SAMPLES = RATE // 100
_FEWEST_BEATS = 3  # that a score of beats needs
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Held:
    """A held-out song up to some seconds after `join`, a bar line."""

    seed: int
    style: str
    meter: tuple[int, int]
    bpm: float
    audio: Samples  # [n, 2]
    labels: Controls  # a row each 20 ms
    join: int  # samples

    @property
    def bar_ppq(self) -> float:
        return 4.0 * self.meter[0] / self.meter[1]

    @property
    def about(self) -> str:
        return f"{self.style}, {self.meter[0]}/{self.meter[1]}, {self.bpm:.0f} BPM, seed {self.seed}"


def held_song(
    number: int,
    after_s: float,
    *,
    style: str | None = None,
    bpm: float | None = None,
    meter: tuple[int, int] | None = None,
) -> Held:
    """Held-out song `number` at a steady tempo with everyone playing. Raises RenderError."""
    seed = HELDOUT_SEED + number
    arguments = {"style": style, "bpm": bpm, "meter": meter, "players": INSTRUMENTS, "tempo": "steady"}
    song = compose(seed, min_seconds=2 * _CONTEXT_S + after_s + 8.0, **arguments)
    bar_s = song.bar_ticks / 960 * 60.0 / song.bpm
    join = math.ceil(math.ceil(_CONTEXT_S / bar_s) * bar_s * RATE)
    frames = math.ceil((join / RATE + after_s) * 50)
    audio, _ = render(song, frames * FRAME_SAMPLES, rate=RATE)
    return Held(
        seed=seed,
        style=song.style_name,
        meter=song.meter,
        bpm=song.bpm,
        audio=np.ascontiguousarray(audio.T),
        labels=song.controls(frames + 200, FRAME_SAMPLES, RATE),  # what is planned ahead reads on
        join=join,
    )


class Commands:
    """The engine's controller: the song's own labels by musical time, some of them replaced. Decode thread.

    told: whether anything is commanded; chords: pitch classes [bars, 12] from the join on, in a circle; step: from
    which sample on which tempo holds, once `stepped`.
    """

    def __init__(
        self,
        held: Held,
        model: Model,
        *,
        told: bool = True,
        chords: Bools | None = None,
        step: tuple[int, float] | None = None,
    ) -> None:
        self._held, self._told, self._chords, self.step = held, told, chords, step
        self.stepped = False
        names = model.conditioning.styles
        self._style = names.index(held.style) if held.style in names else None

    def _ppq(self, positions: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(ppq, bpm) at stream positions."""
        bpm = np.full(len(positions), self._held.bpm)
        ppq = positions / RATE * self._held.bpm / 60.0
        if self.step is not None and self.stepped:
            at, after = self.step
            later = positions >= at
            bpm[later] = after
            ppq[later] = (at * self._held.bpm + (positions[later] - at) * after) / RATE / 60.0
        return ppq, bpm

    def controls(self, positions: npt.NDArray[np.float64]) -> Controls:
        """Commands at stream positions [n]."""
        held, count = self._held, len(positions)
        ppq, bpm = self._ppq(positions)
        at = np.searchsorted(held.labels.ppq, ppq + 1e-9, side="right") - 1
        labels = held.labels
        at = np.clip(at, 0, len(labels) - 1)
        classes = labels.pitch_classes[at]
        if self._chords is not None:
            first = round(held.join / RATE * held.bpm / 60.0 / held.bar_ppq)
            bar = np.floor(ppq / held.bar_ppq + 1e-6).astype(np.intp) - first
            classes = np.where((bar >= 0)[:, None], self._chords[bar % len(self._chords)], classes)
        known = np.full(count, self._told)
        return Controls(
            ppq=ppq,
            bar_start_ppq=np.floor(ppq / held.bar_ppq + 1e-9) * held.bar_ppq,
            bpm=bpm,
            meter_num=np.full(count, held.meter[0], np.int16),
            meter_den=np.full(count, held.meter[1], np.int16),
            pitch_classes=classes,
            instruments=labels.instruments[at],
            style=np.full(count, self._style or 0, np.int16),
            beat_known=known,
            chord_known=known,
            instruments_known=known,
            style_known=known & (self._style is not None),
        )

    def frames(self, first: int, last: int) -> Controls:
        """Commands of samples [first, last), a row each 20 ms."""
        return self.controls(np.arange(first, last, FRAME_SAMPLES, dtype=np.float64))


def perform(model: Model, held: Held, commands: Commands, after_s: float, sampling: Sampling) -> Samples:
    """The song up to its join, then the model's continuation of `after_s`: [n, 2].

    A step comes as a surprise, as on stage: when it is reached, what was made beyond it is made again. Raises
    RuntimeError where the model fails.
    """
    start, end = held.join, held.join + round(after_s * RATE)
    engine = Engine(model, max_sessions=1, max_takes=1)
    engine.open(0, sample_rate=RATE, channels=2, controller=commands)
    engine.set_realtime(0, False)
    for position in range(0, start, RATE):
        engine.advance(0, position)
        engine.listen(0, position, held.audio[position : min(position + RATE, start)])
        while engine.work():
            pass
    engine.advance(0, start)
    engine.start(
        0, TakeRequest(take=0, epoch=0, position=start, start_position=start, end_position=end, sampling=sampling)
    )
    out = np.concatenate([held.audio[:start], np.zeros((end - start + 4 * RATE, 2), np.float32)])
    while events := engine.work():
        for event in events:
            if isinstance(event, ChunkEvent) and event.committed:
                _place(out, event)
                reached = event.position + event.samples
                if commands.step is not None and not commands.stepped and reached >= commands.step[0]:
                    commands.stepped = True
                    reached = commands.step[0]
                    engine.replan(0, reached, epoch=1)
                engine.advance(0, reached)
            elif isinstance(event, TakeEnded):
                if event.reason != "end":
                    raise RuntimeError(f"the continuation ended: {event.reason}")
                return out[:end]
    raise RuntimeError("the continuation ended without a last chunk")


def _place(out: Samples, event: ChunkEvent) -> None:
    """Put a chunk where it belongs; where it takes the place of another it fades in, as the client does."""
    span = out[event.position : event.position + event.samples]
    fade = np.ones((len(span), 1), np.float32)
    if span[: len(span)].any():
        ramp = min(_FADE_SAMPLES, len(span))
        fade[:ramp, 0] = np.arange(ramp) / ramp
    span[:] = span * (1 - fade) + event.pcm * fade


def shown(held: Held, commands: Commands, title: str, audio: Samples, *, real: bool = False) -> Clip:
    """The clip of a take: its context's last bars and all that follows, with grid, join and step."""
    bar = held.bar_ppq * 60.0 / held.bpm * RATE
    first = max(0, round(held.join - math.ceil(_SHOWN_S * RATE / bar) * bar))
    grid = commands.frames(first, len(audio))
    beats = onsets.beat_times(grid)
    starts, where = np.unique(grid.bar_start_ppq, return_index=True)
    inside = starts >= grid.ppq[0] - 1e-6
    at = where + (starts - grid.ppq[where]) * 60.0 / grid.bpm[where] * 50
    step = commands.step[0] if commands.step is not None and commands.stepped else None
    return Clip(
        title=title,
        audio=audio[first:],
        bars_s=tuple((at[inside] / 50).tolist()),
        beats_s=tuple(beats.tolist()),
        join_s=None if real else (held.join - first) / RATE,
        step_s=None if step is None else (step - first) / RATE,
    )


def figures(held: Held, commands: Commands, audio: Samples) -> dict[str, float]:
    """Beat onset F1 (after a step: of what follows it) and chord match of what follows the join, as commanded."""
    hz = spectra.SAMPLE_RATE
    sound = resampled(audio.mean(axis=1, keepdims=True), RATE, hz)[:, 0]
    step = commands.step[0] if commands.step is not None and commands.stepped else held.join
    asked, out = commands.frames(step, len(audio)), {}
    if len(onsets.beat_times(asked)) >= _FEWEST_BEATS:
        grid, _ = onsets.grid_scores(sound, round(step * hz / RATE), asked)
        out = {"beat F1 70 ms": grid[0.07], "25 ms": grid[0.025]}
    chords = harmony.chord_scores(sound[round(held.join * hz / RATE) :], commands.frames(held.join, len(audio)))
    return out if chords is None else out | {"chords": chords[0]}


def progression(chords: Sequence[Sequence[int]]) -> Bools:
    """[bars, 12] from pitch classes, one chord a bar."""
    out = np.zeros((len(chords), 12), np.bool_)
    for row, notes in enumerate(chords):
        out[row, list(notes)] = True
    return out
