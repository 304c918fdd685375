"""The scorecard of a model bundle on held-out songs: `python -m benchmarks.quality --json q.json [--quick]`.

Songs are composed and rendered from their seeds, so anyone can score a bundle on songs it never met. For each:
codec, bits per frame, and continuations judged against the beats and chords that were commanded, beside what
chance, a stranger's song, and the real continuation score under the same measures.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer
from rich.console import Console
from rich.progress import track

from attacca.engine.bundle import find_bundle, load_bundle
from attacca.engine.manifest import ManifestError
from attacca.training.dataset import HELDOUT_SEED
from attacca.training.render import SAMPLE_RATE, RenderError
from benchmarks.ears import Ears
from benchmarks.model import encode_audio
from benchmarks.obedience import DRIFT_BARS
from benchmarks.report import make_report, make_table
from benchmarks.scores import Bench, SongScores, score_song
from benchmarks.songs import Case, load_case

ROOT = Path(__file__).parents[1]
_QUICK_SONGS, _QUICK_S, _QUICK_LONG_BARS = 4, 9.0, 16
_LONG_SONGS, _STEP_SONGS = 4, 12
_TABLE_WIDTH = 160
_WAV_NAMES = ("real", "model", "no_conditioning", "codec")


def parse_seeds(text: str) -> list[int]:
    """ "A-B" (both included) or one seed. ValueError on anything else, and on a range of more than 10 000."""
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise ValueError(f"seeds are {text!r}, allowed: A-B or one number, such as 1000000-1000023")
    seeds = range(int(first), int(last if dash else first) + 1)
    if not 2 <= len(seeds) <= 10_000:
        raise ValueError(f"seeds {text!r} are {len(seeds)} songs, allowed: 2..10000 (one is the other's stranger)")
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
        soundfile.write(folder / f"{song.seed}-{name}.wav", np.clip(song.audio[name], -1, 1), SAMPLE_RATE)


def main(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write everything measured here.")] = None,
    bundle: Annotated[str, typer.Option(help="Bundle: a name or a folder.")] = "ostinato",
    seeds: Annotated[str, typer.Option(help="Songs, A-B; 1000000 and up are held out.")] = "1000000-1000023",
    quick: Annotated[
        bool, typer.Option("--quick", help="The first 4 songs, 9 s each; drift over 16 bars.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Spectrograms of the song of median onset F1.")] = None,
    plot_seed: Annotated[int | None, typer.Option(help="Draw this song instead.")] = None,
    wav_dir: Annotated[Path | None, typer.Option(help="Write what was heard here.")] = None,
    data: Annotated[Path, typer.Option(help="Rendered held-out songs; others are rendered.")] = ROOT
    / "data/v0/heldout",
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
    try:
        chosen = parse_seeds(seeds)[: _QUICK_SONGS if quick else None]
        model = load_bundle(find_bundle(bundle), threads=threads)
        lower = load_bundle(untrained).codec if (untrained / "manifest.json").is_file() else None
        bench = Bench(
            model=model,
            untrained=lower,
            checkpoint=codec_checkpoint,
            seed=seed,
            guidance=guidance,
            ears=Ears.load(),
            drift_songs=1 if quick else _LONG_SONGS,
            drift_bars=_QUICK_LONG_BARS if quick else DRIFT_BARS,
            step_songs=2 if quick else _STEP_SONGS,
        )
        longest_s = _QUICK_S if quick else 16.0
        cases = [
            load_case(number, longest_s=longest_s, folder=data)
            for number in track(chosen, description="rendering", console=Console(stderr=True))
        ]
    except (ValueError, ManifestError, RenderError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    songs = score_songs(bench, cases, plot=plot, plot_seed=plot_seed, wavs=wav_dir)
    report = make_report(songs, model.manifest, seconds=round(time.perf_counter() - began, 1))
    report["held_out"] = min(chosen) >= HELDOUT_SEED
    report["guidance"] = bench.default.guidance
    report["drift_bars"] = bench.drift_bars
    report["ears_skill"] = bench.ears.skill if bench.ears is not None else None
    if json_path is not None:
        json_path.write_text(json.dumps(report, indent=1) + "\n")
    console = Console()
    console.width = max(console.width, _TABLE_WIDTH)  # a narrow pipe would break every cell
    console.print(make_table(report))


if __name__ == "__main__":
    typer.run(main)
