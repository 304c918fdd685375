"""The paper's comparison at our size: `python -m benchmarks.patterns --data DATA --codec RUN --out DIR`.

Delay, flat, stack and stack-delay p = 1..4 (Le Lan et al. 2023, Tables 1-3), each trained on the same crops in the
same order with the same parameters for the same number of updates, then scored on the same held-out songs: bits per
frame by codebook, Fréchet distances, beats, chords, and what a second of audio costs. Stopped, it goes on.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track

from attacca.engine.bundle import Model, load_bundle
from attacca.engine.conditioning import DEFAULT_LAYOUT
from attacca.engine.generator import Sampling
from attacca.engine.pattern import make_pattern
from attacca.export.export_bundle import export
from attacca.training.decoder_data import TokenSongs
from attacca.training.decoder_model import sized
from attacca.training.decoder_train import CHECKPOINT, TrainConfig, Trainer, layout_in, train
from attacca.training.music.catalogue import HELDOUT_SEED, list_songs
from benchmarks.ears import Ears
from benchmarks.model import Commands, continue_song, decode_codes, encode_audio
from benchmarks.patterns_report import make_figure, make_report, make_table
from benchmarks.scores import continuation_scores
from benchmarks.songs import Case, load_case
from benchmarks.spectra import Array, Audio

# As the paper's Table 1 lists them.
PATTERNS = (("delay", 1), ("flat", 1), ("stack", 1), *(("stack-delay", p) for p in (1, 2, 3, 4)))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is the same for every pattern."""

    data: Path
    codec: Path
    out: Path
    size: str = "4x192"
    crop_frames: int = 160
    updates: int = 500
    batch: int = 8
    seeds: int = 1
    songs: int = 24
    longest_s: float = 12.0
    guidance: float = 3.0
    temperature: float = 0.9
    workers: int = 1
    prefixes: tuple[int, ...] = (0, 32, 64, 96)
    evaluation_crops: int = 24

    def recipe(self, seed: int) -> TrainConfig:
        """Training of one model."""
        return TrainConfig(
            updates=self.updates,
            batch=self.batch,
            crop_frames=self.crop_frames,
            prefixes=self.prefixes,
            evaluation_crops=self.evaluation_crops,
            seed=seed,
            workers=self.workers,
        )


TINY = {
    "size": "1x64",
    "crop_frames": 48,
    "updates": 4,
    "batch": 2,
    "songs": 2,
    "longest_s": 6.0,
    "prefixes": (0, 8),
    "evaluation_crops": 2,
}


def name_of(pattern: str, p: int) -> str:
    """ "stack-delay p=3", "flat"."""
    return f"{pattern} p={p}" if pattern == "stack-delay" else pattern


def train_one(plan: Plan, pattern: str, p: int, seed: int, console: Console) -> Path:
    """Trained and exported with the codec: the bundle's folder. What is there already is kept."""
    folder = plan.out / f"{name_of(pattern, p).replace(' ', '-').replace('=', '')}-seed{seed}"
    bundle = folder / "bundle"
    if (bundle / "manifest.json").is_file():
        return bundle
    begun = (folder / CHECKPOINT).is_file()
    layout = layout_in(folder / CHECKPOINT) if begun else DEFAULT_LAYOUT
    songs, heldout = (TokenSongs(plan.data, split, layout=layout) for split in ("train", "heldout"))
    size = int(max(song.max() for song in songs.codes + heldout.codes)) + 1
    config = sized(
        plan.size,
        num_codebooks=songs.num_codebooks,
        codebook_size=1 << (size - 1).bit_length(),
        cond_width=layout.width,
        pattern=pattern,
        p=p,
        window_frames=make_pattern(pattern, songs.num_codebooks, p=p).context_slots(plan.crop_frames),
    )
    trainer = Trainer(config, plan.recipe(seed), layout=songs.layout)
    if begun:
        trainer.load(folder / CHECKPOINT)
    try:
        train(
            trainer, songs, heldout, folder, say=lambda text: console.print(f"{folder.name}: {text}", markup=False)
        )
    finally:
        trainer.close()
    export(plan.codec, folder, bundle, precision="fp32", name=folder.name)
    return bundle


@dataclass(kw_only=True)
class Heard:
    """One model's continuations: vectors [windows, D] of each song in each embedding, and scores by measure."""

    vectors: dict[str, list[Array]]
    scores: list[dict[str, float]]


def hear(ears: Ears, cases: list[Case], sounds: list[Audio]) -> Heard:
    """What the ears make of `sounds`, played from each case's join on."""
    vectors = [ears.embeddings(sound) for sound in sounds]
    scores = [continuation_scores(case, sound)[0] for case, sound in zip(cases, sounds, strict=True)]
    return Heard(vectors={name: [v[name] for v in vectors] for name in vectors[0]}, scores=scores)


def play(model: Model, cases: list[Case], sampling: Sampling) -> list[Audio]:
    """Continuations of every case under its own commands."""
    codes = [encode_audio(model.codec, case.audio) for case in cases]
    return [
        continue_song(model, case, known[: case.join], Commands(case, model.conditioning), sampling)[1]
        for case, known in zip(cases, codes, strict=True)
    ]


def bits_of(bundle: Path) -> dict[str, Any]:
    """The last held-out evaluation of a training run."""
    lines = (bundle.parent / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return dict(json.loads(lines[-1]))


def cost_of(model: Model) -> dict[str, float]:
    """Steps, context and time per second of audio, from the graph's step at a full window on one thread."""
    pattern, rate = model.pattern, model.manifest.frames_per_second
    step_ms = float(model.manifest.provenance["step_p50_ms"])  # type: ignore[arg-type]
    per_second = pattern.steps_per_timestep * rate
    return {
        "steps_for_10_s": pattern.num_steps(round(10 * rate)),
        "context_slots_for_10_s": pattern.context_slots(round(10 * rate)),
        "delay_steps": pattern.lag_steps,
        "step_p50_ms": step_ms,
        "ms_per_s": step_ms * per_second,
        "rtf": step_ms * per_second / 1000.0,
    }


def run(plan: Plan, console: Console) -> dict[str, Any]:
    """Everything; the report (benchmarks/patterns_report.py)."""
    began = time.perf_counter()
    plan.out.mkdir(parents=True, exist_ok=True)
    bundles = {
        (pattern, p): [train_one(plan, pattern, p, seed, console) for seed in range(plan.seeds)]
        for pattern, p in PATTERNS
    }
    ears = Ears.load()
    stored = len(list_songs(plan.data / "heldout"))
    seeds = range(HELDOUT_SEED, HELDOUT_SEED + min(plan.songs, stored))
    cases = [load_case(seed, longest_s=plan.longest_s, folder=plan.data / "heldout") for seed in seeds]
    real = hear(ears, cases, [case.audio[case.join_sample :] for case in cases])
    heard: dict[str, list[Heard]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for (pattern, p), folders in track(bundles.items(), description="playing", console=console):
        name = name_of(pattern, p)
        heard[name] = []
        for seed, folder in enumerate(folders):
            model = load_bundle(folder)
            sampling = Sampling(seed=seed, temperature=plan.temperature, guidance=plan.guidance)
            heard[name].append(hear(ears, cases, play(model, cases, sampling)))
            rows.setdefault(name, cost_of(model) | {"bits": []})["bits"].append(bits_of(folder)["bits"])
    codec = load_bundle(bundles[PATTERNS[0]][0]).codec
    through = [decode_codes(codec, encode_audio(codec, case.audio))[case.join_sample :] for case in cases]
    heard["codec"] = [hear(ears, cases, through)]
    report = make_report(rows, heard, real, skill=ears.skill)
    report["plan"] = {name: str(v) if isinstance(v, Path) else v for name, v in vars(plan).items()}
    report["seconds"] = round(time.perf_counter() - began, 1)
    return report


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with songs and tokens/")],
    codec: Annotated[Path, typer.Option(help="codec run folder that made the tokens")],
    out: Annotated[Path, typer.Option(help="folder for the models; one that exists is gone on with")],
    json_path: Annotated[Path | None, typer.Option("--json", help="write everything measured here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write the picture here")] = None,
    updates: Annotated[int, typer.Option(help="of training, for every pattern")] = 500,
    size: Annotated[str, typer.Option(help="layers x width")] = "4x192",
    seeds: Annotated[int, typer.Option(help="models of each pattern")] = 1,
    songs: Annotated[int, typer.Option(help="held-out songs to continue")] = 24,
    workers: Annotated[int, typer.Option(help="processes that share a batch")] = 1,
    tiny: Annotated[bool, typer.Option("--tiny", help="toy sizes: tests the command, measures nothing")] = False,
) -> None:
    """Train every pattern alike and compare."""
    console = Console(stderr=True)
    torch.set_num_threads(1)
    plan = Plan(
        data=data, codec=codec, out=out, updates=updates, size=size, seeds=seeds, songs=songs, workers=workers
    )
    report = run(replace(plan, **TINY) if tiny else plan, console)  # type: ignore[arg-type]
    if json_path is not None:
        json_path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        make_figure(report, plot)
    shown = Console()
    shown.width = max(shown.width, 130)
    shown.print(make_table(report))
    for line in report["against_the_paper"]:
        shown.print(line, markup=False)


if __name__ == "__main__":
    typer.run(main)
