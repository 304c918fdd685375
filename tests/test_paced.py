"""What paced scenes are judged by: the processor is watched, and a failure stands unless it was withheld."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import paced as module
import pytest
from paced import RUNS, paced


def failing(times: int) -> tuple[Callable[[], None], list[int]]:
    """A test that fails so often, and the numbers of its runs."""
    runs: list[int] = []

    @paced
    def test() -> None:
        before = len(seen)
        while len(seen) < before + 2:  # until the watcher has looked twice in this run
            time.sleep(0.001)
        runs.append(len(runs))
        assert len(runs) > times

    return test, runs


seen: list[float] = []


@pytest.fixture(params=[0.0, 1.0])
def waits_s(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """What the watcher finds that it waited for a processor, each time it looks."""
    clock = itertools.count(0.0, request.param)
    seen.clear()

    def waited_s() -> float:
        seen.append(next(clock))
        return seen[-1]

    monkeypatch.setattr(module, "_waited_s", waited_s)
    return float(request.param)


def test_a_failure_is_played_again_only_where_the_processor_was_withheld(waits_s: float) -> None:
    test, runs = failing(RUNS - 1)
    if waits_s:
        test()
    else:
        with pytest.raises(AssertionError):
            test()
    assert len(runs) == (RUNS if waits_s else 1)


def test_who_always_fails_fails(waits_s: float) -> None:
    test, runs = failing(RUNS)
    with pytest.raises(AssertionError):
        test()
    assert len(runs) == (RUNS if waits_s else 1)


def test_the_kernels_figure_is_read() -> None:
    try:
        told = module._WAITED.read_text()
    except OSError:
        assert module._waited_s() == 0.0
    else:
        assert module._waited_s() >= int(told.split()[1]) / 1e9 >= 0.0
