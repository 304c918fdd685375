"""One song through every comparison: the model, its bounds above and below, and what it does uncommanded.

Rows are what was played, columns are measures; a measure that means nothing for a row is left out there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attacca.engine.bundle import Model
from attacca.engine.codec import Codec
from attacca.engine.generator import Codes, Sampling
from attacca.training.render import Audio
from benchmarks import harmony, obedience, onsets, spectra
from benchmarks.ears import Ears
from benchmarks.model import (
    Commands,
    continue_song,
    decode_codes,
    encode_audio,
    phase_only,
    teacher_forced_bits,
    unigram_bits,
)
from benchmarks.songs import Case

MEASURES = (
    "onset_f1_70ms",
    "onset_f1_25ms",
    "chord_match",
    "drift_ms_64_bars",
    "tempo_step_f1",
    "instrument_presence",
    "mel_distance",
    "si_sdr_db",
    "bits_per_frame",
    "seam_loudness_db",
    "seam_flux_percentile",
)
# What each row is, in the order of the table.
ROWS = {
    "model": "commanded, default guidance",
    "guidance_1": "commanded, guidance 1",
    "no_conditioning": "nothing commanded",
    "chance": "wrong commands; untrained codec; unigrams",
    "other_song": "another real song in its place",
    "codec": "the real song through the codec",
    "ceiling": "the real song; its amplitudes, our phases",
    "unquantised": "the codec without its quantiser",
}
Row = dict[str, float]


@dataclass(kw_only=True)
class SongScores:
    """One song's scores by row, its bits by codebook, and the sounds behind them."""

    seed: int
    about: str
    rows: dict[str, Row] = field(default_factory=dict)
    bits_by_codebook: list[float] = field(default_factory=list)
    unigram_by_codebook: list[float] = field(default_factory=list)
    audio: dict[str, Audio] = field(default_factory=dict)  # whole: real context, then the continuation


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is compared. `untrained` is a codec of random weights; a training `checkpoint` gives better bounds."""

    model: Model
    untrained: Codec | None = None
    checkpoint: Path | None = None
    seed: int = 0
    guidance: float | None = None  # None: the bundle's own
    ears: Ears | None = None  # who plays is judged by them
    # These cost more than all else, so only the first so many songs have them.
    drift_songs: int = 0
    drift_bars: int = obedience.DRIFT_BARS
    step_songs: int = 0

    @property
    def default(self) -> Sampling:
        """As the bundle's manifest advises, but for the seed and the guidance asked for."""
        advised = self.model.manifest.sampling
        guidance = advised.guidance if self.guidance is None else self.guidance
        return Sampling(seed=self.seed, temperature=advised.temperature, top_k=advised.top_k, guidance=guidance)


def continuation_scores(case: Case, continuation: Audio) -> tuple[Row, Row]:
    """Scores of a continuation [(stop - join) * 640] under this song's commands, and under wrong ones (chance)."""
    sound = case.joined(continuation)
    grid, shifted = onsets.grid_scores(sound, case.join_sample, case.commanded)
    row = {"onset_f1_70ms": grid[0.07], "onset_f1_25ms": grid[0.025]}
    chance = {"onset_f1_70ms": shifted[0.07], "onset_f1_25ms": shifted[0.025]}
    chords = harmony.chord_scores(sound[case.join_sample :], case.commanded)
    if chords is not None:
        row["chord_match"], chance["chord_match"] = chords
    row["seam_loudness_db"] = abs(spectra.step_db(sound[: case.join_sample], sound[case.join_sample :]))
    beats = onsets.beat_times(case.controls.slice(0, case.stop))
    elsewhere = beats[(np.abs(beats - case.join_sample / spectra.SAMPLE_RATE) > 0.1) & (beats > 0.1)]
    row["seam_flux_percentile"] = spectra.seam_percentile(sound, case.join_sample, elsewhere)
    return row, chance


def real_scores(case: Case, other: Case) -> dict[str, Row]:
    """What needs no model: the real continuation, and another song's."""
    length = len(case.audio) - case.join_sample
    stranger = other.audio[other.join_sample :][:length]
    stranger = np.pad(stranger, (0, length - len(stranger)), mode="wrap")
    rows = {
        "ceiling": continuation_scores(case, case.audio[case.join_sample :])[0],
        "other_song": continuation_scores(case, stranger)[0],
    }
    rows["other_song"]["mel_distance"] = spectra.mel_distance(case.audio[case.join_sample :], stranger)
    return rows


def score_song(bench: Bench, case: Case, other: Case, codes: list[Codes], index: int) -> SongScores:
    """Everything about one song; `codes` are those of every song up to its stop, this one's at `index`."""
    scores = SongScores(seed=case.seed, about=case.about, rows=real_scores(case, other))
    _score_codec(bench, case, codes[index], scores)
    _score_bits(bench, case, codes, index, scores)
    plain = Sampling(seed=bench.seed, temperature=bench.default.temperature, top_k=bench.default.top_k)
    for name, known, sampling in (
        ("model", True, bench.default),
        ("guidance_1", True, plain),
        ("no_conditioning", False, plain),
    ):
        commands = Commands(case, bench.model.conditioning, known=known)
        _, audio = continue_song(bench.model, case, codes[index][: case.join], commands, sampling)
        row, chance = continuation_scores(case, audio)
        scores.rows.setdefault(name, {}).update(row)
        scores.audio[name] = case.joined(audio)
        if name == "model":
            seams = ("seam_loudness_db", "seam_flux_percentile")
            scores.rows["chance"].update(chance | {key: scores.rows["other_song"][key] for key in seams})
    _score_obedience(bench, case, index, scores)
    scores.audio["real"] = case.audio
    return scores


def _score_obedience(bench: Bench, case: Case, index: int, scores: SongScores) -> None:
    """What takes commands of its own: long takes, a tempo step, players switched."""
    model, row, chance = bench.model, scores.rows["model"], scores.rows["chance"]
    if index < bench.drift_songs:
        drift = obedience.score_drift(model, case, bench.default, bars=bench.drift_bars)
        if drift is not None:
            row["drift_ms_64_bars"] = abs(drift)
    if index < bench.step_songs:
        stepped = obedience.step_case(case.seed)
        row["tempo_step_f1"], chance["tempo_step_f1"] = obedience.score_step(model, stepped, bench.default)
    if bench.ears is not None:
        heard = obedience.score_switches(model, case, bench.default, bench.ears)
        if heard is not None:
            row["instrument_presence"], chance["instrument_presence"] = heard, 1.0 - heard


def _score_codec(bench: Bench, case: Case, codes: Codes, scores: SongScores) -> None:
    """Log-mel distances of the codec and its bounds, over all of the song that is used."""
    codec = bench.model.codec
    decoded = decode_codes(codec, codes)
    scores.audio["codec"] = decoded
    distance = spectra.mel_distance(case.audio, decoded)
    scores.rows["codec"] = continuation_scores(case, decoded[case.join_sample :])[0] | {"mel_distance": distance}
    scores.rows["model"] = {"mel_distance": distance, "si_sdr_db": obedience.si_sdr_db(case.audio, decoded)}
    scores.rows["ceiling"]["mel_distance"] = spectra.mel_distance(
        case.audio, phase_only(codec.section.spectral, case.audio)
    )
    scores.rows["chance"] = {}
    if bench.untrained is not None:
        noise = decode_codes(bench.untrained, encode_audio(bench.untrained, case.audio))
        scores.rows["chance"]["mel_distance"] = spectra.mel_distance(case.audio, noise)
    if bench.checkpoint is not None:
        from benchmarks.bounds import bound_distances  # torch only where it is asked for

        bounds = bound_distances(bench.checkpoint, case.audio)
        scores.rows["unquantised"] = {"mel_distance": bounds["unquantised"]}
        scores.rows["chance"]["mel_distance"] = bounds["untrained"]


def _score_bits(bench: Bench, case: Case, codes: list[Codes], index: int, scores: SongScores) -> None:
    own, size = codes[index], bench.model.codec.codebook_size
    told, untold = (Commands(case, bench.model.conditioning, known=known) for known in (True, False))
    bits = teacher_forced_bits(bench.model, own, told, case.join)
    uncommanded = teacher_forced_bits(bench.model, own, untold, case.join)
    others = [c for i, c in enumerate(codes) if i != index] + [own[: case.join]]
    unigram = unigram_bits(own[case.join :], others, size)
    scores.bits_by_codebook, scores.unigram_by_codebook = bits.tolist(), unigram.tolist()
    scores.rows["model"]["bits_per_frame"] = float(bits.sum())
    scores.rows["no_conditioning"] = {"bits_per_frame": float(uncommanded.sum())}
    scores.rows["chance"]["bits_per_frame"] = float(unigram.sum())
