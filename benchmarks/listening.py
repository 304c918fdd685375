"""A page to listen to a bundle: `python -m benchmarks.listening --bundle BUNDLE --out docs/listening`.

The codec on songs and on material it was not trained on (see benchmarks.robustness), and continuations of held-out
songs: with and without guidance and commands, in every style, through a step of tempo, under commanded chords. The
same bundle on the same machine gives the same page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from attacca.engine.bundle import Model, find_bundle, load_bundle
from attacca.engine.generator import Sampling
from attacca.engine.manifest import ManifestError
from attacca.training.music import HELDOUT_NAMES, STYLE_NAMES
from attacca.training.music.soundfont import RenderError
from benchmarks.listening_clips import RATE, Clip
from benchmarks.listening_page import Row, Section, write_page
from benchmarks.listening_takes import Commands, Held, figures, held_song, perform, progression, shown
from benchmarks.robustness import Bench, score_item
from benchmarks.robustness_items import ITEMS, Item, Roots
from benchmarks.robustness_measures import Row as Measures
from benchmarks.robustness_signals import Missing

ROOT = Path(__file__).parents[1]
MAX_BYTES = 6_000_000
# Of the recordings only those whose licence lets a page carry them: MIT and CC0.
PIECES = (
    *("band-metal", "band-ballad", "guitar-rhythm", "guitar-chords", "drums-tabla", "choir-piano"),
    *("speech-en-gb", "speech-es+f2", "gm-040", "distorted-029", "clipped", "noise-bursts", "stereo-wide"),
)
_PIECE_S, _CLIP_S, _STEP_S = 4.0, 5.5, 10.0
_FIRST = 600  # number of the first held-out song here
_STEP_BPM = (100.0, 130.0)
_PROGRESSIONS = {
    "A minor, F, C, G": ((9, 0, 4), (5, 9, 0), (0, 4, 7), (7, 11, 2)),
    "E flat minor, B": ((3, 6, 10), (11, 3, 6)),
}
_ROWS = {"input": "input", "codec": "through the codec", "phase": "bound: true amplitudes, our phases"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the page holds."""

    pieces: Sequence[str] = PIECES
    songs: int = 2
    styles: Sequence[str] = (*STYLE_NAMES, *HELDOUT_NAMES)
    seconds: float = _CLIP_S  # of a continuation
    step_s: float = _STEP_S
    seed: int = 0


QUICK = Plan(pieces=("noise-bursts", "guitar-chords"), songs=1, styles=STYLE_NAMES[:2], seconds=3.0, step_s=5.0)


class Progress:
    """Says on stderr what is being made; takes that fail or lack something are noted, not fatal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.began = time.monotonic()

    def __call__(self, what: str) -> None:
        self.console.print(f"{time.monotonic() - self.began:6.0f} s  {what}", highlight=False)


def _numbers(row: Measures) -> str:
    told = (("log-mel", "mel_distance", ".2f"), ("SI-SDR", "si_sdr_db", ".0f"), ("level", "level_error_db", "+.1f"))
    shown_here = [(name, row[key], form) for name, key, form in told if row[key] is not None]
    return ", ".join(
        f"{name} {value:{form}}{'' if name == 'log-mel' else ' dB'}" for name, value, form in shown_here
    )


def codec_rows(bench: Bench, plan: Plan, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    """A row a piece, input beside codec beside bound; and what was not there, by package."""
    rows: list[Row] = []
    missing: list[str] = []
    songs = [_song_item(number) for number in range(plan.songs)]
    for item in [*songs, *(item for name in plan.pieces for item in ITEMS if item.name == name)]:
        say(f"codec: {item.about}")
        try:
            scores = score_item(bench, item)
        except Missing as error:
            missing.append(f"{item.about} (Debian: {error})")
            continue
        clips = [Clip(title=title, audio=scores.audio[name]) for name, title in _ROWS.items()]
        source = f"{item.package}, {item.licence}" if item.licence else ""
        rows.append(
            Row(
                name=f"codec-{item.name.replace('+', '-')}",
                title=item.about,
                about=source,
                clips=tuple(clips),
                numbers=("", *(_numbers(scores.rows[name]) for name in list(_ROWS)[1:])),
            )
        )
    return rows, missing


def _song_item(number: int) -> Item:
    def make(_: Roots, seconds: float) -> tuple[np.ndarray, int]:
        held = held_song(_FIRST + number, seconds)
        return held.audio[held.join :], RATE

    return Item(
        name=f"song-{number}",
        kind="song",
        about=f"held-out song {_FIRST + number}",
        licence="",
        package="fluidsynth fluid-soundfont-gm",
        make=make,
    )


def _take(
    model: Model, held: Held, commands: Commands, title: str, seconds: float, sampling: Sampling
) -> tuple[Clip, str]:
    audio = perform(model, held, commands, seconds, sampling)
    return shown(held, commands, title, audio), _told(figures(held, commands, audio))


def _told(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in scores.items())


def _row(name: str, title: str, about: str, takes: Sequence[tuple[Clip, str]]) -> Row:
    clips, numbers = zip(*takes, strict=True)
    return Row(name=name, title=title, about=about, clips=clips, numbers=numbers)


def guidance_rows(model: Model, plan: Plan, sampling: Sampling, say: Callable[[str], None]) -> Iterator[Row]:
    """What really followed, commanded, without guidance, without commands."""
    plain = Sampling(seed=sampling.seed, temperature=sampling.temperature, top_k=sampling.top_k)
    for number in range(plan.songs):
        held = held_song(_FIRST + number, plan.seconds)
        say(f"guidance: {held.about}")
        told, untold = Commands(held, model), Commands(held, model, told=False)
        real = held.audio[: held.join + round(plan.seconds * RATE)]
        takes = [
            (shown(held, told, "what really followed", real, real=True), _told(figures(held, told, real))),
            _take(model, held, told, f"commanded, guidance {sampling.guidance:g}", plan.seconds, sampling),
            _take(model, held, told, "commanded, no guidance", plan.seconds, plain),
        ]
        audio = perform(model, held, untold, plan.seconds, plain)
        takes.append((shown(held, told, "nothing commanded", audio), _told(figures(held, told, audio))))
        yield _row(f"guidance-{number}", f"Song {number + 1}", held.about, takes)


def style_rows(model: Model, plan: Plan, sampling: Sampling, say: Callable[[str], None]) -> Iterator[Row]:
    for number, style in enumerate(plan.styles):
        held = held_song(_FIRST + 50 + number, plan.seconds, style=style)
        say(f"style: {held.about}")
        about = held.about.partition(", ")[2]
        take = _take(model, held, Commands(held, model), about, plan.seconds, sampling)
        yield _row(f"style-{number:02d}", style, "", [take])


def step_rows(model: Model, plan: Plan, sampling: Sampling, say: Callable[[str], None]) -> Iterator[Row]:
    before, after = _STEP_BPM
    for number, style in enumerate(("house", "rock")[: plan.songs]):
        held = held_song(_FIRST + 80 + number, plan.step_s, style=style, bpm=before, meter=(4, 4))
        say(f"tempo step: {held.about}")
        bar_s = 4 * 60.0 / before
        step = held.join + round((2 if plan.step_s > 3 * bar_s else 1) * bar_s * RATE)
        steady, stepped = Commands(held, model), Commands(held, model, step=(step, after))
        takes = [
            _take(model, held, steady, f"steady at {before:.0f}", plan.step_s, sampling),
            _take(model, held, stepped, f"{before:.0f}, then {after:.0f} BPM", plan.step_s, sampling),
        ]
        yield _row(f"step-{number}", style, held.about, takes)


def chord_rows(model: Model, plan: Plan, sampling: Sampling, say: Callable[[str], None]) -> Iterator[Row]:
    for number, style in enumerate(("disco", "funk")[: plan.songs]):
        held = held_song(_FIRST + 90 + number, plan.seconds, style=style)
        say(f"chords: {held.about}")
        takes = [_take(model, held, Commands(held, model), "the song's own chords", plan.seconds, sampling)]
        for title, chords in _PROGRESSIONS.items():
            commands = Commands(held, model, chords=progression(chords))
            takes.append(_take(model, held, commands, title, plan.seconds, sampling))
        yield _row(f"chords-{number}", style, held.about, takes)


def make_sections(model: Model, bench: Bench, plan: Plan, say: Callable[[str], None]) -> list[Section]:
    """Every section of the page. Raises RenderError where FluidSynth is missing."""
    advised = model.manifest.sampling
    sampling = Sampling(
        seed=plan.seed, temperature=advised.temperature, top_k=advised.top_k, guidance=advised.guidance
    )
    rows, missing = codec_rows(bench, plan, say)
    absent = f"<p>Not there when this was made: {escape('; '.join(missing))}.</p>" if missing else ""
    return [
        Section(title="The codec", text=_CODEC_TEXT + absent, rows=tuple(rows)),
        Section(title="Guidance and commands", text=_GUIDANCE, rows=(*guidance_rows(model, plan, sampling, say),)),
        Section(title="Every style", text=_STYLES, rows=(*style_rows(model, plan, sampling, say),)),
        Section(title="A step of tempo", text=_STEP, rows=(*step_rows(model, plan, sampling, say),)),
        Section(title="Chords commanded", text=_CHORDS, rows=(*chord_rows(model, plan, sampling, say),)),
    ]


_CODEC_TEXT = """<p>Each sound as it went in and as it came out, and the bound: what the same method would give with
the true amplitudes, so what no training of the codec's networks can pass. Log-mel: mean difference of the log
spectrum (0.1 is 2 dB). SI-SDR compares waveforms: it is far below 0 dB, for the bound too, as phases are made and
not sent.</p>"""
_GUIDANCE = """<p>Up to the <span class="mark" style="background:#5ad1c8"></span> mark the song is played to the
model, from there the model goes on. White lines are bars, short ones beats. Figures: share of beats that stand on
the commanded grid (F1 at 70 and at 25 ms), and of chord time in which the commanded chord is the best match; the
last clip is measured against the same commands, which it was not given.</p>"""
_STYLES = f"""<p>One song of each style that the composer writes, from seeds that training never met, and of
{len(HELDOUT_NAMES)} styles that it never met either ({", ".join(HELDOUT_NAMES)}).</p>"""
_STEP = """<p>At the <span class="mark" style="background:#f0c05a"></span> mark the host's tempo steps, unannounced:
what was made beyond it is made again. Beats are counted from the step on.</p>"""
_CHORDS = "<p>The same context, then chords held on MIDI that the song never had, one a bar.</p>"


def page_text(model: Model) -> tuple[str, str, str]:
    """(title, introduction, footer) of the page."""
    manifest, codec = model.manifest, model.codec
    bits = codec.num_codebooks * np.log2(codec.codebook_size) * codec.sample_rate / codec.hop_samples
    sides = "stereo" if codec.audio_channels == 2 else "mono"
    text = (
        f"<p>{escape(manifest.name)} {escape(manifest.version)}: {codec.sample_rate / 1000:g} kHz {sides}, "
        f"{codec.num_codebooks} codebooks, {bits / 1000:.1f} kbit/s. Click a picture to play from there. Made by "
        "<code>python -m benchmarks.listening</code> in one go, nothing chosen by ear. Files are Opus at about "
        "65 kbit/s, which colours both what went in and what came out.</p>"
    )
    footer = (
        '<h2>Credits</h2><p>"Metal madness", "Feelings": composed and performed by Carlos Viola Iborra (Sectoid), '
        "2006-2007, MIT licence, from Debian's fretsonfire-songs-sectoid. Guitar, tabla, choir and piano: "
        "freesound.org, public domain (CC0), from Debian's sonic-pi-samples. Speech: espeak-ng. All else is "
        "composed and rendered here with FluidSynth and the FluidR3 soundfont (Frank Wen, MIT).</p>"
    )
    return f"Listening to {manifest.name}", text, footer


def main(
    bundle: Annotated[str, typer.Option(help="Bundle: a name or a folder.")] = "ostinato",
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = ROOT / "docs/listening",
    seed: Annotated[int, typer.Option(help="Seed of the model's draws.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A few short clips.")] = False,
    packages: Annotated[
        Path, typer.Option(help="Where Debian packages were unpacked (dpkg-deb -x), beside those installed.")
    ] = ROOT / "data/debian",
    threads: Annotated[int, typer.Option(min=1, help="onnxruntime threads.")] = 1,
) -> None:
    """Make the listening page of a bundle."""
    plan = QUICK if quick else Plan()
    plan = Plan(**{**vars(plan), "seed": seed})
    try:
        model = load_bundle(find_bundle(bundle), threads=threads)
        bench = Bench(codec=model.codec, roots=(Path("/"), packages), seconds=min(_PIECE_S, plan.seconds))
        sections = make_sections(model, bench, plan, Progress())
    except (ManifestError, RenderError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    title, text, footer = page_text(model)
    size = write_page(out, title, text, sections, footer)
    typer.echo(f"{out / 'index.html'}: {sum(len(s.rows) for s in sections)} rows, {size / 1e6:.2f} MB")
    if size > MAX_BYTES:
        typer.echo(f"error: the page has {size} bytes, allowed {MAX_BYTES}", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
