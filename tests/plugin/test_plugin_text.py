"""What a plugin says in words: what may be said, how it is edited, when it is sent, and that projects keep it."""

from __future__ import annotations

import ctypes
import itertools
import struct
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_int64, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import pytest
from clap_host import Script, host_of
from conftest import Formats, Native
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lilv_bundle import Bundle
from lilv_host import EXT, Instance
from listening import Listening
from native_network import RING, Bench, welcome
from test_clap_formats import COUNTED

from attacca.bridge import protocol
from attacca.bridge.protocol import Error, Prompt
from attacca.bridge.text_rules import check_text

pytestmark = pytest.mark.plugin

RATE = 48000
CAPACITY = 4096
KEYS = ("left", "right", "home", "end", "backspace", "remove")
TEXT_URI = "urn:attacca:effect#text"
SAID = "slow jazz trio, ünruly — 4/4 = groove"


@pytest.fixture(scope="module")
def library(native: Native) -> ctypes.CDLL:
    made = native.library
    table: dict[str, tuple[Any, ...]] = {
        "text_readable": (c_int64, c_char_p, c_int64, c_char_p, c_int64),
        "edit_new": (c_void_p, c_char_p),
        "edit_free": (None, c_void_p),
        "edit_type": (c_int, c_void_p, c_uint32),
        "edit_key": (c_int, c_void_p, c_int),
        "edit_paste": (c_int, c_void_p, c_char_p),
        "edit_text": (c_int64, c_void_p, c_char_p, c_int64, POINTER(c_int64)),
    }
    for name, (result, *arguments) in table.items():
        function = getattr(made, f"attacca_{name}")
        function.restype, function.argtypes = result, arguments
    return made


def readable(library: ctypes.CDLL, data: bytes) -> str:
    out = ctypes.create_string_buffer(CAPACITY)
    size = library.attacca_text_readable(data, len(data), out, CAPACITY)
    return out.raw[:size].decode()


def may_stand(character: str) -> bool:
    try:
        check_text(character)
    except ValueError:
        return False
    return True


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(max_size=600).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"\xed\xa0\x80a\xc0\x80b\xf5\x80\x80\x80c\xe0\x80\x80d\xf4\x90\x80\x80e\xe2\x82")
@example("\u2028\u2029\x7f\x9fé€😀".encode())
def test_what_may_be_said_is_what_the_engine_takes(library: ctypes.CDLL, data: bytes) -> None:
    plain = data.decode("utf-8", "ignore")
    expected = "".join(character for character in plain if may_stand(character))[: protocol.MAX_TEXT_CHARACTERS]
    assert readable(library, data) == expected
    check_text(expected)


STEPS = st.lists(
    st.tuples(st.just("type"), st.sampled_from("aé€😀\n\x7f ")) | st.tuples(st.sampled_from(KEYS), st.just("")),
    max_size=40,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="ab€😀\t", max_size=6), STEPS)
def test_editing_is_editing(library: ctypes.CDLL, start: str, steps: list[tuple[str, str]]) -> None:
    """Against a list of characters and an index."""
    line = [character for character in start if may_stand(character)]
    at, edit = len(line), library.attacca_edit_new(start.encode())
    out, caret = ctypes.create_string_buffer(CAPACITY), c_int64()
    for what, character in steps:
        if what == "type":
            library.attacca_edit_type(edit, ord(character))
            if may_stand(character):
                line.insert(at, character)
                at += 1
        else:
            library.attacca_edit_key(edit, KEYS.index(what))
            if what == "backspace" and at:
                del line[at - 1]
            if what == "remove" and at < len(line):
                del line[at]
            back, moved = max(at - 1, 0), min(at + 1, len(line))
            at = {"left": back, "right": moved, "home": 0, "end": len(line), "backspace": back}.get(what, at)
        size = library.attacca_edit_text(edit, out, CAPACITY, ctypes.byref(caret))
        assert out.raw[:size].decode() == "".join(line)
        assert caret.value == len("".join(line[:at]).encode())
    library.attacca_edit_free(edit)


def test_no_more_than_the_most_can_be_typed_or_pasted(library: ctypes.CDLL) -> None:
    edit = library.attacca_edit_new(("é" * 510).encode())
    assert library.attacca_edit_paste(edit, b"xyz\n") == 1
    assert library.attacca_edit_type(edit, ord("q")) == 0
    out, caret = ctypes.create_string_buffer(CAPACITY), c_int64()
    size = library.attacca_edit_text(edit, out, CAPACITY, ctypes.byref(caret))
    assert out.raw[:size].decode() == "é" * 510 + "xy"
    library.attacca_edit_free(edit)


@pytest.fixture
def bench(native: Native) -> Iterator[Bench]:
    with Bench(native.library, ring=RING) as made:
        yield made


def said(bench: Bench) -> list[str]:
    bench.pump()
    return [message.text for message, _ in bench.sent() if isinstance(message, Prompt)]


def test_it_is_said_at_change_and_to_every_session(bench: Bench) -> None:
    bench.pump()
    bench.call("words", b"slow jazz")
    assert said(bench) == [] and bench.call("takes_words")
    bench.feed(welcome(1, takes_text=True))
    bench.pump()
    assert said(bench) == ["slow jazz"] and said(bench) == []
    bench.call("words", b"drums")
    assert said(bench) == ["drums"]
    bench.feed(Error(code="text", text="the text has 301 tokens, allowed: 1..256"))
    bench.pump()
    assert bench.text("refused").startswith("the text has 301 tokens") and bench.text("error") == ""
    bench.call("words", b"")
    assert said(bench) == [""] and bench.text("refused") == ""
    bench.call("words", b"piano")
    bench.feed(Error(code="hello", text="who are you?"))  # another engine took the address
    for now in (1.0, 3.0):
        bench.at(now)
    bench.sent()
    bench.feed(welcome(7, takes_text=True))
    bench.pump()
    assert said(bench) == ["piano"]


def test_nothing_is_said_to_a_model_without_text(bench: Bench) -> None:
    bench.pump()
    bench.call("words", b"slow jazz")
    bench.feed(welcome(1))
    bench.pump()
    assert said(bench) == [] and not bench.call("takes_words")
    bench.feed(Error(code="closing", text="the engine is shutting down"))
    bench.pump()
    assert bench.call("takes_words")  # not known any more
    for now in (1.0, 3.0):
        bench.at(now)
    bench.feed(welcome(2, takes_text=True))
    bench.pump()
    assert said(bench) == ["slow jazz"]


def test_an_empty_text_is_not_said_to_a_new_session(bench: Bench) -> None:
    bench.pump()
    bench.feed(welcome(1, takes_text=True))
    bench.pump()
    assert said(bench) == []


@pytest.fixture
def listening() -> Iterator[Listening]:
    made = Listening()
    yield made
    made.close()


def told(state: bytes, text: str, *, both: bool = True) -> bytes:
    """A CLAP state with a text; without `both` as a version that knows no text of a window's would write it."""
    line = state.replace(b"attacca-state 1\n", b"attacca-state 1\ntext=" + text.encode() + b"\n")
    return line.replace(b"\0text\0\0", b"\0text\0" + text.encode() + b"\0" if both else b"\0")


@pytest.mark.parametrize("both", [True, False])
def test_a_project_keeps_it_and_the_engine_is_told(
    native: Native, formats: Formats, listening: Listening, tmp_path: Path, both: bool
) -> None:
    host = host_of(native, tmp_path, ATTACCA_ENGINE=listening.address)

    def script() -> Script:
        made = Script(plugin=formats.effect.clap, rate=RATE, length=6000, blocks=(512,)).play(0)
        return made.set("render", "offline").at(0, "wait", "connection", 1, 10)

    empty, full, again = (tmp_path / name for name in ("empty", "full", "again"))
    host.run(script().at(0, "save", empty))
    assert b"\0text\0\0" in empty.read_bytes() and listening.texts == []
    full.write_bytes(told(empty.read_bytes(), SAID, both=both))
    host.run(script().at(0, "load", full).at(3000, "sleep", 0.2).at(5000, "save", again))
    assert listening.texts == [SAID]
    assert again.read_bytes() == told(empty.read_bytes(), SAID)
    assert again.read_bytes().count(SAID.encode()) == 2


def test_spoilt_texts_are_made_readable(
    native: Native, formats: Formats, listening: Listening, tmp_path: Path
) -> None:
    host = host_of(native, tmp_path, ATTACCA_ENGINE=listening.address)
    script = Script(plugin=formats.effect.clap, rate=RATE, length=6000, blocks=(512,)).play(0)
    script.set("render", "offline").at(0, "wait", "connection", 1, 10)
    good, spoilt = tmp_path / "good", tmp_path / "spoilt"
    host.run(script.at(0, "save", good))
    for text, kept in ((b"a\x07b\xff\xc0c", "abc"), (b"x" * 700, "x" * 512), ("é".encode() * 900, "é" * 512)):
        listening.texts.clear()
        spoilt.write_bytes(good.read_bytes().replace(b"\0text\0\0", b"\0text\0" + text + b"\0"))
        script = Script(plugin=formats.effect.clap, rate=RATE, length=6000, blocks=(512,)).play(0)
        script.set("render", "offline").at(0, "wait", "connection", 1, 10).at(0, "load", spoilt)
        host.run(script.at(3000, "sleep", 0.2))
        assert listening.texts == [kept]


def test_the_audio_thread_has_no_part_in_it(
    native: Native, formats: Formats, listening: Listening, tmp_path: Path
) -> None:
    """Paced; texts are loaded before the run and while it runs, and told."""
    host = host_of(native, tmp_path, ATTACCA_ENGINE=listening.address)
    good, first, second = (tmp_path / name for name in ("good", "first", "second"))
    host.run(Script(plugin=formats.effect.clap, rate=RATE, length=512, blocks=(512,)).at(0, "save", good))
    first.write_bytes(told(good.read_bytes(), SAID))
    second.write_bytes(told(good.read_bytes(), "drums"))
    script = Script(plugin=formats.effect.clap, rate=RATE, length=RATE, blocks=(256,)).play(0).set("pace", 1)
    script.at(0, "load", first).at(0, "wait", "connection", 1, 10).at(RATE // 2, "load", second)
    played = host.run(script.at(RATE - 256, "sleep", 0.5))
    assert [text for text, _ in itertools.groupby(listening.texts)] == [SAID, "drums"]
    assert {name: played.counts[name] for name in COUNTED} == dict.fromkeys(COUNTED, 0)
    assert played.counts["allocations_counted"]


def test_an_lv2_window_tells_it_through_the_worker(formats: Formats) -> None:
    with Instance(bundle=Bundle(formats.effect.lv2, "urn:attacca:effect"), rate=48000) as instance:
        urids, value = instance.urids, SAID.encode() + b"\0"
        body = struct.pack("<II", 0, urids(EXT + "patch#Set"))
        body += struct.pack(
            "<IIIII4x", urids(EXT + "patch#property"), 0, 4, urids(EXT + "atom#URID"), urids(TEXT_URI)
        )
        body += struct.pack("<IIII", urids(EXT + "patch#value"), 0, len(value), urids(EXT + "atom#String")) + value
        instance.events.append((0, EXT + "atom#Object", body))
        instance.run(64)
        assert len(instance.scheduled) == 1
        assert instance.work(instance.scheduled[0]) == 0  # LV2_WORKER_SUCCESS
        assert f"text={SAID}\n" in instance.save().decode()
