"""An engine in a process of its own: started, waited for, and ended whatever happens.

Used by the demo (and by tests) to play against exactly what a user starts with `attacca serve`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import IO, Final

_READY: Final = "attacca ready "
_TAIL_LINES: Final = 15
_STOP_S: Final = 3.0


class EngineProcessError(RuntimeError):
    """The engine did not come up, or ended by itself; the message ends with what it said last."""


class EngineProcess:
    """`attacca serve` on free ports. A context manager: entering waits until it is ready, leaving ends it."""

    def __init__(self, arguments: Sequence[str], *, timeout_s: float = 60.0) -> None:
        """`arguments`: further flags of `attacca serve`."""
        self.address = self.publish = ""
        self._command = [
            *(sys.executable, "-m", "attacca.bridge.cli", "serve"),
            *("--address", "tcp://127.0.0.1:*", "--publish", "tcp://127.0.0.1:*", "--osc-port", "0"),
            *arguments,
        ]
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._said: IO[str] | None = None
        self._ready = threading.Event()

    def __enter__(self) -> EngineProcess:
        """EngineProcessError if it dies or is not ready in time."""
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment,
        )
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        if not self._ready.wait(self._timeout_s) or not self.address:
            reason = "ended" if self._process.poll() is not None else f"was not ready in {self._timeout_s:g} s"
            error = self.failure(reason)
            self.__exit__()
            raise error
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._said is not None:
            self._said.close()
            self._said = None

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process itself. RuntimeError before it was started."""
        if self._process is None:
            raise RuntimeError("the engine process was not started")
        return self._process

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def failure(self, what: str) -> EngineProcessError:
        """An error that says what happened, and the last lines the engine wrote to stderr."""
        code = self._process.poll() if self._process is not None else None
        ending = f" (exit code {code})" if code is not None else ""
        lines: list[str] = []
        if self._said is not None:
            self._said.flush()
            self._said.seek(0)
            lines = self._said.read().strip().splitlines()[-_TAIL_LINES:]
        text = "\n  ".join(["", *lines]) if lines else " without a word on stderr"
        return EngineProcessError(f"the engine {what}{ending}:{text}")

    def _read(self, stdout: IO[str] | None) -> None:
        """Reader thread: the ready line, then whatever comes, so that the pipe never fills."""
        for line in stdout or ():
            if line.startswith(_READY):
                told = json.loads(line.removeprefix(_READY))
                self.address, self.publish = str(told["address"]), str(told["publish"])
                self._ready.set()
        if self._process is not None:
            self._process.wait()
        self._ready.set()
