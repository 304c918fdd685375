"""Playing for the comparison of patterns: the exported bundles go on with held-out songs, and ears listen.

Between trained models and benchmarks/patterns_report.py. Everything runs through the engine's own runtime; codes
are kept on disk, so that a stopped comparison goes on and listening can be done again alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attacca.engine.bundle import Model, load_bundle
from attacca.engine.codec import Codec
from attacca.engine.generator import Codes, Conditions, Sampling
from attacca.engine.pattern import Pattern
from benchmarks.ears import EARS_FILE, Ears
from benchmarks.model import Rows, decode_codes, encode_audio
from benchmarks.scores import continuation_scores
from benchmarks.songs import Case
from benchmarks.spectra import Array, Audio, analysed

MEASURES = ("onset_f1_70ms", "onset_f1_25ms", "chord_match")
_PIECE_FRAMES = 16
_LEAD_FRAMES = 48  # more than the codec's decoder looks back


@dataclass(frozen=True, kw_only=True)
class Playing:
    """How every model plays: as MusicGen's defaults draw."""

    songs: int = 24  # held-out, at most
    longest_s: float = 10.0  # of a continuation
    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int = 250

    def sampling(self, seed: int) -> Sampling:
        return Sampling(seed=seed, temperature=self.temperature, top_k=self.top_k, guidance=self.guidance)


class _From:
    """A song's condition rows with its frame `first` as frame 0."""

    def __init__(self, rows: Rows, first: int) -> None:
        self._rows, self._first = rows, first

    def rows(self, first_frame: int, count: int) -> Conditions:
        return self._rows.rows(self._first + first_frame, count)


@dataclass(kw_only=True)
class Heard:
    """Continuations as the ears have them: vectors [windows, D] of each song by embedding, scores by measure."""

    vectors: dict[str, list[Array]]
    scores: list[dict[str, float]]

    def save(self, file: Path, ears: str) -> None:
        """With the hash of the ears that heard it."""
        arrays = {f"{kind}:{i:03d}": v for kind, vectors in self.vectors.items() for i, v in enumerate(vectors)}
        np.savez(file, ears=np.array(ears), scores=np.array(json.dumps(self.scores)), **arrays)

    @classmethod
    def load(cls, file: Path, ears: str) -> Heard | None:
        """None where these ears have not heard it yet."""
        if not file.is_file():
            return None
        with np.load(file, allow_pickle=False) as arrays:
            if str(arrays["ears"]) != ears:
                return None
            kinds: dict[str, list[Array]] = {}
            for name in sorted(name for name in arrays.files if ":" in name):
                kinds.setdefault(name.split(":")[0], []).append(arrays[name])
            return cls(vectors=kinds, scores=json.loads(str(arrays["scores"])))


def known_codes(codec: Codec, case: Case, frames: int) -> Codes:
    """Codes [frames, K] of what comes right before the join."""
    return encode_audio(codec, case.audio[: case.join_sample])[case.join - frames : case.join]


def continue_case(model: Model, case: Case, known: Codes, sampling: Sampling) -> tuple[Codes, float]:
    """Codes from the join on, as far as the codec's delay needs; seconds of processor time of their steps."""
    first, delay = case.join - len(known), model.codec.decoder().delay_samples
    source = _From(Rows(case.controls, model.conditioning), first)
    generator = model.generator()
    generator.listen(known, source.rows(0, len(known)))
    stop = case.stop - first - (-delay // model.codec.hop_samples)
    pieces, spent = [], 0.0
    for start in range(len(known), stop, _PIECE_FRAMES):  # a generator keeps its last window only
        end = min(start + _PIECE_FRAMES, stop)
        began = time.process_time()
        generator.plan(end, source, sampling)
        spent += time.process_time() - began
        pieces.append(generator.read(start, end))
    return np.concatenate(pieces), spent


def play(bundle: Path, cases: list[Case], known: list[Codes], sampling: Sampling, folder: Path) -> dict[str, Any]:
    """Every case played into FOLDER/songNNN.npy, unless all was done; what playing cost, FOLDER/cost.json."""
    cost_file = folder / "cost.json"
    if cost_file.is_file():
        return dict(json.loads(cost_file.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    model = load_bundle(bundle)
    spent, frames = 0.0, 0
    for index, (case, context) in enumerate(zip(cases, known, strict=True)):
        codes, seconds = continue_case(model, case, context, sampling)
        np.save(folder / f"song{index:03d}.npy", codes)
        spent, frames = spent + seconds, frames + len(codes)
    cost = cost_of(model.pattern, spent, frames, model.manifest.frames_per_second)
    cost_file.write_text(json.dumps(cost) + "\n", encoding="utf-8")
    return cost


def cost_of(pattern: Pattern, spent_s: float, frames: int, rate: float) -> dict[str, float]:
    """Steps, context and processor time per second of audio, of guided steps on one thread as they were played."""
    per_second_s = spent_s / (frames / rate)
    return {
        "steps_for_10_s": pattern.num_steps(round(10 * rate)),
        "context_slots_for_10_s": pattern.context_slots(round(10 * rate)),
        "delay_steps": pattern.lag_steps,
        "step_ms": 1e3 * per_second_s / (rate * pattern.steps_per_timestep),
        "ms_per_s": 1e3 * per_second_s,
        "rtf": per_second_s,
    }


def sound_of(codec: Codec, case: Case, known: Codes, codes: Codes) -> Audio:
    """The continuation's sound [(stop - join) * hop, ...] of its codes, the last known ones before it."""
    lead = known[-_LEAD_FRAMES:]
    decoded = decode_codes(codec, np.concatenate([lead, codes]))
    return decoded[len(lead) * codec.hop_samples :][: (case.stop - case.join) * codec.hop_samples]


def through(codec: Codec, case: Case) -> Audio:
    """The real continuation through the codec alone: what no decoder can be better than."""
    return decode_codes(codec, encode_audio(codec, case.audio))[case.join_sample :]


def hear(ears: Ears, cases: list[Case], sounds: list[Audio]) -> Heard:
    """What the ears make of `sounds`, played from each case's join on."""
    vectors = [ears.embeddings(analysed(s, case.rate)) for case, s in zip(cases, sounds, strict=True)]
    scores = [continuation_scores(case, sound)[0] for case, sound in zip(cases, sounds, strict=True)]
    kept = [{name: float(row[name]) for name in MEASURES if name in row} for row in scores]
    return Heard(vectors={name: [v[name] for v in vectors] for name in vectors[0]}, scores=kept)


def hear_codes(ears: Ears, codec: Codec, cases: list[Case], known: list[Codes], folder: Path) -> Heard:
    """What the ears make of the codes that `play` left in a folder; kept there, in heard.npz."""
    ears_hash = hashlib.sha256(EARS_FILE.read_bytes()).hexdigest()
    heard = Heard.load(folder / "heard.npz", ears_hash)
    if heard is None:
        played = [np.load(folder / f"song{i:03d}.npy") for i in range(len(cases))]
        sounds = [sound_of(codec, *parts) for parts in zip(cases, known, played, strict=True)]
        heard = hear(ears, cases, sounds)
        heard.save(folder / "heard.npz", ears_hash)
    return heard
