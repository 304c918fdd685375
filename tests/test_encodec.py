"""EnCodec as exported: transformers' codes and sound, whatever the cuts, from the first sample to the last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("transformers")

from encodec_fixtures import SMALL, make_model, their_codes, their_samples, their_ties  # noqa: E402

from attacca.engine.codec_stream import DECODER, ENCODER  # noqa: E402
from attacca.engine.encodec import Encodec  # noqa: E402
from attacca.export.encodec import DECODER_FILE, ENCODER_FILE, export_encodec, write_encodec  # noqa: E402
from attacca.export.encodec_checkpoint import random_checkpoint  # noqa: E402
from attacca.export.encodec_plan import EncodecConfig  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
HOP = 640
SIZES = {
    "mono": (SMALL, 1),
    "stereo": (SMALL, 2),
    "zeros": (EncodecConfig(num_filters=4, hidden=16, codebook_size=64, pad_mode="constant"), 1),
    "odd": (
        EncodecConfig(
            sample_rate=8000,
            num_filters=4,
            num_residual_layers=3,
            ratios=(3, 7, 2),
            kernel=5,
            last_kernel=3,
            residual_kernel=5,
            dilation_growth=3,
            lstm_layers=1,
            conv_shortcut=True,
            hidden=8,
            num_codebooks=2,
            codebook_size=32,
        ),
        1,
    ),
}


def load(
    config: EncodecConfig, folder: Path, *, channels: int = 1, block_frames: int = 4, seed: int = 0
) -> Encodec:
    section = write_encodec(
        random_checkpoint(config, seed=seed), folder, audio_channels=channels, block_frames=block_frames
    )
    return Encodec.load({ENCODER: folder / ENCODER_FILE, DECODER: folder / DECODER_FILE}, section)


@pytest.fixture(scope="module", params=SIZES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Encodec, object]:
    config, channels = SIZES[request.param]
    return load(config, tmp_path_factory.mktemp("encodec"), channels=channels), make_model(config)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Encodec:
    return load(SMALL, tmp_path_factory.mktemp("encodec"))


def sound(codec: Encodec, samples: int, seed: int = 0) -> np.ndarray:
    """Tones, clicks and noise at changing level."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples)[:, None] / codec.sample_rate
    tones = sum(np.sin(2 * np.pi * hz * time) for hz in (110.0, 277.2, 1440.0))
    pcm = 0.15 * tones * (time % 0.1 < 0.06) + rng.normal(0.0, 0.1, (samples, codec.audio_channels))
    pcm[::1700] += 0.7
    return pcm.astype(np.float32)[:, 0] if codec.audio_channels == 1 else pcm.astype(np.float32)


def tokens(codec: Encodec, frames: int, seed: int = 0) -> np.ndarray:
    size = (frames, codec.num_codebooks)
    return np.random.default_rng(seed).integers(0, codec.codebook_size, size).astype(np.uint16)


def encoded(codec: Encodec, parts: list[np.ndarray]) -> np.ndarray:
    encoder = codec.encoder()
    return np.concatenate([*(encoder.push(part) for part in parts), encoder.flush()])


def decoded(codec: Encodec, parts: list[np.ndarray]) -> np.ndarray:
    """Model time: without the silence before the first sample."""
    decoder = codec.decoder()
    return np.concatenate([*(decoder.push(part) for part in parts), decoder.flush()])[decoder.delay_samples :]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 12])
def test_sound_is_transformers_to_the_last_sample(pair: tuple[Encodec, object], frames: int) -> None:
    codec, model = pair
    codes = tokens(codec, frames)
    expected = their_samples(model, codes, codec.audio_channels)
    got = decoded(codec, [codes])
    assert got.shape == expected.shape and 0.01 < np.abs(expected).max() < 4.0
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [1, 2, 3, 41, 640, 641, 1279, 3000, 640 * 8, 640 * 9 + 333])
def test_codes_are_transformers_for_any_length(pair: tuple[Encodec, object], samples: int) -> None:
    codec, model = pair
    pcm = sound(codec, samples)
    expected, got = their_codes(model, pcm), encoded(codec, [pcm])
    assert got.shape == expected.shape == (-(-samples // codec.hop_samples), codec.num_codebooks)
    for side in range(codec.audio_channels):
        mono = np.ascontiguousarray(pcm.reshape(samples, -1)[:, side])
        of_side = expected[:, side :: codec.audio_channels]
        free = ~their_ties(model, mono, of_side)
        assert free.mean() > 0.9
        np.testing.assert_array_equal(got[:, side :: codec.audio_channels][free], of_side[free])


def test_codes_and_sound_follow_what_is_pushed(codec: Encodec) -> None:
    """Without this, a codec that ignores its input would pass every test of equality."""
    codes = encoded(codec, [sound(codec, 20 * HOP)])
    assert len(np.unique(codes, axis=0)) > 10
    changed = tokens(codec, 20)
    first = decoded(codec, [changed])
    changed[10] = (changed[10] + 1) % codec.codebook_size
    differs = np.flatnonzero(first != decoded(codec, [changed]))
    reach = codec.section.decoder_delay_samples
    assert 10 * HOP - reach <= differs[0] < 10 * HOP


@given(cuts=st.lists(st.integers(0, 13), max_size=10), frames=st.integers(1, 13), block=st.sampled_from([1, 3, 4]))
@settings(max_examples=25, deadline=None)
def test_decoding_in_pieces_is_decoding_at_once(
    blocks: dict[int, Encodec], cuts: list[int], frames: int, block: int
) -> None:
    codec = blocks[block]
    codes = tokens(codec, frames)
    pieces = decoded(codec, np.split(codes, sorted(min(cut, frames) for cut in cuts)))
    np.testing.assert_array_equal(pieces, decoded(codec, [codes]))
    np.testing.assert_allclose(pieces, decoded(blocks[4], [codes]), atol=1e-5, rtol=0)


@given(
    cuts=st.lists(st.integers(0, 9 * HOP), max_size=8),
    samples=st.integers(1, 9 * HOP),
    block=st.sampled_from([1, 3, 4]),
)
@settings(max_examples=25, deadline=None)
def test_encoding_in_pieces_is_encoding_at_once(
    blocks: dict[int, Encodec], cuts: list[int], samples: int, block: int
) -> None:
    codec = blocks[block]
    pcm = sound(codec, samples)
    pieces = encoded(codec, np.split(pcm, sorted(min(cut, samples) for cut in cuts)))
    np.testing.assert_array_equal(pieces, encoded(codec, [pcm]))


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Encodec]:
    return {n: load(SMALL, tmp_path_factory.mktemp(f"block{n}"), block_frames=n) for n in (1, 3, 4)}


def test_weights_stored_in_halves_sound_nearly_the_same(tmp_path: Path, codec: Encodec) -> None:
    section = write_encodec(random_checkpoint(SMALL), tmp_path, precision="fp16")
    halves = Encodec.load({ENCODER: tmp_path / ENCODER_FILE, DECODER: tmp_path / DECODER_FILE}, section)
    codes = tokens(codec, 30)
    exact = decoded(codec, [codes])
    error = decoded(halves, [codes]) - exact
    assert 1e-5 < np.std(error) / np.std(exact) < 1e-3  # below -60 dB
    pcm = sound(codec, 30 * HOP)
    assert np.mean(encoded(halves, [pcm]) == encoded(codec, [pcm])) > 0.9
    with pytest.raises(ValueError, match="precision is 'int4', allowed: fp32, fp16, int8"):
        export_encodec(tmp_path, tmp_path, precision="int4")


def test_a_decoder_of_8_bits_is_near_and_hears_as_in_halves(tmp_path: Path, codec: Encodec) -> None:
    graphs = {}
    for precision in ("fp16", "int8"):
        section = write_encodec(random_checkpoint(SMALL), tmp_path / precision, precision=precision)
        files = {ENCODER: tmp_path / precision / ENCODER_FILE, DECODER: tmp_path / precision / DECODER_FILE}
        graphs[precision] = Encodec.load(files, section)
    assert (tmp_path / "int8" / ENCODER_FILE).read_bytes() == (tmp_path / "fp16" / ENCODER_FILE).read_bytes()
    codes = tokens(codec, 30)
    exact = decoded(codec, [codes])
    error = np.std(decoded(graphs["int8"], [codes]) - exact) / np.std(exact)
    assert np.std(decoded(graphs["fp16"], [codes]) - exact) / np.std(exact) < error < 0.1
    assert np.array_equal(decoded(graphs["int8"], np.split(codes, [1, 7])), decoded(graphs["int8"], [codes]))


def test_shapes_are_static_and_nothing_branches(tmp_path: Path) -> None:
    """What GPUs ask for: a graph that can be captured or built, with nothing decided on the way."""
    load(SMALL, tmp_path, channels=2)
    for name in (ENCODER_FILE, DECODER_FILE):
        graph = onnx.shape_inference.infer_shapes(
            onnx.load(tmp_path / name), check_type=True, strict_mode=True
        ).graph
        assert not {node.op_type for node in graph.node} & {"If", "Loop", "Scan", "NonZero", "LSTM"}
        shapes = {value.name: value.type.tensor_type.shape for value in [*graph.value_info, *graph.output]}
        made = [output for node in graph.node for output in node.output]
        assert set(made) == set(shapes)
        assert all(dim.HasField("dim_value") for shape in shapes.values() for dim in shape.dim)


@pytest.mark.slow
def test_the_published_size_is_transformers(tmp_path: Path) -> None:
    config = EncodecConfig()
    codec, model = load(config, tmp_path), make_model(config)
    assert (codec.hop_samples, codec.section.encoder_delay_frames, codec.section.decoder_delay_samples) == (
        HOP,
        4,
        2402,
    )
    codes = tokens(codec, 60)
    expected = their_samples(model, codes)
    assert 0.01 < np.abs(expected).max() < 4.0
    whole = decoded(codec, [codes])
    np.testing.assert_allclose(whole, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(decoded(codec, np.split(codes, [1, 4, 9, 33])), whole, atol=1e-5, rtol=0)
    pcm = sound(codec, 60 * HOP + 77)
    theirs, ours = their_codes(model, pcm), encoded(codec, [pcm])
    free = ~their_ties(model, pcm, theirs)
    assert free.mean() > 0.9
    np.testing.assert_array_equal(ours[free], theirs[free])
    np.testing.assert_array_equal(encoded(codec, np.split(pcm, [77, 5000, 5001, 20000])), ours)
