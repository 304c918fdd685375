"""Host names whose look-up takes its time: the network thread goes on, and the plugin may be unloaded meanwhile.

A library put before the system's stretches the look-up of one name to a second and a half, in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.plugin,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs LD_PRELOAD"),
]

STUB = Path(__file__).resolve().parents[2] / "plugin_stub"
SOURCES = [
    *(STUB / "net" / f"{name}.cpp" for name in ("resolver", "socket", "zmtp", "zmtp_link", "wire", "msgpack"))
]

SLOW = r"""
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char* host, const char* port, const struct addrinfo* hints, struct addrinfo** found) {
    typedef int (*Plain)(const char*, const char*, const struct addrinfo*, struct addrinfo**);
    Plain plain = (Plain)dlsym(RTLD_NEXT, "getaddrinfo");
    if (strcmp(host, "studio-pc") == 0 && !(hints->ai_flags & AI_NUMERICHOST)) {
        usleep(1500000);
        return plain("127.0.0.1", port, hints, found);
    }
    return plain(host, port, hints, found);
}
"""

SCRIPT = """
import _ctypes, ctypes, json, sys, time
import zmq
from native_wire import Wire, declare

library = declare(ctypes.CDLL(sys.argv[1]))
router = zmq.Context.instance().socket(zmq.ROUTER)
port = router.bind_to_random_port("tcp://127.0.0.1")
told = {"longest_s": 0.0}
begun = time.monotonic()
with Wire(library, f"tcp://studio-pc:{port}") as wire:
    assert wire.send([b"hello"])
    while not router.poll(0) and time.monotonic() - begun < 30:
        before = time.monotonic()
        assert wire.receive(20) is None
        told["longest_s"] = max(told["longest_s"], time.monotonic() - before)
    told["reached"] = router.recv_multipart(zmq.NOBLOCK)[1].decode()
    told["reached_s"] = time.monotonic() - begun

wire = Wire(library, f"tcp://studio-pc:{port}")
wire.receive(50)  # the look-up is under way
before = time.monotonic()
wire.__exit__()
told["freed_s"] = time.monotonic() - before
_ctypes.dlclose(library._handle)  # as a host unloads a plugin
told["kept"] = sys.argv[1] in open("/proc/self/maps").read()
time.sleep(2.0)
print(json.dumps(told))
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The wire alone, without the unique symbols that would keep it in memory whatever it does."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    made = tmp_path / "libwire.so"
    options = ["-std=c++17", "-fPIC", "-shared", "-fno-gnu-unique", f"-I{STUB}", "-pthread", "-o", made]
    subprocess.run(["g++", *options, STUB / "tests" / "capi_wire.cpp", *SOURCES, "-ldl"], check=True)
    return made


def test_a_slow_look_up_holds_nothing_up(library: Path, tmp_path: Path) -> None:
    source, slow = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(SLOW)
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", slow, source, "-ldl"], check=True)
    environment = os.environ | {"LD_PRELOAD": str(slow), "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", SCRIPT, str(library)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["reached"] == "hello"
    assert told["reached_s"] >= 1.5
    assert told["longest_s"] < 1.0
    assert told["freed_s"] < 1.0
    assert told["kept"]
