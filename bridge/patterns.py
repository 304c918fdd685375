"""What `attacca patterns` prints: all patterns side by side, and one of them as the papers' grid of steps.

Beside the path; the patterns themselves are engine/pattern.py.
"""

from __future__ import annotations

import sys

from attacca.bridge.tables import console, print_rows
from attacca.engine.pattern import PATTERN_NAMES, make_pattern

FRAME_MS = 20.0  # of the bundled model: 50 frames a second
_STEPS = {
    "parallel": "T",
    "delay": "T + K - 1",
    "flat": "K T",
    "stack": "K T",
    "stack-delay": "T + p (p - 1) + K - 1",
}


def table_rows(num_codebooks: int, p: int, frames: int) -> list[tuple[str, str, int, int, str]]:
    """(name, steps as a formula, steps for `frames`, most context, lag behind in-order time) of every pattern."""
    rows = []
    for name in PATTERN_NAMES:
        pattern = make_pattern(name, num_codebooks, p=p)
        shown = f"{name} (p = {p})" if name == "stack-delay" else name
        in_real_time = pattern.steps_per_timestep == 1
        lag = f"{pattern.lag_steps} steps" + (f", {pattern.lag_steps * FRAME_MS:g} ms" if in_real_time else "")
        rows.append((shown, _STEPS[name], pattern.num_steps(frames), pattern.context_slots(frames), lag))
    return rows


def print_table(num_codebooks: int, p: int, frames: int) -> None:
    """Table 1 of Le Lan et al. 2023 for these numbers. ValueError names a number out of range."""
    title = f"codebook patterns: K = {num_codebooks} codebooks, T = {frames} frames"
    columns = ("pattern", "steps", f"T = {frames}", "context kept", "lag of a frame")
    print_rows(title, columns, table_rows(num_codebooks, p, frames), numeric=columns[2:4])
    console().print("The lag in ms is at one step a frame, 50 frames a second. One as a grid: --draw NAME")


def print_grid(name: str, num_codebooks: int, p: int, frames: int) -> None:
    """One pattern's grid: a line per codebook, a column per step, cells are timesteps; folded in a terminal."""
    pattern = make_pattern(name, num_codebooks, p=p)
    extra = f", p = {p}" if name == "stack-delay" else ""
    print(f"{name}: K = {num_codebooks}{extra}, T = {frames}: {pattern.num_steps(frames)} steps")
    grid = pattern.draw(frames)
    print("\n\n".join(fold(grid, console().width)) if sys.stdout.isatty() else grid)


def fold(grid: str, width: int) -> list[str]:
    """A grid as blocks of whole columns no wider than `width` (but at least one column each)."""
    lines = grid.splitlines()
    label = lines[0].index("|") + 1
    cell = _cell_width(lines[-1][label:])
    columns = max(1, (width - label + 1) // cell)
    blocks = []
    for start in range(0, len(lines[0]) - label, columns * cell):
        parts = [line[label + start : label + start + columns * cell].rstrip() for line in lines]
        blocks.append("\n".join(line[:label] + part for line, part in zip(lines, parts, strict=True)))
    return blocks


def _cell_width(steps: str) -> int:
    """Characters from one column to the next, read from the line of step numbers."""
    starts = [i for i, c in enumerate(steps) if c != " " and (i + 1 == len(steps) or steps[i + 1] == " ")]
    return starts[1] - starts[0] if len(starts) > 1 else len(steps)
