"""What a session is told in words: its own prompt and no one else's, by client, by OSC; what cannot be read."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from musicgen_fixtures import make_musicgen, save, save_tokenizer  # noqa: E402
from plain_client import PlainClient  # noqa: E402
from pythonosc.osc_message import OscMessage  # noqa: E402

from attacca.bridge import protocol  # noqa: E402
from attacca.bridge.endpoints import EndpointConfig  # noqa: E402
from attacca.bridge.osc import build  # noqa: E402
from attacca.bridge.protocol import Error, Status  # noqa: E402
from attacca.bridge.server import Server  # noqa: E402
from attacca.bridge.session import Session  # noqa: E402
from attacca.bridge.teller import Teller  # noqa: E402
from attacca.engine.bundle import PromptedModel, load_bundle  # noqa: E402
from attacca.engine.events import ChunkEvent, TakeRequest  # noqa: E402
from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.offline import SteadyController  # noqa: E402
from attacca.engine.rolling import RollingDecoder  # noqa: E402
from attacca.engine.service import Engine  # noqa: E402
from attacca.export.musicgen_bundle import ConvertOptions, convert_musicgen  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
RATE = 8000
TOO_MANY_TOKENS = "a " * 256


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("told")
    source = save(make_musicgen(), root / "source")
    save_tokenizer(source)
    convert_musicgen(source, root / "bundle", ConvertOptions(window_frames=96))
    return root / "bundle"


@pytest.fixture
def model(bundle: Path) -> PromptedModel:
    found = load_bundle(bundle)
    assert isinstance(found, PromptedModel)
    return found


def told_of(engine: Engine, session: int) -> str:
    generator = engine._sessions[session].listener.generator
    assert isinstance(generator, RollingDecoder)
    return generator._track.last.text


def played(model: PromptedModel, *told: tuple[int, str]) -> np.ndarray:
    """Codes [frames, K] of a take of 0.8 s, its session told texts when so many committed chunks are out."""
    engine = Engine(model, clock=lambda: 0.0)
    engine.open(1, sample_rate=RATE, channels=1, controller=SteadyController(sample_rate=RATE))
    engine.set_realtime(1, False)
    engine.listen(1, 0, np.random.default_rng(0).normal(0, 0.1, 2000).astype(np.float32))
    engine.advance(1, 2000)
    request = TakeRequest(
        take=1, epoch=0, position=2000, start_position=2000, end_position=8400, sampling=Sampling()
    )
    engine.start(1, request)
    chunks: list[ChunkEvent] = []
    while events := engine.work():
        for event in events:
            if isinstance(event, ChunkEvent) and event.committed:
                chunks.append(event)
                engine.advance(1, event.position + event.samples)
                for count, text in told:
                    if len(chunks) == count:
                        engine.tell(1, model.prompt(text))
    return np.concatenate([chunk.codes for chunk in chunks])


def test_a_take_that_sounds_goes_on_under_the_new_text(model: PromptedModel) -> None:
    model.tell("slow jazz")
    plain = played(model)
    told = played(model, (3, "loud techno"))
    assert len(plain) == len(told) > 70
    same = int(np.flatnonzero((plain != told).any(axis=1))[0])
    assert 15 < same < 45  # what three chunks had committed is as it was
    assert np.array_equal(played(model, (3, "loud techno")), told)
    assert np.array_equal(played(model, (3, "slow jazz")), plain)
    model.tell("loud techno")
    assert not np.array_equal(played(model), told)


class Told:
    """A server with a model, two clients, and an OSC sender."""

    def __init__(self, model: Any) -> None:
        config = EndpointConfig(address="tcp://127.0.0.1:*", publish="tcp://127.0.0.1:*")
        self.server = Server(model, config=config, osc_port=0).start()
        self.clients = [PlainClient(self.server.ready.address) for _ in range(2)]
        self.welcomes = [client.hello() for client in self.clients]
        self.numbers = [welcome.session for welcome in self.welcomes]
        self.osc = socket.socket(type=socket.SOCK_DGRAM)
        self.osc.settimeout(10.0)

    def send(self, types: str, *arguments: Any) -> None:
        self.datagram(build("/attacca/text", types, arguments))

    def datagram(self, data: bytes) -> None:
        self.osc.sendto(data, ("127.0.0.1", self.server.ready.osc_port or 0))

    def texts(self) -> list[str]:
        return [told_of(self.server.worker._engine, number) for number in self.numbers]

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.osc.close()
        self.server.close()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def told(model: PromptedModel) -> Iterator[Told]:
    model.tell("piano")
    made = Told(model)
    yield made
    made.close()


def test_each_session_has_its_own(told: Told, model: PromptedModel) -> None:
    first, second = told.clients
    assert all(welcome.takes_text for welcome in told.welcomes) and told.texts() == ["piano", "piano"]
    first.send(protocol.Prompt(text="slow jazz"))
    until(lambda: told.texts() == ["slow jazz", "piano"])
    told.send("si", "drums", told.numbers[1])
    until(lambda: told.texts() == ["slow jazz", "drums"])
    second.send(protocol.Prompt(text=""))  # the engine's own again
    until(lambda: told.texts() == ["slow jazz", "piano"])
    told.send("s", "loud techno")
    until(lambda: told.texts() == ["loud techno", "loud techno"])
    assert model.box.prompt.text == "loud techno"  # and of those to come
    first.send(protocol.Prompt(text="trio"))
    until(lambda: told.texts() == ["trio", "loud techno"])
    first.hello()  # a new session, which is told anew by its client
    until(lambda: told.texts() == ["loud techno", "loud techno"])


def test_what_cannot_be_read_is_refused_and_counted(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    client, other = told.clients
    wrong = {
        "a\0b": ("text", "the text has U+0000 at 1, allowed: characters that can be read"),
        "slow\njazz": ("text", "the text has U+000A at 4"),
        "x" * 513: ("header", "length <= 512"),
        TOO_MANY_TOKENS: ("text", "the text has 257 tokens, allowed: 1..256"),
    }
    for text, (code, words) in wrong.items():
        client.send(protocol.Prompt(text=text))
        error = client.until(lambda m, words=words: isinstance(m, Error) and words in m.text)
        assert error.code == code
    broken = msgspec.msgpack.encode({"v": 1, "type": "text", "text": "xxxx"}).replace(b"xxxx", b"\xff\xc0xx")
    client.raw(broken)
    assert client.until(lambda m: isinstance(m, Error) and "utf" in m.text.lower()).code == "header"
    assert "text refused: the text has 257 tokens" in caplog.text
    client.until(lambda m: isinstance(m, Status) and m.bad_messages == 5)
    for types, arguments, words in (
        ("s", ("a\x07b",), "U+0007 at 1"),
        ("s", ("x" * 513,), "513 characters, allowed: up to 512"),
        ("ss", ("a", "b"), "takes arguments 's'"),
    ):
        told.send(types, *arguments)
        address, (code, said) = (message := OscMessage(told.osc.recv(4096))).address, message.params
        assert address == "/attacca/error" and code in ("text", "types") and words in said
    told.datagram(build("/attacca/text", "s", ("xxxx",)).replace(b"xxxx", b"\xff\xc0xx"))
    assert "UnicodeDecodeError" in OscMessage(told.osc.recv(4096)).params[1]
    assert told.server.osc is not None and told.server.osc.counts["bad"] == 4
    told.send("si", TOO_MANY_TOKENS, told.numbers[1])  # told to listeners of OSC; the client has done nothing wrong
    until(lambda: caplog.text.count("257 tokens") == 2)
    other.send(protocol.Prompt(text="drums"))
    until(lambda: told.texts() == ["piano", "drums"])
    other.pump(0.3)
    assert not any(isinstance(m, Error) or getattr(m, "bad_messages", 0) for m, _ in other.heard)


def test_a_model_without_text_says_so(bundle: Path) -> None:
    told = Told(load_bundle(Path(__file__).parent / "data" / "tiny"))
    try:
        assert not any(welcome.takes_text for welcome in told.welcomes)
        told.clients[0].send(protocol.Prompt(text="drums"))
        error = told.clients[0].until(lambda m: isinstance(m, Error))
        assert (error.code, error.text) == ("text", "this model takes no text")
        told.send("s", "drums")
        assert OscMessage(told.osc.recv(4096)).params == ["text", "this model takes no text"]
    finally:
        told.close()


def test_offline_a_text_is_there_before_the_next_message(model: PromptedModel) -> None:
    engine = Engine(model, clock=lambda: 0.0)
    hello = protocol.Hello(client="test", sample_rate=RATE, channels=1)
    put: list[Any] = []
    teller = Teller(model, put.append)
    session = Session(
        1, hello, engine=engine, send=lambda _: None, choose_seed=lambda: 1, initial={}, teller=teller, now=0.0
    )
    transport = protocol.Transport(
        epoch=1, position=0, ppq=0.0, bpm=120.0, meter_num=4, meter_den=4, bar_start_ppq=0.0, playing=True,
        non_realtime=True,
    )  # fmt: skip
    session.receive(transport, b"", 0.0)
    session.receive(protocol.Prompt(text="slow jazz"), b"", 0.0)
    assert told_of(engine, 1) == "slow jazz" and put == []
    again = Engine(model, clock=lambda: 0.0)
    session.attach(again)  # the engine was made anew
    assert told_of(again, 1) == "slow jazz"
    teller.close()
