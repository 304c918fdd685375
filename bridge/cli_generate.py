"""`attacca generate`: a whole piece from a text or a sound; a part of the command line (bridge/cli.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attacca.bridge.cli_options import Guidance, Model, Seed, Temperature, Text, Threads, TopK
from attacca.bridge.config import ROWS, resolve


def generate_command(
    context: typer.Context,
    frames: Annotated[
        int, typer.Option("--frames", "-n", min=1, help="Frames in all, the audio prompt's included.")
    ],
    audio_prompt: Annotated[
        Path | None, typer.Option("--audio-prompt", help="Sound that the piece begins with and goes on from.")
    ] = None,
    melody: Annotated[
        Path | None,
        typer.Option("--melody", help="Sound or .mid whose melody is followed, for models that read one."),
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest code; nothing is drawn.")] = False,
    codes: Annotated[
        Path | None, typer.Option("--codes", help="Writes the raw codes, uint16 [codebooks, frames], as .npy.")
    ] = None,
    wav: Annotated[Path | None, typer.Option("--wav", help="Writes the sound.")] = None,
    model: Model = None,
    text: Text = None,
    threads: Threads = None,
    seed: Seed = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    guidance: Guidance = None,
) -> None:
    """Make a whole piece at once: no host, no clock, its length known from the start.

    Example: attacca generate --model musicgen-small --text "slow jazz trio" --frames 500 --wav trio.wav
    """
    flags = {name: value for name, value in locals().items() if name in ROWS}
    from attacca.bridge import generating

    options = generating.GenerateOptions(
        frames=frames, audio_prompt=audio_prompt, melody=melody, greedy=greedy, codes=codes, wav=wav
    )
    generating.run(options, resolve(flags, file=context.obj.config).settings)
