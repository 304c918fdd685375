"""Drives the scriptable CLAP host (plugin_stub/tests/clap_host*.cpp): writes its script, runs it, reads its output.

Between tests and a .clap file. Musical time is given in exact fractions; the host keeps it exact.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from conftest import ROOT, Native

Number = int | float | Fraction


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a run gave: samples float32 [n, channels], the report (clap_host_report.cpp), a row per block."""

    audio: np.ndarray
    report: dict[str, Any]
    blocks: np.ndarray  # [blocks, 4]: position, samples, ppq, nanoseconds

    def value(self, parameter: str, mark: str = "end") -> float:
        """A parameter's or a meter's value when the script said `mark`, or at the end."""
        values: dict[str, float] = next(m["values"] for m in self.report["marks"] if m["name"] == mark)
        return values[parameter]

    @property
    def counts(self) -> dict[str, Any]:
        """Allocations, locks and system calls inside process()."""
        counts: dict[str, Any] = self.report["counts"]
        return counts


@dataclass(kw_only=True)
class Script:
    """A script under way. Positions are samples since the run began; quarters and tempi are exact."""

    plugin: Path
    rate: int = 48000
    length: int = 0
    blocks: Sequence[int] | str = (512,)
    lines: list[str] = field(default_factory=list)

    def set(self, name: str, *words: object) -> Self:
        """A setting, e.g. set("tell", "ticks", 1920)."""
        self.lines.append(" ".join([name, *map(_word, words)]))
        return self

    def at(self, position: int, action: str, *words: object) -> Self:
        """An action (clap_host_script.cpp has the table), e.g. at(48000, "param", "mix", 1)."""
        self.lines.append(" ".join([f"@{position}", action, *map(_word, words)]))
        return self

    def play(
        self, ppq: Number = 0, *, bpm: Number | str = 120, meter: tuple[int, int] = (4, 4), at: int = 0
    ) -> Self:
        """Roll from `ppq` at this tempo and meter."""
        self.at(at, "tempo", Fraction(bpm)).at(at, "meter", *meter)
        return self.at(at, "seek", Fraction(ppq)).at(at, "play")

    def note(self, on: int, off: int | None = None, *, key: int = 24) -> Self:
        """A note, 24 (C1) lies in the trigger zone by default."""
        self.at(on, "note_on", 0, key, 0.8)
        return self if off is None else self.at(off, "note_off", 0, key, 0.0)

    def text(self) -> str:
        blocks = self.blocks if isinstance(self.blocks, str) else " ".join(map(str, self.blocks))
        head = [f'plugin "{self.plugin}"', f"rate {self.rate}", f"length {self.length}", f"blocks {blocks}"]
        return "\n".join([*head, *self.lines]) + "\n"


def _word(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    text = str(value)
    return f'"{text}"' if " " in text or not text else text


@dataclass(frozen=True, kw_only=True)
class ClapHost:
    """The built host. `environment` is added to that of the process: what plugins read."""

    program: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, script: Script, name: str = "run") -> subprocess.Popen[str]:
        """Starts a run; `finish` waits for it. For tests that do something meanwhile."""
        recorded, blocks = self.folder / f"{name}.raw", self.folder / f"{name}.blocks"
        text = script.text() + f'record "{recorded}"\nblock_list "{blocks}"\n'
        (self.folder / f"{name}.script").write_text(text)
        return subprocess.Popen(
            [str(self.program), str(self.folder / f"{name}.script")],
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], name: str = "run", *, timeout_s: float = 60.0) -> Played:
        """Waits for a run; AssertionError with what it said if it failed."""
        try:
            said, told = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            _, told = process.communicate()
            raise AssertionError(f"clap_host did not end within {timeout_s:g} s: {told[-2000:]}") from None
        assert process.returncode == 0, f"exit code {process.returncode}: {told[-2000:]}"
        return self.played(said.splitlines()[-1], name)

    def played(self, line: str, name: str = "run") -> Played:
        """What a run that has ended gave; `line`: the last that it printed."""
        report = json.loads(line)
        audio = np.fromfile(self.folder / f"{name}.raw", "<f4").reshape(-1, max(report["channels"], 1))
        blocks = np.loadtxt(self.folder / f"{name}.blocks", ndmin=2)
        return Played(audio=audio, report=report, blocks=blocks)

    def run(self, script: Script, name: str = "run", *, timeout_s: float = 60.0) -> Played:
        """Runs a script to its end."""
        return self.finish(self.start(script, name), name, timeout_s=timeout_s)


def host_of(native: Native, folder: Path, **environment: str) -> ClapHost:
    """The host of the test build; skips where it could not be built."""
    program = native.program("clap_host")
    if not program.exists():
        pytest.skip("clap_host was not built: no CLAP headers (dpf-source is not installed)")
    return ClapHost(program=program, folder=folder, environment=environment)


def clap_file(native: Native) -> Path:
    """The plugin: of the test build if it has formats, else as `make plugin` builds it; skips without one."""
    files = [folder / "bin" / "Attacca.clap" for folder in (native.folder, ROOT / "build" / "plugin")]
    for file in files:
        if file.exists():
            return file
    pytest.skip(f"{files[-1].relative_to(ROOT)} was not built: make plugin")


def nearest(value: Fraction) -> int:
    """The sample next to an exact time; a half goes up."""
    return (value + Fraction(1, 2)).__floor__()


def bar_lines(
    length: int, rate: int, ppq: Fraction, bpm: Fraction, meter: tuple[int, int], bars_from: Fraction = Fraction(0)
) -> list[Fraction]:
    """Exact times, in samples, of the bar lines in [0, length) while the tempo holds, from `ppq` at 0 on."""
    bar, per_sample = Fraction(4 * meter[0], meter[1]), bpm / (60 * rate)
    line = bars_from + -(-(ppq - bars_from) // bar) * bar
    lines = []
    while (at := (line - ppq) / per_sample) < length:
        lines.append(at)
        line += bar
    return lines
