"""Placement of the decode thread: what is asked for, what is refused, and that refusals change nothing else."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import pytest

from attacca.bridge import doctor
from attacca.bridge.config import ConfigError, Settings
from attacca.bridge.placement import FIFO, NICE, Placement, System, allowed, host_system, parse_cores, place
from attacca.bridge.server import Server
from attacca.bridge.serving import placement_of
from attacca.engine.fake import FakeModel


class Fake:
    """A system that records calls and refuses some."""

    def __init__(self, *refused: str, usable: int = 4) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.threads: set[str] = set()
        self.refused, self.usable = refused, usable

    def _call(self, name: str, value: Any = None) -> None:
        self.calls.append((name, value))
        self.threads.add(threading.current_thread().name)
        if name in self.refused:
            raise PermissionError(1, "Operation not permitted")

    def system(self) -> System:
        return System(
            nice=lambda value: self._call("nice", value),
            fifo=lambda value: self._call("fifo", value),
            cores=lambda value: self._call("cores", tuple(value)),
            usable_cores=lambda: self.usable,
            lock_memory=lambda: self._call("lock"),
            unlock_memory=lambda: self._call("unlock"),
        )


def told(placement: Placement, fake: Fake) -> list[tuple[str, bool]]:
    return [(outcome.what, outcome.done) for outcome in place(placement, fake.system())]


def test_nothing_is_asked_for_by_default() -> None:
    fake = Fake()
    assert place(Placement(), fake.system()) == [] and fake.calls == []


def test_everything_is_asked_for_in_order() -> None:
    fake = Fake()
    everything = Placement(priority="realtime", cores=(1, 3), lock_memory=True)
    assert told(everything, fake) == [("cores 1, 3", True), ("realtime priority", True), ("locked memory", True)]
    assert fake.calls == [("cores", (1, 3)), ("fifo", FIFO), ("lock", None)]


def test_what_is_refused_falls_back_or_is_left_out() -> None:
    fake = Fake("fifo", "lock", "cores")
    outcomes = place(Placement(priority="realtime", cores=(99,), lock_memory=True), fake.system())
    assert [outcome.done for outcome in outcomes] == [False, False, True, False]
    assert outcomes[2].what == "high priority" and ("nice", NICE) in fake.calls
    assert outcomes[0].found == "refused: Operation not permitted"


def test_a_single_core_is_never_taken_for_good() -> None:
    fake = Fake(usable=1)
    assert told(Placement(priority="realtime"), fake) == [("realtime priority", False), ("high priority", True)]
    assert all(name != "fifo" for name, _ in fake.calls)


def test_trying_out_is_undone_and_in_a_thread_of_its_own() -> None:
    fake = Fake("fifo")
    assert [outcome.done for outcome in allowed(fake.system())] == [True, False, True]
    assert fake.calls[-2:] == [("lock", None), ("unlock", None)]
    assert fake.threads == {"placement"}
    refusing = Fake("lock")
    allowed(refusing.system())
    assert ("unlock", None) not in refusing.calls


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="calls of Linux")
def test_calls_reach_one_thread_alone() -> None:
    before = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    found: list[Any] = []
    core = min(before[0])

    def run() -> None:
        system = host_system()
        system.cores((core,))
        system.nice(19)
        found.extend([os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [{core}, 19]
    assert (os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())) == before


def test_the_decode_thread_is_the_one_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[tuple[Placement, str]] = []

    def remember(placement: Placement) -> list[Any]:
        placed.append((placement, threading.current_thread().name))
        return []

    monkeypatch.setattr("attacca.bridge.server.place", remember)
    wanted = Placement(priority="high")
    from attacca.bridge.endpoints import EndpointConfig

    config = EndpointConfig(address="tcp://127.0.0.1:*", publish="tcp://127.0.0.1:*")
    with Server(FakeModel(), config=config, placement=wanted) as server:
        server.wait(0.01)
    assert placed == [(wanted, "attacca-decode")]


def test_settings_say_it() -> None:
    assert placement_of(Settings()) == Placement()
    settings = Settings(priority="high", cores=" 1, 2", lock_memory=True)
    assert placement_of(settings) == Placement(priority="high", cores=(1, 2), lock_memory=True)
    with pytest.raises(ConfigError, match="as in 2,3"):
        placement_of(Settings(cores="one"))
    assert parse_cores("") == ()
    for bad in ({"priority": "urgent"}, {"cores": (-1,)}):
        with pytest.raises(ValueError, match="Placement"):
            Placement(**bad)


def test_the_doctor_tells_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    from attacca.bridge import placement

    monkeypatch.setattr(placement, "host_system", lambda: Fake("fifo").system())
    found = {finding.name: (finding.verdict, bool(finding.remedy)) for finding in doctor.check_placement()}
    assert found == {
        "high priority": (doctor.Verdict.OK, False),
        "realtime priority": (doctor.Verdict.LACK, True),
        "locked memory": (doctor.Verdict.OK, False),
    }
