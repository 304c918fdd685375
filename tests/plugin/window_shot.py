"""The plugin's window as seen: the JACK standalone on a virtual screen, played and photographed (jack_rig.py).

A script, for it needs a screen as large as the window. It writes the picture of the documents, the demo's riff and
a take of the default model in full course: `xvfb-run -a -s "-screen 0 900x621x24" python
tests/plugin/window_shot.py docs/img/plugin.png`. With --engine it photographs every state for test_plugin_ui.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import soundfile
import soxr

from attacca.bridge.engine_process import EngineProcess

RIG = Path(__file__).with_name("jack_rig.py")
ROOT = Path(__file__).parents[2]
RATE = 48000
TRIGGER = "click 124 465"  # the large pad, in the window as opened


def photograph(
    program: Path,
    folder: Path,
    deeds: Sequence[tuple[float, str]],
    *,
    address: str,
    more: Sequence[str],
    seconds: float,
) -> None:
    """Does what is said so many seconds after the transport began: "click X Y", else a picture FOLDER/NAME.png."""
    commands = []
    for at, deed in deeds:
        what, *place = deed.split()
        clicked = f"xdotool mousemove {' '.join(place)} click 1"
        commands += ["--do", f"{at}:{clicked if what == 'click' else f'import -window root {folder / what}.png'}"]
    command = [
        *(sys.executable, str(RIG), "--client", "Attacca", "--block", "1024", "--out", str(folder / "heard.f32")),
        *("--seconds", str(seconds), "--settle-s", "3", *commands, *more, str(program)),
    ]
    # Drawn by the processor at full rate, the window would take a core from the engine.
    own = {"ATTACCA_ENGINE": address, "LIBGL_ALWAYS_SOFTWARE": "1", "ATTACCA_WINDOW_FPS": "8"}
    environment = os.environ | own
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"alive": true' in done.stdout, done.stdout + done.stderr
    assert "assertion failure" not in done.stderr, done.stderr


def riff(folder: Path) -> Path:
    """The demo's riff at the server's rate, four bars of it."""
    samples, rate = soundfile.read(ROOT / "bridge" / "assets" / "riff.flac", dtype="float32")
    out = folder / "riff.wav"
    soundfile.write(out, soxr.resample(samples, rate, RATE), RATE)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="PNG to write; with --engine a folder for all pictures")
    parser.add_argument("--engine", help="address of an engine that runs; else the default model's is started")
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "plugin" / "bin" / "Attacca")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        heard = ["--play", str(riff(folder))]
        if options.engine is not None:
            deeds = [
                (2.0, "idle"),
                (2.9, TRIGGER),
                (3.4, "armed"),
                (6.0, "playing"),
                (8.0, TRIGGER),
                (9.5, "after"),
            ]
            photograph(options.program, options.target, deeds, address=options.engine, more=heard, seconds=10.0)
            return
        with EngineProcess(["--threads", "1"]) as engine:
            note = ["--midi", f"{int(7.2 * RATE)}:901864"]
            photograph(
                options.program,
                folder,
                [(13.4, "take")],
                address=engine.address,
                more=[*heard, *note],
                seconds=14.0,
            )
        shutil.copy(folder / "take.png", options.target)


if __name__ == "__main__":
    main()
