"""Epochs as the plugin keeps them: from each block's host data to the snapshots that must be sent, numbered.

On the audio thread of the client (in C++ beside the timeline), before the network: what the engine is told of time
goes through here. A jump ends the epoch. A tempo that glides bends it: what was sent for the epoch stays due.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import msgspec

from . import protocol
from .transport import Change, Snapshot, Timeline

SEND_EVERY_S = Fraction(1, 10)
GLIDE_S = Fraction(1, 8)
GLIDE_SHARE = Fraction(1, 16)


class EpochTracker:
    """Audio thread in Python; `epoch` is the number that chunks must carry to be played.

    A tempo glides while it moves by at most GLIDE_SHARE of itself within GLIDE_S. Audio that was made for the tempo
    before is then off the new beat by at most GLIDE_SHARE of its age after a step, and along a ramp by that times
    half its age over GLIDE_S: 16 ms either way for what is 250 ms old. What moves further is a jump, and so is any
    change offline, where audio is waited for.
    """

    def __init__(self, sample_rate: int, *, first_epoch: int = 1) -> None:
        self.timeline = Timeline(sample_rate)
        self.epoch = first_epoch
        self.change = Change.FIRST  # what the last block did to the epoch
        self._sent: protocol.Transport | None = None
        self._glided: tuple[int, Fraction] | None = None  # where the tempo is measured from, and what it was there

    def block(
        self,
        *,
        position: int,
        ppq: float,
        bpm: float,
        meter_num: int,
        meter_den: int,
        bar_start_ppq: float,
        playing: bool,
        loop: tuple[float, float] | None = None,
        non_realtime: bool = False,
        renumber: bool = False,
    ) -> protocol.Transport | None:
        """What to send for the block that begins at `position`, or None: on change, else every 100 ms.

        `renumber` ends the epoch though the prediction holds: see plugin_stub/core/timeline.hpp.
        """
        message = protocol.Transport(
            epoch=self.epoch,
            position=position,
            ppq=ppq,
            bpm=bpm,
            meter_num=meter_num,
            meter_den=meter_den,
            bar_start_ppq=bar_start_ppq,
            playing=playing,
            loop_start_ppq=None if loop is None else loop[0],
            loop_end_ppq=None if loop is None else loop[1],
            non_realtime=non_realtime,
        )
        snapshot = Snapshot.of(message)
        self.change = self.timeline.judge(snapshot)
        if self.change is Change.BEND and (non_realtime or not self._glides(snapshot)):
            self.change = Change.TEMPO
        if renumber and self.change is Change.HELD:
            self.change = Change.RENUMBERED
        if self.change.ends_epoch and self.change is not Change.FIRST:
            self.epoch += 1
            message = msgspec.structs.replace(message, epoch=self.epoch)
            snapshot = replace(snapshot, epoch=self.epoch)
            self._glided = None
        self.timeline.feed(snapshot)
        if not (self.change.ends_epoch or self.change is Change.BEND or self._due(message)):
            return None
        self._sent = message
        return message

    def _glides(self, snapshot: Snapshot) -> bool:
        if self._glided is None or snapshot.position - self._glided[0] >= GLIDE_S * self.timeline.sample_rate:
            self._glided = (snapshot.position, self.timeline.segment.snapshot.bpm)
        before = self._glided[1]
        return abs(snapshot.bpm - before) <= GLIDE_SHARE * before

    def _due(self, message: protocol.Transport) -> bool:
        sent = self._sent
        if sent is None:
            return True
        if (sent.loop_start_ppq, sent.loop_end_ppq, sent.non_realtime) != (
            message.loop_start_ppq,
            message.loop_end_ppq,
            message.non_realtime,
        ):
            return True
        return message.position - sent.position >= SEND_EVERY_S * self.timeline.sample_rate
