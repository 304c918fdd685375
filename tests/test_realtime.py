"""A minute of the shipped model in real time: an engine process, sockets, a paced host; none late, memory flat."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from attacca.bridge import demo
from attacca.bridge.demo import DemoOptions, run_demo
from attacca.engine.bundle import find_bundle
from attacca.engine.manifest import ManifestError

MODEL = "ostinato"
TAKE_S, BPM = 60, 120
BARS = TAKE_S * BPM // 60 // 4
SETTLED_S = 25  # the riff, and the take until its window is full


def shipped() -> bool:
    try:
        find_bundle(MODEL)
    except ManifestError:
        return False
    return True


def resident_bytes(pid: int) -> int:
    """VmRSS of a process; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Resident bytes of the demo's engine, one a second from its start."""
    seen: list[int] = []
    over = threading.Event()

    class Watched(demo.EngineProcess):
        def __enter__(self) -> demo.EngineProcess:
            engine = super().__enter__()
            threading.Thread(target=watch, args=(engine.process.pid,), daemon=True).start()
            return engine

    def watch(pid: int) -> None:
        while not over.is_set() and (size := resident_bytes(pid)):
            seen.append(size)
            over.wait(1.0)

    monkeypatch.setattr(demo, "EngineProcess", Watched)
    try:
        yield seen
    finally:
        over.set()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not shipped(), reason=f"no bundle {MODEL} in this tree")
def test_a_paced_minute_has_no_underrun_and_flat_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = DemoOptions(model=MODEL, bpm=BPM, bars=BARS, threads=1, out=tmp_path)
    with watched(monkeypatch) as resident:
        run_demo(options, console=Console(quiet=True))
    told = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert told["underruns"] == {"callbacks": 0, "samples": 0}, told
    assert told["start_error_samples"] == 0, told
    assert 0 < told["rtf"]["total"] < 0.5, told
    assert told["fallbacks"] == {"planned": 0, "repeat": 0, "fade": 0}, told
    settled = [size for size in resident[SETTLED_S:] if size]
    assert len(settled) > 30, resident
    assert max(settled[-10:]) < 1.03 * max(settled[:10]) + 4e6, resident
