"""EnCodec's streams at run time: states to the bit, positions for ever, bad input; a session that plays them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fakes import Host, request

pytest.importorskip("onnx")

from attacca.engine.bundle import load_codec
from attacca.engine.codec_stream import DECODER, ENCODER, MAX_AMPLITUDE
from attacca.engine.conditioning import DEFAULT_LAYOUT, ConditioningLayout
from attacca.engine.encodec import Encodec, EncodecSection
from attacca.engine.events import TakeStarted
from attacca.engine.fake import FakeConfig, FakeGenerator, fake_codes
from attacca.engine.generator import Codes, Conditions, Generator
from attacca.export.encodec import DECODER_FILE, ENCODER_FILE, write_encodec
from attacca.export.encodec_checkpoint import random_checkpoint
from attacca.export.encodec_plan import EncodecConfig

pytestmark = pytest.mark.train
CONFIG = EncodecConfig(num_filters=2, hidden=8, codebook_size=1024)
HOP, RATE = 640, 32000


def files(folder: Path) -> dict[str, Path]:
    return {ENCODER: folder / ENCODER_FILE, DECODER: folder / DECODER_FILE}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encodec")


@pytest.fixture(scope="module")
def section(folder: Path) -> dict[str, object]:
    return write_encodec(random_checkpoint(CONFIG), folder)


@pytest.fixture(scope="module")
def codec(folder: Path, section: dict[str, object]) -> Encodec:
    return Encodec.load(files(folder), section)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 0.2, samples).astype(np.float32)


def tokens(codec: Encodec, frames: int, seed: int = 0) -> np.ndarray:
    size = (frames, codec.num_codebooks)
    return np.random.default_rng(seed).integers(0, codec.codebook_size, size).astype(np.uint16)


def test_a_manifest_names_the_kind_of_its_codec(folder: Path, section: dict[str, object]) -> None:
    assert isinstance(load_codec(files(folder), section), Encodec)
    with pytest.raises(ValueError, match="allowed: 'spectral'"):
        load_codec(files(folder), section | {"kind": "other"})


def test_delays_are_told_as_derived_from_the_layers(codec: Encodec) -> None:
    """Four frames for the codes; three frames, then what four transposed convolutions trim and hold, for sound."""
    assert codec.encoder().look_ahead_samples == 4 * HOP
    assert codec.decoder().delay_samples == ((((3 * 8 + 4 + 1) * 5 + 3 + 1) * 4 + 2 + 1) * 4 + 2 + 1) + 3 == 2402


@pytest.mark.parametrize("extra", [-1, 0])
def test_a_frame_comes_with_the_last_sample_that_it_needs(codec: Encodec, extra: int) -> None:
    encoder = codec.encoder()
    assert len(encoder.push(noise(HOP * 3 + encoder.look_ahead_samples + extra))) == 3 + extra


def test_silence_comes_before_the_first_sample(codec: Encodec) -> None:
    decoder = codec.decoder()
    pcm = decoder.push(tokens(codec, 9))
    assert pcm.shape == (9 * HOP,) and pcm.dtype == np.float32
    assert not pcm[: decoder.delay_samples].any() and pcm[decoder.delay_samples :].all()
    assert np.abs(pcm).max() <= MAX_AMPLITUDE


def test_nothing_pushed_is_nothing_to_flush(codec: Encodec) -> None:
    assert codec.encoder().flush().shape == (0, 4)
    assert codec.decoder().flush().shape == (0,)
    assert codec.encoder().push(noise(0)).shape == (0, 4)
    assert codec.decoder().push(tokens(codec, 0)).shape == (0,)


@given(first=st.integers(0, 8000), second=st.integers(0, 8000), astray=st.integers(0, 8000))
@settings(max_examples=15, deadline=None)
def test_streams_go_on_from_a_snapshot_to_the_bit(codec: Encodec, first: int, second: int, astray: int) -> None:
    pcm = noise(first + second)
    encoder, again = codec.encoder(), codec.encoder()
    encoder.push(pcm[:first])
    snap = encoder.snapshot()
    expected = np.concatenate([encoder.push(pcm[first:]), encoder.flush()])
    encoder.push(noise(astray, seed=1))
    for stream in (encoder, again):
        stream.restore(snap)
        np.testing.assert_array_equal(np.concatenate([stream.push(pcm[first:]), stream.flush()]), expected)
    codes = tokens(codec, (first + second) // HOP)
    decoder, other = codec.decoder(), codec.decoder()
    decoder.push(codes[: first // HOP])
    snap = decoder.snapshot()
    sound = np.concatenate([decoder.push(codes[first // HOP :]), decoder.flush()])
    decoder.push(tokens(codec, astray // HOP, seed=1))
    for stream in (decoder, other):
        stream.restore(snap)
        pcm = np.concatenate([stream.push(codes[first // HOP :]), stream.flush()])
        np.testing.assert_array_equal(pcm, sound)
    decoder.reset()
    encoder.reset()
    assert not decoder.push(codes[:3]).any()
    assert len(encoder.push(noise(4 * HOP))) == 0


def test_hours_on_nothing_changes(codec: Encodec) -> None:
    """Far from the beginning the graphs are told a position that stands for all later ones."""
    codes = tokens(codec, 1100)
    decoder = codec.decoder()
    whole = np.concatenate([decoder.push(codes), decoder.flush()])
    # A stream's memory is bounded but for its LSTM, whose state a snapshot carries over.
    early, late = codec.decoder(), codec.decoder()
    head = early.push(codes[:30])
    states, frame = early.snapshot()  # type: ignore[misc]
    assert frame == 30
    late.restore((states, 30 + 10**9))
    rest = np.concatenate([late.push(codes[30:]), late.flush()])
    np.testing.assert_array_equal(np.concatenate([head, rest]), whole)
    pcm = noise(1100 * HOP + 11)
    encoder = codec.encoder()
    expected = np.concatenate([encoder.push(pcm), encoder.flush()])
    assert len(expected) == 1101
    encoder.reset()
    first = encoder.push(pcm[: 30 * HOP])
    framed, states, frame = encoder.snapshot()  # type: ignore[misc]
    encoder.restore((framed, states, frame + 10**9))
    after = np.concatenate([encoder.push(pcm[30 * HOP :]), encoder.flush()])
    np.testing.assert_array_equal(np.concatenate([first, after]), expected)


def test_stereo_is_two_mono_streams(tmp_path: Path, codec: Encodec) -> None:
    both = Encodec.load(files(tmp_path), write_encodec(random_checkpoint(CONFIG), tmp_path, audio_channels=2))
    assert (both.num_codebooks, both.audio_channels) == (8, 2)
    pcm = np.stack([noise(7000), noise(7000, seed=1)], axis=1)
    codes = both.encoder().push(pcm)
    assert codes.shape == (6, 8)
    sides = [codec.encoder().push(np.ascontiguousarray(pcm[:, side])) for side in (0, 1)]
    np.testing.assert_array_equal(codes[:, ::2], sides[0])
    np.testing.assert_array_equal(codes[:, 1::2], sides[1])
    made = both.decoder().push(codes)
    assert made.shape == (6 * HOP, 2)
    for side in (0, 1):
        np.testing.assert_allclose(made[:, side], codec.decoder().push(sides[side]), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"allowed: \[n, 2\]"):
        both.encoder().push(noise(5))


def test_samples_that_are_not_finite_are_silence_and_counted(codec: Encodec) -> None:
    bad, mended = noise(9000), noise(9000)
    bad[[10, 5000, 6000]] = (np.nan, np.inf, -np.inf)
    mended[[10, 5000, 6000]] = 0.0
    encoder = codec.encoder()
    np.testing.assert_array_equal(encoder.push(bad), codec.encoder().push(mended))
    assert encoder.invalid_samples == 3


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 3), np.uint16), r"allowed: \[frames, 4\]"),
        (np.zeros(4, np.uint16), r"allowed: \[frames, 4\]"),
        (np.full((2, 4), 1024, np.uint16), r"allowed 0\.\.1023"),
        (np.full((2, 4), -1, np.int64), r"allowed 0\.\.1023"),
    ],
)
def test_bad_codes_are_refused_and_change_nothing(codec: Encodec, codes: np.ndarray, message: str) -> None:
    decoder = codec.decoder()
    with pytest.raises(ValueError, match=message):
        decoder.push(codes)
    np.testing.assert_array_equal(decoder.push(tokens(codec, 6)), codec.decoder().push(tokens(codec, 6)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "dac"}, "codec.kind is 'dac'"),
        ({"hop_samples": 0}, "codec.hop_samples is 0, allowed: an integer 2..65536"),
        ({"block_frames": True}, "codec.block_frames is True"),
        ({"audio_channels": 2, "num_codebooks": 3}, "as many for each audio channel"),
        ({"surplus": 1}, "codec has the fields"),
    ],
)
def test_a_section_that_is_not_understood_is_refused(
    section: dict[str, object], change: dict[str, object], message: str
) -> None:
    assert EncodecSection.parse(section).num_codebooks == 4
    with pytest.raises(ValueError) as raised:
        EncodecSection.parse(section | change)
    assert message in str(raised.value)


def test_graphs_that_do_not_fit_are_refused(folder: Path, section: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the file 'codec_decoder'"):
        Encodec.load({ENCODER: folder / ENCODER_FILE}, section)
    swapped = {ENCODER: folder / DECODER_FILE, DECODER: folder / ENCODER_FILE}
    with pytest.raises(ValueError, match="has the inputs"):
        Encodec.load(swapped, section)
    with pytest.raises(ValueError, match="needed"):
        Encodec.load(files(folder), section | {"block_frames": 4})
    (tmp_path / ENCODER_FILE).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a readable codec graph"):
        Encodec.load({ENCODER: tmp_path / ENCODER_FILE, DECODER: folder / DECODER_FILE}, section)


class Parrot(FakeGenerator):
    """Goes on with codes that spell their timestep; keeps what it was told."""

    def listen(self, codes: Codes, conditions: Conditions) -> None:
        self.told = np.concatenate([getattr(self, "told", codes[:0]), codes])
        super().listen(codes, conditions)


@dataclass
class ParrotModel:
    """The real codec between a host and codes that are known beforehand."""

    codec: Encodec
    conditioning: ConditioningLayout = DEFAULT_LAYOUT

    def generator(self) -> Generator:
        return Parrot(FakeConfig(lag_steps=0))


def test_a_take_sounds_where_its_codes_belong(codec: Encodec) -> None:
    """The whole engine at the codec's rate: its samples are those of all codes decoded at once, at their place."""
    host = Host(RATE, block=500, model=ParrotModel(codec), warm_frames=256)
    host.play(40 * HOP + 123, lambda at: 0.2 * np.sin(at * 0.05))
    start = host.head + 1000
    host.engine.start(1, request(start, position=host.head, end_position=start + 20000))
    host.play(24000)
    [started] = [event for event in host.events if isinstance(event, TakeStarted)]
    position, pcm = host.heard()
    assert (position, len(pcm)) == (start, 20000) == (started.start_position, 20000)
    assert started.context_frames == 36  # what can be known of 40 frames
    heard = host.engine._sessions[1].listener.generator
    assert isinstance(heard, Parrot)
    frames = (start + 20000) // HOP + 6
    codes = np.concatenate([heard.told[:36], fake_codes(np.arange(36, frames), 0, 4)])
    decoder = codec.decoder()
    whole = decoder.push(codes)[decoder.delay_samples :]
    np.testing.assert_array_equal(pcm, whole[start : start + 20000])
