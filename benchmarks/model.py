"""The bundle under test: codec round trips, bits per frame with the truth fed back, and continuations.

Works on the loaded ONNX bundle with the engine's own parts, so what is scored is what plays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attacca.engine.bundle import Model
from attacca.engine.codec import Codec
from attacca.engine.conditioning import ConditioningLayout, Controls, encode
from attacca.engine.generator import Codes, Conditions, Sampling
from attacca.engine.runtime import PREFILL_ROWS
from attacca.engine.schedule import Schedule, context_rows
from attacca.engine.spectral import SpectralConfig, analyse
from attacca.engine.vocoder import resynthesise
from benchmarks.songs import Case
from benchmarks.spectra import Array, Audio

_PIECE_FRAMES = 16


class Rows:
    """Condition rows of controls, known or (all zeros) not; the last row holds on past the end."""

    def __init__(self, controls: Controls, layout: ConditioningLayout, *, known: bool = True) -> None:
        rows = encode(controls, layout)
        self.all: Conditions = rows if known else np.zeros_like(rows)

    def rows(self, first_frame: int, count: int) -> Conditions:
        """float32 [count, layout.width] of frames [first_frame, first_frame + count)."""
        frames = np.minimum(np.arange(first_frame, first_frame + count), len(self.all) - 1)
        return np.asarray(self.all[frames], np.float32).reshape(count, self.all.shape[1])


class Commands(Rows):
    """A song's own labels, or none."""

    def __init__(self, case: Case, layout: ConditioningLayout, *, known: bool = True) -> None:
        super().__init__(case.controls, layout, known=known)


def encode_audio(codec: Codec, audio: Audio) -> Codes:
    """Codes of every whole frame of a sound [n], for a stereo codec [n, 2]."""
    return codec.encoder().push(np.asarray(audio, np.float32))


def decode_codes(codec: Codec, codes: Codes) -> Audio:
    """Samples [frames * hop], or [.., 2], in time with the codes: the decoder's delay is out, the end held on."""
    decoder = codec.decoder()
    extra = -(-decoder.delay_samples // codec.hop_samples)
    held = np.concatenate([codes, np.repeat(codes[-1:], extra, axis=0)])
    return decoder.push(held)[decoder.delay_samples :][: len(codes) * codec.hop_samples]


def phase_only(config: SpectralConfig, audio: Audio) -> Audio:
    """The audio with its true band amplitudes and the decoder's phases: what a perfect codec network would give."""
    return resynthesise(analyse(audio, config), config)


def continue_song(
    model: Model, case: Case, context: Codes, commands: Rows, sampling: Sampling
) -> tuple[Codes, Audio]:
    """Generated codes [stop - join, K] and samples after hearing the context, codes of [0, join)."""
    generator = model.generator()
    generator.listen(context, commands.rows(0, case.join))
    extra = -(-model.codec.decoder().delay_samples // model.codec.hop_samples)
    pieces = []
    for start in range(case.join, case.stop + extra, _PIECE_FRAMES):  # a generator keeps its last window only
        stop = min(start + _PIECE_FRAMES, case.stop + extra)
        generator.plan(stop, commands, sampling)
        pieces.append(generator.read(start, stop))
    generated = np.concatenate(pieces)
    audio = decode_codes(model.codec, np.concatenate([context, generated]))
    hop = model.codec.hop_samples
    return generated[: case.stop - case.join], audio[case.join * hop : case.stop * hop]


def teacher_forced_bits(model: Model, codes: Codes, commands: Rows, join: int) -> Array:
    """[K] mean bits of the true codes of frames [join, len(codes)), each predicted from the truth before it.

    The steps are those of decoding, with the truth in place of what was drawn; guidance and temperature are 1.
    """
    pattern, mask = model.pattern, model.runtime.shape.codebook_size
    lane = model.runtime.lane()
    known = context_rows(pattern, mask, codes[:join])
    start = 0
    while start < len(known.level):
        slot = lane.cache.count
        part = slice(start, start + min(PREFILL_ROWS, lane.cache.room(slot)))
        times = known.timestep[part]
        rows = _conditions(commands, times)
        lane.run(known.stack[part], known.level[part], times, rows, slot=slot)
        lane.cache.keep(times.tolist())
        start = part.stop
    schedule = Schedule(pattern, mask, join)
    schedule.prefix(codes[:join])
    bits, counted = np.zeros(pattern.num_codebooks), np.zeros(pattern.num_codebooks)
    forced = np.zeros(pattern.num_codebooks, np.int64)
    while schedule.frontier < len(codes):
        step = schedule.next_rows()
        slot = lane.cache.count - int(step.rewrite)
        rows = _conditions(commands, step.timestep)
        lane.run(step.stack, step.level, step.timestep, rows, slot=slot, row_of_level=step.row_of_level)
        for level, timestep in enumerate(step.target.tolist()):
            if timestep < 0:
                continue
            forced[level] = codes[min(timestep, len(codes) - 1), level]
            if timestep < len(codes):
                bits[level] += _bits(lane.logits[level], int(forced[level]))
                counted[level] += 1
        schedule.accept(forced)
        if step.advance:
            lane.cache.keep([step.kept_timestep])
    return bits / counted


def unigram_bits(codes: Codes, others: list[Codes], codebook_size: int) -> Array:
    """[K] mean bits of codes under the frequencies of other songs' codes (half a count added to each)."""
    out = np.zeros(codes.shape[1])
    for level in range(codes.shape[1]):
        counts = np.full(codebook_size, 0.5)
        for other in others:
            counts += np.bincount(other[:, level], minlength=codebook_size)
        out[level] = -np.log2(counts / counts.sum())[codes[:, level]].mean()
    return out


def _conditions(commands: Rows, timesteps: npt.NDArray[np.int64]) -> Conditions:
    """Rows in any order; the timestep before the first reads as the engine reads it, as nothing."""
    rows = commands.all[np.clip(timesteps, 0, len(commands.all) - 1)]
    return np.where((timesteps >= 0)[:, None], rows, 0.0).astype(np.float32)


def _bits(logits: npt.NDArray[np.float32], truth: int) -> float:
    shifted = logits.astype(np.float64) - float(logits.max())
    return float((np.log(np.exp(shifted).sum()) - shifted[truth]) / np.log(2.0))
