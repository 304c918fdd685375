"""What `attacca models score` does: bundles of the same model beside one another, by what they say of real music.

Between the command line and engine/scoring.py. One bundle is in memory at a time; of the reference, what it said is
kept. A checkpoint's folder stands for a bundle of each precision, made for the occasion.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from msgspec import UNSET

from attacca.bridge import hub_convert
from attacca.bridge.audiofile import read_audio
from attacca.bridge.cli_group import UserError
from attacca.bridge.teller import tell
from attacca.engine.bundle import Model, find_bundle, load_bundle
from attacca.engine.events import Pcm
from attacca.engine.generator import Codes, Sampling
from attacca.engine.manifest import KV_BITS, PRECISIONS, Manifest, read_manifest
from attacca.engine.mel import mel_distance_db
from attacca.engine.piece import heard_codes, make_piece, sound_of
from attacca.engine.scoring import Distance, Logits, bits_of, distance, forced_logits

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
MOST_FILES = 32
_LIMITS = {"seconds": (0.2, 30.0), "seed": (0, 2**31 - 1)}

Progress = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """What `attacca models score` takes. `keep`: where bundles made of a checkpoint stay; None: they do not."""

    models: tuple[str, ...]
    against: str | None = None
    audio: Path | None = None
    seconds: float = 8.0  # of each file
    text: str | None = None
    seed: int = 0
    threads: int = 1
    keep: Path | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name):g}, allowed: {low:g}..{high:g}")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One bundle. What compares it with the reference is None where there is none, or it is the reference."""

    name: str
    precision: str
    kv_bits: int
    megabytes: float
    bits_per_frame: float
    bits: list[float]  # by codebook
    logits: Distance | None = None
    sampled_mel_db: float | None = None  # of what both sample with the same seed
    sampled_same_frames: float | None = None  # until the first other token, mean over the files
    codec_codes_equal: float | None = None  # None too where the codecs are the same files
    codec_mel_db: float | None = None  # of the same codes decoded


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole comparison."""

    reference: str | None
    audio: list[str]
    frames: int
    another_seed_mel_db: float | None  # of the reference: what "other" sounds like
    models: list[Scored]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Said:
    """What a model makes of the material."""

    manifest: Manifest
    codes: list[Codes]
    logits: list[Logits]
    sampled: list[Codes]
    sounds: list[Pcm]
    decoded: list[Pcm]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Material:
    names: list[str]
    sounds: list[tuple[Pcm, int]]  # samples [n, channels], rate


def score(options: ScoreOptions, progress: Progress) -> Report:
    """Score the bundles. UserError, ManifestError, HubError and ValueError say what is wrong. Main thread."""
    material = _material(options)
    places = _places(options)
    with _folder(options) as folder:
        reference, scored = None, []
        said: _Said | None = None
        another: float | None = None
        for number, (name, make) in enumerate(places):
            bundle, made = make(folder)
            try:
                model = load_bundle(bundle, threads=options.threads)
                if options.text is not None:
                    tell(model, options.text)
                if said is None:
                    said = _say(model, options, material, None)
                    scored.append(_scored(name, said))
                    if len(places) > 1:
                        reference, another = name, _another_seed(model, options, said)
                else:
                    _check_alike(said.manifest, model.manifest, name)
                    now = _say(model, options, material, said.codes)
                    scored.append(_compared(name, model, said, now, material))
            finally:
                if made and options.keep is None:
                    shutil.rmtree(bundle, ignore_errors=True)
            progress((number + 1) / len(places))
    assert said is not None
    frames = sum(len(codes) for codes in said.codes)
    return Report(
        reference=reference, audio=material.names, frames=frames, another_seed_mel_db=another, models=scored
    )


def _places(options: ScoreOptions) -> list[tuple[str, Callable[[Path], tuple[Path, bool]]]]:
    """Name of each bundle and what gives its folder and whether it was made for us; the reference first."""
    found: list[tuple[str, Callable[[Path], tuple[Path, bool]]]] = []
    for name in [*([options.against] if options.against else []), *options.models]:
        if hub_convert.is_checkpoint(Path(name)):
            found += _made_of(Path(name))
        else:
            folder = find_bundle(name)
            found.append((name, lambda _, folder=folder: (folder, False)))  # type: ignore[misc]
    if options.against is None:  # the finest there is stands for the original
        exact = [place for place in found if place[0].endswith(" fp32") or _is_exact(place[0])]
        found = [*exact[:1], *[place for place in found if place not in exact[:1]]]
    return found


def _is_exact(name: str) -> bool:
    try:
        decoder = read_manifest(find_bundle(name)).decoder
    except ValueError:
        return False
    return decoder.precision == "fp32" and decoder.kv_bits == 32


def _made_of(checkpoint: Path) -> list[tuple[str, Callable[[Path], tuple[Path, bool]]]]:
    name = hub_convert.bundle_name(checkpoint.resolve().name)

    def maker(precision: str, kv_bits: int) -> Callable[[Path], tuple[Path, bool]]:
        def make(folder: Path) -> tuple[Path, bool]:
            to = folder / f"{name}-{precision}-kv{kv_bits}"
            making: dict[str, Any] = {"precision": precision, "kv_bits": kv_bits, "show": False}
            return hub_convert.convert(checkpoint, to, name=name, **making), True

        return make

    caches = sorted(KV_BITS, reverse=True)
    return [
        (f"{name} {precision}{'' if kv_bits == 32 else f' kv{kv_bits}'}", maker(precision, kv_bits))
        for precision in PRECISIONS
        for kv_bits in caches
    ]


@contextmanager
def _folder(options: ScoreOptions) -> Iterator[Path]:
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        yield options.keep
        return
    with tempfile.TemporaryDirectory(prefix="attacca-score-") as name:
        yield Path(name)


def _material(options: ScoreOptions) -> _Material:
    """The user's files, or the riff that comes with the package."""
    if options.audio is None:
        with resources.as_file(resources.files("attacca.bridge") / "assets" / "riff.flac") as path:
            return _Material(names=["riff"], sounds=[read_audio(path)])
    paths = [options.audio]
    if options.audio.is_dir():
        paths = sorted(path for path in options.audio.rglob("*") if path.suffix.lower() in SUFFIXES)[:MOST_FILES]
    if not paths:
        raise UserError(f"{options.audio} has no audio files ({', '.join(SUFFIXES)})")
    return _Material(names=[path.name for path in paths], sounds=[read_audio(path) for path in paths])


def _say(model: Model, options: ScoreOptions, material: _Material, codes: list[Codes] | None) -> _Said:
    """`codes` are the reference's where there is one: other tokens would not be comparable."""
    if codes is None:
        frames = min(round(options.seconds * model.manifest.frames_per_second), _longest(model))
        codes = [heard_codes(model, *sound)[:frames] for sound in material.sounds]
        short = [name for name, part in zip(material.names, codes, strict=True) if len(part) < 4]
        if short:
            raise UserError(f"{short[0]} is too short: needed are 4 frames of the codec")
    sampled = [_continued(model, part, options.seed) for part in codes]
    return _Said(
        manifest=model.manifest,
        codes=codes,
        logits=[forced_logits(model, part) for part in codes],
        sampled=sampled,
        sounds=[sound_of(model, part) for part in sampled],
        decoded=[sound_of(model, part) for part in codes],
    )


def _longest(model: Model) -> int:
    """Frames that the model sees at once with all before them."""
    manifest = model.manifest
    text = manifest.text
    prefix = 0 if text is UNSET or not text.melody_rows else text.melody_rows + text.max_tokens
    return manifest.window_frames - prefix - model.pattern.lag_steps - 1


def _continued(model: Model, codes: Codes, seed: int) -> Codes:
    """The first half of codes [T, K], and what the model makes of the rest at its own settings."""
    defaults = model.manifest.sampling
    sampling = Sampling(
        seed=seed, temperature=defaults.temperature, top_k=defaults.top_k, guidance=defaults.guidance
    )
    return make_piece(model, frames=len(codes), sampling=sampling, known=codes[: len(codes) // 2]).codes


def _another_seed(model: Model, options: ScoreOptions, said: _Said) -> float:
    seed = replace(options, seed=(options.seed + 1) % 2**31).seed
    sounds = [sound_of(model, _continued(model, part, seed)) for part in said.codes]
    return _mel_apart(said, sounds, said.sounds)


def _mel_apart(said: _Said, near: list[Pcm], far: list[Pcm], *, whole: bool = False) -> float:
    """Mean over the files, of the half that was made; `whole`: of all of it."""
    hop, rate = said.manifest.hop_samples, said.manifest.sample_rate
    starts = [0 if whole else len(codes) // 2 * hop for codes in said.codes]
    parts = zip(near, far, starts, strict=True)
    return sum(mel_distance_db(a[start:], b[start:], rate) for a, b, start in parts) / len(near)


def _scored(name: str, said: _Said) -> Scored:
    """Without what compares."""
    bits = sum(bits_of(*pair).sum(axis=0) for pair in zip(said.logits, said.codes, strict=True))
    by_codebook = [float(value) for value in bits / sum(map(len, said.codes))]
    manifest = said.manifest
    return Scored(
        name=name,
        precision=manifest.decoder.precision,
        kv_bits=manifest.decoder.kv_bits,
        megabytes=sum(entry.bytes for entry in manifest.files.values()) / 1e6,
        bits_per_frame=sum(by_codebook),
        bits=by_codebook,
    )


def _compared(name: str, model: Model, said: _Said, now: _Said, material: _Material) -> Scored:
    same = []
    for ours, theirs in zip(now.sampled, said.sampled, strict=True):
        other = (ours != theirs).any(axis=1)
        same.append((int(other.argmax()) if other.any() else len(ours)) - len(ours) // 2)
    roles = ("codec_encoder", "codec_decoder")
    codec: dict[str, Any] = {}
    if any(said.manifest.files[role].sha256 != now.manifest.files[role].sha256 for role in roles):
        heard = [heard_codes(model, *sound)[: len(c)] for sound, c in zip(material.sounds, said.codes, strict=True)]
        equal = [float((ours == theirs).mean()) for ours, theirs in zip(heard, said.codes, strict=True)]
        codec["codec_codes_equal"] = sum(equal) / len(equal)
        codec["codec_mel_db"] = _mel_apart(said, now.decoded, said.decoded, whole=True)
    return replace(
        _scored(name, now),
        logits=distance(now.logits, said.logits),
        sampled_mel_db=_mel_apart(said, now.sounds, said.sounds),
        sampled_same_frames=sum(same) / len(same),
        **codec,
    )


def _check_alike(wanted: Manifest, found: Manifest, name: str) -> None:
    for field in ("sample_rate", "hop_samples", "num_codebooks", "codebook_size", "pattern"):
        if getattr(found, field) != getattr(wanted, field):
            raise UserError(
                f"{name} has {field} {getattr(found, field)}, {wanted.name} has {getattr(wanted, field)}: "
                "only bundles of the same model can be compared"
            )
