"""The command line's frame: help, one clear line per mistake, exit codes; and the commands that need no model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile

from attacca.bridge import cli_group, config, doctor, patterns
from attacca.bridge.cli import app
from attacca.bridge.cli_group import UserError, describe, hoist
from attacca.bridge.doctor import Finding, Verdict
from attacca.engine.pattern import make_pattern

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def attacca(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command line in this process: (exit code, stdout, stderr). No settings of this machine are seen."""
    monkeypatch.setattr(config, "default_file", lambda: tmp_path / "no-such-attacca.toml")

    def run(*args: object) -> tuple[int, str, str]:
        code = app([str(arg) for arg in args], standalone_mode=False)
        out, err = capsys.readouterr()
        return code, out, err

    return run


COMMANDS = [
    *(
        [name]
        for name in (
            "demo",
            "serve",
            "continue",
            "bench",
            "patterns",
            "doctor",
            "config",
            "version",
            "models",
            "train",
            "export",
        )
    ),
    *(["models", name] for name in ("list", "verify", "show")),
    ["plugin"],
    *(["plugin", name] for name in ("install", "where", "uninstall", "connect")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(attacca: Run, command: list[str]) -> None:
    code, out, err = attacca(*command, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: attacca {' '.join(command)}" in " ".join(out.split())


def test_the_first_page_groups_all_commands(attacca: Run) -> None:
    code, out, _ = attacca()
    assert code == 0
    assert out == attacca("--help")[1] == attacca("-h")[1]
    for words in ("Play", "Models and speed", "Look around", *(command[0] for command in COMMANDS)):
        assert words in out


def test_a_group_without_a_command_shows_its_help(attacca: Run) -> None:
    code, out, err = attacca("models")
    assert (code, err) == (0, "")
    assert out == attacca("models", "--help")[1]


def test_version_is_the_package_s(attacca: Run) -> None:
    assert attacca("version") == attacca("--version") == (0, f"attacca {version('attacca')}\n", "")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["config", "--theads", "3"], ["No such option: --theads", "--threads", "attacca config --help"]),
        (["cofig"], ["No such command 'cofig'", "Did you mean 'config'?"]),
        (["config", "--threads", "x"], ["--threads", "integer"]),
        (["config", "--threads", "65"], ["--threads = 65 is outside 1..64"]),
        (["config", "--address", "localhost"], ["--address = 'localhost' does not begin with tcp://"]),
        (["config", "--config", "/no/such.toml"], ["/no/such.toml: no such configuration file"]),
        (["--config"], ["--config", "argument"]),
        (["patterns", "--draw", "spiral"], ["'spiral'", "parallel, delay, flat, stack, stack-delay"]),
        (["patterns", "--codebooks", "0"], ["--codebooks"]),
        (["models", "verify", "/no/such/bundle"], ["/no/such/bundle"]),
        (["models", "show", "ostinatto"], ["ostinatto"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(attacca: Run, args: list[str], words: list[str]) -> None:
    code, out, err = attacca(*args)
    assert code == 2
    assert out == ""
    assert err.startswith("attacca: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_debug_shows_the_traceback_wherever_it_stands(attacca: Run) -> None:
    for args in (("--debug", "patterns", "--draw", "spiral"), ("patterns", "--draw", "spiral", "--debug")):
        code, _, err = attacca(*args)
        assert code == 2
        assert "Traceback" in err
        assert err.endswith("stack-delay\n")


def test_our_own_defects_and_interrupts_have_their_codes(attacca: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: BaseException) -> Callable[..., None]:
        def raising(*_: object) -> None:
            raise error

        return raising

    monkeypatch.setattr(patterns, "print_table", fail(AttributeError("no such\nthing")))
    code, _, err = attacca("patterns")
    assert code == 1
    assert err == "attacca: internal error: AttributeError: no such thing (run again with --debug)\n"
    monkeypatch.setattr(patterns, "print_table", fail(KeyboardInterrupt()))
    assert attacca("patterns")[0] == 130
    monkeypatch.setattr(patterns, "print_table", fail(UserError("mend this")))
    assert attacca("patterns") == (2, "", "attacca: mend this\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that a user might name by mistake."""
    (tmp_path / "diary.wav").write_text("Dear diary, today I sang.\n")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "nothing.wav", np.zeros((0, 1), np.float32), 48000)
    soundfile.write(tmp_path / "good.wav", np.zeros((4800, 2), np.float32), 48000)
    return tmp_path


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--input", "missing.wav"], ["missing.wav: no such file"]),
        (["--input", "."], ["is a directory"]),
        (["--input", "diary.wav"], ["diary.wav: not an audio file"]),
        (["--input", "empty.wav"], ["empty.wav: the file is empty"]),
        (["--input", "nothing.wav"], ["nothing.wav: holds no samples"]),
        (["--meter", "7"], ["'7'", "7/8"]),
        (["--bpm", "1000"], ["bpm 1000 is outside 20..400"]),
        (["--block", "0"], ["block 0 is outside 1..8192"]),
        (["--sample-rate", "100"], ["sample rate 100 is outside"]),
        (["--bars", "0"], ["bars 0 is outside 1..64"]),
        (["--model", "ostinatto"], ["'ostinatto'"]),
        (["--out", "good.wav"], ["good.wav"]),
    ],
)
def test_demo_refuses_what_it_cannot_play(
    attacca: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, args: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(folder)
    fake = [] if "--model" in args else ["--fake"]
    code, out, err = attacca("demo", *fake, *args)
    assert code == 2
    assert out == ""
    assert err.startswith("attacca: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not list(folder.glob("demo.*"))


def test_demo_plays_the_fake_flat_out(attacca: Run, tmp_path: Path) -> None:
    code, _, err = attacca("demo", "--fake", "--flat-out", "--bars", 1, "--out", tmp_path / "new")
    assert code == 0, err
    told = json.loads((tmp_path / "new" / "demo.json").read_text())
    assert told["start_error_samples"] == 0
    assert told["underruns"] == {"callbacks": 0, "samples": 0}
    assert {"decoder", "codec", "total"} <= set(told["rtf"])
    assert {"ttfa_ms", "control_latency_ms"} <= set(told)
    samples, rate = soundfile.read(tmp_path / "new" / "demo.wav")
    assert rate == 48000
    assert len(samples) == 6 * 2 * 48000  # 4 bars of riff, 1 of continuation, 1 of tail, at 120 BPM


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (FileNotFoundError(2, "No such file or directory", "x.wav"), "x.wav: No such file or directory", 2),
        (ModuleNotFoundError("...", name="matplotlib.pyplot"), "pip install 'attacca[demo]'", 2),
        (ModuleNotFoundError("...", name="zmq"), "zmq is not installed", 2),
        (ValueError("two\n  lines"), "two lines", 2),
        (ValueError(), "ValueError", 2),
        (KeyError("k"), "internal error: KeyError", 1),
    ],
)
def test_what_exceptions_are_called(error: Exception, line: str, code: int) -> None:
    text, got = describe(error)
    assert line in text
    assert got == code


def test_options_of_the_program_are_moved_to_the_front() -> None:
    assert hoist(["demo", "--debug", "--bpm", "97", "--config", "a.toml"]) == [
        "--debug", "--config", "a.toml", "demo", "--bpm", "97",
    ]  # fmt: skip
    assert hoist(["demo", "--config=a"]) == ["--config=a", "demo"]
    assert hoist(["demo", "--", "--debug"]) == ["demo", "--", "--debug"]
    assert hoist(["demo", "--config"]) == ["demo", "--config"]


def test_a_closed_pipe_is_no_error() -> None:
    program = f"{sys.executable} -m attacca.bridge.cli patterns --draw flat --frames 200 | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", program], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_config_shows_value_and_origin(attacca: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("guidance = 2\n")
    monkeypatch.setenv("ATTACCA_SEED", "11")
    code, out, _ = attacca("config", "--json", "--threads", 2, "--config", path)
    assert code == 0
    told = json.loads(out)
    assert told["file"] == str(path)
    assert told["settings"]["guidance"] == {"value": 2.0, "origin": str(path)}
    assert told["settings"]["seed"] == {"value": 11, "origin": "ATTACCA_SEED"}
    assert told["settings"]["threads"] == {"value": 2, "origin": "flag"}
    assert told["settings"]["fake"] == {"value": False, "origin": "default"}
    assert set(told["settings"]) == set(config.ROWS)
    table = attacca("config", "--threads", 2, "--config", path)[1]
    assert all(name in table for name in config.ROWS)


def test_a_drawn_pattern_is_the_paper_s(attacca: Run) -> None:
    code, out, _ = attacca("patterns", "--draw", "stack-delay", "--codebooks", 4, "--p", 3, "--frames", 9)
    assert code == 0
    head, *lines = out.splitlines()
    assert head == "stack-delay: K = 4, p = 3, T = 9: 17 steps"
    coarsest = next(line for line in lines if line.startswith("k=0"))
    cells = coarsest.split("|")[1].split()
    assert [cells.index(str(t)) for t in range(9)] == [0, 3, 6, 9, 4, 7, 10, 13, 8]


def test_the_table_of_patterns_is_table_1(attacca: Run) -> None:
    rows = {name.split(" ")[0]: numbers for name, _, *numbers in patterns.table_rows(4, 3, 100)}
    assert rows["parallel"] == [100, 100, "0 steps, 0 ms"]
    assert rows["delay"] == [103, 100, "3 steps, 60 ms"]
    assert rows["flat"] == [400, 400, "3 steps"]
    assert rows["stack"] == [400, 104, "3 steps"]
    assert rows["stack-delay"] == [100 + 6 + 3, 104, "9 steps, 180 ms"]
    out = attacca("patterns", "--frames", 100)[1]
    assert all(name in out for name in rows)


@pytest.mark.parametrize("width", [1, 20, 33, 80, 10_000])
def test_a_folded_grid_loses_nothing(width: int) -> None:
    grid = make_pattern("stack-delay", 4, p=3).draw(30)
    blocks = patterns.fold(grid, width)
    assert all(len(line) <= max(width, 10) for block in blocks for line in block.splitlines())
    rows: dict[str, list[str]] = {}
    for block in blocks:
        for line in block.splitlines():
            label, cells = line.split("|")
            rows.setdefault(label, []).extend(cells.split())
    assert rows == {line.split("|")[0]: line.split("|")[1].split() for line in grid.splitlines()}


def test_the_doctor_fails_only_where_the_demo_would(attacca: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def finding(verdict: Verdict) -> Finding:
        return Finding(area="a", name="thing", verdict=verdict, found="[found]", remedy="do this")

    for verdict, wanted in ((Verdict.OK, 0), (Verdict.LACK, 0), (Verdict.WARN, 0), (Verdict.FAIL, 1)):
        monkeypatch.setattr(doctor, "examine", lambda _, verdict=verdict: [finding(verdict)])
        code, out, _ = attacca("doctor", "--json")
        assert code == wanted
        assert json.loads(out)["ok"] is (wanted == 0)
        code, out, _ = attacca("doctor")
        assert code == wanted
        assert "[found]" in out
        assert "do this" in out


def test_errors_of_the_usage_are_not_taken_for_ours() -> None:
    assert issubclass(UserError, Exception)
    assert not issubclass(UserError, (ValueError, OSError))
    assert cli_group.describe(UserError("x")) == ("x", 2)
