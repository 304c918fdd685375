"""How far the codec's audio is from the original: log-mel distances on held-out songs and a figure; after training.

Bounds beside it: `phase` (true amplitudes in bands, phase from the streaming method), `unquantised` (the same
decoder on unrounded latents), `codec` (through the codes) and `untrained` (random weights).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer

from attacca.engine.spectral import analyse
from attacca.engine.vocoder import resynthesise
from attacca.training.codec_data import load_audio
from attacca.training.codec_model import CodecNet
from attacca.training.codec_train import State
from attacca.training.music.catalogue import list_songs

Float = npt.NDArray[np.floating]


def middle(audio: Float) -> Float:
    """[n] of [n] or [n, 2]."""
    return audio if audio.ndim == 1 else audio.mean(axis=1)


def log_mel(audio: Float, *, sample_rate: int, window: int = 2048, hop: int = 512, bands: int = 80) -> Float:
    """log10 of mel amplitudes [T, bands] (Hann window, amplitude floor 1e-5), 30 Hz to Nyquist."""
    index = np.arange(0, len(audio) - window + 1, hop)[:, None] + np.arange(window)
    hann = np.hanning(window)
    amplitude = np.abs(np.fft.rfft(audio[index] * hann, axis=1)) / (hann.sum() / 2)
    hz = np.arange(window // 2 + 1) * sample_rate / window
    mel = np.linspace(np.log1p(30 / 700), np.log1p(sample_rate / 2 / 700), bands + 2)
    edges = 700 * np.expm1(mel)
    rise = (hz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - hz) / np.diff(edges)[1:, None]
    filters = np.clip(np.minimum(rise, fall), 0.0, None)
    return np.log10(amplitude @ filters.T + 1e-5)


def log_mel_distance(a: Float, b: Float, *, sample_rate: int) -> float:
    """Mean |log10 mel a - log10 mel b| over the common length."""
    length = min(len(a), len(b))
    mels = [log_mel(x[:length], sample_rate=sample_rate) for x in (a, b)]
    return float(np.abs(mels[0] - mels[1]).mean())


@torch.no_grad()
def reconstructions(audio: Float, state: State) -> dict[str, npt.NDArray[np.float32]]:
    """The original's counterparts by name: phase, unquantised, codec (if fitted) and untrained."""
    net, config = state.net, state.net.config.spectral
    frames = analyse(audio, config)
    batch = torch.from_numpy(frames)[None]
    latents = net.encode(batch)
    out = {"phase": frames, "unquantised": net.decode(latents)[0].numpy()}
    if state.quantizer is not None:
        out["codec"] = net.decode(state.quantizer.decode(state.quantizer.encode(latents)))[0].numpy()
    torch.manual_seed(0)
    untrained = CodecNet(net.config)
    untrained.mean.copy_(net.mean)
    untrained.deviation.copy_(net.deviation)
    out["untrained"] = untrained.decode(untrained.encode(batch))[0].numpy()
    return {name: resynthesise(value, config) for name, value in out.items()}


def draw(audio: dict[str, Float], path: Path, *, sample_rate: int) -> None:
    """Spectrograms one above the other, 0 to 5 kHz, 90 dB."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(audio), 1, figsize=(14, 4 * len(audio)), sharex=True, squeeze=False)
    for axis, (name, samples) in zip(axes[:, 0], audio.items(), strict=True):
        index = np.arange(0, len(samples) - 2048 + 1, 256)[:, None] + np.arange(2048)
        amplitude = np.abs(np.fft.rfft(samples[index] * np.hanning(2048), axis=1))[:, :512] / 512
        extent = (0.0, len(samples) / sample_rate, 0.0, sample_rate / 4 / 1000)
        axis.imshow(
            20 * np.log10(amplitude.T + 1e-7), origin="lower", aspect="auto", extent=extent, vmin=-100, vmax=-10
        )
        axis.set_ylim(0, 5)
        axis.set_ylabel(f"{name}, kHz")
    axes[-1, 0].set_xlabel("s")
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    pyplot.close(figure)


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with heldout/")],
    run: Annotated[Path, typer.Option(help="codec run folder")],
    songs: Annotated[int, typer.Option(help="held-out songs")] = 8,
    seconds: Annotated[float, typer.Option(help="seconds of each song")] = 12.0,
    figure: Annotated[Path | None, typer.Option(help="PNG of the first song's spectrograms")] = None,
    wav: Annotated[Path | None, typer.Option(help="folder for the audio")] = None,
) -> None:
    """Print log-mel distances as JSON."""
    state = State.load(run / "codec.pt")
    rate = state.net.config.sample_rate
    scores: dict[str, list[float]] = {}
    for number, path in enumerate(list_songs(data / "heldout")[:songs]):
        audio = load_audio(path, state.net.config)[: int(seconds * rate)]
        made = reconstructions(audio, state)
        for name, other in made.items():
            scores.setdefault(name, []).append(log_mel_distance(middle(audio), middle(other), sample_rate=rate))
        if figure is not None and number == 0:
            shown = {name: middle(x)[: 6 * rate] for name, x in {"original": audio, **made}.items()}
            draw({name: x for name, x in shown.items() if name != "untrained"}, figure, sample_rate=rate)
        if wav is not None:
            import soundfile

            wav.mkdir(parents=True, exist_ok=True)
            for name, other in {"original": audio, **made}.items():
                soundfile.write(wav / f"{path.stem}-{name}.wav", other, rate)
    typer.echo(json.dumps({name: round(float(np.mean(values)), 4) for name, values in scores.items()}))


if __name__ == "__main__":
    typer.run(main)
