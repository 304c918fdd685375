"""The paper's comparison at our size: `python -m benchmarks.patterns --data DATA --codec RUN --out DIR`.

Delay, flat, stack and stack-delay p = 1..4 (Le Lan et al. 2023, Tables 1-3), each trained on the same crops in the
same order with the same parameters for the same number of updates, then scored on the same held-out songs: bits per
frame by codebook, Fréchet distances, beats, chords, and what a second of audio costs. All models of a seed are
trained before the next seed's. Stopped, it goes on, and asked for more updates or seeds, it adds them; any other
plan in the same folder is refused.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track

from attacca.engine.bundle import load_bundle
from attacca.engine.pattern import make_pattern
from attacca.export.export_bundle import export
from attacca.training.music.catalogue import HELDOUT_SEED, list_songs
from benchmarks.ears import Ears
from benchmarks.patterns_figure import make_figure
from benchmarks.patterns_play import Heard, Playing, hear, hear_codes, known_codes, play, through
from benchmarks.patterns_report import make_report, make_table
from benchmarks.patterns_train import Exam, Training, coarse_codec, learn, load_songs, make_trainer, unigram_bits
from benchmarks.songs import load_case

# As the paper's Table 1 lists them.
PATTERNS = (("delay", 1), ("flat", 1), ("stack", 1), *(("stack-delay", p) for p in (1, 2, 3, 4)))
PLAN_FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is decided beforehand."""

    data: Path
    codec: Path
    out: Path
    training: Training = field(default_factory=Training)
    playing: Playing = field(default_factory=Playing)
    seeds: int = 2  # models of each pattern
    played_seeds: int = 1  # of them, how many play

    def __post_init__(self) -> None:
        if not 0 <= self.played_seeds <= self.seeds or self.seeds < 1:
            raise ValueError(
                f"seeds is {self.seeds}, must be 1 or more; played_seeds is {self.played_seeds}, must be 0 .. seeds"
            )

    def fixed(self) -> dict[str, Any]:
        """What may not change when a folder is gone on with: all but the number of updates and of seeds."""
        training = {name: value for name, value in asdict(self.training).items() if name != "updates"}
        told = {"data": str(self.data), "codec": str(self.codec)}
        return told | {"training": training, "playing": asdict(self.playing)}

    def told(self) -> dict[str, Any]:
        """All of it, for the report."""
        numbers = {"updates": self.training.updates, "seeds": self.seeds, "played_seeds": self.played_seeds}
        return numbers | self.fixed()


def tiny_plan(plan: Plan) -> Plan:
    """Toy sizes in place of the plan's; its updates and seeds stay."""
    training = Training(
        size="1x64",
        crop_frames=48,
        prefixes=(0, 8),
        updates=plan.training.updates,
        batch=2,
        codebooks=2,
        curve_every=2,
        crops_per_song=1,
    )
    return replace(plan, training=training, playing=Playing(songs=2, longest_s=6.0))


def name_of(pattern: str, p: int) -> str:
    """ "stack-delay p=3", "flat"."""
    return f"{pattern} p={p}" if pattern == "stack-delay" else pattern


def model_folder(out: Path, name: str, seed: int) -> Path:
    """Where one model lives."""
    return out / f"{name.replace(' p=', '-p')}-seed{seed}"


def settle(plan: Plan) -> None:
    """Writes the plan and the codec of its levels into the folder. ValueError where it holds another plan's."""
    file = plan.out / PLAN_FILE
    asked = json.loads(json.dumps(plan.fixed()))
    if file.is_file():
        held = json.loads(file.read_text(encoding="utf-8"))
        if held != asked:
            raise ValueError(f"{plan.out} holds the plan {held}, asked for {asked}: take another folder")
        return
    coarse_codec(plan.codec, plan.out / "codec", plan.training.codebooks)
    file.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")


def train_all(plan: Plan, console: Console) -> dict[str, Any]:
    """Every model of every seed: {"models": {name: [result of each seed]}, "unigram_bits": by codebook}."""
    config, codec = plan.training, plan.out / "codec"
    songs = load_songs(plan.data, "train", config.codebooks, limit=config.train_songs)
    heldout = load_songs(plan.data, "heldout", config.codebooks)
    exam = Exam(heldout, [make_pattern(n, config.codebooks, p=p) for n, p in PATTERNS], config)
    found: dict[str, list[dict[str, Any]]] = {name_of(*pair): [] for pair in PATTERNS}
    size = 0
    for seed in range(plan.seeds):
        for pattern, p in PATTERNS:
            trainer = make_trainer(config, pattern, p, seed, songs, codec)
            size = trainer.model_config.codebook_size
            folder = model_folder(plan.out, name_of(pattern, p), seed)

            def say(text: str) -> None:
                console.print(text, highlight=False, markup=False)

            found[name_of(pattern, p)].append(learn(trainer, config, songs, exam, folder, say))
    return {
        "models": found,
        "unigram_bits": unigram_bits(songs, heldout, size),
        "cells": list(map(len, exam.times)),
    }


def bundle_of(plan: Plan, name: str, seed: int) -> Path:
    """The bundle of a trained model, exported where it is not yet; fp32: patterns are compared, not roundings."""
    folder = model_folder(plan.out, name, seed)
    bundle = folder / f"bundle-{plan.training.updates}"
    if not (bundle / "manifest.json").is_file():
        export(plan.out / "codec", folder, bundle, precision="fp32", name=folder.name)
    return bundle


def played_folder(bundle: Path) -> Path:
    """Where what a bundle plays is kept."""
    return bundle.with_name(bundle.name.replace("bundle", "played"))


def play_all(plan: Plan, console: Console) -> dict[str, Any]:
    """What playing "costs", what was "heard" of every pattern and the codec, of "real" songs; the ears' "skill"."""
    names = [name_of(*pair) for pair in PATTERNS]
    bundles = {(name, seed): bundle_of(plan, name, seed) for seed in range(plan.played_seeds) for name in names}
    codec = load_bundle(bundles[names[0], 0]).codec
    folder, playing = plan.data / "heldout", plan.playing
    taken = {"folder": folder, "rate": codec.sample_rate, "channels": codec.audio_channels}
    count = min(playing.songs, len(list_songs(folder)))
    cases = [load_case(HELDOUT_SEED + i, longest_s=playing.longest_s, **taken) for i in range(count)]
    known = [known_codes(codec, case, plan.training.crop_frames) for case in cases]
    costs: dict[str, dict[str, Any]] = {}
    for (name, seed), bundle in track(bundles.items(), description="playing", console=console):
        cost = play(bundle, cases, known, playing.sampling(seed), played_folder(bundle))
        costs.setdefault(name, cost)
    ears = Ears.load()
    heard: dict[str, list[Heard]] = {name: [] for name in names}
    for (name, _), bundle in track(bundles.items(), description="listening", console=console):
        heard[name].append(hear_codes(ears, codec, cases, known, played_folder(bundle)))
    heard["codec"] = [hear(ears, cases, [through(codec, case) for case in cases])]
    real = hear(ears, cases, [case.audio[case.join_sample :] for case in cases])
    return {"costs": costs, "heard": heard, "real": real, "skill": ears.skill}


def run(plan: Plan, console: Console) -> dict[str, Any]:
    """Everything that the plan asks for and the folder lacks; the report (benchmarks/patterns_report.py)."""
    plan.out.mkdir(parents=True, exist_ok=True)
    settle(plan)
    trained = train_all(plan, console)
    played = play_all(plan, console) if plan.played_seeds else None
    return make_report(plan.told(), trained, played)


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with songs and tokens/")],
    codec: Annotated[Path, typer.Option(help="codec run folder that made the tokens")],
    out: Annotated[Path, typer.Option(help="folder for the models; one that exists is gone on with")],
    json_path: Annotated[Path | None, typer.Option("--json", help="write everything measured here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write the picture here")] = None,
    updates: Annotated[int, typer.Option(help="of training, for every model")] = Training.updates,
    size: Annotated[str, typer.Option(help="layers x width")] = Training.size,
    batch: Annotated[int, typer.Option(help="crops an update")] = Training.batch,
    crop_frames: Annotated[int, typer.Option(help="frames a crop, and all the context that decoders have")] = 128,
    codebooks: Annotated[int, typer.Option(help="coarsest levels of the tokens")] = Training.codebooks,
    seeds: Annotated[int, typer.Option(help="models of each pattern")] = 2,
    played: Annotated[int, typer.Option(help="how many of them go on with songs; 0: bits only")] = 1,
    songs: Annotated[int, typer.Option(help="held-out songs to go on with")] = Playing.songs,
    longest_s: Annotated[float, typer.Option(help="of a continuation, seconds")] = Playing.longest_s,
    tiny: Annotated[bool, typer.Option("--tiny", help="toy sizes: tests the command, measures nothing")] = False,
) -> None:
    """Train every pattern alike and compare."""
    console = Console(stderr=True)
    torch.set_num_threads(1)
    training = Training(
        updates=updates,
        size=size,
        batch=batch,
        crop_frames=crop_frames,
        prefixes=(0, crop_frames // 4, crop_frames // 2),
        codebooks=codebooks,
    )
    plan = Plan(
        data=data,
        codec=codec,
        out=out,
        training=training,
        playing=Playing(songs=songs, longest_s=longest_s),
        seeds=seeds,
        played_seeds=played,
    )
    report = run(tiny_plan(plan) if tiny else plan, console)
    if json_path is not None:
        json_path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        make_figure(report, plot)
    shown = Console()
    shown.width = max(shown.width, 150)
    shown.print(make_table(report))
    for line in report["against_the_paper"]:
        shown.print(line, markup=False)


if __name__ == "__main__":
    typer.run(main)
