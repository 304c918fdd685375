"""The whole recipe as one resumable command: compose and render, codec, tokens, decoder, export.

On top of the other modules of training/ and export/: it runs their commands in order, each in a process of its own
(so memory is given back), and leaves ROOT/stages/NAME.json when one is finished. Stopped at any point, the same
command goes on: finished stages are passed over, the unfinished one resumes from its own checkpoint.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


class RecipeError(RuntimeError):
    """A stage failed, or the folder belongs to another recipe."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the recipe: `python -m attacca.MODULE ARGUMENTS`; it must leave `result`."""

    name: str
    module: str
    arguments: tuple[str, ...]
    result: Path
    means: tuple[str, ...] = ()  # arguments that change how fast, not what

    @property
    def command(self) -> tuple[str, ...]:
        """What is written down and compared: the command without the interpreter and the means."""
        return ("-m", f"attacca.{self.module}", *self.arguments)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    songs: int
    heldout: int
    seconds: float
    codec: tuple[str, ...]  # arguments of the codec's training
    decoder: tuple[str, ...]  # arguments of the decoder's training
    export: tuple[str, ...] = ()  # arguments of the export

    def __post_init__(self) -> None:
        if self.songs < 1 or self.heldout < 1 or self.seconds < 2.0:
            raise ValueError(
                f"Size asks for {self.songs} songs, {self.heldout} held out, {self.seconds} s: too little"
            )


# What v0 was made with. The bundle's own defaults of sampling are chosen on held-out songs and stand here alone.
SAMPLING = ("--guidance", "3.0", "--temperature", "0.9")
FULL = Size(
    songs=560,
    heldout=24,
    seconds=44.0,
    codec=("--minutes", "11", "--decoder-minutes", "25"),
    decoder=("--size", "6x256", "--crop-frames", "224", "--batch", "8", "--minutes", "55"),
    export=SAMPLING,
)
TINY = Size(
    songs=8,
    heldout=2,
    seconds=12.0,
    codec=("--tiny", "--minutes", "0.3", "--decoder-minutes", "0.1"),
    decoder=("--tiny", "--codebook-size", "16"),
    export=("--name", "ostinato-tiny"),
)

Runner = Callable[[Sequence[str]], int]


def stages(root: Path, size: Size, *, workers: int = 2) -> list[Stage]:
    """The stages for a run folder, in order."""
    data, codec, decoder, bundle = (str(root / name) for name in ("data", "codec", "decoder", "bundle"))
    songs = ("--songs", str(size.songs), "--heldout", str(size.heldout), "--seconds", str(size.seconds))
    return [
        Stage(
            name="dataset",
            module="training.dataset",
            arguments=("--out", data, *songs),
            result=root / "data" / "train",
            means=("--workers", str(workers)),
        ),
        Stage(
            name="codec",
            module="training.codec_train",
            arguments=("--data", data, "--run", codec, *size.codec),
            result=root / "codec" / "codec.pt",
        ),
        Stage(
            name="tokens",
            module="training.tokenise",
            arguments=("--data", data, "--codec", codec),
            result=root / "data" / "tokens",
        ),
        Stage(
            name="decoder",
            module="training.decoder_train",
            arguments=("--data", data, "--run", decoder, *size.decoder),
            result=root / "decoder" / "decoder.pt",
        ),
        Stage(
            name="export",
            module="export.export_bundle",
            arguments=("--codec", codec, "--decoder", decoder, "--out", bundle, *size.export),
            result=root / "bundle" / "manifest.json",
        ),
    ]


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
    """Run this interpreter with `command`; its exit code."""
    return subprocess.run([sys.executable, *command], check=False).returncode


def main(
    root: Annotated[Path, typer.Option(help="Run folder; one that exists is resumed.")],
    tiny: Annotated[bool, typer.Option("--tiny", help="Minutes in all, to test the recipe; no music.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Songs rendered at a time.")] = 2,
) -> None:
    """Compose, render, train and export: ROOT/bundle is the result."""
    try:
        run(root, stages(root, TINY if tiny else FULL, workers=workers), runner=run_process)
    except RecipeError as error:
        raise SystemExit(f"recipe: {error}") from None
    print(f"finished: {root / 'bundle'}")


if __name__ == "__main__":
    typer.run(main)
