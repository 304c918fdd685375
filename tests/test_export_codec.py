"""The exported codec: graphs equal torch, and the runtime on them is a streaming codec to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from attacca.engine.codec import Codec, CodecSection  # noqa: E402
from attacca.engine.spectral import analyse  # noqa: E402
from attacca.export.codec import export_tiny_codec, tiny_codec, write_codec  # noqa: E402
from attacca.export.export_bundle import CODEC_DECODER_PRECISION  # noqa: E402
from attacca.training.codec_model import CodecConfig, CodecNet, tiny_config  # noqa: E402
from attacca.training.quantizer import fit_quantizer, nearest  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)


def load(folder: Path, section: dict[str, object]) -> Codec:
    files = {name: folder / f"{name}.onnx" for name in ("codec_encoder", "codec_decoder")}
    return Codec.load(files, section)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    folder = tmp_path_factory.mktemp("codec")
    return load(folder, export_tiny_codec(folder))


@pytest.fixture(scope="module")
def wide_codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """As wide and as precise as the real one, so that its products take the kernels that the real one takes."""
    folder = tmp_path_factory.mktemp("wide")
    made = tiny_codec(CodecConfig(codebook_size=64, encoder_blocks=1, decoder_blocks=1))
    return load(folder, write_codec(*made, folder, decoder_precision=CODEC_DECODER_PRECISION))


@pytest.fixture(scope="module")
def pcm() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 21 * 640 + 100).astype(np.float32)


def test_tiny_codec_is_small(tmp_path: Path) -> None:
    export_tiny_codec(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 100_000


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_tiny_codec(tmp_path / name, seed=3)
    for file in ("codec_encoder.onnx", "codec_decoder.onnx"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_graphs_equal_torch(tmp_path: Path, pcm: np.ndarray) -> None:
    net, quantizer = tiny_codec(seed=1)
    with torch.no_grad():
        for parameter in net.parameters():  # as the graphs store them
            parameter.copy_(parameter.half().float())
    runtime = load(tmp_path, write_codec(net, quantizer, tmp_path))
    with torch.no_grad():
        frames = analyse(pcm, net.config.spectral)
        codes = quantizer.encode(net.encode(torch.from_numpy(frames)[None]))[0]
        bands = net.decode(quantizer.decode(codes[None]))[0].numpy()
    np.testing.assert_array_equal(runtime.encoder().push(pcm), codes.numpy())
    states = runtime.section.silent_states(runtime.section.decoder_blocks)
    rows = []
    for start in range(0, len(codes), 4):
        frames, states = runtime.run_decoder(codes[start : start + 4].numpy().astype(np.uint16), states)
        rows.append(frames)
    np.testing.assert_allclose(np.concatenate(rows), bands, atol=2e-2)  # the level tables are rounded to fp16


@given(cuts=st.lists(st.integers(0, 21 * 640 + 100), max_size=12))
@settings(max_examples=15, deadline=None)
def test_encoding_in_pieces_is_encoding_at_once(wide_codec: Codec, pcm: np.ndarray, cuts: list[int]) -> None:
    encoder = wide_codec.encoder()
    parts = np.split(pcm, sorted(cuts))
    pieces = np.concatenate([encoder.push(part) for part in parts])
    whole = wide_codec.encoder().push(pcm)
    assert whole.shape == (21, 4) and whole.dtype == np.uint16
    np.testing.assert_array_equal(pieces, whole)
    assert len(np.unique(whole)) > 8


@given(cuts=st.lists(st.integers(0, 23), max_size=10))
@settings(max_examples=15, deadline=None)
def test_decoding_in_pieces_is_decoding_at_once(wide_codec: Codec, cuts: list[int]) -> None:
    codes = np.random.default_rng(1).integers(0, 64, (23, 4)).astype(np.uint16)
    decoder = wide_codec.decoder()
    pieces = np.concatenate([decoder.push(part) for part in np.split(codes, sorted(cuts))])
    whole = wide_codec.decoder().push(codes)
    assert whole.shape == (23 * 640,) and whole.dtype == np.float32
    assert np.abs(whole).max() > 1e-4
    np.testing.assert_array_equal(pieces, whole)


@given(cut=st.integers(0, 21 * 640))
@settings(max_examples=10, deadline=None)
def test_encoder_snapshot(codec: Codec, pcm: np.ndarray, cut: int) -> None:
    encoder = codec.encoder()
    encoder.push(pcm[:cut])
    snap = encoder.snapshot()
    first = encoder.push(pcm[cut:])
    encoder.restore(snap)
    np.testing.assert_array_equal(encoder.push(pcm[cut:]), first)
    other = codec.encoder()
    other.push(pcm[::-1].copy())
    other.restore(snap)
    np.testing.assert_array_equal(other.push(pcm[cut:]), first)


def test_decoder_snapshot_and_reset(codec: Codec) -> None:
    codes = np.random.default_rng(2).integers(0, 16, (20, 4)).astype(np.uint16)
    decoder = codec.decoder()
    head = decoder.push(codes[:7])
    snap = decoder.snapshot()
    tail = decoder.push(codes[7:])
    decoder.restore(snap)
    np.testing.assert_array_equal(decoder.push(codes[7:]), tail)
    decoder.reset()
    np.testing.assert_array_equal(decoder.push(codes), np.concatenate([head, tail]))


def test_delay_is_where_the_sound_is(codec: Codec) -> None:
    spectral = codec.section.spectral
    assert codec.decoder().delay_samples == spectral.window_samples


def test_invalid_samples_are_silence_and_counted(codec: Codec, pcm: np.ndarray) -> None:
    broken, silent = pcm.copy(), pcm.copy()
    broken[[5, 700, 9000]] = [np.nan, np.inf, -np.inf]
    silent[[5, 700, 9000]] = 0.0
    encoder = codec.encoder()
    np.testing.assert_array_equal(encoder.push(broken), codec.encoder().push(silent))
    assert encoder.invalid_samples == 3
    encoder.reset()
    assert encoder.invalid_samples == 0


def test_a_stereo_codec_streams_and_keeps_sides(tmp_path: Path) -> None:
    """Graphs equal torch, pieces equal the whole, a snapshot goes on, and what is decoded left is heard left."""
    small = tiny_config()
    config = replace(small, spectral=replace(small.spectral, pan_bands=6))
    net, quantizer = tiny_codec(config, seed=2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.half().float())
        net.decoder.leave.bias[config.spectral.level_width :] = 5.0  # everything far left
    codec = load(tmp_path, write_codec(net, quantizer, tmp_path))
    sound = np.random.default_rng(0).normal(0, 0.1, (21 * 640 + 100, 2)).astype(np.float32)
    with torch.no_grad():
        frames = torch.from_numpy(analyse(sound, config.spectral))[None]
        codes = quantizer.encode(net.encode(frames))[0].numpy()
    np.testing.assert_array_equal(codec.encoder().push(sound), codes)
    encoder = codec.encoder()
    parts = [encoder.push(part) for part in np.split(sound, [1, 640, 5000, 5001])]
    np.testing.assert_array_equal(np.concatenate(parts), codes)
    whole = codec.decoder().push(codes.astype(np.uint16))
    assert codec.audio_channels == 2 and whole.shape == (21 * 640, 2)
    decoder = codec.decoder()
    first = decoder.push(codes[:9].astype(np.uint16))
    other = codec.decoder()
    other.restore(decoder.snapshot())
    np.testing.assert_array_equal(np.concatenate([first, other.push(codes[9:].astype(np.uint16))]), whole)
    loud = np.abs(whole[3000:]).max(axis=0)
    assert loud[0] > 3.0 * loud[1] > 0.0
    with pytest.raises(ValueError, match=r"allowed: \[n, 2\]"):
        codec.encoder().push(sound[:, 0])


def test_bad_pushes_are_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match=r"codes have shape \(3, 2\), allowed: \[frames, 4\]"):
        codec.decoder().push(np.zeros((3, 2), np.uint16))
    with pytest.raises(ValueError, match=r"codes lie in 16..16, allowed 0..15"):
        codec.decoder().push(np.full((3, 4), 16, np.uint16))
    with pytest.raises(ValueError, match=r"allowed: \[n\]"):
        codec.encoder().push(np.zeros((2, 2), np.float32))


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    section = export_tiny_codec(tmp_path)
    files = {name: tmp_path / f"{name}.onnx" for name in ("codec_encoder", "codec_decoder")}
    with pytest.raises(ValueError, match="needs the file 'codec_decoder'"):
        Codec.load({"codec_encoder": files["codec_encoder"]}, section)
    with pytest.raises(ValueError, match="needed:"):
        Codec.load({"codec_encoder": files["codec_decoder"], "codec_decoder": files["codec_encoder"]}, section)
    with pytest.raises(ValueError, match="needed:"):
        Codec.load(files, {**section, "channels": 17})
    files["codec_encoder"].write_bytes(files["codec_encoder"].read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable codec graph"):
        Codec.load(files, section)


def test_quantizer_finds_clusters_and_codes_are_nearest() -> None:
    rng = np.random.default_rng(4)
    centres = rng.normal(0, 5, (8, 6))
    points = (centres[rng.integers(8, size=2000)] + rng.normal(0, 0.05, (2000, 6))).astype(np.float32)
    quantizer = fit_quantizer(points, num_codebooks=2, codebook_size=16, iterations=15)
    latents = torch.from_numpy(points)
    error = (quantizer.decode(quantizer.encode(latents)) - latents).square().mean()
    assert float(error) < 0.02 * float(latents.var())
    book = quantizer.codebooks[0]
    distances = torch.cdist(latents @ quantizer.project, book)
    np.testing.assert_array_equal(nearest(latents @ quantizer.project, book), distances.argmin(dim=1))


def test_pca_start_is_the_linear_codec() -> None:
    config = tiny_config()
    rng = np.random.default_rng(5)
    basis = rng.normal(size=(3, config.spectral.width))
    frames = (rng.normal(size=(400, 3)) @ basis - 6.0).astype(np.float32)
    net = CodecNet(config)
    net.start_from_pca(frames)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(".scale"):
                parameter.zero_()  # blocks out of the way
        back = net.decode(net.encode(torch.from_numpy(frames)[None]))[0].numpy()
    np.testing.assert_allclose(back, frames, atol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "waveform"}, "codec.kind is 'waveform'"),
        ({"spectral": 3}, "codec.spectral is 3"),
        ({"spectral": {"hopp": 3}}, "codec.spectral is not understood"),
        ({"spectral": {"hop_samples": 320}}, "codec.spectral.hop_samples is 320, allowed: 640"),
        ({"num_codebooks": 0}, "codec.num_codebooks is 0, allowed: an integer 1..32"),
        ({"kernel": "7"}, "codec.kernel is '7', allowed"),
        ({"extra": 1}, "codec has the fields"),
    ],
)
def test_section_is_validated(tmp_path: Path, change: dict[str, object], message: str) -> None:
    section = export_tiny_codec(tmp_path)
    CodecSection.parse(section)
    with pytest.raises(ValueError, match=message):
        CodecSection.parse({**section, **change})
