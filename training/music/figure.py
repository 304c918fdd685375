"""Draws the styles: two bars of each as a piano roll on the bar grid, drums below; for the docs.

`python -m attacca.training.music.figure docs/img/styles.png`. Imports matplotlib (extra [demo]) when asked to draw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.music.composer import compose
from attacca.training.music.song import Song
from attacca.training.music.style import CLAP, HAT, KICK, OPEN, PEDAL, RIDE, SNARE, STICK
from attacca.training.music.styles import STYLE_NAMES, find
from attacca.training.music.tempo import TICKS_PER_QUARTER

_PAPER, _INK, _FAINT = "#fcfbf8", "#23272e", "#c9c8c2"
_COLOURS = {"bass": "#0f8b8d", "chords": "#5c7a99", "lead": "#e2572b", "drums": "#23272e"}
_ROWS = {KICK: 0, SNARE: 1, CLAP: 1, STICK: 1, HAT: 2, OPEN: 2, PEDAL: 2, RIDE: 2}  # all else is row 3
_FLOOR, _ROW_HEIGHT, _LOWEST, _HIGHEST = 8, 4.0, 24, 96
_BARS = 2
Axes = Any  # of matplotlib


def draw_styles(path: Path, *, seed: int = 4) -> None:
    """A PNG of all trained styles, each in its commonest meter. ImportError without matplotlib."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {"font.family": "DejaVu Sans", "font.size": 8, "axes.edgecolor": _FAINT, "text.color": _INK}
    with mpl.rc_context(style):
        figure = Figure(figsize=(16.0, 12.6), dpi=100, facecolor=_PAPER)
        FigureCanvasAgg(figure)
        panels = figure.subplots(4, 4)
        figure.subplots_adjust(left=0.035, right=0.99, top=0.93, bottom=0.025, hspace=0.24, wspace=0.08)
        for name, axes in zip(STYLE_NAMES, panels.flat, strict=True):
            meters = find(name).meters
            meter = max(meters, key=lambda m: meters[m])
            song = compose(seed, style=name, meter=meter, players=INSTRUMENTS, tempo="steady", min_seconds=30.0)
            _draw_panel(axes, song)
        for i, instrument in enumerate(("lead", "chords", "bass", "drums")):
            figure.text(0.70 + 0.075 * i, 0.972, f"■ {instrument}", color=_COLOURS[instrument], fontsize=10)
        figure.text(0.035, 0.968, "Sixteen styles, two bars each", fontsize=15, weight="bold")
        figure.savefig(path, facecolor=_PAPER)


def _first_bar(song: Song) -> int:
    """The chorus' third bar, or the song's: past the crash, before the fill."""
    return next((s.first_bar for s in song.sections if s.kind in ("chorus", "solo")), 0) + 1


def _draw_panel(axes: Axes, song: Song) -> None:
    bar = song.bar_ticks
    start, stop = _first_bar(song) * bar, (_first_bar(song) + _BARS) * bar
    axes.set_facecolor(_PAPER)
    axes.set_xlim(0, stop - start)
    axes.set_ylim(_FLOOR - 3, _HIGHEST + 8)
    beat = TICKS_PER_QUARTER * 4 // song.meter[1]
    for tick in range(0, stop - start + 1, beat):
        whole = tick % bar == 0
        axes.axvline(tick, color=_INK if whole else _FAINT, linewidth=1.1 if whole else 0.5, zorder=0)
    for note in song.notes:
        if start <= note.grid_ticks < stop:
            place, strength = note.start_ticks - start, 0.25 + 0.75 * note.velocity / 127.0
            colour = _COLOURS[note.instrument]
            if note.instrument == "drums":
                row = _FLOOR + _ROW_HEIGHT * _ROWS.get(note.pitch, 3)
                axes.plot(place, row, marker="|", ms=7, mew=1.9, color=colour, alpha=strength, clip_on=False)
            else:
                length = max(40, min(note.duration_ticks, stop - start - place))
                axes.barh(note.pitch, length, left=place, height=1.5, color=colour, alpha=strength, linewidth=0)
    for i, chord in enumerate(song.chords):
        until = song.chords[i + 1].start_ticks if i + 1 < len(song.chords) else stop
        if chord.start_ticks < stop and until > start:
            axes.text(max(chord.start_ticks, start) - start + 40, _HIGHEST + 1, chord.symbol, fontsize=7.5)
    axes.set_xticks([])
    axes.set_yticks([36, 48, 60, 72, 84], ["C2", "C3", "C4", "C5", "C6"], fontsize=6.5, color=_INK)
    axes.tick_params(length=0)
    axes.set_title(
        f"{song.style_name}   {song.meter[0]}/{song.meter[1]}   {song.bpm:.0f} BPM", loc="left", fontsize=10, pad=3
    )


def main(path: Annotated[Path, typer.Argument()], seed: Annotated[int, typer.Option(min=0)] = 4) -> None:
    """Write the picture of all styles."""
    draw_styles(path, seed=seed)


if __name__ == "__main__":
    typer.run(main)
