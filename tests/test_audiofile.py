"""Files that a user may name: every readable WAV is read right, everything else is one clear error."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from attacca.bridge.audiofile import AudioFileError, check_writable, read_audio, write_audio


def ramp(samples: int, channels: int) -> np.ndarray:
    return np.linspace(-0.5, 0.5, samples * channels, dtype=np.float32).reshape(samples, channels)


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("FLOAT", 0.0), ("DOUBLE", 0.0)],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_usual_wav_is_read(tmp_path: Path, subtype: str, step: float, channels: int) -> None:
    path, samples = tmp_path / "a.wav", ramp(1000, channels)
    soundfile.write(path, samples, 44100, subtype=subtype)
    read, rate = read_audio(path)
    assert rate == 44100
    assert read.shape == (1000, channels)
    assert read.dtype == np.float32
    assert np.abs(read - samples).max() <= step


def test_surround_is_mixed_to_mono(tmp_path: Path) -> None:
    path, samples = tmp_path / "a.wav", ramp(100, 6)
    soundfile.write(path, samples, 48000, subtype="FLOAT")
    read, _ = read_audio(path)
    np.testing.assert_allclose(read, samples.mean(axis=1, keepdims=True), atol=1e-7)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path, samples = tmp_path / "a.wav", ramp(777, 2)
    write_audio(path, samples, 48000)
    read, rate = read_audio(path)
    assert rate == 48000
    assert np.abs(read - samples).max() <= 2**-23


def no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros((0, 1), np.float32), 48000)


def not_finite(path: Path) -> None:
    soundfile.write(path, np.array([0.0, np.nan], np.float32), 48000, subtype="FLOAT")


def odd_rate(path: Path) -> None:
    soundfile.write(path, ramp(100, 1), 4000)


def cut_header(path: Path) -> None:
    soundfile.write(path, ramp(100, 1), 48000)
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (Path.mkdir, "is a directory"),
        (Path.touch, "the file is empty"),
        (lambda path: path.write_text("Dear diary,\n"), "not an audio file"),
        (no_samples, "holds no samples"),
        (not_finite, "NaN"),
        (odd_rate, "sample rate 4000 Hz is outside 8000..384000"),
        (cut_header, "not an audio file"),
    ],
)
def test_what_is_no_usable_audio_is_named(tmp_path: Path, make: object, words: str) -> None:
    path = tmp_path / "a.wav"
    make(path)  # type: ignore[operator]
    with pytest.raises(AudioFileError) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_hour_is_the_limit_and_is_seen_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros((8000 * 3600 + 8000, 1), np.float32), 8000, subtype="PCM_U8")
    with pytest.raises(AudioFileError, match="longer than 60 minutes"):
        read_audio(path)


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, ramp(10, 1), 48000)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # chmod would not stop root
    with pytest.raises(AudioFileError, match="no permission"):
        read_audio(path)


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, content: bytes, riff: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "any.wav"
    head = b"RIFF" + struct.pack("<I", len(content) + 4) + b"WAVEfmt " if riff else b""
    path.write_bytes(head + content)
    try:
        samples, _ = read_audio(path)
    except AudioFileError as error:
        assert str(path) in str(error)
    else:
        assert len(samples) > 0
        assert np.isfinite(samples).all()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="is a directory"):
        check_writable(tmp_path)
    with pytest.raises(AudioFileError, match="there is no folder"):
        write_audio(tmp_path / "none" / "a.wav", ramp(10, 1), 48000)
