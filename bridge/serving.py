"""What `attacca serve` does around the server: log, load, say in one line that it is ready, sum up at the end.

Between the command line and bridge/server.py. Standard output carries nothing but the ready line
(`attacca ready {json}`), so that another program can start an engine and read where it listens; people read stderr.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from importlib.metadata import version

from attacca.bridge.config import ConfigError, Settings
from attacca.bridge.loading import load_model, sampling_of
from attacca.bridge.params import BY_NAME
from attacca.bridge.placement import Placement, parse_cores
from attacca.bridge.server import Ready, serve
from attacca.bridge.tables import print_rows
from attacca.engine.backends import backend_label

READY_PREFIX = "attacca ready "


def run(settings: Settings) -> None:
    """Load the model and serve until SIGINT or SIGTERM. OSError if an address cannot be bound."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    model = load_model(settings, several=True)
    label = backend_label(model)
    counts = serve(
        model,
        address=settings.address,
        publish=settings.publish,
        osc_host=settings.osc_host,
        osc_port=settings.osc_port or None,
        midi_port=settings.midi_port,
        allow_remote=settings.allow_remote,
        initial=initial_parameters(settings),
        placement=placement_of(settings),
        ready=lambda ready: announce(ready, settings, label),
    )
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)
    print(f"attacca: stopped ({told or 'nothing was counted'})", file=sys.stderr)


def placement_of(settings: Settings) -> Placement:
    """How the decode thread is to be placed. ConfigError if `cores` is no list of numbers."""
    try:
        cores = parse_cores(settings.cores or "")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return Placement(priority=settings.priority, cores=cores, lock_memory=settings.lock_memory)


def initial_parameters(settings: Settings) -> dict[str, float]:
    """What sessions begin with: the model's own sampling and what the user set; only what the table knows."""
    sampling = sampling_of(settings)
    values: dict[str, float] = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "guidance": sampling.guidance,
    }
    if settings.seed is not None:
        values["seed"] = settings.seed
    for name, value in values.items():
        row = BY_NAME[name]
        if not row.minimum <= value <= row.maximum:
            raise ValueError(f"{name} = {value} is outside {row.minimum:g}..{row.maximum:g} while serving")
    return values


def ready_line(ready: Ready, settings: Settings) -> str:
    """The one line for machines."""
    told = {
        "address": ready.address,
        "publish": ready.publish,
        "osc_port": ready.osc_port,
        "model": ready.model,
        "version": version("attacca"),
        "pid": os.getpid(),
        "threads": settings.threads,
    }
    return READY_PREFIX + json.dumps(told)


def announce(ready: Ready, settings: Settings, decoder: str = "") -> None:
    """The ready line on stdout, then a table on stderr; `decoder`: what computes its steps."""
    print(ready_line(ready, settings), flush=True)
    rows = [
        ("model", "fake backend" if settings.fake else ready.model),
        *([("decoder runs on", decoder)] if decoder and not settings.fake else []),
        ("plugins connect to", ready.address),
        ("listeners subscribe to", ready.publish),
        ("OSC", "off" if ready.osc_port is None else f"udp {settings.osc_host}:{ready.osc_port}"),
        ("MIDI", settings.midi_port or "from plugins"),
        ("threads a model", settings.threads),
    ]
    if settings.allow_remote:
        rows.append(("warning", "other machines can connect, and nothing is encrypted"))
    print_rows("attacca is ready; Ctrl-C ends it", ("", ""), rows, stderr=True)
