"""One song through every comparison: the model, its bounds above and below, and what it does uncommanded.

Rows are what was played; a measure that means nothing for a row is left out there. What they are is said in
benchmarks/measures.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attacca.engine.bundle import Model
from attacca.engine.codec import Codec
from attacca.engine.generator import Codes, Sampling
from benchmarks import harmony, matching, obedience, onsets, spectra, variation
from benchmarks.ears import Ears
from benchmarks.measures import PLAYED
from benchmarks.model import (
    Commands,
    continue_song,
    decode_codes,
    encode_audio,
    phase_only,
    teacher_forced_bits,
    unigram_bits,
)
from benchmarks.played import score_played
from benchmarks.songs import Case
from benchmarks.spectra import Audio

Row = dict[str, float]


@dataclass(kw_only=True)
class SongScores:
    """One song's scores by row, its bits by codebook, and the sounds behind them."""

    seed: int
    about: str
    rate: int = spectra.SAMPLE_RATE
    rows: dict[str, Row] = field(default_factory=dict)
    bits_by_codebook: list[float] = field(default_factory=list)
    unigram_by_codebook: list[float] = field(default_factory=list)
    audio: dict[str, Audio] = field(default_factory=dict)  # at `rate`, whole: real context, then the continuation

    def add(self, row: str, scores: Row) -> None:
        """More measures of a row."""
        self.rows.setdefault(row, {}).update(scores)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is compared. `untrained` is a codec of random weights; a training `checkpoint` gives better bounds."""

    model: Model
    untrained: Codec | None = None
    checkpoint: Path | None = None
    seed: int = 0
    guidance: float | None = None  # None: the bundle's own
    ears: Ears | None = None  # style and players are judged by them
    # These cost more than all else, so only so many songs have them.
    drift_seeds: tuple[int, ...] = ()  # of the model; of the other rows the first, to spare time
    drift_bars: int = obedience.DRIFT_BARS
    step_songs: int = 0
    switch_songs: int = 0
    variation_songs: int = 0

    @property
    def default(self) -> Sampling:
        """As the bundle's manifest advises, but for the seed and the guidance asked for."""
        advised = self.model.manifest.sampling
        guidance = advised.guidance if self.guidance is None else self.guidance
        return Sampling(seed=self.seed, temperature=advised.temperature, top_k=advised.top_k, guidance=guidance)

    def played(self, row: str) -> tuple[Sampling, bool]:
        """How a row of PLAYED is drawn, and whether commands are known to it."""
        plain = Sampling(seed=self.seed, temperature=self.default.temperature, top_k=self.default.top_k)
        return (self.default, True) if row == "model" else (plain, row == "guidance_1")


def continuation_scores(case: Case, continuation: Audio, *, ears: Ears | None = None) -> tuple[Row, Row]:
    """Scores of a continuation [(stop - join) * hop, ...] under its commands, and under wrong ones (chance)."""
    sound = spectra.analysed(case.joined(continuation), case.rate)
    grid = onsets.Grid.of(sound, case.join_heard, case.commanded)
    drums = grid.where(case.commanded.instruments[:, 0])
    row, chance = {}, {}
    for name, part in (("", grid), ("_drums", drums)):
        if part is not None:
            for tolerance_s in onsets.TOLERANCES_S:
                key = f"onset_f1_{1000 * tolerance_s:.0f}ms{name}"
                row[key], chance[key] = part.score(tolerance_s), part.chance(tolerance_s)
    for key, chords in harmony.chord_scores_by_part(sound[case.join_heard :], case.commanded).items():
        row[key], chance[key] = chords
    row["seam_loudness_db"] = abs(spectra.step_db(sound[: case.join_heard], sound[case.join_heard :]))
    beats = onsets.beat_times(case.controls.slice(0, case.stop))
    elsewhere = beats[(np.abs(beats - case.join_heard / spectra.SAMPLE_RATE) > 0.1) & (beats > 0.1)]
    row["seam_flux_percentile"] = spectra.seam_percentile(sound, case.join_heard, elsewhere)
    if ears is not None:
        row |= matching.match_scores(ears, case, sound)
    return row, chance


def score_song(bench: Bench, case: Case, other: Case, codes: list[Codes], index: int) -> SongScores:
    """Everything about one song; `codes` are those of every song up to its stop, this one's at `index`."""
    scores = SongScores(seed=case.seed, about=case.about, rate=case.rate)
    _score_real(bench, case, other, scores)
    _score_codec(bench, case, codes[index], scores)
    _score_bits(bench, case, codes, index, scores)
    context = codes[index][: case.join]
    for name in PLAYED:
        sampling, known = bench.played(name)
        commands = Commands(case, bench.model.conditioning, known=known)
        _, audio = continue_song(bench.model, case, context, commands, sampling)
        row, chance = continuation_scores(case, audio, ears=bench.ears)
        scores.add(name, row)
        scores.audio[name] = case.joined(audio)
        if name == "model":
            scores.add("chance", chance)
    scores.audio["real"] = np.asarray(case.audio)
    if case.seed in bench.drift_seeds:
        _score_long(bench, case, context, scores)
    if index < bench.step_songs:
        _score_step(bench, case, scores)
    if index < bench.switch_songs and bench.ears is not None:
        _score_switches(bench, bench.ears, case, context, scores)
    if index < bench.variation_songs:
        _score_variation(bench, case, codes, index, scores)
    return scores


def _score_real(bench: Bench, case: Case, other: Case, scores: SongScores) -> None:
    """What needs no model: the real continuation, and another song's in its place."""
    real = case.audio[case.join_sample :]
    stranger = other.audio[other.join_sample :][: len(real)]
    if len(stranger) < len(real):
        stranger = np.resize(stranger, real.shape)  # again from its beginning
    scores.add("real", continuation_scores(case, real, ears=bench.ears)[0])
    scores.add("other_song", continuation_scores(case, stranger, ears=bench.ears)[0])
    apart = spectra.mel_distance(spectra.analysed(real, case.rate), spectra.analysed(stranger, case.rate))
    scores.add("other_song", {"mel_distance": apart})


def _score_long(bench: Bench, case: Case, context: Codes, scores: SongScores) -> None:
    for name in PLAYED if case.seed == bench.drift_seeds[0] else PLAYED[:1]:
        sampling, known = bench.played(name)
        scores.add(
            name, obedience.score_long(bench.model, case, context, sampling, bars=bench.drift_bars, known=known)
        )
    scores.add("model", score_played(bench.model, case, bench.default, bars=bench.drift_bars))
    real = obedience.real_long(case, bench.drift_bars)
    scores.add("real", real | {f"{name}_played": value for name, value in real.items()})


def _score_step(bench: Bench, case: Case, scores: SongScores) -> None:
    codec = bench.model.codec
    made = obedience.step_song(case.seed, rate=codec.sample_rate, channels=codec.audio_channels)
    context = encode_audio(codec, made.case.audio)[: made.case.join]
    keys = ("tempo_step_f1", "tempo_step_f1_drums") if made.drums else ("tempo_step_f1",)
    real = obedience.step_grid(made, made.case.heard[made.case.join_heard :])
    scores.add("real", {key: real.score(0.07) for key in keys})
    for name in PLAYED:
        sampling, known = bench.played(name)
        grid = obedience.play_step(bench.model, made, context, sampling, known=known)
        scores.add(name, {key: grid.score(0.07) for key in keys})
        if name == "model":
            scores.add("chance", {key: grid.chance(0.07) for key in keys})


def _score_switches(bench: Bench, ears: Ears, case: Case, context: Codes, scores: SongScores) -> None:
    """`instrument_presence`, `_on` and `_off`: share of windows in which a switched player is heard as commanded.

    One is switched off and one on in a song. Nothing commanded: the same players looked for in the continuation
    without commands. Chance: the opposite looked for in the model's. Real: a song composed with these players.
    """
    first = round(obedience.heard_from(case) * spectra.SAMPLE_RATE)
    untold = spectra.analysed(scores.audio["no_conditioning"], case.rate)[case.join_heard :][first:]
    shares: dict[str, dict[str, float]] = {}
    for player, on in obedience.switches(case):
        sounds = {"no_conditioning": untold, "real": obedience.real_switch(case, player, on=on)}
        for name in ("model", "guidance_1"):
            sampling, _ = bench.played(name)
            sounds[name] = obedience.play_switch(bench.model, case, context, sampling, player, on=on)
        for name, sound in sounds.items():
            if sound is not None:
                share = obedience.switch_share(ears, sound, player, on=on)
                shares.setdefault(name, {})["instrument_presence_on" if on else "instrument_presence_off"] = share
    for name, found in shares.items():
        scores.add(name, found | {"instrument_presence": float(np.mean(list(found.values())))})
    if "model" in shares:
        own = scores.rows["model"]
        scores.add("chance", {key: 1.0 - own[key] for key in ("instrument_presence", *shares["model"])})


def _score_variation(bench: Bench, case: Case, codes: list[Codes], index: int, scores: SongScores) -> None:
    own, other = codes[index], codes[(index + 1) % len(codes)]
    for name in PLAYED:
        sampling, known = bench.played(name)
        found = variation.vamp_overlaps(bench.model, case, own[: case.join], sampling, known=known)
        scores.add(name, {f"variation_{amount:g}": share for amount, share in found.items()})
    count = min(len(own), len(other))
    scores.add("chance", {"variation_1": float((own[:count] == other[:count]).mean())})
    real = variation.real_overlap(case, own)
    if real is not None:
        scores.add("real", {"variation_1": real})


def _score_codec(bench: Bench, case: Case, codes: Codes, scores: SongScores) -> None:
    """Log-mel distances of the codec and its bounds, over all of the song that is used."""
    codec = bench.model.codec
    decoded = decode_codes(codec, codes)
    scores.audio["codec"] = decoded
    heard = spectra.analysed(decoded, case.rate)
    distance = spectra.mel_distance(case.heard, heard)
    scores.add("codec", continuation_scores(case, decoded[case.join_sample :], ears=bench.ears)[0])
    quality = {"mel_distance": distance, "si_sdr_db": obedience.si_sdr_db(case.heard, heard)}
    scores.add("codec", quality)
    scores.add("model", quality)
    phases = spectra.analysed(phase_only(codec.section.spectral, case.audio), case.rate)
    scores.add("phases", {"mel_distance": spectra.mel_distance(case.heard, phases)})
    scores.add("chance", {})
    if bench.untrained is not None:
        lower = bench.untrained
        taken = spectra.converted(case.audio, case.rate, lower.sample_rate, lower.audio_channels)
        noise = spectra.analysed(decode_codes(lower, encode_audio(lower, taken)), lower.sample_rate)
        scores.add("chance", {"mel_distance": spectra.mel_distance(case.heard[: len(noise)], noise)})
    if bench.checkpoint is not None:
        from benchmarks.bounds import bound_distances  # torch only where it is asked for

        bounds = bound_distances(bench.checkpoint, case.audio, case.rate)
        scores.add("unquantised", {"mel_distance": bounds["unquantised"]})
        scores.add("chance", {"mel_distance": bounds["untrained"]})


def _score_bits(bench: Bench, case: Case, codes: list[Codes], index: int, scores: SongScores) -> None:
    own, size = codes[index], bench.model.codec.codebook_size
    told, untold = (Commands(case, bench.model.conditioning, known=known) for known in (True, False))
    bits = teacher_forced_bits(bench.model, own, told, case.join)
    uncommanded = teacher_forced_bits(bench.model, own, untold, case.join)
    others = [c for i, c in enumerate(codes) if i != index] + [own[: case.join]]
    unigram = unigram_bits(own[case.join :], others, size)
    scores.bits_by_codebook, scores.unigram_by_codebook = bits.tolist(), unigram.tolist()
    scores.add("model", {"bits_per_frame": float(bits.sum())})
    scores.add("guidance_1", {"bits_per_frame": float(bits.sum())})  # bits know no guidance
    scores.add("no_conditioning", {"bits_per_frame": float(uncommanded.sum())})
    scores.add("chance", {"bits_per_frame": float(unigram.sum())})
