"""The parameter table: everything a musician can turn, as data, and one session's values of it.

Read by the bridge's sessions (param messages), by OSC and MIDI CC (addresses and controllers below), by the
generated documents and by the native plugin's generated header. A parameter added here is added everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from attacca.engine.conditioning import DEFAULT_LAYOUT, INSTRUMENTS, NUM_STYLES, ConditioningLayout
from attacca.engine.generator import Sampling

OSC_PREFIX: Final = "/attacca/param/"
ENGINE_CHOOSES: Final = -1
SEED_BITS: Final = 24  # of a seed that is a parameter or that the engine chose: in hosts they are float32


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One row. `choices` names the values 0, 1, ... of a parameter that is a list; `integer` rounds."""

    name: str
    label: str
    description: str
    default: float
    minimum: float
    maximum: float
    unit: str = ""
    integer: bool = False
    choices: tuple[str, ...] = ()
    midi_cc: int | None = None
    replans: bool = False  # a change makes what is planned but not committed be generated anew
    plugin_only: bool = False  # lives in the native plugin: no OSC address, no controller, no `param` message

    def __post_init__(self) -> None:
        if self.plugin_only and (self.midi_cc is not None or self.replans):
            raise ValueError(f"{self.name}: the engine knows nothing of it, so it has no controller and no plan")
        if not self.minimum <= self.default <= self.maximum:
            raise ValueError(f"{self.name}: default {self.default} is outside {self.minimum}..{self.maximum}")
        if self.midi_cc is not None and not 0 <= self.midi_cc <= 119:
            raise ValueError(f"{self.name}: MIDI controller {self.midi_cc} is outside 0..119")

    @property
    def osc_address(self) -> str:
        return OSC_PREFIX + self.name

    def clamp(self, value: float) -> float:
        """The nearest allowed value. `value` must be finite."""
        inside = min(max(value, self.minimum), self.maximum)
        return float(round(inside)) if self.integer else float(inside)


def _list(
    name: str,
    label: str,
    choices: tuple[str, ...],
    default: str,
    description: str,
    *,
    cc: int | None = None,
    replans: bool = False,
    plugin_only: bool = False,
) -> Parameter:
    return Parameter(
        name=name,
        label=label,
        description=description,
        default=float(choices.index(default)),
        minimum=0.0,
        maximum=float(len(choices) - 1),
        integer=True,
        choices=choices,
        midi_cc=cc,
        replans=replans,
        plugin_only=plugin_only,
    )


@dataclass(frozen=True, kw_only=True)
class Meter:
    """One row of what the plugin shows to hosts, read-only. `choices` as for Parameter."""

    name: str
    label: str
    description: str
    minimum: float
    maximum: float
    unit: str = ""
    integer: bool = False
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.minimum < self.maximum:
            raise ValueError(f"{self.name}: {self.minimum} is not below {self.maximum}")


def _words(name: str, label: str, choices: tuple[str, ...], description: str) -> Meter:
    return Meter(
        name=name, label=label, description=description, minimum=0.0, maximum=float(len(choices) - 1),
        integer=True, choices=choices,
    )  # fmt: skip


QUANTA: Final = ("immediate", "1/16", "1/8", "1/4", "1/2", "1 bar", "2 bars", "4 bars", "8 bars")
# Per name of QUANTA: (bars, quarter notes); bars None means quarter notes count.
QUANTUM_VALUES: Final[tuple[tuple[float | None, float], ...]] = (
    (0.0, 0.0), (None, 0.25), (None, 0.5), (None, 1.0), (None, 2.0), (1.0, 0.0), (2.0, 0.0), (4.0, 0.0), (8.0, 0.0),
)  # fmt: skip
MODES: Final = ("continue", "fill", "vamp", "answer")
LATE: Final = ("join", "wait")
OFF_AUTO_ON: Final = ("off", "auto", "on")
VELOCITY_TARGETS: Final = ("nothing", "variation", "temperature")

PARAMETERS: Final[tuple[Parameter, ...]] = (
    _list("mode", "Mode", MODES, "continue", "What a take does between trigger and release.", cc=20),
    _list("quantum", "Launch", QUANTA, "1 bar", "Grid on which takes start.", cc=21),
    Parameter(
        name="bars", label="Bars", description="Length of a fill, of a vamp's phrase, of an answer.",
        default=4, minimum=1, maximum=64, unit="bars", integer=True, midi_cc=22,
    ),
    _list("late", "If late", LATE, "join", "Enter in phase at once, or wait for the next launch.", cc=23),
    Parameter(
        name="variation", label="Variation", description="How much each pass of a vamp differs from the last.",
        default=0.5, minimum=0.0, maximum=1.0, midi_cc=24,
    ),
    Parameter(
        name="temperature", label="Temperature", description="Sampling temperature; 0 always takes the likeliest.",
        default=0.9, minimum=0.0, maximum=2.0, midi_cc=25, replans=True,
    ),
    Parameter(
        name="guidance", label="Guidance", description="How strictly chords, beat and style bind; 1 is plain.",
        default=3.0, minimum=0.0, maximum=10.0, midi_cc=26, replans=True,
    ),
    Parameter(
        name="top_k", label="Top k", description="Only the k likeliest tokens are drawn from; 0 is all.",
        default=0, minimum=0, maximum=1024, integer=True, midi_cc=27, replans=True,
    ),
    Parameter(
        name="seed", label="Seed", description="Seed of the next take; -1: the engine chooses, and says in status.",
        default=ENGINE_CHOOSES, minimum=ENGINE_CHOOSES, maximum=2**SEED_BITS - 1, integer=True,
    ),
    *(
        _list(
            instrument, instrument.capitalize(), OFF_AUTO_ON, "auto",
            f"Whether {instrument} play{'s' if instrument in ('bass', 'lead') else ''}. Auto leaves it to the music"
            " while all four are auto, and counts as on otherwise.",
            cc=28 + index, replans=True,
        )
        for index, instrument in enumerate(INSTRUMENTS)
    ),
    _list(
        "style", "Style", ("auto", *(str(n) for n in range(NUM_STYLES))), "auto",
        "Style of the continuation; auto goes on as it was, and so does one that the model does not have.",
        cc=85, replans=True,
    ),
    _list(
        "chord_follow", "Follow chords", ("off", "on"), "on", "Held notes command the harmony.",
        cc=86, replans=True,
    ),
    Parameter(
        name="lookahead_ms", label="Look-ahead", description="Least look-ahead; 0: as measured.",
        default=0.0, minimum=0.0, maximum=2000.0, unit="ms", midi_cc=87,
    ),
    Parameter(
        name="mix", label="Mix", description="Input to continuation; applied by the plugin.",
        default=0.5, minimum=0.0, maximum=1.0, midi_cc=88,
    ),
    Parameter(
        name="gain", label="Gain", description="Level of the continuation; applied by the plugin.",
        default=0.0, minimum=-60.0, maximum=12.0, unit="dB", midi_cc=7,
    ),
    Parameter(
        name="midi_channel", label="MIDI channel", description="Channel that is heard; 0 is all.",
        default=0, minimum=0, maximum=16, integer=True,
    ),
    Parameter(
        name="trigger_low", label="Lowest trigger", description="Lowest note of the trigger zone.",
        default=0, minimum=0, maximum=127, unit="note", integer=True,
    ),
    Parameter(
        name="trigger_high", label="Highest trigger",
        description="Highest note of the trigger zone; below the lowest there is no zone. B0 (35) by default.",
        default=35, minimum=0, maximum=127, unit="note", integer=True,
    ),
    Parameter(
        name="trigger_note", label="Trigger note", description="One more trigger note; -1 is none.",
        default=-1, minimum=-1, maximum=127, unit="note", integer=True,
    ),
    _list(
        "velocity_to", "Velocity sets", VELOCITY_TARGETS, "nothing",
        "What a trigger note's velocity sets for its take.",
    ),
    _list(
        "release_quantized", "Release on grid", ("off", "on"), "off", "Note-off ends the take on its launch grid.",
    ),
)  # fmt: skip
# What the native plugin has beyond the engine's parameters. They follow the table above in the plugin's numbering.
PLUGIN_PARAMETERS: Final[tuple[Parameter, ...]] = (
    _list(
        "trigger", "Trigger", ("off", "on"), "off",
        "On starts a take, off releases it, as a held note does.", plugin_only=True,
    ),
    _list(
        "solo", "Solo", ("off", "on"), "off",
        "The input is muted while the continuation plays.", plugin_only=True,
    ),
)  # fmt: skip
METERS: Final[tuple[Meter, ...]] = (
    Meter(name="rtf", label="RTF", description="Compute time over audio time; below 1 is real time.",
          minimum=0.0, maximum=4.0),
    Meter(name="lookahead_now_ms", label="Look-ahead now", description="Audio that is here and not yet played.",
          minimum=0.0, maximum=20000.0, unit="ms"),
    Meter(name="underruns", label="Underruns", description="Callbacks that were short of audio.",
          minimum=0.0, maximum=1e6, integer=True),
    _words("connection", "Connection", ("no engine", "connected"), "Whether an engine answers."),
    _words(
        "state", "State", ("idle", "armed", "playing", "bridging", "late"),
        "No take; waiting for its launch; sounding; the engine is behind and its plan or the last bar sounds; the"
        " engine is behind and nothing sounds.",
    ),
)  # fmt: skip
BY_NAME: Final[Mapping[str, Parameter]] = {row.name: row for row in PARAMETERS}
BY_CC: Final[Mapping[int, Parameter]] = {row.midi_cc: row for row in PARAMETERS if row.midi_cc is not None}
BY_OSC: Final[Mapping[str, Parameter]] = {row.osc_address: row for row in PARAMETERS}


class Values:
    """One session's values. Belongs to one thread; `clamped` and `refused` count what was out of range or no
    parameter or no number."""

    def __init__(
        self, initial: Mapping[str, float] | None = None, layout: ConditioningLayout = DEFAULT_LAYOUT
    ) -> None:
        """`layout` is the loaded model's: it knows what the styles are called."""
        self._layout = layout
        self.clamped = 0
        self.refused = 0
        self._values = {row.name: float(row.default) for row in PARAMETERS}
        for name, value in (initial or {}).items():
            self.set(name, value)

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def number(self, name: str) -> int:
        """An integer parameter's value."""
        return round(self._values[name])

    def choice(self, name: str) -> str:
        """The word for a list parameter's value."""
        return BY_NAME[name].choices[round(self._values[name])]

    def number_of(self, name: str, word: str) -> float:
        """The value that a word stands for: one of a list's choices, or the name of a style of the model's.
        ValueError says which there are."""
        row, wanted = BY_NAME[name], word.strip().casefold()
        if wanted in row.choices:
            return float(row.choices.index(wanted))
        if name != "style":
            raise ValueError(f"{name} is {word[:64]!r}, allowed: {', '.join(row.choices) or 'a number'}")
        number = self._layout.style(word[:64])
        if str(number) not in row.choices:
            raise ValueError(f"style {word[:64]!r} has number {number}, can be chosen: 0..{NUM_STYLES - 1}")
        return float(row.choices.index(str(number)))

    def set(self, name: str, value: float | str) -> bool:
        """Sets one, clamped; True if it changed. ValueError, and counted, if there is no such parameter or word."""
        row = BY_NAME.get(name)
        try:
            if row is None:
                raise ValueError(f"no parameter {name!r}")
            if isinstance(value, str):
                value = self.number_of(name, value)
            if not math.isfinite(value):
                raise ValueError(f"{name} {value} is not a number")
        except ValueError:
            self.refused += 1
            raise
        new = row.clamp(value)
        if not row.minimum <= value <= row.maximum:
            self.clamped += 1
        changed = new != self._values[name]
        self._values[name] = new
        return changed

    def set_cc(self, controller: int, value: int) -> Parameter | None:
        """MIDI controller 0..127 -> the parameter's whole range; the row that changed, or None."""
        row = BY_CC.get(controller)
        if row is None:
            return None
        fraction = min(max(value, 0), 127) / 127.0
        return row if self.set(row.name, row.minimum + fraction * (row.maximum - row.minimum)) else None

    def sampling(self, seed: int, *, temperature: float | None = None) -> Sampling:
        """How tokens are drawn by these values."""
        return Sampling(
            seed=seed,
            temperature=self["temperature"] if temperature is None else temperature,
            top_k=self.number("top_k"),
            guidance=self["guidance"],
        )
