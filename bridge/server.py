"""Server: two threads around an engine. `attacca serve` and the demo call `serve`; tests use `Server` itself.

The outermost layer of the bridge: it makes the queues, starts the I/O thread (bridge/endpoints.py) and the decode
thread (bridge/worker.py), opens OSC and MIDI ports, and ends them all in order on SIGINT, SIGTERM or an event.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from attacca.engine.events import Model
from attacca.engine.service import Engine

from .endpoints import DEFAULT_ADDRESS, DEFAULT_PUBLISH, EndpointConfig, Endpoints
from .midi import open_port
from .osc import OscPort
from .placement import Placement, place
from .protocol import Welcome
from .queues import Inbox, Outside
from .teller import Teller, takes_text
from .triggers import MAX_TAKES
from .worker import Worker

_JOIN_S: Final = 5.0
_log = logging.getLogger("attacca.server")


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What was bound; ports that were asked for as 0 or * are real ones here."""

    address: str
    publish: str
    osc_port: int | None
    model: str


class Server:
    """Main thread. Binds everything in the constructor (BindError, OSError, MidiError), serves between `start` and
    `close`; also a context manager."""

    def __init__(
        self,
        model: Model,
        *,
        config: EndpointConfig | None = None,
        osc_host: str = "127.0.0.1",
        osc_port: int | None = None,
        midi_port: str | None = None,
        initial: Mapping[str, float] | None = None,
        placement: Placement | None = None,
        make_engine: Callable[[], Engine] | None = None,
    ) -> None:
        config = config or EndpointConfig()
        if make_engine is None:

            def make_engine() -> Engine:
                return Engine(model, max_sessions=config.max_sessions, max_takes=MAX_TAKES * config.max_sessions)

        self._inbox = Inbox()
        self._teller = Teller(model, self._inbox.put)
        self._stop = threading.Event()
        osc = None
        if osc_port is not None:
            osc = OscPort(osc_host, osc_port, self._from_osc, allow_remote=config.allow_remote)
        try:
            self.endpoints = Endpoints(config, self._inbox, _welcome(model), osc=osc)
        except OSError:
            if osc is not None:
                osc.close()
            raise
        self.osc = osc
        self.worker = Worker(make_engine, self._inbox, self.endpoints, initial=initial, teller=self._teller)
        self._midi = None if midi_port is None else open_port(midi_port, self._from_port)
        self._io = threading.Thread(target=self._guard, args=(self.endpoints.run,), name="attacca-io", daemon=True)
        self._placement = placement or Placement()
        self._decode = threading.Thread(
            target=self._guard, args=(self._run_worker,), name="attacca-decode", daemon=True
        )
        self.ready = Ready(
            address=self.endpoints.address,
            publish=self.endpoints.publish,
            osc_port=None if osc is None else osc.port,
            model=_welcome(model).model,
        )
        if config.allow_remote:
            _log.warning("%s is open to other machines, unencrypted", self.ready.address)

    def start(self) -> Server:
        """Starts both threads."""
        self._io.start()
        self._decode.start()
        return self

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until somebody stops it or a thread fails; False after the timeout."""
        return self._stop.wait(timeout_s)

    def close(self) -> None:
        """Ends takes, sessions, threads and sockets, in this order. RuntimeError if a thread had failed."""
        self._stop.set()
        self._inbox.wake()
        if self._midi is not None:
            self._midi.close()
        self._teller.close()
        for thread in (self._decode, self._io):
            self.endpoints.wake()
            if thread.is_alive():
                thread.join(_JOIN_S)
        if self.worker.failure is not None:
            raise RuntimeError(f"the engine failed again and again: {self.worker.failure}") from self.worker.failure

    def counts(self) -> Counter[str]:
        """What was counted so far, over both threads."""
        osc = Counter({f"osc {name}": count for name, count in self.osc.counts.items()}) if self.osc else Counter()
        return self.endpoints.counts + self.worker.counts + osc

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_worker(self, stop: threading.Event) -> None:
        """Decode thread."""
        for outcome in place(self._placement):
            _log.log(logging.INFO if outcome.done else logging.WARNING, "%s: %s", outcome.what, outcome.found)
        self.worker.run(stop)

    def _guard(self, body: Callable[[threading.Event], None]) -> None:
        try:
            body(self._stop)
        except Exception as error:
            _log.exception("thread %s failed", threading.current_thread().name)
            self.worker.failure = self.worker.failure or error
        finally:
            self._stop.set()
            self._inbox.wake()
            self.endpoints.wake()

    def _from_osc(self, command: Outside) -> bool:
        if command.name != "text":
            return self._inbox.put(command)
        self._teller.tell(command.arguments[0], command.session, outside=True)
        return True

    def _from_port(self, data: bytes) -> None:
        self._inbox.put(Outside(session=0, name="midi", arguments=(data,)))


def serve(
    model: Model,
    *,
    address: str = DEFAULT_ADDRESS,
    publish: str = DEFAULT_PUBLISH,
    osc_host: str = "127.0.0.1",
    osc_port: int | None = None,
    midi_port: str | None = None,
    allow_remote: bool = False,
    max_sessions: int = 8,
    initial: Mapping[str, float] | None = None,
    placement: Placement | None = None,
    ready: Callable[[Ready], None] | None = None,
    stop: threading.Event | None = None,
) -> Counter[str]:
    """Serves until `stop`, SIGINT or SIGTERM; returns what was counted. Main thread, or with a `stop`.

    `model` is a loaded bundle or a fake. Ports 0 or `*` are chosen and told to `ready`. `initial` sets parameters
    (bridge/params.py) that every session begins with; `placement` is asked for the decode thread. BindError names
    an address that cannot be bound; addresses that other machines reach need `allow_remote`. RuntimeError if the
    engine fails again and again.
    """
    config = EndpointConfig(address=address, publish=publish, allow_remote=allow_remote, max_sessions=max_sessions)
    server = Server(
        model,
        config=config,
        osc_host=osc_host,
        osc_port=osc_port,
        midi_port=midi_port,
        initial=initial,
        placement=placement,
    )
    stop = stop or threading.Event()
    with _signals(stop), server:
        if ready is not None:
            ready(server.ready)
        while not stop.wait(0.2):
            if server.wait(0.0):
                break
    return server.counts()


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`, where signals can be had: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _welcome(model: Model) -> Welcome:
    """What every hello is answered with; the endpoint fills in session and addresses."""
    manifest = getattr(model, "manifest", None)  # a fake has none
    return Welcome(
        session=0,
        model=str(getattr(manifest, "name", "fake"))[:64],
        model_rate=model.codec.sample_rate,
        hop_samples=model.codec.hop_samples,
        num_codebooks=model.codec.num_codebooks,
        publish="",
        heartbeat_s=1.0,
        engine=metadata.version("attacca"),
        takes_text=takes_text(model),
    )
