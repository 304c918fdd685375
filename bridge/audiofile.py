"""Reading and writing audio files, with an error a musician can act on for everything that is not a usable WAV.

Used by the command line (`attacca continue`) and by whatever else takes a file from a user.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

MAX_MINUTES = 60
LOW_RATE_HZ, HIGH_RATE_HZ = 8_000, 384_000


class AudioFileError(ValueError):
    """A file that cannot be read as audio or written; the message names it and says why."""


def read_audio(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """The samples of a file, float32 [samples, 1 or 2], and its rate in Hz.

    Files of more than two channels are mixed down to mono, each channel with equal weight. AudioFileError if there
    is no such file, it is a directory, empty, not audio, longer than an hour, has NaNs or an unusable rate.
    """
    import soundfile

    if path.is_dir():
        raise AudioFileError(f"{path}: is a directory, not an audio file")
    if not path.exists():
        raise AudioFileError(f"{path}: no such file")
    try:
        with path.open("rb") as stream:
            if not stream.read(1):
                raise AudioFileError(f"{path}: the file is empty (0 bytes)")
        info = soundfile.info(str(path))
        _check_header(path, info.samplerate, info.frames)
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except PermissionError:
        raise AudioFileError(f"{path}: no permission to read it") from None
    except soundfile.LibsndfileError as error:
        raise AudioFileError(f"{path}: not an audio file that can be read ({error.error_string})") from None
    if len(samples) == 0:
        raise AudioFileError(f"{path}: holds no samples")
    if not np.isfinite(samples).all():
        raise AudioFileError(f"{path}: holds NaN or infinite samples")
    if samples.shape[1] > 2:
        samples = samples.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.ascontiguousarray(samples), int(rate)


def write_audio(path: Path, samples: npt.NDArray[np.float32], rate_hz: int) -> None:
    """Write float32 [samples, channels] as a 24-bit WAV. AudioFileError if the place cannot be written."""
    import soundfile

    check_writable(path)
    try:
        soundfile.write(str(path), np.clip(samples, -1.0, 1.0), rate_hz, subtype="PCM_24", format="WAV")
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioFileError(f"{path}: cannot be written ({error})") from None


def check_writable(path: Path) -> None:
    """AudioFileError if `path` is a directory or its folder is missing: found before minutes of work, not after."""
    if path.is_dir():
        raise AudioFileError(f"{path}: is a directory; name a file")
    if not path.parent.is_dir():
        raise AudioFileError(f"{path}: there is no folder {path.parent}")


def _check_header(path: Path, rate_hz: int, samples: int) -> None:
    if samples == 0:
        raise AudioFileError(f"{path}: holds no samples")
    if not LOW_RATE_HZ <= rate_hz <= HIGH_RATE_HZ:
        raise AudioFileError(f"{path}: sample rate {rate_hz} Hz is outside {LOW_RATE_HZ}..{HIGH_RATE_HZ}")
    if samples > MAX_MINUTES * 60 * rate_hz:
        raise AudioFileError(f"{path}: longer than {MAX_MINUTES} minutes; cut it first")
