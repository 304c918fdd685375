"""What EnCodec costs: `python -m benchmarks.encodec_speed` prints milliseconds per second of audio, both ways.

Random weights of the published 32 kHz size, streamed as in use, in chunks of eight frames. Process time is counted
too: it is what can be compared on a busy machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from attacca.engine.encodec import DECODER, ENCODER, Encodec
from attacca.export.encodec import BLOCK_FRAMES, DECODER_FILE, ENCODER_FILE, write_encodec
from attacca.export.encodec_checkpoint import random_checkpoint
from attacca.export.encodec_plan import EncodecConfig


def main(
    threads: Annotated[int, typer.Option(min=1, help="threads of a session")] = 1,
    seconds: Annotated[float, typer.Option(min=0.5, help="of audio, after a warm-up")] = 5.0,
    block_frames: Annotated[int, typer.Option(min=1, max=64, help="frames of a call")] = BLOCK_FRAMES,
    chunk_frames: Annotated[int, typer.Option(min=1, max=256, help="frames of a push")] = 8,
    filters: Annotated[int, typer.Option(min=1, help="64 as published")] = 64,
    channels: Annotated[int, typer.Option(min=1, max=2, help="audio channels")] = 1,
    precision: Annotated[str, typer.Option(help="weights: fp32, or fp16 or int8 beside it")] = "fp32",
) -> None:
    """Measure and print."""
    config = EncodecConfig(num_filters=filters)

    def made(precision: str) -> Encodec:
        with tempfile.TemporaryDirectory() as name:
            folder, sizes = Path(name), {"audio_channels": channels, "block_frames": block_frames}
            section = write_encodec(random_checkpoint(config), folder, **sizes, precision=precision)
            files = {ENCODER: folder / ENCODER_FILE, DECODER: folder / DECODER_FILE}
            print(f"{precision}: {sum(path.stat().st_size for path in files.values()) / 1e6:.0f} MB")
            return Encodec.load(files, section, threads=threads)

    codec = made(precision)
    chunks = max(1, round(seconds * config.sample_rate / config.hop_samples / chunk_frames))
    rng = np.random.default_rng(0)
    size = (chunk_frames * config.hop_samples,) if channels == 1 else (chunk_frames * config.hop_samples, 2)
    pcm = rng.normal(0.0, 0.1, size).astype(np.float32)
    codes = rng.integers(0, config.codebook_size, (chunk_frames, codec.num_codebooks)).astype(np.uint16)
    audio_s = chunks * chunk_frames * config.hop_samples / config.sample_rate
    decoder, encoder = codec.decoder(), codec.encoder()
    for name, push in (("decode", lambda: decoder.push(codes)), ("encode", lambda: encoder.push(pcm))):
        wall_ms, process_ms = _cost(push, chunks)
        print(f"{name}: {wall_ms / audio_s:.0f} ms per second of audio, {process_ms / audio_s:.0f} ms process time")
    if precision != "fp32":
        _compare(codec, made("fp32"))


def _compare(codec: Encodec, exact: Encodec) -> None:
    """A second of noise and of random codes, by both."""
    rng = np.random.default_rng(1)
    size = (codec.sample_rate,) if codec.audio_channels == 1 else (codec.sample_rate, 2)
    pcm = rng.normal(0.0, 0.1, size).astype(np.float32)
    codes = rng.integers(0, codec.codebook_size, (codec.sample_rate // codec.hop_samples, codec.num_codebooks))
    heard = [each.encoder().push(pcm) for each in (codec, exact)]
    sound = [each.decoder().push(codes.astype(np.uint16)) for each in (codec, exact)]
    apart = np.mean((sound[0] - sound[1]) ** 2) / np.mean(sound[1] ** 2)
    print(
        f"beside fp32: {np.mean(heard[0] == heard[1]):.1%} of the codes, samples {10 * np.log10(apart):.0f} dB off"
    )


def _cost(push: Callable[[], object], times: int) -> tuple[float, float]:
    for _ in range(3):
        push()
    wall, process = time.perf_counter(), time.process_time()
    for _ in range(times):
        push()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - process)


if __name__ == "__main__":
    typer.run(main)
