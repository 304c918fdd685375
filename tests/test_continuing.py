"""`attacca continue`: the file, then what follows it, to the sample; a clear line for what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from attacca.bridge import config
from attacca.bridge.cli import app
from attacca.bridge.continuing import ContinueOptions

TINY = Path(__file__).parent / "data" / "tiny"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def attacca(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command line in a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.setattr(config, "default_file", lambda: tmp_path / "no-such-attacca.toml")
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str, str]:
        code = app([str(arg) for arg in args], standalone_mode=False)
        return (code, *capsys.readouterr())

    return run


def write(
    path: str, *, seconds: float = 2.0, rate: int = 48000, channels: int = 1, subtype: str = "PCM_16"
) -> None:
    t = np.arange(round(seconds * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * np.outer(t, 220.0 * np.arange(1, channels + 1)))
    soundfile.write(path, samples, rate, subtype=subtype)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(48000, 1, "PCM_U8"), (44100, 2, "PCM_24"), (32000, 1, "FLOAT"), (96000, 6, "PCM_16")],
)
def test_the_source_is_kept_and_followed(attacca: Run, rate: int, channels: int, subtype: str) -> None:
    write("in.wav", rate=rate, channels=channels, subtype=subtype)
    code, out, err = attacca("continue", "in.wav", "-o", "out.wav", "--seconds", "0.5", "--model", TINY)
    assert code == 0, err
    assert out.startswith("out.wav: 0.50 s of continuation in ")
    assert "RTF" in out
    heard, got_rate = soundfile.read("out.wav", always_2d=True)
    source, _ = soundfile.read("in.wav", always_2d=True)
    wanted = source if channels <= 2 else source.mean(axis=1, keepdims=True)
    assert got_rate == rate
    assert heard.shape == (len(source) + rate // 2, min(channels, 2) if channels <= 2 else 1)
    np.testing.assert_allclose(heard[: len(source)], wanted, atol=2**-22)
    assert np.abs(heard[len(source) :]).max() > 0


def test_bars_are_exact_and_the_seed_decides(attacca: Run) -> None:
    write("in.wav", rate=44100)
    args = ("continue", "in.wav", "--only", "--bpm", "97", "--meter", "7/8", "--bars", "1", "--model", TINY)
    for name, seed in (("a.wav", 3), ("b.wav", 3), ("c.wav", 4)):
        assert attacca(*args, "-o", name, "--seed", seed)[0] == 0
    a, b, c = (soundfile.read(name)[0] for name in ("a.wav", "b.wav", "c.wav"))
    assert len(a) == -(-Fraction(7, 2) * 60 * 44100 // 97)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("seconds", [1 / 48000, 0.001, 0.02])
def test_even_a_click_can_be_continued(attacca: Run, seconds: float) -> None:
    write("in.wav", seconds=seconds)
    code, _, err = attacca("continue", "in.wav", "-o", "out.wav", "--seconds", "0.2", "--model", TINY)
    assert code == 0, err
    assert soundfile.info("out.wav").frames == round(seconds * 48000) + 9600


def test_the_fake_continues_too(attacca: Run) -> None:
    write("in.wav")
    assert attacca("continue", "in.wav", "-o", "out.wav", "--seconds", "0.5", "--fake")[0] == 0


def test_the_style_asked_for_is_commanded(attacca: Run) -> None:
    write("in.wav")
    heard = {}
    for style in ("1", "5", None):
        flags = [] if style is None else ["--style", style]
        code, _, err = attacca(
            "continue", "in.wav", "-o", f"{style}.wav", "--seconds", "1", *flags, "--model", TINY
        )
        assert code == 0, err
        heard[style] = soundfile.read(f"{style}.wav")[0]
    assert not np.array_equal(heard["1"], heard["5"])
    assert not np.array_equal(heard["1"], heard[None])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["missing.wav", "-o", "out.wav"], ["missing.wav: no such file"]),
        ([".", "-o", "out.wav"], ["is a directory"]),
        (["diary.wav", "-o", "out.wav"], ["diary.wav: not an audio file"]),
        (["empty.wav", "-o", "out.wav"], ["empty.wav: the file is empty"]),
        (["nothing.wav", "-o", "out.wav"], ["nothing.wav: holds no samples"]),
        (["in.wav"], ["--out"]),
        (["in.wav", "-o", "none/out.wav"], ["there is no folder none"]),
        (["in.wav", "-o", "."], ["is a directory"]),
        (["in.wav", "-o", "out.wav", "--bars", "4"], ["--bars needs a tempo"]),
        (["in.wav", "-o", "out.wav", "--bars", "4", "--seconds", "3", "--bpm", "120"], ["not both"]),
        (["in.wav", "-o", "out.wav", "--bpm", "9"], ["--bpm 9 is outside 20..400"]),
        (["in.wav", "-o", "out.wav", "--bpm", "nan"], ["--bpm nan is outside 20..400"]),
        (["in.wav", "-o", "out.wav", "--meter", "4"], ["'4'", "7/8"]),
        (["in.wav", "-o", "out.wav", "--meter", "4/5"], ["'4/5'"]),
        (["in.wav", "-o", "out.wav", "--seconds", "-1"], ["--seconds -1 is outside"]),
        (["in.wav", "-o", "out.wav", "--temperature", "9"], ["--temperature = 9.0 is outside"]),
        (["in.wav", "-o", "out.wav", "--style", "waltz"], ["'waltz', allowed: 0..7"]),
        (["in.wav", "-o", "out.wav", "--style", "8"], ["'8', allowed: 0..7"]),
        (["in.wav", "-o", "out.wav", "--model", "none"], ["'none'"]),
    ],
)
def test_what_it_cannot_continue_is_one_clear_line(attacca: Run, args: list[str], words: list[str]) -> None:
    Path("diary.wav").write_text("Dear diary, today I sang.\n")
    Path("empty.wav").touch()
    soundfile.write("nothing.wav", np.zeros((0, 1), np.float32), 48000)
    write("in.wav", seconds=0.1)
    code, out, err = attacca("continue", *args, *([] if "--model" in args else ["--model", TINY]))
    assert code == 2
    assert out == ""
    assert err.startswith("attacca: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not Path("out.wav").exists()


def test_length_is_a_rational() -> None:
    options = ContinueOptions(source=Path("a"), out=Path("b"), bars=3, bpm=123.45, meter="5/4")
    assert options.length_s == Fraction(15 * 60 * 100, 12345)
    assert ContinueOptions(source=Path("a"), out=Path("b")).length_s == 16
