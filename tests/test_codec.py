"""The runtime codec on the committed tiny bundle: streaming to the bit, whatever the audio, the codes, the cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.bundle import load_bundle
from attacca.engine.codec import Codec, CodecSection
from attacca.engine.codec_stream import MAX_AMPLITUDE
from attacca.engine.manifest import read_manifest

TINY = Path(__file__).parent / "data" / "tiny"
FRAMES, HOP = 21, 640

cuts = st.lists(st.integers(0, FRAMES * HOP + 100), max_size=12)
frame_cuts = st.lists(st.integers(0, FRAMES), max_size=10)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_bundle(TINY).codec


@pytest.fixture(scope="module")
def pcm() -> np.ndarray:
    """Chords, clicks and noise at changing level, and 100 samples that complete no frame."""
    rng = np.random.default_rng(0)
    time = np.arange(FRAMES * HOP + 100) / 32000
    tones = sum(np.sin(2 * np.pi * hz * time) for hz in (110.0, 277.2, 440.0, 3000.0))
    audio = tones * 0.1 * (time % 0.1 < 0.06) + rng.normal(0, 0.05, len(time)) * (time > 0.2)
    audio[::4000] += 0.7
    return audio.astype(np.float32)


@pytest.fixture(scope="module")
def codes(codec: Codec) -> np.ndarray:
    size = (FRAMES, codec.num_codebooks)
    return np.random.default_rng(1).integers(0, codec.codebook_size, size).astype(np.uint16)


def test_the_bundle_holds_the_spectral_codec(codec: Codec) -> None:
    assert codec.section == CodecSection.parse(read_manifest(TINY).codec)
    assert (codec.sample_rate, codec.hop_samples, codec.num_codebooks) == (32000, HOP, 4)


@given(cuts=cuts)
@settings(max_examples=25)
def test_encoding_in_pieces_is_encoding_at_once(codec: Codec, pcm: np.ndarray, cuts: list[int]) -> None:
    encoder = codec.encoder()
    pieces = np.concatenate([encoder.push(part) for part in np.split(pcm, sorted(cuts))])
    whole = codec.encoder().push(pcm)
    assert whole.shape == (FRAMES, 4) and whole.dtype == np.uint16
    np.testing.assert_array_equal(pieces, whole)


@given(cuts=frame_cuts)
@settings(max_examples=25)
def test_decoding_in_pieces_is_decoding_at_once(codec: Codec, codes: np.ndarray, cuts: list[int]) -> None:
    decoder = codec.decoder()
    pieces = np.concatenate([decoder.push(part) for part in np.split(codes, sorted(cuts))])
    whole = codec.decoder().push(codes)
    assert whole.shape == (FRAMES * HOP,) and whole.dtype == np.float32
    np.testing.assert_array_equal(pieces, whole)


def test_codes_and_sound_follow_what_is_pushed(codec: Codec, pcm: np.ndarray, codes: np.ndarray) -> None:
    """Without this, a codec that ignores its input would pass every test of equality."""
    heard = codec.encoder().push(pcm)
    assert len(np.unique(heard, axis=0)) > FRAMES // 2
    changed = codes.copy()
    changed[10] = (changed[10] + 1) % codec.codebook_size
    first, second = codec.decoder().push(codes), codec.decoder().push(changed)
    held_back = codec.decoder().delay_samples
    differs = np.flatnonzero(first != second)
    assert differs[0] >= 10 * HOP
    assert differs[0] < 10 * HOP + held_back


@given(frame=st.integers(1, FRAMES - 1))
@settings(max_examples=10)
def test_a_frame_hears_nothing_after_its_end(codec: Codec, pcm: np.ndarray, frame: int) -> None:
    changed = pcm.copy()
    changed[frame * HOP :] = 0.5
    whole, other = codec.encoder().push(pcm), codec.encoder().push(changed)
    np.testing.assert_array_equal(whole[:frame], other[:frame])


@given(cut=st.integers(0, FRAMES * HOP))
@settings(max_examples=15)
def test_an_encoder_goes_on_from_a_snapshot(codec: Codec, pcm: np.ndarray, cut: int) -> None:
    encoder, other = codec.encoder(), codec.encoder()
    encoder.push(pcm[:cut])
    snap = encoder.snapshot()
    tail = encoder.push(pcm[cut:])
    other.push(pcm[::-1].copy())
    for stream in (encoder, other):  # twice: a snapshot is not used up
        stream.restore(snap)
        np.testing.assert_array_equal(stream.push(pcm[cut:]), tail)


@given(cut=st.integers(0, FRAMES))
@settings(max_examples=15)
def test_a_decoder_goes_on_from_a_snapshot(codec: Codec, codes: np.ndarray, cut: int) -> None:
    decoder, other = codec.decoder(), codec.decoder()
    decoder.push(codes[:cut])
    snap = decoder.snapshot()
    tail = decoder.push(codes[cut:])
    other.push(codes[::-1].copy())
    for stream in (decoder, other):
        stream.restore(snap)
        np.testing.assert_array_equal(stream.push(codes[cut:]), tail)


def test_reset_is_a_new_stream(codec: Codec, pcm: np.ndarray, codes: np.ndarray) -> None:
    encoder, decoder = codec.encoder(), codec.decoder()
    heard, sound = encoder.push(pcm), decoder.push(codes)
    encoder.reset()
    decoder.reset()
    np.testing.assert_array_equal(encoder.push(pcm), heard)
    np.testing.assert_array_equal(decoder.push(codes), sound)


def test_streams_do_not_hear_each_other(codec: Codec, codes: np.ndarray) -> None:
    alone = codec.decoder().push(codes)
    first, second = codec.decoder(), codec.decoder()
    mixed = []
    for i in range(FRAMES):
        mixed.append(first.push(codes[i : i + 1]))
        second.push(codes[FRAMES - 1 - i : FRAMES - i])
    np.testing.assert_array_equal(np.concatenate(mixed), alone)


@given(
    where=st.lists(st.integers(0, FRAMES * HOP - 1), min_size=1, max_size=8, unique=True),
    what=st.sampled_from([np.nan, np.inf, -np.inf]),
)
@settings(max_examples=15)
def test_invalid_samples_are_silence_and_counted(
    codec: Codec, pcm: np.ndarray, where: list[int], what: float
) -> None:
    broken, silent = pcm.copy(), pcm.copy()
    broken[where], silent[where] = what, 0.0
    encoder = codec.encoder()
    np.testing.assert_array_equal(encoder.push(broken), codec.encoder().push(silent))
    assert encoder.invalid_samples == len(where)


@pytest.mark.parametrize("level", [0.0, 1e-30, 1.0, 1e3, 1e20])
def test_any_level_is_coded_and_leaves_nothing_behind(codec: Codec, pcm: np.ndarray, level: float) -> None:
    encoder = codec.encoder()
    heard = encoder.push(pcm * np.float32(level))
    assert heard.shape == (FRAMES, 4) and int(heard.max()) < codec.codebook_size
    # Windows and convolutions are finite: after their length of silence the past is forgotten.
    silence = np.zeros(FRAMES * HOP + HOP - 100, np.float32)
    np.testing.assert_array_equal(encoder.push(silence)[-8:], codec.encoder().push(silence)[-8:])


def test_silence_is_one_code_over_and_over(codec: Codec) -> None:
    heard = codec.encoder().push(np.zeros(FRAMES * HOP, np.float32))
    assert len(np.unique(heard[3:], axis=0)) == 1


@pytest.mark.parametrize("code", [0, 15])
def test_any_code_gives_finite_sound(codec: Codec, code: int) -> None:
    sound = codec.decoder().push(np.full((100, 4), code, np.uint16))
    assert np.isfinite(sound).all()


def test_pushing_nothing_changes_nothing(codec: Codec, pcm: np.ndarray, codes: np.ndarray) -> None:
    encoder, decoder = codec.encoder(), codec.decoder()
    assert encoder.push(np.zeros(0, np.float32)).shape == (0, 4)
    assert decoder.push(np.zeros((0, 4), np.uint16)).shape == (0,)
    assert encoder.push(pcm[:639]).shape == (0, 4)
    assert encoder.push(np.zeros(0, np.float32)).shape == (0, 4)
    np.testing.assert_array_equal(encoder.push(pcm[639:]), codec.encoder().push(pcm))
    np.testing.assert_array_equal(decoder.push(codes), codec.decoder().push(codes))


def test_bad_pushes_are_refused_and_change_nothing(codec: Codec, pcm: np.ndarray, codes: np.ndarray) -> None:
    encoder, decoder = codec.encoder(), codec.decoder()
    with pytest.raises(ValueError, match=r"pcm has shape \(2, 640\), allowed: \[n\]"):
        encoder.push(np.zeros((2, 640), np.float32))
    with pytest.raises(ValueError, match=r"codes have shape \(3, 2\), allowed: \[frames, 4\]"):
        decoder.push(codes[:3, :2])
    with pytest.raises(ValueError, match=r"codes lie in 16\.\.16, allowed 0\.\.15"):
        decoder.push(np.full((3, 4), 16, np.uint16))
    np.testing.assert_array_equal(encoder.push(pcm), codec.encoder().push(pcm))
    np.testing.assert_array_equal(decoder.push(codes), codec.decoder().push(codes))


@pytest.mark.parametrize("level", [np.nan, np.inf, -np.inf, 1e30])
def test_no_graph_can_make_the_stream_other_than_finite(
    codec: Codec, codes: np.ndarray, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = codec._run

    def broken(*arguments: object) -> tuple[np.ndarray, object]:
        out, states = run(*arguments)  # type: ignore[arg-type]
        return np.full_like(out, level), states

    monkeypatch.setattr(codec, "_run", broken)
    sound = codec.decoder().push(codes)
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= MAX_AMPLITUDE
