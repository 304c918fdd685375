"""What hosts should see of the parameter table (bridge/params.py), row by row, and what they do see.

Used by tests of hosts that report names, units, ranges as text, and normalised defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attacca.bridge.params import METERS, PARAMETERS, PLUGIN_PARAMETERS, Meter, Parameter


@dataclass(frozen=True, kw_only=True)
class Row:
    """One parameter as a host shows it. `default` is normalised."""

    name: str
    unit: str
    low: str
    high: str
    default: float


def _row(row: Parameter | Meter) -> Row:
    default = row.default if isinstance(row, Parameter) else row.minimum
    if row.choices:
        low, high = row.choices[0], row.choices[-1]
    else:
        low, high = (str(round(end)) if row.integer else f"{end:f}" for end in (row.minimum, row.maximum))
    share = (default - row.minimum) / (row.maximum - row.minimum)
    return Row(name=row.label, unit=row.unit, low=low, high=high, default=round(share, 5))


# The framework's own come first and between: a VST3's latency, read-only, and the host's bypass switch.
LATENCY = Row(name="Latency", unit="frames", low="0.000000", high="3840000.000000", default=0.0)
BYPASS = Row(name="Bypass", unit="", low="0", high="1", default=0.0)
EXPECTED = [LATENCY, *map(_row, (*PARAMETERS, *PLUGIN_PARAMETERS)), BYPASS, *map(_row, METERS)]


def seen(name: str, unit: str, low: str, high: str, default: float) -> Row:
    """A row as a host reported it."""
    return Row(name=name, unit=unit, low=low, high=high, default=round(default, 5))


def normalised(label: str, value: float) -> float:
    """A parameter's value as hosts set it, 0..1."""
    row: Any = next(row for row in (*PARAMETERS, *PLUGIN_PARAMETERS) if row.label == label)
    return float((value - row.minimum) / (row.maximum - row.minimum))
