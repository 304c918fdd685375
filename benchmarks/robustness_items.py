"""The material for benchmarks.robustness: recordings that Debian packages ship, and the signals made here.

None of it is training data. Recordings are read from where their packages are installed, or unpacked by
`dpkg-deb -x`, and never copied; what is not there is named with its package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from attacca.training.music.soundfont import RenderError
from benchmarks import robustness_signals as signals
from benchmarks.robustness_signals import RATE, Audio, Missing

SECONDS = 3.0
_GAP_S = 0.05  # between files of one item
_SYNTH = "fluidsynth fluid-soundfont-gm"
Roots = Sequence[Path]
Sound = tuple[Audio, int]  # [n, 1 or 2] and its rate


@dataclass(frozen=True, kw_only=True)
class Item:
    """One piece of material. `make` raises Missing or RenderError where what it needs is not installed."""

    name: str
    kind: str
    about: str
    licence: str  # of a recording; empty for what is made here
    package: str  # Debian packages it needs; empty for none
    make: Callable[[Roots, float], Sound]


def load(item: Item, roots: Roots, seconds: float = SECONDS) -> Sound:
    """At most `seconds` of an item. Raises Missing with the package's name."""
    try:
        audio, rate = item.make(roots, seconds)
    except (RenderError, Missing):
        raise Missing(item.package) from None
    return audio[: round(seconds * rate)], rate


def _find(roots: Roots, path: str) -> Path:
    for root in roots:
        if (root / path).is_file():
            return root / path
    raise Missing(path)


def _read(path: Path, start_s: float, seconds: float) -> Sound:
    with soundfile.SoundFile(path) as file:
        file.seek(round(start_s * file.samplerate))
        audio = file.read(round(seconds * file.samplerate), dtype="float32", always_2d=True)
        return audio, file.samplerate


def _recording(
    name: str,
    kind: str,
    about: str,
    *files: str,
    package: str,
    licence: str,
    folder: str,
    start_s: float = 0.0,
    together: bool = False,
) -> Item:
    """Files of one package, one after the other, or `together` as tracks of one song."""

    def make(roots: Roots, seconds: float) -> Sound:
        read = [_read(_find(roots, f"{folder}/{file}"), start_s, seconds) for file in files]
        rate = read[0][1]
        if together:
            return np.sum([audio for audio, _ in read], axis=0, dtype=np.float32), rate
        parts = []
        for audio, _ in read:
            two = np.repeat(audio, 2, axis=1) if audio.shape[1] == 1 else audio
            parts += [two, np.zeros((round(_GAP_S * rate), 2), np.float32)]
        joined = np.concatenate(parts)[: round(seconds * rate)]
        return (joined[:, :1] if all(audio.shape[1] == 1 for audio, _ in read) else joined), rate

    return Item(name=name, kind=kind, about=about, licence=licence, package=package, make=make)


def _sectoid(name: str, kind: str, about: str, song: str, *files: str, start_s: float) -> Item:
    return _recording(
        *(name, kind, about, *files),
        package="fretsonfire-songs-sectoid",
        licence="MIT",  # (c) Carlos Viola Iborra, who composed and performed them
        folder=f"usr/share/games/fretsonfire/data/songs/sectoid/{song}",
        start_s=start_s,
        together=True,
    )


def _pi(name: str, kind: str, about: str, *files: str) -> Item:
    return _recording(
        *(name, kind, about, *(f"{file}.flac" for file in files)),
        package="sonic-pi-samples",
        licence="CC0",
        folder="usr/share/sonic-pi/samples",
    )


def _lmms(name: str, kind: str, about: str, *files: str) -> Item:
    return _recording(
        *(name, kind, about, *(f"{file}.ogg" for file in files)),
        package="lmms-common",
        licence="GPL-2+",
        folder="usr/share/lmms/samples",
    )


def _theme(name: str, about: str, *files: str, package: str, licence: str, folder: str) -> Item:
    return _recording(
        *(name, "theme", about, *files), package=package, licence=licence, folder=f"usr/share/sounds/{folder}"
    )


_BOTH = ("song.ogg", "guitar.ogg")
RECORDINGS = (
    _sectoid("band-metal", "band", "metal band", "Metal madness", *_BOTH, start_s=40.0),
    _sectoid("band-ballad", "band", "rock ballad", "Feelings", *_BOTH, start_s=62.0),
    _sectoid("band-rock", "band", "rock band", "Escape from chaosland", *_BOTH, start_s=32.0),
    _sectoid("guitar-lead", "guitar", "distorted lead guitar", "War of freedom", _BOTH[1], start_s=52.0),
    _sectoid("guitar-rhythm", "guitar", "distorted rhythm guitar", "Metal madness", _BOTH[1], start_s=6.0),
    _pi("guitar-chords", "guitar", "electric guitar, clean chords", "guit_em9"),
    _pi("guitar-slide", "guitar", "guitar, slide and harmonics", "guit_e_slide", "guit_harmonics"),
    _lmms("guitar-latin", "guitar", "nylon guitar", "latin/latin_guitar03"),
    _lmms(
        "guitar-heavy", "guitar", "steel guitar, heavily distorted", "instruments/steel_guitar_heavy_distorted01"
    ),
    _pi("drums-break", "drums", "drum break", "loop_amen_full"),
    _pi("drums-tabla", "drums", "tabla", "loop_tabla"),
    _pi(
        "drums-cymbals",
        "drums",
        "cymbals, splash, toms",
        "drum_cymbal_open",
        "drum_splash_hard",
        "drum_tom_lo_hard",
    ),
    _pi("choir-piano", "instrument", "choir, piano", "ambi_choir", "ambi_piano"),
    _pi("bell", "instrument", "bell", "perc_bell"),
    _lmms("organ", "instrument", "church organ", "instruments/church_organ02"),
    _lmms("strings", "instrument", "cello, violin", "instruments/cello01", "instruments/violin_double_stop01"),
    _lmms("brass", "instrument", "latin brass, trumpet", "latin/latin_brass01", "instruments/trumpet01"),
    _lmms("flute", "instrument", "flute", "instruments/flute01"),
    _lmms("ensemble", "instrument", "string ensemble", "stringsnpads/strings01"),
    _recording(
        *("voice", "voice", "woman speaking", "Front_Center.wav", "Front_Left.wav", "Rear_Right.wav"),
        package="alsa-utils",
        licence="GPL-2",
        folder="usr/share/sounds/alsa",
    ),
    _recording(
        *("voice-telephone", "voice", "woman speaking, 8 kHz", "demo-congrats.wav"),
        package="asterisk-core-sounds-en-wav",
        licence="CC-BY-SA-3.0",
        folder="usr/share/asterisk/sounds/en_US_f_Allison",
    ),
    _recording(
        *("band-telephone", "band", "band, 8 kHz", "manolo_camp-morning_coffee.wav"),
        package="asterisk-moh-opsound-wav",
        licence="CC-BY-SA-3.0",
        folder="usr/share/asterisk/moh",
        start_s=20.0,
    ),
    _pi("vinyl", "noise", "hiss and crackle of a record", "vinyl_hiss"),
    _theme(
        *("theme-freedesktop", "shutter at 96 kHz", "camera-shutter.oga"),
        package="sound-theme-freedesktop",
        licence="CC-BY-SA-3.0",
        folder="freedesktop/stereo",
    ),
    _theme(
        *("theme-deepin", "desktop chime", "desktop-login.wav"),
        package="deepin-sound-theme",
        licence="GPL-3",
        folder="deepin/stereo",
    ),
    _theme(
        *("theme-yaru", "desktop chime", "desktop-login.oga"),
        package="yaru-theme-sound",
        licence="CC-BY-SA-4.0",
        folder="Yaru/stereo",
    ),
)


def _made(name: str, kind: str, about: str, make: Callable[[float], Sound], *, package: str = "") -> Item:
    return Item(
        name=name, kind=kind, about=about, licence="", package=package, make=lambda _, seconds: make(seconds)
    )


def _speech(voice: str, about: str, text: str) -> Item:
    return _made(f"speech-{voice}", "speech", about, lambda _: signals.speech(voice, text), package="espeak-ng")


def _gm(name: str, kind: str, about: str, make: Callable[[], Audio], *, rate: int = RATE) -> Item:
    return _made(name, kind, about, lambda _: (make(), rate), package=_SYNTH)


_CHAINS = ("amplifier", "chorus and hall", "telephone", "bright and driven")
MADE = (
    _speech("en-gb", "English, man", "The take goes on where the player stopped, in time with the host."),
    _speech("en-us+f3", "English, woman", "She sells sea shells; six thick thistle sticks crackle and hiss."),
    _speech("de+m7", "German, deep voice", "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich."),
    _speech("es+f2", "Spanish, woman", "El perro de San Roque no tiene rabo porque Ramón Ramírez se lo ha robado."),
    *(
        _gm(
            *(f"gm-{program:03d}", "gm", f"General MIDI {program + 1}, {_CHAINS[program // 8 % 4]}"),
            lambda program=program: signals.through_effects(program),
        )
        for program in signals.PROGRAMS
    ),
    *(
        _gm(
            *(f"distorted-{program:03d}", "distorted", f"General MIDI guitar {program + 1}, drive {drive}"),
            lambda program=program, drive=drive: signals.amplified(signals.dry(program), drive),
        )
        for program, drive in zip(signals.GUITARS, (60.0, 25.0, 8.0), strict=True)
    ),
    *(
        _made(f"noise-{colour}", "noise", about, lambda s, colour=colour: (signals.noise(colour, s), RATE))
        for colour, about in (("white", "white noise"), ("pink", "pink noise"), ("bursts", "bursts of white noise"))
    ),
    _made("silence-digital", "silence", "zeros", lambda s: (signals.silence(s), RATE)),
    _made("silence-hiss", "silence", "white noise at -80 dBFS", lambda s: (signals.noise("hiss", s), RATE)),
    _gm("clipped", "clipped", "18 dB too loud, cut at full scale", lambda: signals.clipped(18.0, cut=True)),
    _gm("beyond", "clipped", "12 dB too loud, not cut", lambda: signals.clipped(12.0, cut=False)),
    _gm("broken", "clipped", "20 ms of NaN, 20 ms of infinity", signals.broken),
    _made("sweep", "tones", "sine, 20 Hz to 20 kHz", lambda s: (signals.sweep(s), RATE)),
    _made("clicks", "tones", "single samples", lambda s: (signals.clicks(s), RATE)),
    _gm("stereo-mono", "stereo", "the same on both sides", lambda: signals.placed(24, 24, (1.0, 1.0))),
    _gm("stereo-left", "stereo", "left alone", lambda: signals.placed(24, 24, (1.0, 0.0))),
    _gm("stereo-wide", "stereo", "piano left, guitar right", lambda: signals.placed(0, 24, (1.0, 1.0))),
    _gm("stereo-opposed", "stereo", "right is left turned over", lambda: signals.placed(24, 24, (1.0, -1.0))),
    _gm("rate-44100", "rate", "piano at 44.1 kHz", lambda: signals.dry(0, rate=44100), rate=44100),
)
ITEMS: tuple[Item, ...] = (*RECORDINGS, *MADE)
