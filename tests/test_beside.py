"""A second core changes when things are computed and nothing else: tokens and sound are the same to the bit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as with_fields

pytest.importorskip("onnx")

from attacca.bridge.bench_steps import Constant
from attacca.engine.beside import LEAST_SHARE, Beside, Found, Hearing, beside_for
from attacca.engine.bundle import PromptedModel
from attacca.engine.encodec import DECODER, ENCODER, Encodec
from attacca.engine.events import ChunkEvent, TakeRequest
from attacca.engine.generator import Sampling
from attacca.engine.musicgen import MusicgenDecoder, PromptBox
from attacca.engine.offline import SteadyController
from attacca.engine.pattern import make_pattern
from attacca.engine.prompted import Prompt, PromptedRuntime
from attacca.engine.rolling import RollingDecoder
from attacca.engine.service import Engine
from attacca.export.encodec import DECODER_FILE, ENCODER_FILE, write_encodec
from attacca.export.encodec_checkpoint import random_checkpoint
from attacca.export.encodec_plan import EncodecConfig
from attacca.export.shapes import NO_CONDITIONS, Shape, write_shape

pytestmark = pytest.mark.train

SHAPE = Shape(
    name="small", layers=1, dim=64, hidden=128, codebook_size=32, sample_rate=8000, hop_samples=160, musicgen=True
)
HORIZON, KEEP, TOTAL = 40, 16, 100
SAMPLING = Sampling(seed=3, guidance=2.0)
PATTERN = make_pattern("delay", SHAPE.num_codebooks)
NOTHING = Constant(50.0, NO_CONDITIONS)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> PromptedRuntime:
    folder = tmp_path_factory.mktemp("beside")
    loaded = write_shape(SHAPE, folder, precision="int4", kv_bits=8, window=HORIZON + 8).load()
    assert isinstance(loaded, PromptedRuntime)
    return loaded


def prompt(runtime: PromptedRuntime, seed: int) -> Prompt:
    random, outputs = np.random.default_rng(seed), runtime.shape.prompt_outputs().items()
    values = {name: random.standard_normal([size or 3 for size in sizes], np.float32) for name, sizes in outputs}
    return Prompt.of(values, np.ones(3, np.float32))


def rolling(runtime: PromptedRuntime, beside: Beside | None) -> RollingDecoder:
    box = PromptBox(prompt(runtime, 0))
    sizes = {"horizon": HORIZON, "keep": KEEP, "num_codebooks": SHAPE.num_codebooks}
    return RollingDecoder(lambda: MusicgenDecoder(runtime, PATTERN, box), **sizes, beside=beside)


def until(decoder: RollingDecoder, frame: int) -> list[np.ndarray]:
    """Planned by twenties, each read as it comes; with other threads, the half of it beside a job that waits."""
    parts = []
    while decoder.frontier < frame:
        before, target = decoder.frontier, min(frame, decoder.frontier + 20)
        stepped = threading.Event()

        def job(stepped: threading.Event = stepped) -> str:
            stepped.wait(0.002)
            return "done"

        assert decoder.plan_beside(job, target, NOTHING, SAMPLING) == "done"
        decoder.plan(target, NOTHING, SAMPLING)
        parts.append(decoder.read(before, target))
    return parts


@pytest.mark.parametrize(("to", "reached"), [(20, 38), (30, 45), (50, 70), (66, 88)])
def test_whatever_is_done_to_a_take_it_is_the_same(runtime: PromptedRuntime, to: int, reached: int) -> None:
    """Segments change, it is rolled back, told another prompt, copied and taken up again: with and without."""
    told, found = prompt(runtime, 1), []
    for beside in (None, Beside()):
        decoder = rolling(runtime, beside)
        until(decoder, reached)
        decoder.rollback(to)
        decoder.tell(told, fade_steps=9)
        parts = until(decoder, reached)
        state, fork = decoder.snapshot(), decoder.fork()
        parts += until(decoder, TOTAL)
        parts += until(fork, TOTAL)
        decoder.restore(state)
        parts += until(decoder, TOTAL)
        decoder.reset()
        parts += until(decoder, 30)
        found.append(np.concatenate(parts))
    np.testing.assert_array_equal(*found)


def test_steps_go_on_while_a_job_runs(runtime: PromptedRuntime) -> None:
    """Up to where they are to go, and no further; without other threads none do."""
    decoder = rolling(runtime, Beside())
    gone = threading.Event()
    inner = decoder._segments[0].plan

    def plan(*given: object, **named: object) -> int:
        ran = inner(*given, **named)  # type: ignore[arg-type]
        if decoder._segments[0].frontier >= 7:
            gone.set()
        return ran

    decoder._segments[0].plan = plan  # type: ignore[method-assign]
    assert decoder.plan_beside(lambda: gone.wait(5.0), 7, NOTHING, SAMPLING)
    assert decoder.frontier == 7
    alone = rolling(runtime, None)
    assert alone.plan_beside(lambda: 5, 7, NOTHING, SAMPLING) == 5 and alone.frontier == 0


def test_what_fails_on_another_thread_is_raised_on_this(runtime: PromptedRuntime) -> None:
    decoder = rolling(runtime, Beside())
    hearing = Hearing(decoder._segments[0], Beside())
    hearing.hear(np.full((2, SHAPE.num_codebooks), SHAPE.codebook_size, np.uint16))
    hearing.hear(np.zeros((2, SHAPE.num_codebooks), np.uint16))
    assert hearing.frontier == 4
    with pytest.raises(ValueError, match=r"codes lie in 32\.\.32"):
        hearing.settle()
    with pytest.raises(ZeroDivisionError):
        decoder.plan_beside(lambda: 1 // 0, 5, NOTHING, SAMPLING)
    decoder.plan(9, NOTHING, SAMPLING)
    assert decoder.frontier == 9


class Counting(Beside):
    """Counts what it is given."""

    jobs = 0

    def submit(self, job: Callable[[], Found]) -> Future[Found]:
        self.jobs += 1
        return super().submit(job)


def ticking(step_s: float) -> Callable[[], float]:
    times = iter(np.arange(100) * step_s)
    return lambda: float(next(times))


@pytest.mark.parametrize(
    ("wanted", "cores", "share", "used"),
    [
        ("auto", 2, LEAST_SHARE + 0.01, True),
        ("auto", 2, LEAST_SHARE - 0.01, False),
        ("auto", 1, 0.9, False),
        ("on", 1, 0.0, True),
        ("off", 4, 0.9, False),
    ],
)
def test_who_gets_another_core(runtime: PromptedRuntime, wanted: str, cores: int, share: float, used: bool) -> None:
    found = beside_for(runtime, 0.02, wanted, cores=cores, clock=ticking(share * 0.02))
    assert (found is not None) == used
    with pytest.raises(ValueError, match="wanted 'perhaps', allowed: auto, on, off"):
        beside_for(runtime, 0.02, "perhaps")


def test_a_take_sounds_the_same(runtime: PromptedRuntime, tmp_path: Path) -> None:
    """From the fork to the last sample, across segments; and steps did run beside the codec."""
    config = EncodecConfig(
        sample_rate=8000, num_filters=4, ratios=(16, 10), lstm_layers=1, hidden=16,
        num_codebooks=SHAPE.num_codebooks, codebook_size=SHAPE.codebook_size,
    )  # fmt: skip
    section = write_encodec(random_checkpoint(config), tmp_path)
    files = {ENCODER: tmp_path / ENCODER_FILE, DECODER: tmp_path / DECODER_FILE}
    model = PromptedModel(
        manifest=with_fields(runtime.manifest, codec=section),
        codec=Encodec.load(files, section),
        runtime=runtime,
        pattern=PATTERN,
        text=None,
        box=PromptBox(prompt(runtime, 0)),
    )
    sounds, counted = [], Counting()
    for beside in (None, counted):
        engine = Engine(replace(model, beside=beside))
        controller = SteadyController(sample_rate=8000, bpm=120.0)
        engine.open(0, sample_rate=8000, channels=1, controller=controller)
        engine.set_realtime(0, False)
        request = TakeRequest(take=0, epoch=0, position=0, start_position=0, end_position=16000, sampling=SAMPLING)
        engine.start(0, request)
        engine.advance(0, 0)
        pcm = []
        while events := engine.work():
            for event in events:
                if isinstance(event, ChunkEvent) and event.committed:
                    pcm.append(event.pcm)
                    engine.advance(0, event.position + event.samples)
        sounds.append(np.concatenate(pcm))
    assert len(sounds[0]) == 16000 and np.abs(sounds[0]).max() > 0
    np.testing.assert_array_equal(*sounds)
    heard = 100 // 8 - KEEP // 8
    assert counted.jobs > heard + 5  # steps beside most chunks too
