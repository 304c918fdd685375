"""Conditioning: what the host commands, per codec frame, as the vector that a bundle's decoder reads.

Sits between the bridge (transport, held notes, parameters) and the decoder; training encodes its exact labels
with the same function, so that what the model learned and what it is told mean the same. Which columns there are
is the bundle's matter: its manifest holds the layout.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

INSTRUMENTS = ("drums", "bass", "chords", "lead")
NUM_STYLES = 16  # of models trained here from now on; a bundle's own number is in its layout
MAX_STYLES = 64
MAX_STYLE_NAME_CHARACTERS = 32
_BEAT_HARMONICS = (1, 2, 4)
_BAR_HARMONICS = (1, 2, 3)
_REFERENCE_BEATS_PER_MINUTE = 120.0
_REFERENCE_BEATS_PER_BAR = 4.0

# Every group there is: width without its "known" flag; None: as many as there are styles. A group is dropped by
# zeroing values and flag.
_WIDTHS: dict[str, int | None] = {
    "beat": 2 * len(_BEAT_HARMONICS) + 2 * len(_BAR_HARMONICS),
    "tempo": 2,
    "chord": 12,
    "instruments": len(INSTRUMENTS),
    "style": None,
}


@dataclass(frozen=True, kw_only=True)
class ConditioningLayout:
    """The columns that a decoder was trained with: (group, width without its flag), in order; no group, no columns.

    `styles` are the styles' names by number; empty where they have none. ValueError for what is not understood.
    """

    groups: tuple[tuple[str, int], ...] = ()
    styles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.groups]
        for name, width in self.groups:
            if name not in _WIDTHS:
                raise ValueError(f"conditioning group is {name!r}, allowed: {', '.join(_WIDTHS)}")
            if names.count(name) > 1:
                raise ValueError(f"conditioning group {name!r} stands there {names.count(name)} times, allowed: 1")
            fixed = _WIDTHS[name]
            if not (1 <= width <= MAX_STYLES if fixed is None else width == fixed):
                allowed = f"1..{MAX_STYLES}" if fixed is None else str(fixed)
                raise ValueError(f"conditioning group {name!r} has width {width}, allowed: {allowed}")
        if self.styles and len(self.styles) != self.num_styles:
            raise ValueError(
                f"conditioning styles are {len(self.styles)} names, allowed: none or {self.num_styles}, "
                "the width of the group 'style'"
            )
        for name in self.styles:
            # A name that is a number, or "auto", would mean two things where a style is chosen.
            if not _is_style_name(name) or self.styles.count(name) > 1:
                raise ValueError(
                    f"conditioning style is {name!r}, allowed: once, 1..{MAX_STYLE_NAME_CHARACTERS} printable "
                    "characters, not 'auto' and no number"
                )

    @property
    def width(self) -> int:
        """Columns in all, flags included."""
        return sum(width + 1 for _, width in self.groups)

    @property
    def num_styles(self) -> int:
        """0 without a group of styles."""
        return dict(self.groups).get("style", 0)

    def style(self, text: str) -> int:
        """Number of a style by its name, any case, or by its number. ValueError names what there is."""
        wanted = text.strip()
        folded = [name.casefold() for name in self.styles]
        if wanted.casefold() in folded:
            return folded.index(wanted.casefold())
        if wanted.isdecimal() and int(wanted) < self.num_styles:
            return int(wanted)
        if not self.num_styles:
            raise ValueError(f"style is {text!r}, but this model knows no styles")
        named = f", {', '.join(self.styles)}" if self.styles else ""
        raise ValueError(f"style is {text!r}, allowed: 0..{self.num_styles - 1}{named}")


def _is_style_name(name: str) -> bool:
    usable = 1 <= len(name) <= MAX_STYLE_NAME_CHARACTERS and name.isprintable() and name == name.strip()
    return usable and not name.isdecimal() and name.casefold() != "auto"


def full_layout(num_styles: int, styles: tuple[str, ...] = ()) -> ConditioningLayout:
    """Every group, with so many styles: what models trained here read. ValueError outside 1..MAX_STYLES."""
    groups = tuple((name, num_styles if width is None else width) for name, width in _WIDTHS.items())
    return ConditioningLayout(groups=groups, styles=styles)


def layout_of_width(width: int) -> ConditioningLayout:
    """The full layout of a decoder of which only its number of columns is known. ValueError if there is none."""
    least = full_layout(1).width
    if not least <= width < least + MAX_STYLES:
        raise ValueError(f"conditioning width is {width}, allowed: {least}..{least + MAX_STYLES - 1}")
    return full_layout(width - least + 1)


DEFAULT_LAYOUT = full_layout(NUM_STYLES)


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
    style: npt.NDArray[np.int16]  # [T] number; one that a layout does not have is not known to it
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


def encode(controls: Controls, layout: ConditioningLayout) -> npt.NDArray[np.float32]:
    """Controls of T frames -> float32 [T, layout.width]. A dropped group is all zeros, its flag included."""
    if not layout.groups:
        return np.zeros((len(controls), 0), np.float32)
    quarters_into_bar = controls.ppq - controls.bar_start_ppq
    beats_per_quarter = controls.meter_den / 4.0
    beats = quarters_into_bar * beats_per_quarter
    beat_phase = beats - np.floor(beats)
    bar_phase = beats / controls.meter_num
    beats_per_minute = np.maximum(controls.bpm * beats_per_quarter, 1.0)
    has_style = (controls.style >= 0) & (controls.style < layout.num_styles)
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
        "style": (controls.style[:, None] == np.arange(layout.num_styles)).astype(np.float64),
    }
    known = {
        "beat": controls.beat_known,
        "tempo": controls.beat_known,
        "chord": controls.chord_known,
        "instruments": controls.instruments_known,
        "style": controls.style_known & has_style,
    }
    columns = []
    for name, _ in layout.groups:
        flag = known[name].astype(np.float64)[:, None]
        columns += [values[name] * flag, flag]
    return np.concatenate(columns, axis=1).astype(np.float32)


def group_slices(layout: ConditioningLayout) -> dict[str, slice]:
    """Column range of each group in the encoded vector, its flag last; for dropout in training."""
    slices: dict[str, slice] = {}
    start = 0
    for name, width in layout.groups:
        slices[name] = slice(start, start + width + 1)
        start += width + 1
    return slices
