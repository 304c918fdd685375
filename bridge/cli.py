"""The command line: `attacca`, also `python -m attacca.bridge.cli`.

The outermost layer: resolves settings (bridge/config.py), then calls the piece of the path that does the work.
Everything heavy is imported inside the commands, so that `attacca --help` answers at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from attacca.bridge.cli_export import export_command
from attacca.bridge.cli_generate import generate_command
from attacca.bridge.cli_group import AttaccaGroup
from attacca.bridge.cli_models import models_app
from attacca.bridge.cli_options import (
    Address,
    AllowRemote,
    AsJson,
    Backend,
    Cores,
    Fake,
    Guidance,
    HoldBeat,
    HoldLevel,
    LockMemory,
    LogLevel,
    MidiPort,
    Model,
    OscHost,
    OscPort,
    Priority,
    Publish,
    SecondCore,
    Seed,
    Temperature,
    Text,
    Threads,
    TopK,
)
from attacca.bridge.cli_plugin import plugin_app
from attacca.bridge.cli_train import train_command
from attacca.bridge.config import ROWS, Effective, resolve

_PLAY, _MODELS, _LOOK = "Play", "Models and speed", "Look around"

app = typer.Typer(
    cls=AttaccaGroup,
    help="Continues what a musician has just played, in time with the host.",
    epilog="First time? Run: attacca doctor, then: attacca demo",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(plugin_app, name="plugin", rich_help_panel=_PLAY)
app.add_typer(models_app, name="models", rich_help_panel=_MODELS)
app.command("train", rich_help_panel=_MODELS)(train_command)
app.command("export", rich_help_panel=_MODELS)(export_command)
app.command("generate", rich_help_panel=_PLAY)(generate_command)


@dataclass(frozen=True, kw_only=True)
class Globals:
    """Options of the whole program."""

    config: Path | None
    debug: bool


def _effective(context: typer.Context, **flags: Any) -> Effective:
    return resolve(flags, file=context.obj.config)


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's parameters that are settings."""
    return {name: value for name, value in parameters.items() if name in ROWS}


def _config_flag(context: typer.Context) -> tuple[str, ...]:
    """The flag that makes another process read the same file."""
    file = context.obj.config
    return () if file is None else ("--config", str(file.resolve()))


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback where an error ends the command.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Continues what a musician has just played, in time with the host."""
    context.obj = Globals(config=config, debug=debug)
    if version:
        print_version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("demo", rich_help_panel=_PLAY)
def demo_command(
    context: typer.Context,
    input_file: Annotated[
        Path | None, typer.Option("--input", "-i", help="WAV that is continued; else a shipped riff.")
    ] = None,
    midi: Annotated[Path | None, typer.Option("--midi", help="MIDI file that triggers; else one note.")] = None,
    bpm: Annotated[float | None, typer.Option("--bpm", help="Tempo of the host, 20..400.")] = None,
    meter: Annotated[str | None, typer.Option("--meter", help="Meter of the host, e.g. 7/8.")] = None,
    sample_rate: Annotated[int, typer.Option("--sample-rate", help="Rate of the host, in Hz.")] = 48000,
    block: Annotated[int, typer.Option("--block", help="Samples of a host callback.")] = 512,
    bars: Annotated[int, typer.Option("--bars", help="Length of the continuation.")] = 8,
    flat_out: Annotated[
        bool, typer.Option("--flat-out", help="As fast as it goes, in place of real time.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for demo.wav, demo.png, demo.json.")] = Path(),
    model: Model = None,
    text: Text = None,
    threads: Threads = None,
    backend: Backend = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    guidance: Guidance = None,
    hold_level: HoldLevel = None,
    hold_beat: HoldBeat = None,
    seed: Seed = None,
    fake: Fake = None,
) -> None:
    """Hear it: a virtual host plays a riff, a note arrives in mid-beat, the continuation enters on the bar line.

    Leaves demo.wav, demo.png and demo.json, and prints what was measured.

    Example: attacca demo --input my.wav --bpm 97 --meter 7/8 --sample-rate 44100 --block 441
    """
    effective = _effective(context, **_given(locals()))
    from attacca.bridge import demo, loading
    from attacca.bridge.cli_group import UserError

    settings = effective.settings
    loading.require_model(settings)
    options = demo.DemoOptions(
        input=input_file,
        midi=midi,
        bpm=bpm,
        meter=meter,
        sample_rate=sample_rate,
        block=block,
        bars=bars,
        flat_out=flat_out,
        out=out,
        seed=1 if settings.seed is None else settings.seed,
        model=settings.model,
        text=settings.text,
        threads=settings.threads,
        fake=settings.fake,
        engine_arguments=(*_config_flag(context), "--backend", settings.backend, *loading.sampling_flags(settings)),
    )
    try:
        demo.run_demo(options)
    except demo.DemoError as error:
        raise UserError(str(error)) from error


@app.command("serve", rich_help_panel=_PLAY)
def serve_command(
    context: typer.Context,
    model: Model = None,
    text: Text = None,
    address: Address = None,
    publish: Publish = None,
    osc_port: OscPort = None,
    osc_host: OscHost = None,
    midi_port: MidiPort = None,
    allow_remote: AllowRemote = None,
    threads: Threads = None,
    second_core: SecondCore = None,
    backend: Backend = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    guidance: Guidance = None,
    hold_level: HoldLevel = None,
    hold_beat: HoldBeat = None,
    seed: Seed = None,
    fake: Fake = None,
    priority: Priority = None,
    cores: Cores = None,
    lock_memory: LockMemory = None,
    log_level: LogLevel = None,
) -> None:
    """Start the engine and wait for plugins.

    Prints one line for machines when it is ready: attacca ready {"address": ..., "publish": ..., "osc_port": ...}.
    A port of * is chosen freely.

    Example: attacca serve --address tcp://127.0.0.1:* --osc-port 0
    """
    effective = _effective(context, **_given(locals()))
    from attacca.bridge import serving

    serving.run(effective.settings)


@app.command("continue", rich_help_panel=_PLAY)
def continue_command(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN.wav", help="What is continued.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT.wav", help="IN and its continuation.")],
    seconds: Annotated[float | None, typer.Option("--seconds", help="Length, 16 if not given.")] = None,
    bars: Annotated[int | None, typer.Option("--bars", help="Length in bars; needs --bpm.")] = None,
    bpm: Annotated[
        float | None, typer.Option("--bpm", help="Tempo of IN, whose first sample begins a bar.")
    ] = None,
    meter: Annotated[str, typer.Option("--meter", help="Meter of IN, e.g. 7/8.")] = "4/4",
    style: Annotated[
        str | None, typer.Option("--style", help="Style by name or number (attacca models show lists them).")
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Write the continuation without IN.")] = False,
    model: Model = None,
    text: Text = None,
    threads: Threads = None,
    backend: Backend = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    guidance: Guidance = None,
    hold_level: HoldLevel = None,
    hold_beat: HoldBeat = None,
    seed: Seed = None,
    fake: Fake = None,
) -> None:
    """Continue a file, as fast as this machine goes.

    Example: attacca continue riff.wav -o longer.wav --bpm 97 --meter 7/8 --bars 8 --seed 3
    """
    effective = _effective(context, **_given(locals()))
    from attacca.bridge import continuing

    options = continuing.ContinueOptions(
        source=source, out=out, seconds=seconds, bars=bars, bpm=bpm, meter=meter, style=style, only=only
    )
    continuing.run(options, effective.settings)


@app.command("bench", rich_help_panel=_MODELS)
def bench_command(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Within a minute, in place of an hour.")] = False,
    to: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures; - prints them.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="DIR", help="Draw growth.png, steps.png.")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Part to measure: steps, path, live, growth, shapes.")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option("--shape", help="Size of random weights, e.g. musicgen-medium.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=5.0, help="About how long: rows end by time, and say what they had."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=21, help="Steps of a row, 10000 if not given.")
    ] = None,
    long_s: Annotated[
        float | None, typer.Option("--long", min=1.0, help="Seconds of the take whose underruns are counted, 600.")
    ] = None,
    model: Model = None,
    fake: Fake = None,
    threads: Threads = None,
    backend: Backend = None,
) -> None:
    """Measure this machine: decoder steps by pattern, context and threads, every other part of the path, the whole
    of it with one take and with many, and how it answers a musician.

    Example: attacca bench --quick --json b.json --plot plots
    """
    effective = _effective(context, model=model, fake=fake, threads=threads, backend=backend)
    from attacca.bridge import bench

    changes: dict[str, Any] = {"parts": tuple(only)} if only else {}
    if shape:
        changes["shapes"] = tuple(shape)
    changes |= {name: value for name, value in (("steps", steps), ("long_s", long_s)) if value is not None}
    if minutes is not None and quick:
        raise typer.BadParameter("--quick and --minutes say two things")
    asked = bench.QUICK if quick else bench.BenchOptions()
    options = replace(asked if minutes is None else asked.within(minutes), **changes)
    bench.run(effective.settings, options, to=to, plot=plot, arguments=_config_flag(context))


@app.command("patterns", rich_help_panel=_LOOK)
def patterns_command(
    draw: Annotated[str | None, typer.Option("--draw", help="Pattern whose grid is drawn.")] = None,
    codebooks: Annotated[int, typer.Option("--codebooks", "-k", min=1, max=32, help="Codebooks.")] = 4,
    p: Annotated[int, typer.Option("--p", min=1, max=16, help="Permutation length of stack-delay.")] = 3,
    frames: Annotated[int, typer.Option("--frames", min=1, max=200, help="Timesteps drawn.")] = 12,
) -> None:
    """Codebook patterns: a table of all, or one drawn as a grid of steps.

    Example: attacca patterns --draw stack-delay --codebooks 4 --p 3
    """
    from attacca.bridge import patterns

    if draw is None:
        patterns.print_table(codebooks, p, frames)
    else:
        patterns.print_grid(draw, codebooks, p, frames)


@app.command("doctor", rich_help_panel=_LOOK)
def doctor_command(context: typer.Context, model: Model = None, as_json: AsJson = False) -> None:
    """What is installed, what answers, and what to do about each lack.

    Exit code 1 if something that the demo needs is missing.
    """
    from attacca.bridge import doctor

    findings = doctor.examine(_effective(context, model=model))
    if as_json:
        print(json.dumps(doctor.as_json(findings), indent=2))
    else:
        from attacca.bridge.tables import print_findings

        print_findings(findings)
    if not doctor.healthy(findings):
        raise typer.Exit(1)


@app.command("config", rich_help_panel=_LOOK)
def config_command(
    context: typer.Context,
    model: Model = None,
    fake: Fake = None,
    threads: Threads = None,
    backend: Backend = None,
    text: Text = None,
    seed: Seed = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    guidance: Guidance = None,
    hold_level: HoldLevel = None,
    hold_beat: HoldBeat = None,
    address: Address = None,
    publish: Publish = None,
    osc_host: OscHost = None,
    osc_port: OscPort = None,
    midi_port: MidiPort = None,
    allow_remote: AllowRemote = None,
    log_level: LogLevel = None,
    as_json: AsJson = False,
) -> None:
    """Every setting, its effective value and where it came from."""
    effective = _effective(context, **_given(locals()))
    values = {row.name: getattr(effective.settings, row.name) for row in fields(effective.settings)}
    if as_json:
        rows = {name: {"value": value, "origin": effective.origin[name]} for name, value in values.items()}
        print(json.dumps({"file": str(effective.file), "settings": rows}, indent=2))
    else:
        from attacca.bridge.tables import print_settings

        print_settings(effective, values)


@app.command("version", rich_help_panel=_LOOK)
def print_version() -> None:
    """The version, single-sourced from the package's metadata."""
    from importlib.metadata import version

    print(f"attacca {version('attacca')}")


if __name__ == "__main__":
    app()
