"""The recipe runs its stages in order, resumes where it was stopped, and mixes no two recipes in one folder."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from attacca.engine.bundle import load_bundle, verify_bundle
from attacca.engine.generator import Sampling
from attacca.engine.offline import continue_offline
from attacca.training.recipe import SIZES, RecipeError, Stage, main, run, run_process, stages

TINY, CPU = SIZES["tiny"], SIZES["cpu"]


def command_of(function: Callable[..., None]) -> Any:
    """A module's command line."""
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return typer.main.get_command(app)


class Runner:
    """Stands in for the processes: notes each command, leaves its result, fails on demand."""

    def __init__(self, todo: Sequence[Stage], *, failing: str = "", lazy: str = "") -> None:
        self.stages = {(*stage.command, *stage.means): stage for stage in todo}
        self.failing, self.lazy = failing, lazy
        self.ran: list[str] = []

    def __call__(self, command: Sequence[str]) -> int:
        stage = self.stages[tuple(command)]
        self.ran.append(stage.name)
        if stage.name == self.failing:
            return 3
        if stage.name != self.lazy:
            stage.result.parent.mkdir(parents=True, exist_ok=True)
            stage.result.touch()
        return 0


ORDER = ["songs", "sounds", "codec", "tokens", "decoder", "draft", "rollouts", "again", "export", "scorecard"]


def order(size: str) -> list[str]:
    """A recipe whose decoder does not hear itself has no use for these."""
    return ORDER if SIZES[size].rollouts else [name for name in ORDER if name not in ("draft", "rollouts", "again")]


@pytest.mark.parametrize("size", sorted(SIZES))
def test_every_stage_runs_once_in_order(tmp_path: Path, size: str) -> None:
    todo = stages(tmp_path, SIZES[size])
    runner = Runner(todo)
    assert run(tmp_path, todo, runner=runner) == len(order(size))
    assert runner.ran == order(size)
    assert run(tmp_path, todo, runner=runner) == 0
    assert runner.ran == order(size)
    record = json.loads((tmp_path / "stages" / "codec.json").read_text())
    assert tuple(record["command"]) == todo[ORDER.index("codec")].command


@pytest.mark.parametrize("size", sorted(SIZES))
def test_every_stage_is_a_command_that_takes_its_arguments(tmp_path: Path, size: str) -> None:
    """Parsed by the modules' own command lines: an unknown option or a bad value would be said."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    for stage in stages(tmp_path, SIZES[size]):
        command = command_of(importlib.import_module(stage.module).main)
        context = command.make_context(stage.module, [*stage.arguments, *stage.means])
        assert len(context.params) > 2


def test_a_stopped_run_goes_on_at_the_stage_that_failed(tmp_path: Path) -> None:
    todo = stages(tmp_path, TINY)
    with pytest.raises(RecipeError, match="stage tokens ended with 3"):
        run(tmp_path, todo, runner=Runner(todo, failing="tokens"))
    again = Runner(todo)
    assert run(tmp_path, todo, runner=again) == len(ORDER) - 3
    assert again.ran == ORDER[3:]


def test_a_stage_that_leaves_nothing_is_not_finished(tmp_path: Path) -> None:
    todo = stages(tmp_path, TINY)
    with pytest.raises(RecipeError, match="left no"):
        run(tmp_path, todo, runner=Runner(todo, lazy="decoder"))
    assert not (tmp_path / "stages" / "decoder.json").exists()


def test_a_lost_result_is_made_again(tmp_path: Path) -> None:
    todo = stages(tmp_path, TINY)
    run(tmp_path, todo, runner=Runner(todo))
    todo[ORDER.index("export")].result.unlink()
    again = Runner(todo)
    run(tmp_path, todo, runner=again)
    assert again.ran == ["export"]


def test_another_recipe_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    todo = stages(tmp_path, TINY)
    run(tmp_path, todo, runner=Runner(todo))
    with pytest.raises(RecipeError, match="another recipe"):
        run(tmp_path, stages(tmp_path, CPU), runner=Runner(todo))


def test_other_means_are_the_same_recipe(tmp_path: Path) -> None:
    todo = stages(tmp_path, TINY, workers=2)
    run(tmp_path, todo, runner=Runner(todo))
    assert run(tmp_path, stages(tmp_path, TINY, workers=4), runner=Runner(todo)) == 0


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="songs is 0"):
        replace(TINY, songs=0)


def test_two_sizes_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="--tiny and --gpu"):
        main(tmp_path, tiny=True, gpu=True)


@pytest.mark.train
@pytest.mark.timeout(1200)
def test_the_tiny_recipe_makes_a_bundle_that_plays(tmp_path: Path) -> None:
    """The whole recipe: compose, render, train for seconds, export; then the runtime continues with the result."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    run(tmp_path, stages(tmp_path, TINY), runner=run_process)
    bundle = tmp_path / "bundle"
    assert verify_bundle(bundle) == []
    model = load_bundle(bundle)
    made = continue_offline(model, np.zeros(32000, np.float32), 32000, seconds=1.0, sampling=Sampling(seed=1))
    assert made.pcm.shape[0] == 32000
    assert np.isfinite(made.pcm).all()
    assert json.loads((tmp_path / "quality.json").read_text())["held_out"] is True
    assert run(tmp_path, stages(tmp_path, TINY), runner=run_process) == 0
