"""The whole recipe as one resumable command: songs and sounds, codec, tokens, decoder, export, scorecard.

On top of the other modules of training/ and export/: it runs their commands in order, each in a process of its own
(so memory is given back), and leaves ROOT/stages/NAME.json when one is finished. Stopped at any point, the same
command goes on: finished stages are passed over, the unfinished one resumes from its own checkpoint.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[1]  # of the repository: benchmarks/ is not installed


class RecipeError(RuntimeError):
    """A stage failed, or the folder belongs to another recipe."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the recipe: `python -m MODULE ARGUMENTS`; it must leave `result`."""

    name: str
    module: str
    arguments: tuple[str, ...]
    result: Path
    means: tuple[str, ...] = ()  # arguments that change how fast, not what

    @property
    def command(self) -> tuple[str, ...]:
        """What is written down and compared: the command without the interpreter and the means."""
        return ("-m", self.module, *self.arguments)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    songs: int
    heldout: int
    heldout_styles: int
    seconds: float  # of a song
    sounds: int  # clips that are no songs, for a robust codec
    switching: int = 0  # more songs, in which players come and go all the time
    levels: int = 0  # other levels at which the decoder meets each song
    sheet: tuple[str, ...] = ()  # format of songs and sounds
    codec: tuple[str, ...]  # arguments of the codec's training
    decoder: tuple[str, ...]  # arguments of the decoder's training
    decoder_module: str = "attacca.training.decoder_train"
    rollouts: int = 0  # takes of the trained decoder, which its training then goes on with; 0: it ends there
    again: tuple[str, ...] = ()  # arguments of that training
    export: tuple[str, ...] = ()  # arguments of the export
    scorecard: tuple[str, ...] = ()  # arguments of the scorecard

    def __post_init__(self) -> None:
        least = {"songs": 1, "heldout": 1, "sounds": 1, "seconds": 2.0}
        for name, low in (least | dict.fromkeys(("heldout_styles", "switching", "levels", "rollouts"), 0)).items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed: {low} and up")


# The bundle's own defaults of sampling are chosen on held-out songs and stand here alone.
SAMPLING = ("--guidance", "3.0", "--temperature", "0.9")
SIZES = {
    "cpu": Size(  # two cores, an afternoon; what ostinato v1 is made with
        songs=640,
        heldout=24,
        heldout_styles=8,
        seconds=44.0,
        sounds=240,
        switching=320,
        levels=1,
        codec=("--geometry", "v1", "--minutes", "22", "--decoder-minutes", "10"),
        decoder=("--size", "6x256", "--crop-frames", "304", "--batch", "6", "--minutes", "120"),
        rollouts=420,
        again=(
            *("--size", "6x256", "--crop-frames", "304", "--batch", "6", "--minutes", "60"),
            *("--learning-rate", "1.2e-3"),
        ),
        export=SAMPLING,
    ),
    "gpu": Size(  # one large GPU, as long as it takes; in short leases: training/gpu_run.py
        songs=6000,
        heldout=24,
        heldout_styles=8,
        seconds=44.0,
        sounds=1500,
        switching=3000,
        levels=1,
        codec=(
            *("--geometry", "v1", "--minutes", "20", "--decoder-minutes", "8", "--adversarial-minutes", "15"),
            *("--device", "cuda", "--batch", "96", "--threads", "16"),
        ),
        decoder=("--size", "6x256", "--crop-frames", "448", "--batch", "64", "--minutes", "40"),
        decoder_module="attacca.training.gpu_decoder",
        export=SAMPLING,
    ),
    "tiny": Size(
        songs=8,
        heldout=2,
        heldout_styles=1,
        seconds=12.0,
        sounds=4,
        switching=2,
        levels=1,
        sheet=("--rate", "32000", "--channels", "1"),
        codec=("--tiny", "--minutes", "0.3", "--decoder-minutes", "0.1"),
        decoder=("--tiny", "--codebook-size", "16"),
        rollouts=4,
        again=("--tiny", "--codebook-size", "16"),
        export=("--name", "ostinato-tiny"),
        scorecard=("--quick", "--seeds", "1000000-1000001"),
    ),
}

Runner = Callable[[Sequence[str]], int]


def stages(root: Path, size: Size, *, workers: int = 2) -> list[Stage]:
    """The stages for a run folder, in order."""
    data, sounds, codec, decoder, bundle, card = (
        str(root / name) for name in ("data", "data/sounds", "codec", "decoder", "bundle", "quality.json")
    )
    last = str(root / "decoder2") if size.rollouts else decoder
    songs = ("--songs", str(size.songs), "--heldout", str(size.heldout), "--seconds", str(size.seconds))
    strange = ("--heldout-styles", str(size.heldout_styles), "--switching", str(size.switching))
    return [
        Stage(
            name="songs",
            module="attacca.training.music.songs",
            arguments=("--out", data, *songs, *strange, *size.sheet),
            result=root / "data" / "train",
            means=("--workers", str(workers)),
        ),
        Stage(
            name="sounds",
            module="attacca.training.music.sounds",
            arguments=("--out", sounds, "--clips", str(size.sounds), *size.sheet),
            result=root / "data" / "sounds",
            means=("--workers", str(workers)),
        ),
        Stage(
            name="codec",
            module="attacca.training.codec_train",
            arguments=("--data", data, "--also", sounds, "--run", codec, *size.codec),
            result=root / "codec" / "codec.pt",
        ),
        Stage(
            name="tokens",
            module="attacca.training.tokenise",
            arguments=("--data", data, "--codec", codec, "--levels", str(size.levels)),
            result=root / "data" / "tokens" / "train",
            means=("--threads", str(workers)),
        ),
        Stage(
            name="decoder",
            module=size.decoder_module,
            arguments=("--data", data, "--codec", codec, "--run", decoder, *size.decoder),
            result=root / "decoder" / "decoder.pt",
        ),
        *(_with_rollouts(root, size, data, codec, workers) if size.rollouts else ()),
        _export("export", root, size, decoder=last, out=bundle),
        Stage(
            name="scorecard",
            module="benchmarks.quality",
            arguments=("--bundle", bundle, "--json", card, *size.scorecard),
            result=root / "quality.json",
        ),
    ]


def _export(name: str, root: Path, size: Size, *, decoder: str, out: str) -> Stage:
    return Stage(
        name=name,
        module="attacca.export.export_bundle",
        arguments=(
            *("--codec", str(root / "codec"), "--decoder", decoder, "--out", out),
            *("--tokens", str(root / "data" / "tokens" / "train"), *size.export),
        ),
        result=Path(out) / "manifest.json",
    )


def _with_rollouts(root: Path, size: Size, data: str, codec: str, workers: int) -> tuple[Stage, ...]:
    """The decoder plays, and its training goes on from what it hears of itself."""
    first, draft = str(root / "decoder"), str(root / "draft")
    return (
        _export("draft", root, size, decoder=first, out=draft),
        Stage(
            name="rollouts",
            module="attacca.training.rollouts",
            arguments=("--data", data, "--bundle", draft, "--songs", str(size.rollouts)),
            result=root / "data" / "tokens" / "rollouts",
            means=("--processes", str(workers)),
        ),
        Stage(
            name="again",
            module=size.decoder_module,
            arguments=(
                *("--data", data, "--codec", codec, "--run", str(root / "decoder2"), "--init", first),
                *size.again,
            ),
            result=root / "decoder2" / "decoder.pt",
        ),
    )


def run(root: Path, todo: Sequence[Stage], *, runner: Runner, clock: Callable[[], float] = time.monotonic) -> int:
    """Run what is not finished; the number of stages run. RecipeError says which stage failed and how to go on."""
    done = root / "stages"
    done.mkdir(parents=True, exist_ok=True)
    ran = 0
    for number, stage in enumerate(todo, start=1):
        stamp = done / f"{stage.name}.json"
        label = f"[{number}/{len(todo)}] {stage.name}"
        if finished(stage, stamp):
            print(f"{label}: finished before", flush=True)
            continue
        print(f"{label}: python {shlex.join(stage.command)}", flush=True)
        started = clock()
        code = runner((*stage.command, *stage.means))
        if code != 0:
            raise RecipeError(f"stage {stage.name} ended with {code}; the same command resumes there")
        if not stage.result.exists():
            raise RecipeError(f"stage {stage.name} ended well but left no {stage.result}")
        record = {"command": list(stage.command), "seconds": round(clock() - started, 1)}
        partial = stamp.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        partial.replace(stamp)
        ran += 1
    return ran


def finished(stage: Stage, stamp: Path) -> bool:
    """Whether a stage was finished by this very command. RecipeError if by another one: nothing is mixed."""
    if not stamp.is_file() or not stage.result.exists():
        return False
    command = json.loads(stamp.read_text(encoding="utf-8"))["command"]
    if tuple(command) != stage.command:
        raise RecipeError(
            f"{stamp} was made by another recipe (python {shlex.join(command)}); "
            "choose another --root, or delete the stamps from that stage on"
        )
    return True


def run_process(command: Sequence[str]) -> int:
    """Run this interpreter with `command`, benchmarks/ in its reach; its exit code."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT)))),
    }
    return subprocess.run([sys.executable, *command], check=False, env=environment).returncode


def main(
    root: Annotated[Path, typer.Option(help="Run folder; one that exists is resumed.")],
    tiny: Annotated[bool, typer.Option("--tiny", help="Minutes in all, to test the recipe; no music.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="What two cores do in hours; the default.")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="What a large GPU does in hours.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Songs rendered at a time.")] = 2,
) -> None:
    """Compose, render, train, export and score: ROOT/bundle and ROOT/quality.json are the result."""
    chosen = [name for name, wanted in (("tiny", tiny), ("cpu", cpu), ("gpu", gpu)) if wanted]
    if len(chosen) > 1:
        raise typer.BadParameter(f"--{' and --'.join(chosen)} are given, allowed: one of them")
    size = SIZES[chosen[0] if chosen else "cpu"]
    try:
        run(root, stages(root, size, workers=workers), runner=run_process)
    except RecipeError as error:
        raise SystemExit(f"recipe: {error}") from None
    print(f"finished: {root / 'bundle'}")


if __name__ == "__main__":
    typer.run(main)
