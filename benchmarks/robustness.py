"""How a codec takes what it was not trained on: `python -m benchmarks.robustness --json r.json [--quick]`.

Some 65 pieces of three seconds: recordings from Debian packages, synthetic speech, General MIDI through effects,
noise, silence, clipped and broken input, sweeps, clicks, sides. Each goes through a bundle's codec and is compared
with what went in, beside what no codec network could pass (true amplitudes, our phases) and an untrained codec.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import soundfile
import typer
from rich.console import Console
from rich.progress import track

from attacca.engine.bundle import find_bundle, load_bundle
from attacca.engine.codec import Codec
from attacca.engine.manifest import ManifestError
from attacca.engine.spectral import analyse
from attacca.engine.vocoder import resynthesise
from benchmarks.robustness_items import ITEMS, SECONDS, Item, Roots, load
from benchmarks.robustness_measures import RATE, Row, measure, resampled, to_common
from benchmarks.robustness_report import make_report, make_table
from benchmarks.robustness_signals import Missing

ROOT = Path(__file__).parents[1]
CHUNK_FRAMES = 5  # after a changed command; does not divide the graphs' blocks, so it costs the most
_QUICK_EVERY, _QUICK_S = 4, 1.5
Samples = npt.NDArray[np.float32]


@dataclass(kw_only=True)
class Trip:
    """One sound through a codec, in time with it: [frames * hop, channels] at the codec's rate."""

    audio: Samples
    decode_ms_per_s: float  # CPU time, all frames in one call
    chunked_ms_per_s: float  # in chunks of CHUNK_FRAMES
    chunked_difference: float  # largest, of chunked against whole
    nonfinite_samples: int


@dataclass(kw_only=True)
class ItemScores:
    """One piece of material: what it is, its measures by row, its sounds [n, 2] at RATE by row."""

    item: Item
    rate: int
    channels: int
    seconds: float
    rows: dict[str, Row] = field(default_factory=dict)
    trip: Trip
    audio: dict[str, Samples] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is compared: the codec under test and its bounds, those there are."""

    codec: Codec
    untrained: Codec | None = None
    checkpoint: Path | None = None
    roots: Roots = (Path("/"),)
    seconds: float = SECONDS


def for_codec(codec: Codec, audio: Samples, rate: int) -> Samples:
    """[n, 1 or 2] at any rate -> whole frames as the codec's encoder wants them, [m] or [m, 2]."""
    wanted = np.repeat(audio, 2, axis=1) if audio.shape[1] == 1 else audio
    if codec.audio_channels == 1:
        wanted = wanted.mean(axis=1, keepdims=True, dtype=np.float32)
    wanted = resampled(wanted, rate, codec.sample_rate)
    whole = wanted[: len(wanted) // codec.hop_samples * codec.hop_samples]
    return whole[:, 0] if codec.audio_channels == 1 else whole


def round_trip(codec: Codec, audio: Samples) -> Trip:
    """Encode and decode what `for_codec` gave; decoded once in one call and once in chunks."""
    codes = codec.encoder().push(audio)
    whole, chunked = codec.decoder(), codec.decoder()
    delay = whole.delay_samples
    held = np.concatenate([codes, np.repeat(codes[-1:], -(-delay // codec.hop_samples), axis=0)])
    seconds = len(held) * codec.hop_samples / codec.sample_rate
    began = time.process_time()
    out = whole.push(held)
    between = time.process_time()
    parts = [chunked.push(held[t : t + CHUNK_FRAMES]) for t in range(0, len(held), CHUNK_FRAMES)]
    ended = time.process_time()
    return Trip(
        audio=out[delay:][: len(codes) * codec.hop_samples],
        decode_ms_per_s=1000.0 * (between - began) / seconds,
        chunked_ms_per_s=1000.0 * (ended - between) / seconds,
        chunked_difference=float(np.abs(np.concatenate(parts) - out).max(initial=0.0)),
        nonfinite_samples=int(np.count_nonzero(~np.isfinite(out))),
    )


def score_item(bench: Bench, item: Item) -> ItemScores:
    """One piece through the codec and its bounds. Raises Missing with the package's name."""
    sound, rate = load(item, bench.roots, bench.seconds)
    codec = bench.codec
    trip = round_trip(codec, for_codec(codec, sound, rate))
    clean = np.where(np.isfinite(sound), sound, np.float32(0.0))  # as every encoder counts it
    heard = for_codec(codec, clean, rate)
    made = {
        "codec": (trip.audio, codec.sample_rate),
        "phase": (resynthesise(analyse(heard, codec.section.spectral), codec.section.spectral), codec.sample_rate),
    }
    if bench.untrained is not None:
        other = bench.untrained
        made["untrained"] = (round_trip(other, for_codec(other, clean, rate)).audio, other.sample_rate)
    if bench.checkpoint is not None:
        from benchmarks.robustness_bounds import unquantised

        made["unquantised"] = (unquantised(bench.checkpoint, heard), codec.sample_rate)
    audio = {"input": to_common(clean, rate)} | {name: to_common(x, hz) for name, (x, hz) in made.items()}
    length = min(map(len, audio.values()))
    audio = {name: x[:length] for name, x in audio.items()}
    return ItemScores(
        item=item,
        rate=rate,
        channels=sound.shape[1],
        seconds=length / RATE,
        rows={name: measure(audio["input"], x) for name, x in audio.items() if name != "input"},
        trip=trip,
        audio=audio,
    )


def write_wavs(folder: Path, scores: ItemScores) -> None:
    """NAME-ROW.wav of the input and of all that was made from it."""
    folder.mkdir(parents=True, exist_ok=True)
    for row, x in scores.audio.items():
        soundfile.write(folder / f"{scores.item.name}-{row}.wav", np.clip(x, -1, 1), RATE)


def main(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write everything measured here.")] = None,
    bundle: Annotated[str, typer.Option(help="Bundle: a name or a folder.")] = "ostinato",
    quick: Annotated[bool, typer.Option("--quick", help="Every fourth piece, 1.5 s each.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Picture of every piece's figures.")] = None,
    wav_dir: Annotated[Path | None, typer.Option(help="Write what was heard here.")] = None,
    packages: Annotated[
        Path, typer.Option(help="Where Debian packages were unpacked (dpkg-deb -x), beside those installed.")
    ] = ROOT / "data/debian",
    untrained: Annotated[Path, typer.Option(help="Bundle of random weights for the lower bound.")] = ROOT
    / "tests/data/tiny",
    codec_checkpoint: Annotated[
        Path | None, typer.Option(help="Training checkpoint: adds the codec without quantiser (needs torch).")
    ] = None,
) -> None:
    """Measure a codec on material it was not trained on; fails on NaN, and where chunked differs from whole."""
    began = time.process_time()
    try:
        model = load_bundle(find_bundle(bundle), threads=1)
        lower = load_bundle(untrained).codec if (untrained / "manifest.json").is_file() else None
    except ManifestError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    bench = Bench(
        codec=model.codec,
        untrained=lower,
        checkpoint=codec_checkpoint,
        roots=(Path("/"), packages),
        seconds=_QUICK_S if quick else SECONDS,
    )
    done: list[ItemScores] = []
    skipped: list[tuple[Item, str]] = []
    chosen = ITEMS[::_QUICK_EVERY] if quick else ITEMS
    for item in track(chosen, description="pieces", console=Console(stderr=True)):
        try:
            scores = score_item(bench, item)
        except Missing as missing:
            skipped.append((item, str(missing)))
            continue
        if wav_dir is not None:
            write_wavs(wav_dir, scores)
        scores.audio.clear()
        done.append(scores)
    report = make_report(done, skipped, model, cpu_s=time.process_time() - began)
    if json_path is not None:
        json_path.write_text(json.dumps(report, indent=1) + "\n")
    if plot is not None:
        from benchmarks.robustness_figure import draw

        draw(plot, report)
    console = Console()
    console.width = max(console.width, 150)  # a narrow pipe would break every cell
    console.print(make_table(report))
    if report["chunked_max_difference"] > 0.0 or report["nonfinite_samples"]:
        typer.echo("error: chunked differs from whole, or samples are not finite", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
