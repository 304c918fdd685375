"""Runs a script that is a host in Python (pedalboard_host.py, dawdreamer_host.py) in a process of its own.

So a crash of a host fails a test and not the run. Skips where the host's package is missing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def run_host(package: str, *words: object, timeout_s: float = 60.0, **environment: str) -> dict[str, Any]:
    """The JSON line that `{package}_host.py` printed last; AssertionError with what it said if it failed."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the Python package {package} is not installed: pip install 'attacca[plugin-tests]'")
    script = Path(__file__).with_name(f"{package}_host.py")
    done = subprocess.run(
        [sys.executable, str(script), *map(str, words)],
        env={name: text for name, text in os.environ.items() if not name.startswith("ATTACCA_")} | environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, (
        f"{script.name}: exit code {done.returncode}: {done.stdout[-500:]}{done.stderr[-3000:]}"
    )
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
