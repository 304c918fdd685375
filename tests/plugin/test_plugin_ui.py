"""The plugin's window on a virtual screen: every state is told apart, what sounds is drawn, it closes cleanly.

The JACK standalone with a fake engine, photographed while it is idle, armed, playing and over, its trigger pressed
by a pointer; see window_shot.py.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from conftest import Formats
from fault_run import free_address
from index_engine import IndexEngine
from listening import Listening
from paced import paced

pytestmark = [pytest.mark.plugin, pytest.mark.timeout(400)]

SHOT = Path(__file__).with_name("window_shot.py")
SCREEN = "-screen 0 900x621x24"
GOOD, BAD, INPUT = (75, 210, 164), (240, 101, 92), (115, 141, 186)  # rgb: playing, no engine, captured
GRID = (slice(100, 315), slice(22, 700))  # rows, columns
HEADER = (slice(15, 95), slice(10, 500))
FIELD = (slice(334, 366), slice(30, 300))
NEEDED = ("jackd", "xvfb-run", "import", "xdotool", "xwininfo")


def screen(*command: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["xvfb-run", "-a", "-s", SCREEN, *map(str, command)],
        env=os.environ | {"LIBGL_ALWAYS_SOFTWARE": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def need_tools() -> None:
    for tool in NEEDED:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (jackd2, xvfb, imagemagick, xdotool, x11-utils)")
    if importlib.util.find_spec("jack") is None:
        pytest.skip("JACK-Client is not installed: make test-plugin")


def near(picture: np.ndarray, part: tuple[slice, slice], colour: tuple[int, int, int]) -> int:
    """Pixels of a part within 40 of a colour, in each of red, green and blue."""
    return int((np.abs(picture[part] * 255.0 - np.array(colour)) < 40).all(axis=2).sum())


def photographed(formats: Formats, folder: Path) -> dict[str, np.ndarray]:
    need_tools()
    with IndexEngine("--rates", "48000", "--tone") as engine:
        shot = screen(
            *(sys.executable, SHOT, folder, "--engine", engine.address(48000)),
            *("--program", formats.effect.standalone),
        )
        said, _ = shot.communicate(timeout=90)
    assert shot.returncode == 0, said
    return {file.stem: matplotlib.image.imread(file)[..., :3] for file in folder.glob("*.png")}


@paced
def test_the_words_and_the_grid_show_every_state(formats: Formats, tmp_path: Path) -> None:
    """The words differ; the grid shows what was captured and what is made."""
    pictures = photographed(formats, tmp_path)
    assert set(pictures) == {"idle", "armed", "playing", "after"}
    assert all(picture.shape == (621, 900, 3) for picture in pictures.values())
    for one, other in (("idle", "armed"), ("armed", "playing"), ("playing", "after")):
        apart = np.abs(pictures[one][HEADER] - pictures[other][HEADER]).max(axis=2) > 0.2
        assert apart.sum() > 100, (one, other)
    assert near(pictures["idle"], GRID, INPUT) > 500
    assert near(pictures["playing"], GRID, GOOD) > 5 * max(near(pictures["idle"], GRID, GOOD), 100)
    assert near(pictures["playing"], HEADER, GOOD) > 100 > near(pictures["armed"], HEADER, BAD)
    assert np.abs(pictures["playing"][GRID] - pictures["armed"][GRID]).mean() > 0.005  # time goes on


@paced
def test_without_an_engine_it_says_so_and_closes_cleanly(formats: Formats, tmp_path: Path) -> None:
    need_tools()
    script = tmp_path / "alone.sh"
    script.write_text(
        "export JACK_DEFAULT_SERVER=attacca-window-$$ JACK_NO_START_SERVER=1\n"
        "jackd -n $JACK_DEFAULT_SERVER -r -d dummy -r 48000 -p 1024 >/dev/null 2>&1 & server=$!\n"
        "sleep 1\n"
        f'"{formats.effect.standalone}" > {tmp_path}/said.txt 2>&1 & plugin=$!\n'
        f"sleep 4; import -window root {tmp_path}/alone.png; xwininfo -root -children > {tmp_path}/windows.txt\n"
        f"kill -TERM $plugin; wait $plugin; echo $? > {tmp_path}/code; kill $server\n"
    )
    shot = screen("sh", script, ATTACCA_ENGINE=free_address())
    try:
        shot.communicate(timeout=60)
    finally:
        if shot.poll() is None:
            os.killpg(shot.pid, signal.SIGKILL)
            time.sleep(0.1)
    picture = matplotlib.image.imread(tmp_path / "alone.png")[..., :3]
    assert near(picture, HEADER, BAD) > 100 > near(picture, HEADER, GOOD)
    assert "Attacca" in (tmp_path / "windows.txt").read_text()
    assert (tmp_path / "code").read_text().strip() == "0", (tmp_path / "said.txt").read_text()


@paced
def test_what_is_typed_into_the_field_is_told(formats: Formats, tmp_path: Path) -> None:
    """By Return or by a click elsewhere; Escape takes it back; a model without text has no field to type into."""
    need_tools()
    script = tmp_path / "typed.sh"
    field, elsewhere = (
        "xdotool mousemove 450 350 click 1; sleep 0.7",
        "xdotool mousemove 300 150 click 1; sleep 0.7",
    )

    def typed(text: str, *keys: str) -> str:
        return f"{field}; xdotool type --delay 30 '{text}'; sleep 0.3; {'; '.join(keys)}; sleep 0.7"

    steps = [
        typed("slow jazz", "xdotool key Return"),
        typed("zz", "xdotool key Escape"),
        typed(" trio!", "xdotool key BackSpace Home Delete", elsewhere),
        f"import -window root {tmp_path}/told.png",
    ]
    script.write_text(
        "export JACK_DEFAULT_SERVER=attacca-typed-$$ JACK_NO_START_SERVER=1\n"
        "jackd -n $JACK_DEFAULT_SERVER -r -d dummy -r 48000 -p 1024 >/dev/null 2>&1 & server=$!\n"
        "sleep 1\n"
        f'"{formats.effect.standalone}" > {tmp_path}/said.txt 2>&1 & plugin=$!\n'
        "sleep 4\n" + "\n".join(steps) + "\n"
        f"kill -TERM $plugin; wait $plugin; echo $? > {tmp_path}/code; kill $server\n"
    )
    engine = Listening()
    shot = screen("sh", script, ATTACCA_ENGINE=engine.address)
    try:
        shot.communicate(timeout=90)
    finally:
        if shot.poll() is None:
            os.killpg(shot.pid, signal.SIGKILL)
        engine.close()
    # A session that is opened again, on a machine that stutters, is told again.
    assert [text for text, _ in itertools.groupby(engine.texts)] == ["slow jazz", "low jazz trio"]
    assert (tmp_path / "code").read_text().strip() == "0", (tmp_path / "said.txt").read_text()
    picture = matplotlib.image.imread(tmp_path / "told.png")[..., :3]
    assert (picture[FIELD].max(axis=2) > 0.5).sum() > 100  # the words stand there
