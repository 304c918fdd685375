"""What `attacca continue` does: a file in, the file and its continuation out, as fast as the machine goes.

Between the command line and engine/offline.py, which runs the live path without a host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from attacca.bridge.audiofile import check_writable, read_audio, write_audio
from attacca.bridge.config import Settings
from attacca.bridge.demo_material import parse_meter
from attacca.bridge.loading import load_model, sampling_of
from attacca.bridge.tables import console
from attacca.bridge.transport import decimal
from attacca.engine.offline import Continuation, SteadyController, continue_offline

DEFAULT_SECONDS = 16.0


@dataclass(frozen=True, kw_only=True)
class ContinueOptions:
    """What `attacca continue` takes. Bars need a tempo; bar 0 begins with the file's first sample."""

    source: Path
    out: Path
    seconds: float | None = None
    bars: int | None = None
    bpm: float | None = None  # None: the model is left to find the beat by itself
    meter: str = "4/4"
    style: str | None = None  # a name or number that the model knows
    only: bool = False  # without the source in front

    def __post_init__(self) -> None:
        if self.seconds is not None and self.bars is not None:
            raise ValueError("give --seconds or --bars, not both")
        if self.bars is not None and self.bpm is None:
            raise ValueError("--bars needs a tempo: --bpm")
        if self.bars is not None and not 1 <= self.bars <= 256:
            raise ValueError(f"--bars {self.bars} is outside 1..256")
        if self.bpm is not None and not 20.0 <= self.bpm <= 400.0:
            raise ValueError(f"--bpm {self.bpm:g} is outside 20..400")
        if self.seconds is not None and not 0.1 <= self.seconds <= 3600.0:
            raise ValueError(f"--seconds {self.seconds:g} is outside 0.1..3600")
        _meter_of(self.meter)

    @property
    def length_s(self) -> Fraction:
        """Length of the continuation, exactly."""
        if self.bars is None or self.bpm is None:
            return decimal(DEFAULT_SECONDS if self.seconds is None else self.seconds)
        num, den = _meter_of(self.meter)
        return self.bars * Fraction(4 * num, den) * 60 / decimal(self.bpm)


def run(options: ContinueOptions, settings: Settings) -> Continuation:
    """Read, continue, write, print what it cost. AudioFileError, ManifestError and ValueError say what is wrong."""
    check_writable(options.out)
    audio, rate = read_audio(options.source)
    model, sampling = load_model(settings), sampling_of(settings)
    num, den = _meter_of(options.meter)
    length_samples = math.ceil(options.length_s * rate)
    style = None if options.style is None else model.conditioning.style(options.style)
    controller = SteadyController(sample_rate=rate, bpm=options.bpm, meter_num=num, meter_den=den, style=style)
    with progress_bar("continuing") as progress:
        made = continue_offline(
            model,
            audio,
            rate,
            seconds=(length_samples - 0.5) / rate,  # is rounded up: float noise must not add a sample
            controller=controller,
            sampling=sampling,
            progress=progress,
        )
    new = made.pcm.reshape(len(made.pcm), -1)
    write_audio(options.out, new if options.only else np.concatenate([audio, new]), rate)
    _tell(options, made, len(new) / rate, sampling.seed)
    return made


def _tell(options: ContinueOptions, made: Continuation, seconds: float, seed: int) -> None:
    measures = made.measures
    print(
        f"{options.out}: {seconds:.2f} s of continuation in {made.seconds:.2f} s (seed {seed}); "
        f"RTF decoder {measures.rtf_decoder:.3f}, codec {measures.rtf_codec:.3f}, whole {measures.rtf_total:.3f}"
    )
    if options.bpm is None:
        console(stderr=True).print("no --bpm: the model was not told where the beat is", style="dim")


@contextmanager
def progress_bar(doing: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr that goes away; gives the function to call with the share done."""
    columns = (TextColumn(doing), BarColumn(bar_width=40), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda share: progress.update(task, completed=share)


def _meter_of(text: str) -> tuple[int, int]:
    num, den = parse_meter(text)
    if not (1 <= num <= 64 and den in (1, 2, 4, 8, 16, 32)):
        raise ValueError(f"meter {text!r} is outside 1..64 over 1, 2, 4, 8, 16 or 32")
    return num, den
