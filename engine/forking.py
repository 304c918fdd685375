"""A take begins: forked from what its session has heard, held to what the model does not do by itself.

Between session and take. Here it is settled what a take goes on from and where that lies in the host's time.
"""

from __future__ import annotations

from collections.abc import Callable

from .events import Controller, Model, TakeRequest
from .generator import Generator
from .heard_bars import HeardBars
from .hold import hold_of
from .listener import Listener
from .lookahead import LookAhead
from .stream import Costs, StreamConfig
from .take import Take
from .timeline import Timeline


class Forker:
    """One session's. Decode thread."""

    def __init__(
        self,
        model: Model,
        *,
        session: int,
        sample_rate: int,
        channels: int,
        controller: Controller,
        listener: Listener,
        look_ahead: LookAhead,
        config: StreamConfig,
        costs: Costs,
        clock: Callable[[], float],
    ) -> None:
        """`sample_rate` and `channels`: the host's."""
        self._model = model
        self._session = session
        self._sample_rate = sample_rate
        self._channels = channels
        self._controller = controller
        self._listener = listener
        self._look_ahead = look_ahead
        self._config = config
        self._costs = costs
        self._clock = clock
        self._hold = hold_of(model)

    def fork(self, request: TakeRequest, now: int) -> Take:
        """The take asked for; `now`, a host position, is what it is to go on from. Raises what the model raises."""
        timeline, generator = self._context(request, now)
        return Take(
            session=self._session,
            request=request,
            generator=generator,
            codec=self._model.codec,
            timeline=timeline,
            controller=self._controller,
            layout=self._model.conditioning,
            look_ahead=self._look_ahead,
            config=self._config,
            costs=self._costs,
            channels=self._channels,
            clock=self._clock,
            leveller=self._listener.leveller(generator.frontier),
            heard=self._heard_bars(timeline, generator),
        )

    def _heard_bars(self, timeline: Timeline, generator: Generator) -> HeardBars | None:
        if self._hold.beat is None and self._hold.level is None:
            return None
        channels = self._model.codec.audio_channels
        return HeardBars(
            self._hold.beat, controller=self._controller, timeline=timeline, generator=generator, channels=channels
        )

    def _context(self, request: TakeRequest, now: int) -> tuple[Timeline, Generator]:
        """What a take goes on from, and where it lies."""
        timeline, codec = self._listener.timeline, self._model.codec
        generator = self._listener.fork()
        if timeline is not None:
            behind = timeline.frame_at(now) - generator.frontier
            # Audio that ended long ago is continued from now: generating the silence between helps no one.
            if behind * self._costs.frame_s <= self._config.max_catch_up_s:
                start = max(0, timeline.frame_at(request.start_position))
                if start < generator.frontier:  # sound begins inside what was heard
                    generator.rollback(start)
                return timeline, generator
        moved = Timeline(
            anchor_position=now,
            anchor_sample=generator.frontier * codec.hop_samples,
            host_rate=self._sample_rate,
            model_rate=codec.sample_rate,
            hop_samples=codec.hop_samples,
        )
        return moved, generator
