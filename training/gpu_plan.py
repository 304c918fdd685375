"""What a lease of a GPU is spent on: the parts of the run, in order, with their commands and minutes.

Read by training/gpu_run.py. Standard library only: it must start on a bare machine. Where the cores are free while
the GPU works, they render songs, write tokens or score beside it; tokens depend on the encoder and the quantiser
alone, so they are written while the codec's decoder still learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FULL_MINUTES = 28.0  # of a lease of 30, its start and transfers aside
STOPS, FILES, WHOLE = "stops", "files", "whole"
_ENDS = (STOPS, FILES, WHOLE)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One command, `python -m ...`, that leaves `result`.

    ends: "stops": takes --stop-after-s, saves and exits with 75; "files": may be killed, its files are what is
    done; "whole": begins anew if it was broken off.
    """

    name: str
    command: tuple[str, ...]
    result: Path
    minutes: float  # of the budget
    ends: str
    least_s: float = 10.0  # not begun with less time left
    beside: bool = False  # runs while the parts after it run, until one awaits it
    awaits: tuple[str, ...] = ()
    optional: bool = False  # a measurement: left for the next call if time is short, given up after two failures
    to_file: bool = False  # its output is the result

    def __post_init__(self) -> None:
        if self.ends not in _ENDS:
            raise ValueError(f"ends is {self.ends!r}, allowed: {', '.join(_ENDS)}")
        if self.minutes < 0 or self.least_s < 0:
            raise ValueError(f"minutes are {self.minutes}, least_s is {self.least_s}, allowed: 0 and up")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Sizes and minutes; those of training are of training alone."""

    first_songs: int
    songs: int
    heldout: int
    seconds: float
    sounds: int
    switching: int  # of more songs, in which players come and go all the time
    sheet: tuple[str, ...]
    codec: tuple[str, ...]
    small: tuple[str, ...]
    large: tuple[str, ...]
    quality: tuple[str, ...]
    sampling: tuple[str, ...] = ("--guidance", "3.0", "--temperature", "0.9")

    @classmethod
    def of(cls, minutes_total: float) -> Budget:
        """For a lease of so many minutes. ValueError below 5."""
        if not 5.0 <= minutes_total <= 6000.0:
            raise ValueError(f"minutes_total is {minutes_total}, allowed 5..6000")
        share = minutes_total / FULL_MINUTES

        def minutes(full: float) -> str:
            return f"{full * share:.2f}"

        return cls(
            first_songs=max(50, round(700 * share)),
            songs=max(100, round(1600 * share)),
            heldout=24,
            seconds=44.0,
            sounds=max(50, round(300 * share)),
            switching=max(50, round(1000 * share)),
            sheet=(),
            codec=(
                *("--geometry", "v1", "--device", "cuda", "--batch", "96"),
                *("--minutes", minutes(4.0), "--decoder-minutes", minutes(1.5)),
                *("--adversarial-minutes", minutes(2.5)),
            ),
            small=("--size", "6x256", "--batch", "64", "--crop-frames", "448", "--minutes", minutes(4.5)),
            large=(
                *("--size", "16x1024", "--batch", "64", "--micro-batch", "16", "--crop-frames", "448"),
                *("--minutes", minutes(7.0)),
            ),
            quality=("--quick",),
        )


TINY = Budget(
    first_songs=4,
    songs=6,
    heldout=2,
    seconds=12.0,
    sounds=3,
    switching=2,
    sheet=("--rate", "32000", "--channels", "1"),
    codec=(
        *("--tiny", "--device", "cpu", "--batch", "4", "--crop-frames", "32"),
        *("--minutes", "0.05", "--decoder-minutes", "0.02", "--adversarial-minutes", "0.03"),
    ),
    small=("--size", "1x64", "--codebook-size", "16", "--batch", "4", "--crop-frames", "48", "--updates", "6"),
    large=("--size", "2x128", "--codebook-size", "16", "--batch", "4", "--crop-frames", "48", "--updates", "4"),
    quality=("--quick", "--seeds", "1000000-1000001"),
)


def plan(root: Path, budget: Budget, *, cores: int, total: float = FULL_MINUTES) -> list[Part]:
    """The parts in order, for a machine with so many cores and a lease of `total` minutes."""
    data, sounds, codec = root / "data", root / "data" / "sounds", root / "codec"
    each, share = str(max(1, cores - 2)), total / FULL_MINUTES
    songs = (
        *("-m", "attacca.training.music.songs", "--out", str(data), "--heldout", str(budget.heldout)),
        *("--heldout-styles", "0", "--seconds", str(budget.seconds), *budget.sheet, "--workers", each, "--songs"),
    )
    clips = ("--out", str(sounds), "--clips", str(budget.sounds), *budget.sheet, "--workers", each)
    train_codec = (
        *("-m", "attacca.training.codec_train", "--data", str(data), "--also", str(sounds), "--run", str(codec)),
        *("--threads", each, *budget.codec),
    )
    tokens = ("--data", str(data), "--codec", str(codec), "--levels", "1", "--threads", each)
    parts = [
        Part(
            name="songs",
            command=(*songs, str(budget.first_songs)),
            result=data / "train",
            minutes=1.8 * share,
            ends=FILES,
        ),
        Part(
            name="sounds",
            command=("-m", "attacca.training.music.sounds", *clips),
            result=sounds,
            minutes=0.4 * share,
            ends=FILES,
        ),
        Part(
            name="more-songs",
            command=(*songs, str(budget.songs), "--switching", str(budget.switching)),
            result=data / "train",
            minutes=0.0,
            ends=FILES,
            beside=True,
        ),
        Part(
            name="codec",
            command=(*train_codec, "--until", "fit"),
            result=codec / "codec.pt",
            minutes=5.0 * share,
            ends=STOPS,
            least_s=60.0,
        ),
        Part(
            name="tokens",
            command=("-m", "attacca.training.tokenise", *tokens),
            result=data / "tokens" / "train",
            minutes=0.0,
            ends=FILES,
            beside=True,
            awaits=("more-songs",),
        ),
        Part(
            name="codec-decoder",
            command=(*train_codec, "--until", "adversarial"),
            result=codec / "codec.pt",
            minutes=4.8 * share,
            ends=STOPS,
            least_s=60.0,
        ),
    ]
    small, large = "ostinato", "ostinato-l"
    return [
        *parts,
        _decoder(root, small, 4.8 * share, budget.small),
        _export(root, small, 0.4, budget),
        _quality(root, small, 0.0, budget, least_s=240.0, beside=True),
        _decoder(root, large, 7.3 * share, budget.large),
        _export(root, large, 0.8, budget),
        _speed(root, small),
        _quality(root, large, 2.0, budget, least_s=180.0),
        _speed(root, large),
    ]


def _decoder(root: Path, name: str, minutes: float, sizes: tuple[str, ...]) -> Part:
    data, codec = str(root / "data"), str(root / "codec")
    arguments = ("--data", data, "--codec", codec, "--run", str(root / name), *sizes)
    return Part(
        name=name,
        command=("-m", "attacca.training.gpu_decoder", *arguments),
        result=root / name / "decoder.pt",
        minutes=minutes,
        ends=STOPS,
        least_s=60.0,
        awaits=("tokens",),
    )


def _export(root: Path, name: str, minutes: float, budget: Budget) -> Part:
    bundle = root / "bundles" / name
    tokens = str(root / "data" / "tokens" / "train")
    arguments = (
        "--codec",
        str(root / "codec"),
        "--decoder",
        str(root / name),
        "--out",
        str(bundle),
        "--tokens",
        tokens,
    )
    return Part(
        name=f"export-{name}",
        command=("-m", "attacca.export.export_bundle", *arguments, "--name", name, *budget.sampling),
        result=bundle / "manifest.json",
        minutes=minutes,
        ends=WHOLE,
        least_s=60.0 * minutes,
    )


def _quality(
    root: Path, name: str, minutes: float, budget: Budget, *, least_s: float, beside: bool = False
) -> Part:
    """The scorecard, on this machine's processor; of the large model on two songs."""
    bundle, card = str(root / "bundles" / name), root / f"quality-{name}.json"
    few = () if beside or "--seeds" in budget.quality else ("--seeds", "1000000-1000001")
    score = ("--bundle", bundle, "--json", str(card), "--threads", "4" if beside else "8", *budget.quality, *few)
    return Part(
        name=f"quality-{name}",
        command=("-m", "benchmarks.quality", *score),
        result=card,
        minutes=minutes,
        ends=WHOLE,
        least_s=least_s,
        beside=beside,
        optional=True,
    )


def _speed(root: Path, name: str) -> Part:
    """Milliseconds of a step, RTF."""
    measured = ("--quick", "--only", "steps", "--only", "path", "--json", "-")
    return Part(
        name=f"speed-{name}",
        command=("-m", "attacca.bridge.cli", "bench", *measured, "--model", str(root / "bundles" / name)),
        result=root / f"speed-{name}.json",
        minutes=0.3,
        ends=WHOLE,
        optional=True,
        to_file=True,
    )


def table(parts: list[Part]) -> str:
    """The budget as lines of a Markdown table."""
    lines = ["| part | minutes | |", "|-|-|-|"]
    for part in parts:
        note = "on the cores, beside what follows" if part.beside else ""
        lines.append(f"| {part.name} | {part.minutes:.1f} | {note} |")
    lines.append(f"| all | {sum(part.minutes for part in parts):.1f} | |")
    return "\n".join(lines)
