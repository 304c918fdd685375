"""`attacca serve` as a process: the ready line, a clean end, and one clear line where it cannot start."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from attacca.bridge.config import Settings
from attacca.bridge.params import BY_NAME
from attacca.bridge.protocol import Hello, Welcome, decode, encode
from attacca.bridge.serving import READY_PREFIX, initial_parameters

SERVE = (sys.executable, "-m", "attacca.bridge.cli", "serve", "--fake", "--osc-port", "0")
FREE = ("--address", "tcp://127.0.0.1:*", "--publish", "tcp://127.0.0.1:*")


@contextmanager
def serving(*more: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    process = subprocess.Popen(
        [*SERVE, *more],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(READY_PREFIX), process.stderr.read() if process.stderr else ""
        yield process, json.loads(line.removeprefix(READY_PREFIX))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_answers_there_and_ends_on_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(*FREE, cwd=tmp_path) as (process, ready):
        assert ready["pid"] == process.pid
        assert ready["osc_port"] is None
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.linger = 0
            dealer.connect(str(ready["address"]))
            dealer.send_multipart(encode(Hello(client="test", sample_rate=48000, channels=2)))
            assert dealer.poll(10_000)
            welcome, _ = decode(dealer.recv_multipart())
        assert isinstance(welcome, Welcome)
        assert welcome.publish == ready["publish"]
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0
        assert out == ""
        assert "Traceback" not in err
        assert err.rstrip().splitlines()[-1].startswith("attacca: stopped")


def failing(*more: str, cwd: Path) -> str:
    done = subprocess.run([*SERVE, *more], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_an_address_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        assert address in failing("--address", address, "--publish", FREE[3], cwd=tmp_path)


def test_other_machines_are_let_in_only_on_demand(tmp_path: Path) -> None:
    line = failing("--address", "tcp://0.0.0.0:*", "--publish", FREE[3], cwd=tmp_path)
    assert "tcp://0.0.0.0:*" in line
    assert "other machines" in line
    with serving("--allow-remote", "--address", "tcp://0.0.0.0:*", "--publish", FREE[3], cwd=tmp_path) as (
        process,
        _,
    ):
        process.terminate()
        _, err = process.communicate(timeout=20)
        assert "nothing is encrypted" in err


def test_sessions_begin_with_what_was_set() -> None:
    values = initial_parameters(Settings(fake=True, temperature=0.5, seed=3))
    assert values == {"temperature": 0.5, "top_k": 0, "guidance": 1.0, "seed": 3}
    assert set(values) <= set(BY_NAME)
    with pytest.raises(ValueError, match=r"temperature = 3\.0 is outside 0\.\.2"):
        initial_parameters(Settings(fake=True, temperature=3.0))
