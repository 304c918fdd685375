"""libFuzzer with address and undefined-behaviour checks on all that reads a peer's bytes; longer by `make fuzz`.

FUZZ_SECONDS says how long each may take; what is found then stays in build/fuzz, where the next run goes on.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import msgspec
import pytest

from attacca.bridge.protocol import CLIENT_MESSAGES, ENGINE_MESSAGES
from attacca.bridge.protocol_schema import fields_of, tag_of, unwrapped

pytestmark = pytest.mark.plugin

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "plugin_stub"
SOURCES = {
    "zmtp": ("zmtp.cpp",),
    "msgpack": ("msgpack.cpp",),
    "decode": ("wire.cpp", "msgpack.cpp"),
}
COMPILE = ("clang++", "-std=c++17", "-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
SHORT_SECONDS, SHORT_RUNS = 5, 20000
LONGEST_INPUT = 6000


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    if shutil.which("clang++") is None:
        pytest.skip("clang++ is not installed: nothing is fuzzed")
    probe = tmp_path_factory.mktemp("probe") / "probe.cpp"
    probe.write_text('extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n')
    done = subprocess.run(
        [*COMPILE, probe, "-o", probe.with_suffix("")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"clang++ has no libFuzzer (on Debian: libclang-rt-dev): {done.stderr[-200:]}")
    return COMPILE


def headers() -> dict[str, bytes]:
    """One right header of each message."""
    made = {}
    for kind in CLIENT_MESSAGES + ENGINE_MESSAGES:
        fields: dict[str, object] = {"type": tag_of(kind)}
        for entry in fields_of(kind):
            plain, _ = unwrapped(entry.type)
            match plain:
                case msgspec.inspect.EnumType():
                    fields[entry.name] = next(iter(plain.cls)).value
                case msgspec.inspect.IntType():
                    fields[entry.name] = max(plain.ge, 1)
                case msgspec.inspect.FloatType():
                    fields[entry.name] = 1.5
                case msgspec.inspect.BoolType():
                    fields[entry.name] = True
                case msgspec.inspect.BytesType():
                    fields[entry.name] = b"\x90\x24\x40"
                case _:
                    fields[entry.name] = "name"
        made[tag_of(kind)] = msgspec.msgpack.encode(fields)
    return made


def seeds(name: str) -> list[bytes]:
    """What the fuzzer begins with."""
    if name == "msgpack":
        return [*headers().values(), msgspec.msgpack.encode([{"a": [1, -1, 2**63, 0.5, None, "é", b"x"]}])]
    if name == "decode":
        payload = bytes(4)
        with_payload = [struct.pack(">H", len(header)) + header + payload for header in headers().values()]
        return [*with_payload, *(b"\xff\xff" + header for header in headers().values())]
    message = b"\x01\x06header\x02" + struct.pack(">Q", 300) + bytes(300)
    ping = b"\x04\x0a\x04PING\0\x0aabc"
    ready = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06ROUTER"
    error = b"\x04\x0b\x05ERROR\x04oops"
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
    return [
        b"\x00\x10" + greeting + ready + message,
        b"\x02\x00" + message + ping + message,
        b"\x03\x05\x01\x05topic" + message,
        b"\x00\x40" + greeting + error,
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_fuzzed(compiler: tuple[str, ...], name: str, tmp_path: Path) -> None:
    seconds = os.environ.get("FUZZ_SECONDS")
    folder = ROOT / "build" / "fuzz" if seconds else tmp_path
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds(name)):
        (corpus / f"seed-{index}").write_bytes(seed)
    program = folder / f"fuzz_{name}"
    sources = [STUB / "tests" / "fuzz" / f"fuzz_{name}.cpp", *(STUB / "net" / source for source in SOURCES[name])]
    subprocess.run([*compiler, f"-I{STUB}", *sources, "-o", program], check=True)
    limits = [f"-max_total_time={seconds or SHORT_SECONDS}", f"-max_len={LONGEST_INPUT}", "-rss_limit_mb=1024"]
    limits += ["-timeout=10", f"-artifact_prefix={folder}/{name}-"]
    if not seconds:
        limits += [f"-runs={SHORT_RUNS}", "-seed=1"]
    done = subprocess.run([program, *limits, corpus], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "DONE" in done.stderr  # it ran to its end
