"""Shared vectors of transport arithmetic: what hosts say, block by block, and what BarClock, EpochTracker and
Timeline make of it, by the rational reference. `python tests/transport_vectors.py` writes the file anew; Python and
the native plugin are both held to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from scripted_transport import PythonTime, Row, ScriptedHost

from attacca.bridge.bar_clock import HostTime

FILE = Path(__file__).parent / "data" / "transport_vectors.json"
FIELDS = (
    "valid",
    "tick_grid",
    "playing",
    "non_realtime",
    "ppq",
    "bpm",
    "bar_start_ppq",
    "meter_num",
    "meter_den",
    "frame",
    "loop",
)
_ASK_EVERY = 6  # blocks
_ASK_AHEAD = (0, 1, 100003)

Event = tuple[int, str, Any]  # before block number so and so
Script = tuple[str, dict[str, Any], Sequence[int], int, Sequence[Event]]  # name, host, block sizes, blocks, events

BLOCKS = (1, 3, 64, 127, 256, 1024)
NONSENSE: tuple[Event, ...] = (
    (3, "broken", {"ppq": math.nan}),
    (4, "broken", {"bpm": math.inf, "meter_num": 0}),
    (5, "broken", {"bpm": 0.5, "bar_start_ppq": math.nan}),
    (6, "broken", {"meter_den": 5, "loop": (math.nan, 4.0)}),
    (7, "broken", {"ppq": 1e300, "frame": -7}),
    (8, "broken", {"loop": (8.0, 4.0), "meter_num": 65}),
    (9, "broken", {"valid": False}),
    (11, "broken", {}),
)


def scripts() -> Iterator[Script]:
    """Every kind of host and event once or more."""
    matrix = [
        ("60", (4, 4)),
        ("97", (3, 4)),
        ("123.45", (5, 4)),
        ("180", (6, 8)),
        ("97", (7, 8)),
        ("123.45", (11, 16)),
    ]
    for (tempo, meter), rate in zip(matrix, (44100, 48000, 96000) * 2, strict=True):
        yield f"steady {tempo} {meter}", {"rate": rate, "bpm": tempo, "meter": meter}, BLOCKS, 18, ()
    exact: dict[str, Any] = {"rate": 48000, "bpm": "123.45"}
    tick: dict[str, Any] = {"rate": 48000, "bpm": "97", "ticks": 1920}
    ramp = tuple((block, "bpm", Fraction(120 + block, 1) + Fraction(block, 7)) for block in range(2, 12))
    yield "tempo", exact, (1000, 1001), 24, [(9, "bpm", "97"), (17, "bpm", "97.0000005"), (20, "bpm", "97.000001")]
    yield "ramp", exact, (512,), 16, ramp
    glide = [(block, "bpm", Fraction("123.45") + Fraction(6 * block, 5)) for block in range(2, 26)]
    yield "glide", exact, (1000, 333), 30, glide
    turns = [(3, "loop", 1), (9, "bpm", "124"), (14, "bpm", "131"), (20, "bpm", "123.1"), (27, "bpm", "115.4063")]
    yield "glide in a loop", exact, (9000,), 32, turns
    yield "meter", exact, (20000,), 24, [(6, "meter", (7, 8)), (13, "meter", (3, 4)), (20, "meter", (4, 4))]
    seeks = [(4, "locate", "8/3"), (9, "locate", "100"), (13, "locate", "100.0001"), (16, "locate", "-13/3")]
    yield "seek", exact, (700,), 22, seeks
    yield "stop", exact, (4096,), 24, [(5, "playing", False), (9, "playing", True), (15, "playing", False)]
    yield "loop", exact, (9000,), 48, [(3, "loop", 1), (24, "loop", 2), (40, "loop", None)]
    yield "odd loop", exact, (9000,), 40, [(3, "loop", "7/8")]
    yield "loop ahead", exact, (9000,), 30, [(2, "loop", 2), (3, "locate", "30"), (18, "locate", "0")]
    yield "lies", exact, (5000,), 24, [(2, "lie", "-8"), (8, "lie", "1"), (14, "lie", "400"), (20, "lie", "0")]
    yield "negative", exact | {"meter": (7, 8)}, (3000,), 24, [(1, "locate", "-13")]
    yield "ten hours", exact | {"position": 36000 * 48000}, (777,), 18, [(0, "locate", "74070.1")]
    yield "far", exact | {"meter": (5, 4)}, (1024,), 18, [(0, "locate", "299999/3")]
    yield "nonsense", exact, (5000,), 20, NONSENSE
    yield "no transport", exact, (5000,), 20, [(0, "broken", {"valid": False})]
    yield "ticks", tick, BLOCKS, 30, ()
    yield "ticks after a tempo", tick, (1024, 127), 40, [(0, "locate", "61.123"), (1, "frame", 1234567)]
    yield "ticks without frame", tick | {"tells_frame": False}, (256, 1024), 30, [(0, "locate", "5.0021")]
    yield "480 ticks", tick | {"ticks": 480, "meter": (6, 8)}, (64, 127), 40, [(20, "locate", "17/3")]
    yield "rounded ticks", tick | {"rounding": "round"}, (256, 3), 40, [(20, "bpm", "60"), (30, "playing", False)]
    yield "one residue", tick | {"bpm": "120", "ppq": "0.00001", "frame": 0}, (1000,), 20, ()
    yield (
        "float beats",
        tick | {"ticks": 0, "rounding": "float32", "bpm": "123.45"},
        BLOCKS,
        30,
        [(12, "locate", "9")],
    )
    yield "tick loop", tick, (9000,), 36, [(3, "loop", 1), (20, "loop", None), (28, "lie", "3")]
    early = {"counts_early": True, "frame": 47990, "ppq": Fraction(47990 * 97, 60 * 48000)}
    yield "bars counted early", tick | early, (9000, 1000), 40, [(20, "playing", False), (24, "playing", True)]
    yield "tick ramp", tick, (512,), 16, ramp
    yield "tick nonsense", tick, (5000,), 20, NONSENSE


def told(script: Script) -> Iterator[tuple[int, HostTime]]:
    """Stream position and host data of every block."""
    _, fields, sizes, blocks, events = script
    rationals = {name: Fraction(fields[name]) for name in ("bpm", "ppq") if name in fields}
    host = ScriptedHost(**(fields | rationals))
    for block in range(blocks):
        for at, event, value in events:
            if at == block:
                host.happen(event, value)
        yield host.position, host.told()
        host.advance(sizes[block % len(sizes)])


def answers(time: Any, blocks: Sequence[tuple[int, HostTime]]) -> list[Row]:
    """A row for every block, and every few blocks what is asked at and after it."""
    rows: list[Row] = []
    for number, (position, host) in enumerate(blocks):
        row = time.block(position, host)
        if number % _ASK_EVERY == _ASK_EVERY - 1:
            row = [*row, *(time.ask(position + ahead) for ahead in _ASK_AHEAD)]
        rows.append(row)
    return rows


def packed(host: HostTime) -> Row:
    """For JSON, which has no NaN."""
    values: Row = []
    for name in FIELDS:
        value = getattr(host, name)
        value = list(map(repr, value)) if isinstance(value, tuple) else value
        values.append(repr(value) if isinstance(value, float) and not math.isfinite(value) else value)
    return [int(value) if isinstance(value, bool) else value for value in values]


def unpacked(values: Row) -> HostTime:
    fields = dict(zip(FIELDS, values, strict=True))
    for name in FIELDS[:4]:
        fields[name] = bool(fields[name])
    for name in ("ppq", "bpm", "bar_start_ppq"):
        fields[name] = float(fields[name])
    if fields["loop"] is not None:
        fields["loop"] = tuple(map(float, fields["loop"]))
    return HostTime(**fields)


def generate() -> dict[str, Any]:
    cases = []
    for script in scripts():
        blocks, rate = list(told(script)), script[1]["rate"]
        rows = answers(PythonTime(rate), blocks)
        inputs = [[position, *packed(host)] for position, host in blocks]
        cases.append({"name": script[0], "rate": rate, "blocks": inputs, "rows": rows})
    return {"version": 1, "cases": cases}


def load() -> list[tuple[str, int, list[tuple[int, HostTime]], list[Row]]]:
    """Name, sample rate, blocks and expected rows of every case."""
    cases = json.loads(FILE.read_text())["cases"]
    return [
        (case["name"], case["rate"], [(row[0], unpacked(row[1:])) for row in case["blocks"]], case["rows"])
        for case in cases
    ]


def text() -> str:
    """One line a case."""
    made = generate()
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), allow_nan=False) for case in made["cases"])
    return f'{{"version":{made["version"]},"cases":[\n{lines}\n]}}\n'


if __name__ == "__main__":
    FILE.write_text(text())
