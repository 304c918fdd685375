"""The demo: an engine in a process of its own, a virtual host that plays into it, and what came of it.

The whole path end to end, as a musician would meet it: a riff plays, a note arrives in the middle of a beat, the
continuation enters on the next bar line and ends with note-off. Called by `attacca demo`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from attacca.bridge import demo_measure, drawing, machine
from attacca.bridge.audiofile import check_writable, write_audio
from attacca.bridge.client import Client
from attacca.bridge.client_config import At, ClientConfig, Mix
from attacca.bridge.client_network import EngineError
from attacca.bridge.client_takes import TakeRecord
from attacca.bridge.demo_material import Material, load_material
from attacca.bridge.demo_measure import Marks, Trace
from attacca.bridge.engine_process import EngineProcess, EngineProcessError
from attacca.bridge.host_tracks import MidiTrack
from attacca.bridge.host_transport import Action, HostConfig
from attacca.bridge.protocol import Error, Param, Status, Trigger
from attacca.bridge.transport import nearest_sample
from attacca.bridge.virtual_host import BlockRecord, FlatOut, RealTime, Recording, VirtualHost

LEAD_BARS: Final = 4
_TAIL_BARS: Final = 1
_NOTE: Final = 24  # C1, in the engine's default trigger zone
_WANTED_LEAD_S: Final = 0.6  # the note comes at least this long before the bar line, where the bar is long enough
_PROGRESS_S: Final = 0.1


class DemoError(RuntimeError):
    """The demo could not run or finish; the message says why."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What `attacca demo` takes."""

    input: Path | None = None  # None: the shipped riff
    midi: Path | None = None  # None: one note
    bpm: float | None = None  # None: the riff's, or 120
    meter: str | None = None  # None: the riff's, or 4/4
    sample_rate: int = 48000
    block: int = 512
    bars: int = 8  # length of the continuation
    seed: int | None = 1
    model: str = "ostinato"
    text: str | None = None  # told to the model in this session
    threads: int = 1
    fake: bool = False
    flat_out: bool = False
    out: Path = Path()
    engine_arguments: tuple[str, ...] = ()  # further flags of `attacca serve`

    def __post_init__(self) -> None:
        if self.bpm is not None and not 20 <= self.bpm <= 400:
            raise ValueError(f"bpm {self.bpm:g} is outside 20..400")
        if not 1 <= self.bars <= 64:
            raise ValueError(f"bars {self.bars} is outside 1..64")
        if not 8000 <= self.sample_rate <= 192000:
            raise ValueError(f"sample rate {self.sample_rate} is outside 8000..192000")
        if not 1 <= self.block <= 8192:
            raise ValueError(f"block {self.block} is outside 1..8192")
        if self.seed is not None and not 0 <= self.seed <= 2**31:
            raise ValueError(f"seed {self.seed} is outside 0..{2**31}")


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Figures and files of a demo."""

    measures: dict[str, Any]
    wav: Path
    png: Path | None  # None: matplotlib is not installed
    json: Path


@dataclass(frozen=True, kw_only=True)
class Score:
    """Where things are to happen, in quarter notes."""

    bar_ppq: Fraction
    note_on_ppq: Fraction
    start_ppq: Fraction
    note_off_ppq: Fraction
    control_ppq: Fraction
    end_ppq: Fraction


def score_of(bpm: Fraction, meter: tuple[int, int], bars: int) -> Score:
    """The note in the middle of a beat of the last bar before the continuation, note-off `bars` bars later."""
    beat = Fraction(4, meter[1])
    bar = meter[0] * beat
    start = LEAD_BARS * bar
    wanted = Fraction(_WANTED_LEAD_S).limit_denominator(1000) * bpm / 60 / beat
    beats = min(max(0, math.ceil(wanted - Fraction(1, 2))), meter[0] - 1)
    return Score(
        bar_ppq=bar,
        note_on_ppq=start - (beats + Fraction(1, 2)) * beat,
        start_ppq=start,
        note_off_ppq=start + bars * bar,
        control_ppq=start + (bars // 2) * bar,
        end_ppq=start + (bars + _TAIL_BARS) * bar,
    )


def run_demo(options: DemoOptions, *, console: Console | None = None) -> DemoResult:
    """Play, measure, write demo.wav, demo.png and demo.json, print a table. As long as the music; main thread.

    DemoError, AudioFileError or ValueError says in one line what is wrong. The engine is ended whatever happens.
    """
    console = console or Console(stderr=True)
    options.out.mkdir(parents=True, exist_ok=True)
    paths = {suffix: options.out / f"demo.{suffix}" for suffix in ("wav", "png", "json")}
    for path in paths.values():
        check_writable(path)
    material = load_material(
        options.input,
        sample_rate=options.sample_rate,
        bpm=options.bpm,
        meter=options.meter,
        needed_bars=LEAD_BARS + options.bars + _TAIL_BARS,
    )
    for note in material.notes:
        console.print(f"[dim]{material.name}: {note}[/dim]")
    played = _play(options, material, console)
    if played.marks.start is None:
        raise DemoError(_unheard(played))
    measures = demo_measure.measures_of(
        played.client, played.recording, played.record, played.marks, played.trace, paced=not options.flat_out
    )
    measures |= {
        "machine": machine.machine(),
        "versions": machine.versions(),
        "commit": machine.commit(),
        "options": {
            name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()
        },
    }
    write_audio(paths["wav"], played.recording.output, options.sample_rate)
    paths["json"].write_text(json.dumps(measures, indent=2) + "\n", encoding="utf-8")
    png = _draw(paths["png"], played, material, measures, console)
    _print_table(console, measures, [paths["wav"], *([png] if png else []), paths["json"]])
    return DemoResult(measures=measures, wav=paths["wav"], png=png, json=paths["json"])


@dataclass(frozen=True, kw_only=True)
class _Played:
    client: Client
    recording: Recording
    record: TakeRecord
    marks: Marks
    trace: Trace
    score: Score


def _play(options: DemoOptions, material: Material, console: Console) -> _Played:
    arguments = ["--threads", str(options.threads), "--log-level", "warning", *options.engine_arguments]
    arguments += ["--fake"] if options.fake else ["--model", options.model]
    config = ClientConfig(
        sample_rate=options.sample_rate,
        channels=material.channels,
        name="attacca demo",
        trigger=Trigger(take=0, position=0, seed=options.seed),
    )
    try:
        with console.status("starting the engine"):
            engine = EngineProcess(arguments).__enter__()
        try:
            with Client(engine.address, config) as client:
                welcome = client.connect(10.0)
                if options.text is not None:
                    if not welcome.takes_text:
                        raise DemoError(f"{options.model} takes no text; leave --text out")
                    client.tell(options.text)
                client.mix = Mix(solo=True)
                return _perform(client, engine, options, material, console)
        finally:
            engine.__exit__()
    except (EngineProcessError, EngineError) as error:
        raise DemoError(str(error)) from None


def _perform(
    client: Client, engine: EngineProcess, options: DemoOptions, material: Material, console: Console
) -> _Played:
    score = score_of(material.bpm, material.meter, options.bars)
    per_sample = material.bpm / (60 * options.sample_rate)
    midi = (
        MidiTrack.note(_NOTE, score.note_on_ppq, score.note_off_ppq)
        if options.midi is None
        else MidiTrack.from_file(options.midi)
    )
    host = VirtualHost(
        HostConfig(
            sample_rate=options.sample_rate,
            block_samples=options.block,
            channels=material.channels,
            bpm=material.bpm,
            meter=material.meter,
        ),
        audio=material.track,
        midi=midi,
        clock=FlatOut() if options.flat_out else RealTime(),
    )
    control = math.ceil(score.control_ppq / per_sample)
    trace = Trace(control_position=control)
    script: list[tuple[int, Action | At]] = [(control, At(offset=0, event=Param(name="lead", value=2.0)))]
    until = nearest_sample(score.end_ppq / per_sample)
    with _progress(console) as progress:
        watch = _watcher(client, engine, trace, progress, until, score, material)
        recording = host.run(client, until, script=script, on_block=watch)
    if not client.takes.records:
        raise DemoError(f"no note of {options.midi} starts a take: notes 0..35 do, at the song's start")
    record = client.takes.records[0]
    launch = record.launch.ppq if record.launch is not None else score.start_ppq
    return _Played(
        client=client,
        recording=recording,
        record=record,
        marks=demo_measure.marks_of(client, recording, record, Fraction(launch) / per_sample),
        trace=trace,
        score=score,
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=40),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _watcher(
    client: Client,
    engine: EngineProcess,
    trace: Trace,
    progress: Progress,
    until: int,
    score: Score,
    material: Material,
) -> Callable[[BlockRecord], None]:
    """What is noted after every block; ends the run if the engine has died."""
    task = progress.add_task("", total=until)
    shown_s = [float("-inf")]

    def watch(block: BlockRecord) -> None:
        end = block.position + block.samples
        current = client.takes.current
        if client.playback.sounding and current is not None and current.released is None:
            trace.lookahead.append((end, client.ring.lookahead_samples()))
        while client.network.events:
            event = client.network.events.popleft()
            if isinstance(event, Status):
                trace.statuses.append((end, event))
            elif isinstance(event, Error):
                trace.errors.append(event.text)
        now_s = progress.get_time()
        if now_s - shown_s[0] < _PROGRESS_S:
            return
        shown_s[0] = now_s
        if not engine.alive:
            raise engine.failure("ended in the middle of the demo")
        bar = int(block.ppq // score.bar_ppq) + 1
        if client.playback.sounding:
            words = "[bold]the continuation plays[/bold]"
        else:
            words = f"{material.name} plays" if current is None else "note: the continuation is armed"
        progress.update(task, completed=end, description=f"bar {bar:>2}  {words}")

    return watch


def _unheard(played: _Played) -> str:
    counts = played.client.network.counts
    told = played.trace.errors
    why = f"; the engine said: {told[-1]}" if told else ""
    lost = f"; the session was lost {counts['sessions_lost']} times" if counts["sessions_lost"] else ""
    return f"no generated sample was heard, though the take was triggered{why}{lost}; nothing was written"


def _draw(
    path: Path, played: _Played, material: Material, measures: dict[str, Any], console: Console
) -> Path | None:
    try:
        drawing.draw_demo(
            path,
            recording=played.recording,
            marks=played.marks,
            trace=played.trace,
            bar_ppq=played.score.bar_ppq,
            measures=measures,
            title=f"{material.name}, {float(material.bpm):g} BPM, {material.meter[0]}/{material.meter[1]}",
        )
    except ImportError:
        console.print("[dim]no picture: matplotlib is not installed (pip install 'attacca\\[demo]')[/dim]")
        return None
    return path


def _print_table(console: Console, measures: dict[str, Any], files: Sequence[Path]) -> None:
    rtf, underruns, fallbacks = measures["rtf"], measures["underruns"], measures["fallbacks"]
    ahead = measures["lookahead_ms"]
    table = Table(show_header=False, title="as measured", title_style="bold")
    rows = [
        ("start error", f"{measures['start_error_samples']} samples"),
        ("RTF whole (decoder, codec)", f"{rtf['total']}  ({rtf['decoder']}, {rtf['codec']})"),
        ("time to first audio", demo_measure.in_ms(measures["ttfa_ms"])),
        ("control latency", demo_measure.in_ms(measures["control_latency_ms"])),
        ("look-ahead p50, p5, least", f"{ahead['p50']}, {ahead['p5']}, {ahead['min']} ms"),
        ("underruns", f"{underruns['callbacks']} callbacks, {underruns['samples']} samples"),
        ("late samples", str(measures["late_samples"])),
        (
            "bridged by plan, repeat, fade",
            f"{fallbacks['planned']}, {fallbacks['repeat']}, {fallbacks['fade']} samples",
        ),
    ]
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    console.print("written: " + ", ".join(str(path) for path in files))
