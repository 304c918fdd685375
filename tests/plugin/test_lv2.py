"""The LV2 bundles: valid by the LV2 schemas, ports as in the parameter table, state, options, worker, and time.

An own host over liblilv plays them in this process. Where a take starts is measured offline (the freewheeling port)
against an engine whose audio is its own stream position, as in test_clap_matrix.py.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clap_host import bar_lines
from conftest import Formats, Variant
from index_engine import IndexEngine
from lilv_bundle import EXT, LV2, Bundle
from lilv_host import Instance

from attacca.bridge.params import METERS, PARAMETERS, PLUGIN_PARAMETERS, Meter, Parameter

pytestmark = pytest.mark.plugin

URIS = {"Attacca": "urn:attacca:effect", "AttaccaInstrument": "urn:attacca:instrument"}
NAMES = {"Attacca": "Attacca", "AttaccaInstrument": "Attacca Instrument"}
NOBODY = "tcp://127.0.0.1:9"
STATE_URI = "urn:attacca:effect#attacca"
TYPES = ("AudioPort", "ControlPort", "AtomPort")


@pytest.fixture(params=list(URIS))
def variant(request: pytest.FixtureRequest, formats: Formats) -> Variant:
    return formats.effect if request.param == "Attacca" else formats.instrument


@pytest.fixture
def bundle(variant: Variant) -> Bundle:
    return Bundle(variant.lv2, URIS[variant.name])


@pytest.fixture
def alone(formats: Formats, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The effect, without an engine."""
    monkeypatch.setenv("ATTACCA_ENGINE", NOBODY)
    return Bundle(formats.effect.lv2, URIS["Attacca"])


@pytest.fixture(scope="module")
def engine() -> Iterator[IndexEngine]:
    with IndexEngine("--rates", "48000") as process:
        yield process


def test_the_bundle_keeps_to_the_lv2_schemas(variant: Variant) -> None:
    if shutil.which("lv2_validate") is None or shutil.which("sord_validate") is None:
        pytest.skip("lv2_validate (lv2-dev) or sord_validate (sordi) is not installed")
    done = subprocess.run(
        ["lv2_validate", *map(str, sorted(variant.lv2.glob("*.ttl")))], capture_output=True, text=True, check=False
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "Found 0 errors among" in told, told
    assert "warning" not in told.lower(), told


def test_the_validator_would_notice(variant: Variant, tmp_path: Path) -> None:
    """A port without a name, in a copy."""
    if shutil.which("sord_validate") is None or shutil.which("lv2_validate") is None:
        pytest.skip("lv2_validate (lv2-dev) or sord_validate (sordi) is not installed")
    copy = Path(shutil.copytree(variant.lv2, tmp_path / variant.lv2.name))
    (data,) = (file for file in copy.glob("*.ttl") if 'lv2:name "Mix" ;' in file.read_text())
    data.write_text(data.read_text().replace('lv2:name "Mix" ;', "", 1))
    done = subprocess.run(
        ["lv2_validate", *map(str, copy.glob("*.ttl"))], capture_output=True, text=True, check=False
    )
    assert "Found 0 errors" not in done.stdout + done.stderr


def test_names_and_ports(bundle: Bundle, variant: Variant) -> None:
    assert bundle.name == NAMES[variant.name]
    kinds = [next(kind for kind in TYPES if kind in port.kinds) for port in bundle.ports]
    inputs = [port for port in bundle.ports if "AudioPort" in port.kinds and "InputPort" in port.kinds]
    outputs = [port for port in bundle.ports if "AudioPort" in port.kinds and "OutputPort" in port.kinds]
    assert (len(inputs), len(outputs), kinds.count("AtomPort")) == (2, 2, 2)
    assert bundle.port("lv2_latency").designation == LV2 + "latency"
    assert bundle.port("lv2_enabled").designation == LV2 + "enabled"
    assert bundle.port("lv2_freewheeling").designation == LV2 + "freeWheeling"


@pytest.mark.parametrize("row", [*PARAMETERS, *PLUGIN_PARAMETERS], ids=lambda row: row.name)
def test_a_parameter_is_a_port_as_in_the_table(bundle: Bundle, row: Parameter) -> None:
    port = bundle.port(row.name)
    assert (port.name, port.comment) == (row.label, row.description)
    assert {"InputPort", "ControlPort"} <= port.kinds
    assert (port.minimum, port.maximum) == (row.minimum, row.maximum)
    assert port.default == np.float32(row.default)
    assert port.unit == row.unit.replace("dB", "db")
    assert ("integer" in port.properties) == row.integer
    assert ("toggled" in port.properties) == (row.integer and (row.minimum, row.maximum) == (0, 1))
    assert port.points == row.choices


@pytest.mark.parametrize("row", METERS, ids=lambda row: row.name)
def test_a_meter_is_an_output_port_as_in_the_table(bundle: Bundle, row: Meter) -> None:
    port = bundle.port(row.name)
    assert (port.name, port.comment) == (row.label, row.description)
    assert {"OutputPort", "ControlPort"} <= port.kinds
    assert (port.minimum, port.maximum, port.unit) == (row.minimum, row.maximum, row.unit)
    assert port.points == row.choices


def test_the_input_passes_through_without_an_engine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTACCA_ENGINE", NOBODY)
    given = np.random.default_rng(1).uniform(-1, 1, (480, 2)).astype(np.float32)
    with Instance(bundle=bundle, rate=44100) as instance:
        for samples in (480, 1, 64, 479):
            assert np.array_equal(instance.run(samples, given[:samples]), given[:samples])
        assert instance.value("lv2_latency") == 0
        assert instance.value("connection") == 0


def test_state_survives_save_and_restore(alone: Bundle) -> None:
    """Ports and what is no port; keys of a version to come are kept."""
    told = "attacca-state 1\naddress=tcp://10.0.0.1:9123\nmodel=ostinato\nseed=77\nwhatever=of a later version\n"
    first = Instance(bundle=alone, rate=48000, values={"bars": 8, "gain": -3.5, "seed": 2**24 - 1})
    with first:
        first.run(64)
        saved = first.save().decode()
    assert saved.count("attacca-state 1") == 1
    edited = saved.replace("attacca-state 1\n", told)
    second = Instance(bundle=alone, rate=48000)
    second.restore(edited.encode())
    with second:
        second.run(64)
        assert second.save().decode() == edited
    assert (second.values["bars"], second.values["gain"], second.values["seed"]) == (8, -3.5, 2**24 - 1)


@pytest.mark.parametrize("text", ["", "attacca-state 99\nseed=1\n", "nonsense", "attacca-state 1\n=\n\n=x\n" * 99])
def test_a_state_that_is_not_understood_does_no_harm(alone: Bundle, text: str) -> None:
    with Instance(bundle=alone, rate=48000) as instance:
        saved = instance.save().decode()
        instance.restore(saved.replace("attacca-state 1\n", text).encode())
        assert np.array_equal(instance.run(64, np.ones((64, 2), np.float32)), np.ones((64, 2)))
        assert b"attacca-state" in instance.save()


def test_options_change_the_block_length_and_the_sample_rate(alone: Bundle) -> None:
    instance = Instance(bundle=alone, rate=44100, block=64)
    with instance:
        instance.run(64)
        instance.inner.descriptor.contents.deactivate(instance.inner.handle)
        assert instance.set_options(4096, 96000.0) == 0  # LV2_OPTIONS_SUCCESS
        instance.inner.descriptor.contents.activate(instance.inner.handle)
        given = np.linspace(-1, 1, 8192, dtype=np.float32).reshape(-1, 2)
        assert np.array_equal(instance.run(4096, given), given)


def test_a_message_with_state_goes_through_the_worker(alone: Bundle) -> None:
    """patch:Set is not done by the audio thread but scheduled; what is no such message is refused."""
    value = b"attacca-state 1\nmodel=other\n\0"
    with Instance(bundle=alone, rate=48000) as instance:
        urids = instance.urids
        body = struct.pack("<II", 0, urids(EXT + "patch#Set"))
        body += struct.pack(
            "<IIIII4x", urids(EXT + "patch#property"), 0, 4, urids(EXT + "atom#URID"), urids(STATE_URI)
        )
        body += struct.pack("<IIII", urids(EXT + "patch#value"), 0, len(value), urids(EXT + "atom#String")) + value
        instance.events.append((0, EXT + "atom#Object", body))
        instance.run(64)
        assert len(instance.scheduled) == 1
        assert instance.work(instance.scheduled[0]) == 0  # LV2_WORKER_SUCCESS
        assert "model=other" in instance.save().decode()
        assert instance.work(struct.pack("<II", 4, urids(EXT + "atom#Int")) + b"junk") != 0


def tell(
    instance: Instance, frame: int, bpm: Fraction, meter: tuple[int, int], ppq: Fraction, *, offset: int = 0,
    ticks: int = 0, counted_in: int | None = None,
) -> None:  # fmt: skip
    """What a host says at `frame`: beats and tempo are those of the meter, in single precision.

    `ticks`: of a beat, to which the host rounds down; 0: it does not. `counted_in`: the note whose number in a
    minute the host calls its tempo.
    """
    beats = ppq * Fraction(meter[1], 4)
    bar = beats // meter[0]
    beats -= bar * meter[0]
    if ticks:
        beats = Fraction(beats * ticks // 1, ticks)
    instance.position(
        offset, frame=frame, bar=bar, barBeat=float(beats), beatUnit=meter[1], beatsPerBar=meter[0],
        beatsPerMinute=float(bpm * Fraction(counted_in or meter[1], 4)), speed=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("every_block", [True, False], ids=["every_block", "once"])
@pytest.mark.parametrize("ticks", [0, 1920, 480])
@pytest.mark.parametrize(("meter", "bpm"), [((7, 8), "123.45"), ((4, 4), "97"), ((6, 8), "180"), ((5, 4), "60")])
def test_a_take_starts_on_the_bar_line_offline(
    formats: Formats, engine: IndexEngine, monkeypatch: pytest.MonkeyPatch, meter: tuple[int, int], bpm: str,
    ticks: int, every_block: bool,
) -> None:  # fmt: skip
    """A host that renders faster than time says so by the freewheeling port, and the render holds the take.

    A host that speaks once, at the start, and in long ticks has told no more than that one tick.
    """
    monkeypatch.setenv("ATTACCA_ENGINE", engine.address(48000))
    rate, block, tempo = 48000, 480, Fraction(bpm)
    bundle = Bundle(formats.effect.lv2, URIS["Attacca"])
    bar = Fraction(4 * meter[0], meter[1])
    lead, after = 9600, 960
    first = round(3 * bar * 60 * rate / tempo) - lead - 7
    start_ppq = first * tempo / (60 * rate)
    (line,) = bar_lines(lead + after, rate, start_ppq, tempo, meter)
    heard = []
    with Instance(bundle=bundle, rate=rate, block=block, values={"mix": 1, "lv2_freewheeling": 1}) as instance:
        for position in range(0, lead + after, block):
            if every_block or position == 0:
                tell(
                    instance,
                    first + position,
                    tempo,
                    meter,
                    start_ppq + position * tempo / (60 * rate),
                    ticks=ticks,
                )
            if position == 18 * block:
                instance.midi(100, 0x90, 24, 100)
            heard.append(instance.run(block))
        assert instance.value("underruns") == 0
    audio = np.concatenate(heard)[:, 0]
    (sounding,) = np.nonzero(audio)
    most = Fraction(60 * rate * 4, meter[1] * ticks) / tempo if ticks == 480 and not every_block else 1
    assert abs(sounding[0] - line) <= most, float(sounding[0] - line)
    assert np.array_equal(audio[sounding[0] :], np.arange(sounding[0], len(audio)))


def test_a_position_inside_a_block_holds_from_there(
    formats: Formats, engine: IndexEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 120 BPM a host changes to 150 in the middle of a block; bar lines are those after the change."""
    monkeypatch.setenv("ATTACCA_ENGINE", engine.address(48000))
    rate, block, meter, change = 48000, 960, (4, 4), 4 * 960 + 333
    bundle = Bundle(formats.effect.lv2, URIS["Attacca"])
    slow, fast = Fraction(120), Fraction(150)
    start_ppq = Fraction(15, 2) + Fraction(1, 10)
    change_ppq = start_ppq + change * slow / (60 * rate)
    line = change + (8 - change_ppq) * 60 * rate / fast
    heard = []
    with Instance(bundle=bundle, rate=rate, block=block, values={"mix": 1, "lv2_freewheeling": 1}) as instance:
        for position in range(0, 12 * block, block):
            if position == 0:
                tell(instance, 1000, slow, meter, start_ppq)
            if position <= change < position + block:
                tell(instance, 1000 + change, fast, meter, change_ppq, offset=change - position)
            if position == 6 * block:
                instance.midi(0, 0x90, 24, 100)
            heard.append(instance.run(block))
    (sounding,) = np.nonzero(np.concatenate(heard)[:, 0])
    assert abs(sounding[0] - line) <= 1, float(sounding[0] - line)


@pytest.mark.parametrize("meter", [(7, 8), (5, 16), (3, 2), (3, 4)])
@pytest.mark.parametrize("dialect", ["beats", "quarter tempo", "quarter parts"])
def test_what_hosts_mean_outside_of_x_4_is_known_by_their_song_position(
    formats: Formats, engine: IndexEngine, monkeypatch: pytest.MonkeyPatch, meter: tuple[int, int], dialect: str
) -> None:
    """LV2 means beats of the meter; some tell a tempo in quarter notes; Ardour parts of beats, too.

    Nothing is known in the first bar; the take is asked for in the second.
    """
    if dialect == "quarter parts" and meter[1] < 4:
        return  # a part would be longer than its beat: not told apart
    monkeypatch.setenv("ATTACCA_ENGINE", engine.address(48000))
    rate, block, tempo = 48000, 1024, Fraction(97)
    bundle = Bundle(formats.effect.lv2, URIS["Attacca"])
    bar, beat = Fraction(4 * meter[0], meter[1]), Fraction(4, meter[1])
    line = 2 * bar * 60 * rate / tempo
    heard, asked = [], int(line * 3 / 4) // block * block
    with Instance(bundle=bundle, rate=rate, block=block, values={"mix": 1, "lv2_freewheeling": 1}) as instance:
        for position in range(0, int(line) + 2 * block, block):
            ppq = position * tempo / (60 * rate)
            if dialect == "quarter parts":
                whole = ppq // beat
                ppq = whole * beat + (ppq - whole * beat) * beat  # tell() divides by the beat
            counted_in = None if dialect == "beats" else 4
            tell(instance, position, tempo, meter, ppq, ticks=1920, counted_in=counted_in)
            if position == asked:
                instance.midi(0, 0x90, 24, 100)
            heard.append(instance.run(block))
    (sounding,) = np.nonzero(np.concatenate(heard)[:, 0])
    assert abs(sounding[0] - line) <= 1, float(sounding[0] - line)
