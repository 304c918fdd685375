"""A folder of a user's audio as MusicGen trains on it: the codec's tokens, and texts. Before musicgen_tune.py.

A song's text is the file NAME.txt beside it, else the one given for all, else none. Tokens are kept under a name
that changes with the file and the codec, so a second run only listens to what is new.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from msgspec import UNSET

from attacca.engine.bundle import load_codec
from attacca.engine.codec import Codec
from attacca.engine.encodec import Encodec
from attacca.engine.generator import Codes
from attacca.engine.manifest import Manifest, read_manifest
from attacca.training.own.sound import SoundFile, UnusableSound, find_sounds, read_sound

MAX_TEXT_CHARACTERS = 4096
_SPLIT_FILE = "split.json"
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What was found out about one file. With a `problem` it was skipped."""

    name: str
    seconds: float = 0.0
    text: str = ""
    key: str = ""  # of its tokens
    problem: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextStates:
    """A text encoder's states float32 [P, dim]; one row of zeros with a mask of zero is no text."""

    states: Floats
    mask: Floats


def listen(
    folder: Path,
    bundle: Path,
    keep: Path | None,
    *,
    text: str,
    shortest_frames: int,
    progress: Callable[[float], None],
) -> list[Heard]:
    """A row for each file under `folder`, by name; tokens go to `keep`, None: only a look. ValueError if none."""
    sounds = find_sounds(folder)
    if not sounds:
        raise ValueError(f"{folder} has no audio files (wav, flac, ogg, mp3, aiff)")
    manifest = read_manifest(bundle)
    files = {role: bundle / entry.path for role, entry in manifest.files.items()}
    codec = load_codec(files, manifest.codec, threads=os.cpu_count() or 1)
    found = []
    for number, sound in enumerate(sounds):
        found.append(_heard(sound, codec, manifest, keep, text, shortest_frames))
        progress((number + 1) / len(sounds))
    return found


def _heard(
    sound: SoundFile, codec: Codec | Encodec, manifest: Manifest, keep: Path | None, text: str, shortest_frames: int
) -> Heard:
    encoder = manifest.files["codec_encoder"].sha256
    key = hashlib.sha256(json.dumps([encoder, *sound.stamp]).encode()).hexdigest()[:20]
    try:
        pcm = read_sound(
            sound.path,
            sample_rate=codec.sample_rate,
            audio_channels=codec.audio_channels,
            shortest_s=(shortest_frames + 1) * codec.hop_samples / codec.sample_rate,
        )
    except UnusableSound as error:
        return Heard(name=sound.name, problem=str(error))
    if keep is not None and not (keep / f"{key}.npy").is_file():
        stream: Any = codec.encoder()
        codes = [stream.push(pcm), *([stream.flush()] if hasattr(stream, "flush") else [])]
        keep.mkdir(parents=True, exist_ok=True)
        partial = keep / f"{key}.{os.getpid()}.partial"
        with partial.open("wb") as file:
            np.save(file, np.concatenate(codes).astype(np.uint16))
        partial.replace(keep / f"{key}.npy")
    beside = sound.path.with_suffix(".txt")
    told = beside.read_text(encoding="utf-8", errors="replace").strip() if beside.is_file() else text
    return Heard(name=sound.name, seconds=len(pcm) / codec.sample_rate, text=told[:MAX_TEXT_CHARACTERS], key=key)


def split(heard: list[Heard], run: Path, *, share: float, seed: int) -> dict[str, str]:
    """Which usable file is "train" or "heldout", by name, drawn from names and seed and kept in RUN/split.json.

    What was once decided stays; new files are trained on. ValueError with fewer than two usable files.
    """
    names = [row.name for row in heard if not row.problem]
    if len(names) < 2:
        raise ValueError(
            f"{len(names)} of {len(heard)} files can be used, needed: 2 (one to train on, one to test)"
        )
    path = run / _SPLIT_FILE
    if path.is_file():
        decided: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    else:
        drawn = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
        decided = dict.fromkeys(drawn[: max(1, min(len(names) - 1, round(share * len(names))))], "heldout")
    decided = {name: decided.get(name, "train") for name in names} | decided
    present = {name: decided[name] for name in names}
    if set(present.values()) != {"train", "heldout"}:
        raise ValueError("every held-out or every other file is gone since training began; begin anew with --run")
    run.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(decided, indent=1), encoding="utf-8")
    return present


class Texts:
    """The text encoder of a bundle, as states; each text once. Without one, every text is none."""

    def __init__(self, bundle: Path) -> None:
        """ImportError if the bundle has a text encoder and the tokenizers library is not there."""
        manifest = read_manifest(bundle)
        self._made: dict[str, TextStates] = {}
        self._session: Any = None
        if manifest.text is UNSET:
            self._dim = manifest.decoder.dim
            return
        from tokenizers import Tokenizer

        self._dim, self._most = manifest.text.dim, manifest.text.max_tokens
        self._session = onnxruntime.InferenceSession(str(bundle / manifest.files["text_encoder"].path))
        self._tokenizer = Tokenizer.from_file(str(bundle / manifest.files["tokenizer"].path))
        self._tokenizer.no_padding()

    @property
    def nothing(self) -> TextStates:
        """No text."""
        return TextStates(states=np.zeros((1, self._dim), np.float32), mask=np.zeros(1, np.float32))

    def states(self, text: str) -> TextStates:
        """Of a text; what is longer than the model reads is cut."""
        if not text or self._session is None:
            return self.nothing
        if text not in self._made:
            ids = self._tokenizer.encode(text).ids
            ids = ids if len(ids) <= self._most else [*ids[: self._most - 1], ids[-1]]
            (states,) = self._session.run(["states"], {"ids": np.array(ids, np.int64)})
            self._made[text] = TextStates(states=states, mask=np.ones(len(ids), np.float32))
        return self._made[text]


class Songs:
    """The tokens of one split, with the states of their texts."""

    def __init__(self, heard: list[Heard], keep: Path, texts: Texts) -> None:
        self.codes: list[Codes] = [np.load(keep / f"{row.key}.npy") for row in heard]
        self.texts = [texts.states(row.text) for row in heard]
        self.nothing = texts.nothing
        lengths = np.array([len(codes) for codes in self.codes], np.float64)
        self._weights = lengths / lengths.sum()

    def batch(self, rng: np.random.Generator, size: int, frames: int, drop_text: float) -> Batch:
        """Random crops; a crop's text is left out with probability `drop_text`."""
        return self._crops(rng, rng.choice(len(self.codes), size=size, p=self._weights).tolist(), frames, drop_text)

    def fixed(self, size: int, frames: int) -> Batch:
        """The same crops each time, over all songs in turn, with their texts."""
        return self._crops(np.random.default_rng(0), [i % len(self.codes) for i in range(size)], frames, 0.0)

    def _crops(self, rng: np.random.Generator, songs: list[int], frames: int, drop_text: float) -> Batch:
        starts = [int(rng.integers(len(self.codes[song]) - frames + 1)) for song in songs]
        codes = np.stack([self.codes[song][a : a + frames] for song, a in zip(songs, starts, strict=True)])
        told = [self.nothing if rng.random() < drop_text else self.texts[song] for song in songs]
        longest = max(len(text.mask) for text in told)
        states = np.zeros((len(told), longest, told[0].states.shape[1]), np.float32)
        mask = np.zeros((len(told), longest), np.float32)
        for row, text in enumerate(told):
            states[row, : len(text.mask)], mask[row, : len(text.mask)] = text.states, text.mask
        return Batch(codes=codes.astype(np.int64), states=states, mask=mask)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Codes int64 [B, T, K], states of texts float32 [B, P, dim] and their mask [B, P]."""

    codes: npt.NDArray[np.int64]
    states: Floats
    mask: Floats
