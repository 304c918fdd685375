"""The making half of a take: tokens from the generator up to what a chunk needs, then its audio, once.

Stands between a take, which decides what is wanted and what is sent, and generator, codec and resampler. Work is
cut into slices; each chunk remembers what the codec was before it, so that it can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .chunker import Chunker
from .company import Wish
from .condition_rows import ConditionRows
from .conditioning import ConditioningLayout
from .events import Codec, Controller, Pcm, TakeMode, TakeRequest
from .generator import Codes, Generator, Sampling
from .heard_bars import HeardBars
from .leveller import Leveller
from .rehearsal import Rehearsal
from .rolling import RollingDecoder
from .stream import Costs, StreamConfig
from .timeline import Timeline
from .vamp import Vamp


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Decoded samples of consecutive frames, and what the chunker was before them."""

    position: int  # host position of the first sample
    pcm: Pcm  # [samples] of a mono codec, [samples, 2] of a stereo one
    codes: Codes
    first_frame: int
    begins: Fraction  # host position at which the first frame's first sample is heard
    before: Any
    sent: bool = False  # as a plan


@dataclass(kw_only=True)
class TakeMeters:
    """What a take has cost so far. Not part of a snapshot."""

    decoder_s: float = 0.0
    codec_s: float = 0.0
    decoded_frames: int = 0
    generated_frames: int = 0
    late_chunks: int = 0
    control_latency_samples: int = 0
    level_gain_db: float = 0.0  # of the last frame decoded
    drift_ms: float = 0.0  # late, of the last audio as generated; since it last began
    beat_error_ms: float = 0.0  # what the beat lock left of it
    new_beginnings: int = 0


class Planner:
    """Decode thread. `chunker` stands after the last chunk made, whether it was sent or not."""

    def __init__(
        self,
        *,
        request: TakeRequest,
        generator: Generator,
        codec: Codec,
        timeline: Timeline,
        controller: Controller,
        layout: ConditioningLayout,
        config: StreamConfig,
        costs: Costs,
        clock: Callable[[], float],
        leveller: Leveller | None = None,
        heard: HeardBars | None = None,
    ) -> None:
        self.context_end = generator.frontier
        # A vamp walks on the grid beat by beat.
        self._rehearsal: Rehearsal | None = None
        self._heard_bars = None if request.mode is TakeMode.VAMP else heard
        self.chunker = Chunker(
            codec.decoder(), timeline, channels=codec.audio_channels, leveller=leveller, heard=self._heard_bars
        )
        self._counts_players = leveller is not None
        self.meters = TakeMeters()
        self.no_codes: Codes = np.zeros((0, codec.num_codebooks), np.uint16)
        self.no_pcm: Pcm = np.zeros((0,) if codec.audio_channels == 1 else (0, codec.audio_channels), np.float32)
        self._generator = generator
        self._controller = controller
        self._layout = layout
        self._config = config
        self._costs = costs
        self._clock = clock
        self._bar_line = request.bar_line
        self._sampling: Sampling | None = None  # of the last tokens
        self._vamp: Vamp | None = None
        if request.mode is TakeMode.VAMP and request.bar_position is not None and request.bars is not None:
            self._vamp = Vamp(
                timeline=timeline,
                bar_position=request.bar_position,
                start_position=request.start_position,
                bars=request.bars,
                beats_per_bar=request.beats_per_bar,
                variation=request.variation,
            )

    @property
    def timeline(self) -> Timeline:
        """Where frames to come lie."""
        return self.chunker.timeline

    @property
    def _source(self) -> ConditionRows:
        return self._source_on(self.timeline)

    def _source_on(self, timeline: Timeline) -> ConditionRows:
        return ConditionRows(self._controller, timeline, self._layout)

    @property
    def frontier(self) -> int:
        """The generator's; where the phrase is being heard once more, up to the bar line."""
        return self._generator.frontier if self._rehearsal is None else self._rehearsal.first_frame

    def target(self, entry: int, *, short: bool, left_s: float | None) -> int:
        """The next chunk needs the frames below this; a short one begins at the host position `entry`.

        `left_s`: until it has to be sent. None: the host waits, and no size hangs on how fast this machine is.
        """
        chunker, config, costs = self.chunker, self._config, self._costs
        if not short:
            return chunker.next_frame + (config.chunk_frames if left_s is None else costs.chunk_frames(left_s))
        frames = config.first_chunk_frames if left_s is None else costs.first_chunk_frames()
        needed = chunker.last_frame_for(entry) + frames
        return max(needed, chunker.next_frame + 1) if chunker.running else needed

    def tokens(self, target: int, sampling: Sampling) -> bool:
        """Run steps towards frame `target`; True if it is reached and there is time left to decode."""
        before, company, share = self._generator.frontier, self._costs.company, None
        if company is not None:
            self._stepped(*company.collect(self._generator))
        self._sampling = sampling
        if before >= target:
            return True
        began, steps = self._clock(), self._costs.steps_per_slice()
        if self._vamp is not None:
            ran = self._vamp.plan(self._generator, target, self._source, sampling, steps)
        elif company is not None:
            wish, step_s = Wish(until_frame=target, source=self._source), self._costs.step_s
            share = company.plan(self._generator, wish, sampling, max_steps=steps, step_s=step_s)
            ran = share.steps
        else:
            ran = self._generator.plan(target, self._source, sampling, max_steps=steps)
        seconds = self._clock() - began
        if ran < 1 and self._generator.frontier <= before:
            raise RuntimeError(f"generator made no step towards frame {target} from {before}")
        self._costs.stepped(seconds if share is None else share.alone_s, ran)
        self._stepped(seconds if share is None else share.seconds, self._generator.frontier - before)
        return self._generator.frontier >= target and seconds < self._config.slice_s / 2

    def warm(self, entry: int) -> bool:
        """Before a first chunk at `entry` the codec hears what precedes it; True once it is warm."""
        chunker = self.chunker
        if not chunker.running:
            chunker.begin(max(0, chunker.first_frame_for(entry) - self._config.warm_frames), entry)
        first = chunker.first_frame_for(chunker.position)
        if chunker.next_frame >= first:
            return True
        began, stop = self._clock(), min(first, chunker.next_frame + self._config.chunk_frames)
        count = stop - chunker.next_frame
        self._push(stop)
        self._decoded(began, count)
        return False

    def audio(self, target: int) -> Chunk | None:
        """Decode the known frames below `target`; None if none of it is heard."""
        chunker, began = self.chunker, self._clock()
        first, before = chunker.next_frame, chunker.snapshot()
        begins = chunker.position_of_frame(first)
        codes, position, pcm = self._push(target)
        self._decoded(began, len(codes))
        if len(pcm) == 0:
            return None
        return Chunk(position=position, pcm=pcm, codes=codes, first_frame=first, begins=begins, before=before)

    def _push(self, stop: int) -> tuple[Codes, int, Pcm]:
        """The chunker's next frames below `stop`: codes, host position of the first sample, samples."""
        first = self.chunker.next_frame
        codes = self._generator.read(first, stop)
        players = self._source.players(first, len(codes)) if self._counts_players else None
        position, pcm = self._beside(stop, lambda: self.chunker.push(codes, players))
        return codes, position, pcm

    def _beside(self, stop: int, push: Callable[[], tuple[int, Pcm]]) -> tuple[int, Pcm]:
        """Decode the frames below `stop`; steps of the next chunk run meanwhile, where a model has threads."""
        generator, led = self._generator, self._vamp is not None or self._rehearsal is not None
        if led or self._costs.company is not None or not isinstance(generator, RollingDecoder):
            return push()
        if self._sampling is None or generator.frontier < stop:
            return push()
        before = generator.frontier
        found = generator.plan_beside(push, stop + self._config.chunk_frames, self._source, self._sampling)
        self._stepped(0.0, generator.frontier - before)
        return found

    def go_on(self) -> None:
        """A chunk was committed: the next may be made beside other takes."""
        if self._costs.company is not None and self._vamp is None and self._rehearsal is None:
            target = self.chunker.next_frame + self._config.chunk_frames
            self._costs.company.wish(self._generator, Wish(until_frame=target, source=self._source))

    def rollback(self, to_frame: int) -> None:
        """Forget generated frames at or after a frame, and all that are not finished; what was heard stays."""
        if self._costs.company is not None:
            self._costs.company.forget(self._generator)
        frame = min(max(to_frame, self.context_end), self.frontier)
        self._rehearsal = None
        self._generator.rollback(frame)
        if self._vamp is not None:
            self._vamp.rollback(frame)

    def anew_at(self, position: int) -> int | None:
        """The bar line from a host position on at which the take should begin anew; None if it need not."""
        report = self.chunker.beat
        lost = self.chunker.level_lost or (report is not None and report.realign)
        if self._heard_bars is None or not lost:
            return None
        return self._heard_bars.next_bar(self.chunker.base, position)

    def rehearsed(self, position: int) -> bool:
        """Whether nothing more can be done ahead of `begin_anew` there."""
        return self._rehearsal is not None and self._rehearsal.position == position and self._rehearsal.done

    def rehearse(self, position: int) -> None:
        """One slice ahead of `begin_anew` there: what was planned past the bar line gives way to the phrase."""
        if self._rehearsal is None or self._rehearsal.position != position:
            self.rollback(self.chunker.frame_at(position))
            phrase = None if self._heard_bars is None else self._heard_bars.phrase
            self._rehearsal = Rehearsal.at(position, self._generator.frontier, self.timeline, phrase)
        self._rehearsal = self._rehearsal.step(self._generator, self._source_on)

    def begin_anew(self) -> None:
        """From the bar line on that was rehearsed for: what follows the phrase lies there."""
        assert self._rehearsal is not None and self._rehearsal.done
        timeline, self._rehearsal = self._rehearsal.timeline, None
        self._lie(timeline)
        self.chunker.renew_level()
        self.meters.new_beginnings += 1

    def new_epoch(self, position: int) -> None:
        """Bars lie elsewhere from a host position on: a vamp records its phrase anew from the next bar line."""
        if self._vamp is not None and self._bar_line is not None:
            self._vamp.start_at(self._bar_line(position))

    def start_at(self, position: int) -> None:
        """The take's start was moved before it sounded."""
        self.chunker.stop()
        if self._vamp is not None:
            self._vamp.start_at(position)

    def move(self, samples: int) -> None:
        """All that is known lies so many host samples later, and what follows it; no chunk is begun."""
        self._lie(self.timeline.moved(samples))
        if self._vamp is not None:
            self._vamp.move(self.timeline, samples)

    def _lie(self, timeline: Timeline) -> None:
        if self._rehearsal is not None:
            self.rollback(self._rehearsal.first_frame)
        if self._costs.company is not None:
            self._costs.company.forget(self._generator)
        self.chunker.move(timeline)

    def snapshot(self) -> object:
        """Everything that decides tokens and audio."""
        vamp = None if self._vamp is None else self._vamp.snapshot()
        return self._generator.snapshot(), self.chunker.snapshot(), vamp, self.timeline, self._rehearsal

    def restore(self, snapshot: Any) -> None:
        """Continue bit-exactly from a snapshot."""
        generator, chunker, vamp, timeline, rehearsal = snapshot
        self._rehearsal = None
        self._lie(timeline)
        self._rehearsal = rehearsal
        self._generator.restore(generator)
        self.chunker.restore(chunker)
        if self._vamp is not None:
            self._vamp.restore(vamp)

    def _stepped(self, seconds: float, frames: int) -> None:
        self.meters.decoder_s += seconds
        self.meters.generated_frames += frames

    def _decoded(self, began: float, frames: int) -> None:
        self.meters.codec_s += self._clock() - began
        self.meters.decoded_frames += frames
        self.meters.level_gain_db = self.chunker.gain_db
        beat = self.chunker.beat
        if beat is not None:
            self.meters.drift_ms, self.meters.beat_error_ms = beat.drift_ms, beat.error_ms
