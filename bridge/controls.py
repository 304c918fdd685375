"""Controls: what a session commands at any stream position, for the engine's conditioning.

Between transport, held notes and parameters on one side and `attacca.engine.conditioning` on the other. It
remembers what was commanded when, so that audio heard a second ago is conditioned by the chord of a second ago.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from attacca.engine.conditioning import INSTRUMENTS, Controls

from .beat_grid import grid
from .params import Values
from .transport import Timeline

_KEPT_STATES = 512


@dataclass(frozen=True, kw_only=True)
class _State:
    """Commands from a position on, until the next state."""

    pitch_classes: frozenset[int] | None = None  # None: not commanded
    instruments: tuple[bool, ...] | None = None
    style: int | None = None


class SessionControls:
    """Implements the engine's `Controller` for one session. Decode thread."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._positions: list[int] = []
        self._states: list[_State] = []
        self._held: frozenset[int] = frozenset()
        self._follow = True

    def hold(self, position: int, notes: Iterable[int]) -> bool:
        """MIDI notes held from a position on; none means that no chord is commanded. True if that is a change."""
        self._held = frozenset(note % 12 for note in notes)
        return self._change(position, pitch_classes=self._chord())

    def parameters(self, position: int, values: Values) -> bool:
        """Takes instruments, style and chord-following from the values. True if that is a change."""
        self._follow = values.choice("chord_follow") == "on"
        wanted = [values.choice(name) for name in INSTRUMENTS]
        instruments = None if set(wanted) == {"auto"} else tuple(word != "off" for word in wanted)
        style = values.number("style") - 1
        return self._change(
            position, instruments=instruments, style=style if style >= 0 else None, pitch_classes=self._chord()
        )

    def controls(self, positions: npt.NDArray[np.float64]) -> Controls:
        """Commands at fractional stream positions [n]; unknown where nothing is commanded. Never raises."""
        ppq, bar, bpm, num, den, known = grid(self._timeline, positions)
        n = positions.shape[0]
        pitch = np.zeros((n, 12), np.bool_)
        instruments = np.zeros((n, len(INSTRUMENTS)), np.bool_)
        style = np.zeros(n, np.int16)
        flags = np.zeros((3, n), np.bool_)
        if self._states:
            owner = np.searchsorted(np.array(self._positions, np.float64) - 0.5, positions, side="right") - 1
            for index in np.unique(owner[owner >= 0]):
                at = owner == index
                state = self._states[index]
                if state.pitch_classes is not None:
                    pitch[np.ix_(at, sorted(state.pitch_classes))] = True
                    flags[0, at] = True
                if state.instruments is not None:
                    instruments[at], flags[1, at] = state.instruments, True
                if state.style is not None:
                    style[at], flags[2, at] = state.style, True
        return Controls(
            ppq=ppq,
            bar_start_ppq=bar,
            bpm=bpm,
            meter_num=num,
            meter_den=den,
            pitch_classes=pitch,
            instruments=instruments,
            style=style,
            beat_known=known,
            chord_known=flags[0],
            instruments_known=flags[1],
            style_known=flags[2],
        )

    def _chord(self) -> frozenset[int] | None:
        return self._held if self._held and self._follow else None

    def _change(self, position: int, **fields: object) -> bool:
        last = self._states[-1] if self._states else _State()
        state = replace(last, **fields)  # type: ignore[arg-type]
        if state == last:
            return False
        # A command from before the latest one (a seek cannot make one, a careless client can) replaces it.
        keep = bisect_right(self._positions, position)
        if keep and self._positions[keep - 1] == position:
            keep -= 1
        self._positions[keep:] = [position]
        self._states[keep:] = [state]
        del self._positions[:-_KEPT_STATES], self._states[:-_KEPT_STATES]
        return True
