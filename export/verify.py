"""Exported graphs against torch: logits of the decoder in the teacher-forced layout, codes and bands of the codec.

Beside export/export_bundle.py. The decoder is compared on frames that the exported graph makes up under a plain
beat, so no data is needed, and what is compared is the region in which the model will live.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch

from attacca.engine.codec import Codec
from attacca.engine.conditioning import ConditioningLayout, Controls, encode
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Codes, Conditions, ConditionSource, Sampling
from attacca.engine.manifest import DecoderSection
from attacca.engine.pattern import Pattern
from attacca.engine.runtime import StepRuntime
from attacca.engine.spectral import analyse
from attacca.export.calibrate import forced_logits
from attacca.export.shapes import manifest_without_bundle
from attacca.training.codec_train import State
from attacca.training.decoder_model import Decoder, DecoderConfig, LayoutTensors
from attacca.training.layout import build_layout

_GUIDANCE = 1.7
_PREFIX = 12


class BeatSource:
    """Four-four at 120, C minor seventh, everybody plays, first style: what a host might command."""

    def __init__(self, layout: ConditioningLayout, *, frames_per_second: float = 50.0) -> None:
        self._layout = layout
        self._frames_per_second = frames_per_second

    def rows(self, first_frame: int, count: int) -> Conditions:
        ppq = np.arange(first_frame, first_frame + count) / self._frames_per_second * 2.0
        chord = np.zeros((count, 12), np.bool_)
        chord[:, [0, 3, 7, 10]] = True
        known = np.ones(count, np.bool_)
        return encode(
            Controls(
                ppq=ppq,
                bar_start_ppq=np.floor(ppq / 4.0) * 4.0,
                bpm=np.full(count, 120.0),
                meter_num=np.full(count, 4, np.int16),
                meter_den=np.full(count, 4, np.int16),
                pitch_classes=chord,
                instruments=np.ones((count, 4), np.bool_),
                style=np.zeros(count, np.int16),
                beat_known=known,
                chord_known=known,
                instruments_known=known,
                style_known=known,
            ),
            self._layout,
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Logits of a graph against torch's, over every (t, k) compared."""

    max_error: float
    rms_error: float
    rms: float
    top_1_agreement: float
    kl_bits: float  # mean divergence of the graph's distribution from torch's, bits


def runtime_of(
    config: DecoderConfig,
    graph: onnx.ModelProto,
    layout: ConditioningLayout,
    *,
    precision: str = "fp32",
    kv_bits: int = 32,
) -> StepRuntime:
    """A runtime of a graph that is not in a bundle yet. ManifestError if it does not read such rows."""
    section = DecoderSection(
        layers=config.layers,
        heads=config.heads,
        head_dim=config.dim // config.heads,
        dim=config.dim,
        precision=precision,
        kv_bits=kv_bits,
    )
    codes = (config.num_codebooks, config.codebook_size)
    manifest = manifest_without_bundle(section, codes=codes, window=config.window_frames, layout=layout)
    return StepRuntime(graph.SerializeToString(), manifest)


def made_up_frames(runtime: StepRuntime, pattern: Pattern, source: ConditionSource, frames: int) -> Codes:
    """Codes [frames, K] that the model plans from nothing."""
    decoder = PatternDecoder(runtime, pattern)
    decoder.plan(frames, source, Sampling(seed=1))
    return decoder.read(0, frames)


def compare_decoder(model: Decoder, runtime: StepRuntime, codes: Codes, source: ConditionSource) -> Comparison:
    """Guided logits step by step on onnxruntime against torch, all at once, with codes [T, K] forced."""
    frames, pattern = len(codes), model.config.make_pattern()
    rows = source.rows(0, frames + pattern.lag_steps + pattern.num_codebooks)
    conditions = np.concatenate([np.zeros((1, rows.shape[1]), np.float32), rows])
    stepped = forced_logits(runtime, pattern, codes, conditions, prefix=_PREFIX, guidance=_GUIDANCE)
    expected = torch_logits(model, codes, conditions[: frames + 1], prefix=_PREFIX, guidance=_GUIDANCE)
    near = np.stack([stepped[cell] for cell in expected]).astype(np.float64)
    far = np.stack(list(expected.values())).astype(np.float64)
    log_p, log_q = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (far, near))
    return Comparison(
        max_error=float(np.abs(near - far).max()),
        rms_error=float(np.sqrt(np.mean((near - far) ** 2))),
        rms=float(np.sqrt(np.mean(far**2))),
        top_1_agreement=float(np.mean(near.argmax(axis=1) == far.argmax(axis=1))),
        kl_bits=float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=1)) / np.log(2.0)),
    )


@torch.no_grad()
def torch_logits(
    model: Decoder, codes: Codes, conditions: Conditions, *, prefix: int, guidance: float
) -> dict[tuple[int, int], npt.NDArray[np.float32]]:
    """Guided logits [V] of every (t, k), teacher-forced; conditions [T + 1, C] begin at timestep -1."""
    layout = build_layout(model.config.make_pattern(), len(codes), prefix, model.config.window_frames)
    tensors = LayoutTensors(layout, torch.device("cpu"), torch.float32)
    tokens = torch.from_numpy(codes.astype(np.int64))[None]
    given = torch.from_numpy(conditions)[None]
    on, off = (model.forward_layout(tokens, c, tensors)[0] for c in (given, torch.zeros_like(given)))
    found: dict[tuple[int, int], npt.NDArray[np.float32]] = {}
    for k in range(model.config.num_codebooks):
        rows = layout.target_rows[k]
        with_conditions, without = (model.logits(x[rows], k).numpy() for x in (on, off))
        guided = without + guidance * (with_conditions - without)
        found |= {(int(t), k): logits for t, logits in zip(layout.target_timesteps[k], guided, strict=True)}
    return found


@torch.no_grad()
def compare_codec(state: State, codec: Codec, *, seconds: float = 2.0) -> dict[str, float]:
    """Share of codes equal to torch's on a test sound, and RMS difference of the bands decoded from them."""
    assert state.quantizer is not None
    net, quantizer = state.net.eval(), state.quantizer
    time_s = np.arange(int(seconds * codec.sample_rate)) / codec.sample_rate
    beats = 1.0 + np.sin(2.0 * np.pi * 2.0 * time_s)
    sweep = 0.2 * np.sin(2.0 * np.pi * (110.0 + 220.0 * time_s) * time_s) * beats
    pcm = (sweep + np.random.default_rng(0).normal(0.0, 0.01, len(time_s))).astype(np.float32)
    if codec.audio_channels == 2:
        pcm = np.stack([pcm, 0.3 * np.roll(pcm, 4000)], axis=1)
    codes = codec.encoder().push(pcm)
    bands = torch.from_numpy(analyse(pcm, net.config.spectral))[None]
    expected = quantizer.encode(net.encode(bands))[0].numpy()[: len(codes)]
    states = codec.section.silent_states(codec.section.decoder_blocks)
    parts = []
    for start in range(0, len(codes), codec.section.block_frames):
        frames, states = codec.run_decoder(codes[start : start + codec.section.block_frames], states)
        parts.append(frames)
    decoded = net.decode(quantizer.decode(torch.from_numpy(codes.astype(np.int64))[None]))[0].numpy()
    apart = np.concatenate(parts) - decoded
    return {
        "codec_codes_equal": float(np.mean(codes == expected)),
        "codec_bands_rms_error_nats": float(np.sqrt(np.mean(apart**2))),
    }
