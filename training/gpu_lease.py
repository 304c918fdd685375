"""Parts of a long run, one after the other or beside each other, within so many seconds; the next call goes on.

Under training/gpu_run.py, which knows what the parts are (training/gpu_plan.py). ROOT/gpu_run.json holds what each
part took and which are finished, by which command. Clock and processes are injected. Standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from attacca.training.gpu_plan import STOPS, WHOLE, Part
from attacca.training.gpu_stop import EXIT_UNFINISHED

STATE_FILE = "gpu_run.json"
_SAVE_S = 20.0  # that a training needs to save and end, before it would be killed
_MOST_FAILURES = 2  # of an optional part
_LOG_TAIL = 1500


class LeaseError(RuntimeError):
    """A part failed, or the folder belongs to another run; the message says which and shows its last words."""


class Job(Protocol):
    """A process that was started."""

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code, None if it still runs after so long."""

    def stop(self) -> None:
        """End it, and all that it started."""


Start = Callable[[Sequence[str], Path, Path | None], Job]  # command, log, file for its output


@dataclass
class Process:
    """A process group of its own."""

    popen: subprocess.Popen[bytes]

    def wait(self, timeout_s: float) -> int | None:
        try:
            return self.popen.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        for number, patience_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
            try:
                os.killpg(self.popen.pid, number)
            except ProcessLookupError:
                break
            if self.wait(patience_s) is not None and number == signal.SIGKILL:
                break
        self.wait(1.0)


def starter(environment: Mapping[str, str]) -> Start:
    """Start this interpreter with a command, its words in a log."""

    def start(command: Sequence[str], log: Path, output: Path | None) -> Job:
        with log.open("ab") as words, (output or log).open("wb" if output else "ab") as out:
            popen = subprocess.Popen(
                [sys.executable, *command],
                stdout=out,
                stderr=words,
                stdin=subprocess.DEVNULL,
                env=dict(environment),
                start_new_session=True,
            )
        return Process(popen)

    return start


class Lease:
    """One call: what it may take, and what was done before."""

    def __init__(
        self,
        root: Path,
        parts: Sequence[Part],
        *,
        limit_s: float,
        start: Start,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = print,
    ) -> None:
        """limit_s: from now until everything must have ended. LeaseError if `root` holds another run."""
        if not limit_s > 0:
            raise ValueError(f"limit_s is {limit_s}, allowed: above 0")
        self.root, self.parts, self.clock, self.say = root, list(parts), clock, say
        self._start, self.end = start, clock() + limit_s
        self._running: dict[str, tuple[Part, Job, float]] = {}
        root.mkdir(parents=True, exist_ok=True)
        (root / "logs").mkdir(exist_ok=True)
        path = root / STATE_FILE
        self.state: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}
        for part in self.parts:
            known = self.state.setdefault(
                part.name, {"command": list(part.command), "seconds": 0.0, "finished": False, "failures": 0}
            )
            if known["command"] != list(part.command):
                raise LeaseError(f"{path}: {part.name} was begun as {known['command']}; choose another --root")
        self._save()

    @property
    def left_s(self) -> float:
        """Seconds until the end."""
        return self.end - self.clock()

    def unfinished(self) -> list[Part]:
        """What is still to do, without measurements that were given up."""
        return [part for part in self.parts if not self._done(part)]

    def left_minutes(self) -> float:
        """What the unfinished parts should still take by the budget."""
        left = (part.minutes - self.state[part.name]["seconds"] / 60.0 for part in self.unfinished())
        return sum(max(0.0, minutes) for minutes in left)

    def run(self) -> bool:
        """Do what the time allows; whether all is done. LeaseError if a part fails that is needed."""
        try:
            for part in self.parts:
                if self._done(part):
                    continue
                if not all(self._await(name) for name in part.awaits):
                    return False
                if self.left_s < max(part.least_s, _SAVE_S + 1.0 if part.ends == STOPS else 0.0):
                    self.say(f"{part.name}: {self.left_s:.0f} s are left, it wants {part.least_s:.0f}: not begun")
                    if part.optional:
                        continue
                    return False
                self._begin(part)
                if not part.beside and not self._await(part.name):
                    return False
            for name in list(self._running):
                self._await(name)
            return not self.unfinished()
        finally:
            for part, job, began in self._running.values():
                job.stop()
                self._note(part, self.clock() - began)
            self._running.clear()

    def _done(self, part: Part) -> bool:
        known = self.state[part.name]
        given_up = part.optional and known["failures"] >= _MOST_FAILURES
        return given_up or (known["finished"] and part.result.exists())

    def _begin(self, part: Part) -> None:
        part.result.parent.mkdir(parents=True, exist_ok=True)
        command = list(part.command)
        if part.ends == STOPS:
            command += ["--stop-after-s", f"{self.left_s - _SAVE_S:.1f}"]
        self.say(f"{part.name}: {self.left_s:.0f} s are left")
        output = self._output(part) if part.to_file else None
        job = self._start(command, self.root / "logs" / f"{part.name}.log", output)
        self._running[part.name] = (part, job, self.clock())

    def _output(self, part: Part) -> Path:
        return part.result.with_name(part.result.name + ".partial")

    def _await(self, name: str) -> bool:
        """Wait for a part that runs, if it does; False if the time is over first."""
        if name not in self._running:
            return True
        part, job, began = self._running.pop(name)
        code = job.wait(self.left_s)
        if code is None:
            job.stop()
        elif code == 0 and part.to_file:
            self._output(part).replace(part.result)
        finished = code == 0 and part.result.exists()
        failed = code not in (0, None, EXIT_UNFINISHED) or (code == 0 and not finished)
        cut_short = code is None and part.ends == WHOLE  # it would be cut short again
        self._note(part, self.clock() - began, finished=finished, failed=failed or cut_short)
        self.say(f"{name}: {'finished' if finished else 'not finished'} ({self.clock() - began:.0f} s)")
        if failed and not part.optional:
            words = (self.root / "logs" / f"{name}.log").read_text(errors="replace")[-_LOG_TAIL:]
            raise LeaseError(f"{name} ended with {code}; its last words:\n{words}")
        return finished or (failed and part.optional)

    def _note(self, part: Part, seconds: float, *, finished: bool = False, failed: bool = False) -> None:
        known = self.state[part.name]
        known["seconds"] = round(known["seconds"] + seconds, 1)
        known["finished"] = finished
        known["failures"] += int(failed)
        self._save()

    def _save(self) -> None:
        path = self.root / STATE_FILE
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(self.state, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
