"""The scorecard of a model bundle on held-out songs: `python -m benchmarks.quality --json q.json [--quick]`.

Songs are composed and rendered from their seeds, so anyone can score a bundle on songs it never met. For each:
codec, bits per frame, and continuations judged against the beats, chords and players that were commanded and
against their context, beside what chance, a stranger's song, and the real continuation score under the same
measures. Without --seeds, songs in styles that training never met make a block of their own (`heldout_styles`).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer
from rich.console import Console
from rich.progress import track

from attacca.engine.bundle import Model, find_bundle, load_bundle
from attacca.engine.codec import Codec
from attacca.engine.manifest import ManifestError
from attacca.training.music.songs import FRAMES_PER_SECOND, HELDOUT_SEED, HELDOUT_STYLE_SEED, heldout_style_seeds
from attacca.training.music.synth import RenderError
from benchmarks.ears import Ears
from benchmarks.model import encode_audio
from benchmarks.obedience import DRIFT_BARS, bar_seconds
from benchmarks.report import make_report, make_table
from benchmarks.scores import Bench, SongScores, score_song
from benchmarks.songs import Case, load_case, with_drums

_LONGEST_DRIFT_S = 160.0
ROOT = Path(__file__).parents[1]
SEEDS = "1000000-1000023"
_TABLE_WIDTH = 170
_WAV_NAMES = ("real", "model", "guidance_1", "no_conditioning", "codec")
_MOST_SONGS = 500  # they are kept in memory


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is played: seconds continued, songs at all, and so many of them with what costs more."""

    longest_s: float
    songs: int | None
    drift_songs: int
    drift_bars: int
    step_songs: int
    switch_songs: int
    variation_songs: int

    def bench(self, common: Bench, cases: list[Case]) -> Bench:
        """Drift is measured on the first songs with drums at the join: without a beat there is none to drift."""
        lasting = [
            case.seed
            for case in with_drums(cases)
            if self.drift_bars * bar_seconds(case.controls, case.join) <= _LONGEST_DRIFT_S
        ]
        return replace(
            common,
            drift_seeds=tuple(lasting[: self.drift_songs]),
            drift_bars=self.drift_bars,
            step_songs=self.step_songs,
            switch_songs=self.switch_songs,
            variation_songs=self.variation_songs,
        )


# Songs and seconds such that, where a step costs 4 ms, all takes 20 minutes on one core and --quick 3.
_FULL_S, _QUICK_S = 12.0, 8.0
FULL = Plan(
    longest_s=_FULL_S,
    songs=None,
    drift_songs=3,
    drift_bars=DRIFT_BARS,
    step_songs=6,
    switch_songs=24,
    variation_songs=6,
)
APART = replace(FULL, songs=8, drift_songs=0, step_songs=0, switch_songs=2, variation_songs=0)
QUICK = Plan(
    longest_s=_QUICK_S, songs=4, drift_songs=1, drift_bars=16, step_songs=1, switch_songs=2, variation_songs=1
)
QUICK_APART = replace(QUICK, songs=2, drift_songs=0, step_songs=0, switch_songs=0, variation_songs=0)


def parse_seeds(text: str) -> list[int]:
    """ "A-B", both included. ValueError on anything else, and on ranges of fewer than 2 songs or more than 500."""
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise ValueError(f"seeds are {text!r}, allowed: A-B, such as {SEEDS}")
    seeds = range(int(first), int(last if dash else first) + 1)
    if not 2 <= len(seeds) <= _MOST_SONGS:
        raise ValueError(
            f"seeds {text!r} are {len(seeds)} songs, allowed: 2..{_MOST_SONGS} (one is the other's stranger)"
        )
    return list(seeds)


def score_songs(
    bench: Bench,
    cases: list[Case],
    *,
    plot: Path | None = None,
    plot_seed: int | None = None,
    wavs: Path | None = None,
) -> list[SongScores]:
    """All songs' scores, without their audio: WAVs and the picture are written on the way."""
    codes = [encode_audio(bench.model.codec, case.audio) for case in cases]

    def score(index: int) -> SongScores:
        return score_song(bench, cases[index], cases[(index + 1) % len(cases)], codes, index)

    done = []
    for i in track(range(len(cases)), description="songs", console=Console(stderr=True)):
        done.append(score(i))
        if wavs is not None:
            write_wavs(wavs, done[-1])
        done[-1].audio.clear()
    if plot is not None:
        from benchmarks.figure import draw

        seeds = [case.seed for case in cases]
        index = seeds.index(plot_seed if plot_seed in seeds else median_song(done).seed)
        draw(plot, score(index), cases[index])  # once more, which gives the same, rather than keep all sounds
    return done


def median_song(songs: list[SongScores]) -> SongScores:
    """The song whose onset F1 is the (lower) median: the one to show, neither best nor worst."""
    return sorted(songs, key=lambda s: s.rows["model"]["onset_f1_70ms"])[(len(songs) - 1) // 2]


def write_wavs(folder: Path, song: SongScores) -> None:
    """SEED-NAME.wav: the context, then the real continuation, the model's, or all through the codec."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _WAV_NAMES:
        soundfile.write(folder / f"{song.seed}-{name}.wav", np.clip(song.audio[name], -1, 1), song.rate)


def load_cases(seeds: list[int], model: Model, plan: Plan, data: Path) -> list[Case]:
    """The songs as the bundle's codec takes them. ValueError where its frames are not those of the labels."""
    codec = model.codec
    if codec.sample_rate != FRAMES_PER_SECOND * codec.hop_samples:
        raise ValueError(
            f"{model.manifest.name} has {codec.sample_rate / codec.hop_samples:g} frames a second, "
            f"allowed: {FRAMES_PER_SECOND}, as the songs' labels"
        )

    def load(seed: int) -> Case:
        folder = data / ("heldout_styles" if seed >= HELDOUT_STYLE_SEED else "heldout")
        rate, channels = codec.sample_rate, codec.audio_channels
        return load_case(seed, longest_s=plan.longest_s, folder=folder, rate=rate, channels=channels)

    return [load(seed) for seed in track(seeds, description="rendering", console=Console(stderr=True))]


def main(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write everything measured here.")] = None,
    bundle: Annotated[str, typer.Option(help="Bundle: a name or a folder.")] = "ostinato",
    seeds: Annotated[
        str | None,
        typer.Option(
            help=f"Songs, A-B; 1000000 and up are held out, 2000000 and up in styles never trained on. "
            f"Not given: {SEEDS}, and a block of songs in held-out styles."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="4 songs, 8 s each; drift over 16 bars.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Spectrograms of the song of median onset F1.")] = None,
    plot_seed: Annotated[int | None, typer.Option(help="Draw this song instead.")] = None,
    wav_dir: Annotated[Path | None, typer.Option(help="Write what was heard here.")] = None,
    data: Annotated[Path, typer.Option(help="Dataset with rendered held-out songs; others are rendered.")] = ROOT
    / "data/v1",
    untrained: Annotated[Path, typer.Option(help="Bundle of random weights for the codec's lower bound.")] = ROOT
    / "tests/data/tiny",
    codec_checkpoint: Annotated[
        Path | None, typer.Option(help="Training checkpoint: adds the codec without quantiser (needs torch).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the model's draws.")] = 0,
    guidance: Annotated[float | None, typer.Option(help="In place of the bundle's default.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="onnxruntime threads.")] = 1,
) -> None:
    """Score a bundle on held-out songs."""
    began = time.perf_counter()
    plans = [QUICK, QUICK_APART] if quick else [FULL, APART]
    try:
        asked = [parse_seeds(seeds or SEEDS)]
        if seeds is None:
            asked.append(list(heldout_style_seeds(APART.songs or 0)))
        model = load_bundle(find_bundle(bundle), threads=threads)
        lower: Codec | None = load_bundle(untrained).codec if (untrained / "manifest.json").is_file() else None
        common = Bench(
            model=model,
            untrained=lower,
            checkpoint=codec_checkpoint,
            seed=seed,
            guidance=guidance,
            ears=Ears.load(),
        )
        blocks = [
            load_cases(numbers[: plan.songs], model, plan, data)
            for numbers, plan in zip(asked, plans, strict=False)
        ]
    except (ValueError, ManifestError, RenderError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    songs = score_songs(plans[0].bench(common, blocks[0]), blocks[0], plot=plot, plot_seed=plot_seed, wavs=wav_dir)
    apart = [score_songs(plans[1].bench(common, cases), cases, wavs=wav_dir) for cases in blocks[1:]]
    report = make_report(
        songs, model.manifest, seconds=round(time.perf_counter() - began, 1), apart=apart[0] if apart else None
    )
    report["held_out"] = min(asked[0]) >= HELDOUT_SEED
    report["guidance"] = common.default.guidance
    report["drift_bars"] = plans[0].drift_bars
    report["ears_skill"] = common.ears.skill if common.ears is not None else None
    if json_path is not None:
        json_path.write_text(json.dumps(report, indent=1) + "\n")
    console = Console()
    console.width = max(console.width, _TABLE_WIDTH)  # a narrow pipe would break every cell
    console.print(make_table(report))
    if apart:
        console.print(make_table(report, block="heldout_styles"))


if __name__ == "__main__":
    typer.run(main)
