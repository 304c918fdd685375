"""CodeLevels tables of a codec's codes, for engine/code_levels.py: fitted to what the codec itself makes of tokens.

Part of export: the codec that was just written decodes songs' tokens, half of them with codebooks shuffled in time,
since a take may combine codes as no song does. A frame's level is then fitted as a soft maximum of components that
are linear in its codewords, so that codes which hardly occur get theirs from their neighbours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from attacca.engine.codec import Codec

_DB = 10.0 / np.log(10.0)
_FLOOR = 1e-8  # -80 dB of full scale
_COMPONENTS = 16
_SONGS, _FRAMES = 40, 900
_SHUFFLED = 0.4  # of the codebooks of every other song
_ITERATIONS, _BATCH, _RATE = 1500, 4096, 0.05
_ROBUST_DB = 3.0
_DECAY = 1e-4
Double = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def heard_levels(codec: Codec, songs: list[npt.NDArray[np.uint16]], *, seed: int = 0) -> tuple[Codes, Double]:
    """Codes [N, K] of songs [n, K], every other one with shuffled codebooks, and levels [N] in dB as decoded."""
    rng = np.random.default_rng(seed)
    kept, levels = [], []
    for number, song in enumerate(songs):
        codes = song[:_FRAMES].astype(np.int64)
        if number % 2:
            for book in np.flatnonzero(rng.random(codes.shape[1]) < _SHUFFLED):
                codes[:, book] = codes[rng.permutation(len(codes)), book]
        decoder = codec.decoder()
        extra = -(-decoder.delay_samples // codec.hop_samples)
        sound = decoder.push(np.concatenate([codes, np.repeat(codes[-1:], extra, axis=0)]).astype(np.uint16))
        sound = sound[decoder.delay_samples :][: len(codes) * codec.hop_samples]
        power = np.square(sound.reshape(len(codes), -1), dtype=np.float64).mean(axis=1)
        kept.append(codes)
        levels.append(10.0 * np.log10(power + _FLOOR))
    return np.concatenate(kept), np.concatenate(levels)


def fit(
    codes: Codes, level_db: Double, codebooks: npt.NDArray[np.float32], *, seed: int = 0
) -> tuple[Double, Double]:
    """Tables [K, V, J] and bias [J] whose soft maximum gives the levels [N] of codes [N, K].

    codebooks: codewords [K, V, D]; a frame's components are linear in the sum of its codewords.
    """
    torch.manual_seed(seed)
    words = torch.from_numpy(np.asarray(codebooks, np.float32))
    sums = words[torch.arange(len(words)), torch.from_numpy(codes)].sum(1)
    mean, spread = sums.mean(0), sums.std(0) + 1e-6
    features, wanted = (sums - mean) / spread, torch.from_numpy(level_db).float()
    weights = torch.nn.Parameter(0.1 * torch.randn(features.shape[1], _COMPONENTS))
    bias = torch.nn.Parameter(wanted.mean() + 3.0 * torch.randn(_COMPONENTS))
    optimizer = torch.optim.Adam([weights, bias], lr=_RATE)
    for iteration in range(_ITERATIONS):
        optimizer.param_groups[0]["lr"] = _RATE * (1.0 if iteration < _ITERATIONS * 2 // 3 else 0.2)
        drawn = torch.randint(len(features), (_BATCH,))
        found = _DB * torch.logsumexp((features[drawn] @ weights + bias) / _DB, 1)
        loss = torch.nn.functional.smooth_l1_loss(found, wanted[drawn], beta=_ROBUST_DB)
        loss = loss + _DECAY * weights.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    linear = (weights / spread[:, None]).detach()
    tables = torch.einsum("kvd,dj->kvj", words, linear)
    return tables.double().numpy(), (bias - mean @ linear).detach().double().numpy()


def write_code_levels(
    out: Path, codec: Codec, codebooks: npt.NDArray[np.float32], tokens: Path
) -> dict[str, float]:
    """Fits to songs of a token folder, writes OUT; the fit's error over a second, in dB, on every fifth song.

    ValueError where the folder holds no songs.
    """
    files = sorted(tokens.glob("*.npy"))
    files = files[:: max(1, len(files) // _SONGS)][:_SONGS]
    if len(files) < 2:
        raise ValueError(f"{tokens} holds {len(files)} songs' tokens, needed: 2 and up")
    songs = [np.load(file) for file in files]
    kept = [song for number, song in enumerate(songs) if number % 5 != 4]
    tables, bias = fit(*heard_levels(codec, kept), codebooks)
    with out.open("wb") as file:
        np.savez(file, tables=tables.astype(np.float32), bias=bias.astype(np.float32))
    apart = [song for number, song in enumerate(songs) if number % 5 == 4] or kept[:1]
    return {"code_levels_error_db": second_error_db(tables, bias, *heard_levels(codec, apart, seed=1))}


def second_error_db(tables: Double, bias: Double, codes: Codes, level_db: Double, *, frames: int = 50) -> float:
    """Root mean square error of the level in means over `frames` frames."""
    parts = tables[np.arange(codes.shape[1]), codes].sum(axis=1) + bias
    error = _DB * np.log(np.exp(parts / _DB).sum(axis=1)) - level_db
    return float(np.sqrt(np.mean(np.convolve(error, np.full(frames, 1.0 / frames), "valid") ** 2)))
