"""Conditioning: what the host commands, per codec frame, as the vector the decoder reads.

Sits between the bridge (transport, held notes, parameters) and the decoder; training encodes its exact labels
with the same function, so that what the model learned and what it is told mean the same.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

INSTRUMENTS = ("drums", "bass", "chords", "lead")
NUM_STYLES = 8
_BEAT_HARMONICS = (1, 2, 4)
_BAR_HARMONICS = (1, 2, 3)
_REFERENCE_BEATS_PER_MINUTE = 120.0
_REFERENCE_BEATS_PER_BAR = 4.0

# The layout is data: (group, width without its "known" flag). A group is dropped by zeroing values and flag.
GROUPS: tuple[tuple[str, int], ...] = (
    ("beat", 2 * len(_BEAT_HARMONICS) + 2 * len(_BAR_HARMONICS)),
    ("tempo", 2),
    ("chord", 12),
    ("instruments", len(INSTRUMENTS)),
    ("style", NUM_STYLES),
)
WIDTH = sum(width + 1 for _, width in GROUPS)


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Commands for T consecutive frames; each array's first axis is T. Frame t is read at its first sample.

    A "beat" is a note of the meter's denominator (7/8 has seven), counted from the bar's start, as hosts count.
    """

    ppq: npt.NDArray[np.float64]  # [T] quarter notes since the song's start
    bar_start_ppq: npt.NDArray[np.float64]  # [T] quarter notes; start of the bar that holds the frame
    bpm: npt.NDArray[np.float64]  # [T] quarter notes per minute
    meter_num: npt.NDArray[np.int16]  # [T]
    meter_den: npt.NDArray[np.int16]  # [T]
    pitch_classes: npt.NDArray[np.bool_]  # [T, 12] held chord, C = 0
    instruments: npt.NDArray[np.bool_]  # [T, 4] who plays, in the order of INSTRUMENTS
    style: npt.NDArray[np.int16]  # [T] 0..NUM_STYLES-1
    # Which groups are commanded; a group that is not is dropped for the frame.
    beat_known: npt.NDArray[np.bool_]  # [T] covers beat and tempo
    chord_known: npt.NDArray[np.bool_]  # [T]
    instruments_known: npt.NDArray[np.bool_]  # [T]
    style_known: npt.NDArray[np.bool_]  # [T]

    def __post_init__(self) -> None:
        length = self.ppq.shape[0]
        for f in fields(self):
            if getattr(self, f.name).shape[0] != length:
                raise ValueError(f"Controls.{f.name} has {getattr(self, f.name).shape[0]} frames, ppq has {length}")
        if self.pitch_classes.shape[1:] != (12,) or self.instruments.shape[1:] != (len(INSTRUMENTS),):
            raise ValueError("Controls.pitch_classes must be [T, 12] and Controls.instruments [T, 4]")

    def __len__(self) -> int:
        return int(self.ppq.shape[0])

    def slice(self, start: int, stop: int) -> Controls:
        """Frames [start, stop)."""
        return Controls(**{f.name: getattr(self, f.name)[start:stop] for f in fields(self)})


def _waves(phase: npt.NDArray[np.float64], harmonics: tuple[int, ...]) -> npt.NDArray[np.float64]:
    angles = 2.0 * np.pi * phase[:, None] * np.array(harmonics, dtype=np.float64)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def encode(controls: Controls) -> npt.NDArray[np.float32]:
    """Controls of T frames -> float32 [T, WIDTH]. A dropped group is all zeros, its flag included."""
    quarters_into_bar = controls.ppq - controls.bar_start_ppq
    beats_per_quarter = controls.meter_den / 4.0
    beats = quarters_into_bar * beats_per_quarter
    beat_phase = beats - np.floor(beats)
    bar_phase = beats / controls.meter_num
    beats_per_minute = np.maximum(controls.bpm * beats_per_quarter, 1.0)
    values = {
        "beat": np.concatenate([_waves(beat_phase, _BEAT_HARMONICS), _waves(bar_phase, _BAR_HARMONICS)], axis=1),
        "tempo": np.stack(
            [
                np.log2(beats_per_minute / _REFERENCE_BEATS_PER_MINUTE),
                np.log2(controls.meter_num / _REFERENCE_BEATS_PER_BAR),
            ],
            axis=1,
        ),
        "chord": controls.pitch_classes.astype(np.float64),
        "instruments": controls.instruments.astype(np.float64),
        "style": np.eye(NUM_STYLES)[np.clip(controls.style, 0, NUM_STYLES - 1)],
    }
    known = {
        "beat": controls.beat_known,
        "tempo": controls.beat_known,
        "chord": controls.chord_known,
        "instruments": controls.instruments_known,
        "style": controls.style_known,
    }
    columns = []
    for name, _ in GROUPS:
        flag = known[name].astype(np.float64)[:, None]
        columns += [values[name] * flag, flag]
    return np.concatenate(columns, axis=1).astype(np.float32)


def group_slices() -> dict[str, slice]:
    """Column range of each group in the encoded vector, its flag last; for dropout in training."""
    slices: dict[str, slice] = {}
    start = 0
    for name, width in GROUPS:
        slices[name] = slice(start, start + width + 1)
        start += width + 1
    return slices
