"""The doctor: looks at everything the default path needs and the extras add, and says what to do about each lack.

Beside the path: `attacca doctor` runs it. Each check is a small function of injected facts that returns findings;
nothing here changes the machine, and no check can raise.
"""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from attacca.bridge.config import Effective

# y = x + x over two floats, opset 13: the smallest graph that shows a provider computes.
_TINY_GRAPH = base64.b64decode(
    "CAg6NQoOCgF4CgF4EgF5IgNBZGQSAXRaDwoBeBIKCggIARIECgIIAmIPCgF5EgoKCAgBEgQKAggCQgQKABAN"
)
_REMOTE_PROVIDERS = frozenset({"AzureExecutionProvider"})  # sends data to a service; never used here
_SOUNDFONTS = (Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"), Path("/usr/share/soundfonts/FluidR3_GM.sf2"))

# (import name, distribution, what it is for, extra that brings it; "" is the default path)
PACKAGES = (
    ("numpy", "numpy", "arrays", ""),
    ("onnxruntime", "onnxruntime", "runs the models", ""),
    ("zmq", "pyzmq", "messages between plugin and engine", ""),
    ("msgspec", "msgspec", "message encoding", ""),
    ("pythonosc", "python-osc", "OSC control", ""),
    ("mido", "mido", "MIDI files and messages", ""),
    ("soxr", "soxr", "resampling", ""),
    ("soundfile", "soundfile", "audio files", ""),
    ("platformdirs", "platformdirs", "where the configuration lies", ""),
    ("matplotlib", "matplotlib", "demo.png", "demo"),
    ("rtmidi", "python-rtmidi", "live MIDI ports", "live"),
    ("sounddevice", "sounddevice", "live audio devices", "live"),
    ("huggingface_hub", "huggingface-hub", "models of the Hugging Face hub", "hub"),
    ("torch", "torch", "training and export", "train"),
    ("onnx", "onnx", "export", "export"),
)


class Verdict(StrEnum):
    """How a finding counts: only `FAIL` stops the default path (attacca demo)."""

    OK = "ok"
    LACK = "lack"  # something optional is absent
    WARN = "warn"  # works, but not as well as it could
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report."""

    area: str
    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def examine(effective: Effective) -> list[Finding]:
    """Every finding, in the order of the report."""
    settings = effective.settings
    checks: Sequence[Callable[[], list[Finding]]] = (
        check_python,
        check_packages,
        check_providers,
        lambda: check_bundle(settings.model),
        lambda: check_cpu(settings.threads),
        check_kernels,
        check_placement,
        lambda: check_ports(
            [
                ("engine", socket.SOCK_STREAM, *_host_port(settings.address)),
                ("publish", socket.SOCK_STREAM, *_host_port(settings.publish)),
                ("osc", socket.SOCK_DGRAM, settings.osc_host, settings.osc_port),
            ]
        ),
        check_devices,
        check_plugin,
        check_training_tools,
        lambda: check_configuration(effective),
    )
    findings: list[Finding] = []
    for check in checks:
        findings += check()
    return findings


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing that the default path needs is missing."""
    return all(finding.verdict is not Verdict.FAIL for finding in findings)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The report for machines: {"ok": bool, "findings": [{area, name, verdict, found, remedy}]}."""
    return {"ok": healthy(findings), "findings": [asdict(finding) for finding in findings]}


def check_python() -> list[Finding]:
    """The interpreter's version."""
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    verdict = Verdict.OK if good else Verdict.FAIL
    return [
        Finding(area="python", name="version", verdict=verdict, found=version, remedy="" if good else "use 3.11+")
    ]


def check_packages(packages: Sequence[tuple[str, str, str, str]] = PACKAGES) -> list[Finding]:
    """Which packages import, with versions. torch and other heavy extras are looked up, not imported."""
    findings = []
    for module, distribution, purpose, extra in packages:
        problem = _import_problem(module, light=not extra)
        if problem is None:
            verdict, found, remedy = Verdict.OK, _version(distribution), ""
        elif extra:
            verdict, found = Verdict.LACK, "not installed"
            remedy = f"only for {purpose}: pip install 'attacca[{extra}]'"
        else:
            verdict, found, remedy = Verdict.FAIL, problem, f"needed ({purpose}): pip install {distribution}"
        findings.append(Finding(area="packages", name=distribution, verdict=verdict, found=found, remedy=remedy))
    return findings


def check_providers() -> list[Finding]:
    """Which onnxruntime execution providers compute: each runs a two-element addition."""
    try:
        import onnxruntime
    except ImportError:
        return []  # already reported with the packages
    findings = []
    for provider in onnxruntime.get_available_providers():
        if provider in _REMOTE_PROVIDERS:
            continue
        problem = _provider_problem(onnxruntime, provider)
        needed = provider == "CPUExecutionProvider"
        verdict = Verdict.OK if problem is None else (Verdict.FAIL if needed else Verdict.WARN)
        remedy = (
            "" if problem is None else ("reinstall onnxruntime" if needed else "check driver and CUDA libraries")
        )
        found = "answers" if problem is None else f"does not answer: {problem}"
        findings.append(Finding(area="providers", name=provider, verdict=verdict, found=found, remedy=remedy))
    if not any("CUDA" in finding.name for finding in findings):
        remedy = "only for an NVIDIA GPU: pip install 'attacca[gpu]'"
        findings.append(
            Finding(area="providers", name="GPU", verdict=Verdict.LACK, found="no GPU provider", remedy=remedy)
        )
    return findings


def check_bundle(model: str) -> list[Finding]:
    """Whether the configured model is there and its hashes hold."""
    try:
        from attacca.bridge.models import inspect_bundle
    except ImportError:
        return []  # a package is missing, and was reported as such

    row = inspect_bundle(model)
    if row.problem is None:
        found = f"{row.megabytes:.1f} MB, hashes hold"
        return [Finding(area="model", name=model, verdict=Verdict.OK, found=found)]
    remedy = "reinstall attacca, or name another model (attacca models list)"
    return [Finding(area="model", name=model, verdict=Verdict.FAIL, found=row.problem, remedy=remedy)]


def check_cpu(threads: int) -> list[Finding]:
    """Cores this process may use, against the threads asked for and the load."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    found = f"{cores} usable, load {load:.1f}, {threads} thread(s) a model"
    verdict, remedy = Verdict.OK, ""
    if threads > cores:
        verdict, remedy = Verdict.WARN, f"set threads to at most {cores}: spinning threads wait for each other"
    elif cores < 2:
        verdict, remedy = Verdict.WARN, "decoder and codec share one core: expect a higher RTF"
    elif load > cores:
        verdict, remedy = Verdict.WARN, "other programs are busy; close them before playing"
    return [Finding(area="machine", name="CPU", verdict=verdict, found=found, remedy=remedy)]


def check_kernels() -> list[Finding]:
    """Whether our own kernels of a decoder step were built, and which of them this processor runs."""
    from attacca.engine.native import NativeError, kernels

    try:
        found = f"{kernels()[0]} (of {', '.join(kernels())})"
    except NativeError as error:
        remedy = "onnxruntime plays, more slowly; where there is a C++ compiler, install attacca again"
        return [Finding(area="machine", name="kernels", verdict=Verdict.LACK, found=str(error), remedy=remedy)]
    return [Finding(area="machine", name="kernels", verdict=Verdict.OK, found=found)]


def check_placement() -> list[Finding]:
    """What the system lets the decode thread ask for; nothing of it is needed."""
    from attacca.bridge.placement import allowed

    findings = []
    for outcome in allowed():
        verdict = Verdict.OK if outcome.done else Verdict.LACK
        remedy = "" if outcome.done else "only to play beside busy programs: nice, rtprio, memlock in limits.conf"
        found = "can be asked for" if outcome.done else outcome.found
        findings.append(Finding(area="machine", name=outcome.what, verdict=verdict, found=found, remedy=remedy))
    return findings


def check_ports(ports: Sequence[tuple[str, int, str, int]]) -> list[Finding]:
    """Whether each (name, socket kind, host, port) can be bound now; port 0 is switched off."""
    findings = []
    for name, kind, host, port in ports:
        if port == 0:
            continue
        problem = _bind_problem(kind, host, port)
        verdict = Verdict.OK if problem is None else Verdict.WARN
        flag = {"engine": "--address", "publish": "--publish", "osc": "--osc-port"}.get(name, "the setting")
        remedy = "" if problem is None else f"another attacca serve may be running; stop it or change {flag}"
        found = f"{host}:{port} " + ("is free" if problem is None else f"cannot be bound: {problem}")
        findings.append(Finding(area="ports", name=name, verdict=verdict, found=found, remedy=remedy))
    return findings


def check_devices() -> list[Finding]:
    """Audio devices and MIDI ports, as far as the [live] extra is there."""
    rows = (("audio", "sounddevice", _audio_devices), ("midi", "rtmidi", _midi_ports))
    findings = []
    for name, module, listing in rows:
        if _import_problem(module, light=False) is not None:
            continue  # already reported with the packages
        try:
            devices = listing()
        except Exception as error:  # drivers raise what they like; the report must go on
            devices, problem = [], f"cannot be listed: {error}"
        else:
            problem = "none"
        verdict = Verdict.OK if devices else Verdict.LACK
        remedy = "" if devices else "only for playing live without a host: connect a device"
        found = ", ".join(devices[:4]) + (" ..." if len(devices) > 4 else "") if devices else problem
        findings.append(Finding(area="devices", name=name, verdict=verdict, found=found, remedy=remedy))
    return findings


def check_plugin() -> list[Finding]:
    """Whether the native plugin is installed for this user, and where it looks for the engine."""
    from attacca.bridge import plugin_address, plugin_files

    try:
        rows = plugin_files.survey(plugin_files.build_folder(), plugin_files.places())
        connection = plugin_address.current()
    except (ValueError, OSError) as error:
        remedy = "only for DAWs: docs/plugin.md"
        return [Finding(area="plugin", name="files", verdict=Verdict.LACK, found=str(error), remedy=remedy)]
    there = [row for row in rows if row.version]
    stale = [row for row in there if row.state == "differs"]
    verdict = Verdict.LACK if not there else Verdict.WARN if stale else Verdict.OK
    found = ", ".join(f"{row.name}.{row.format} {row.version}" for row in there) or "not installed"
    remedy = "" if verdict is Verdict.OK else "only for DAWs: make plugin, then attacca plugin install"
    if stale:
        remedy = "not what was built last: attacca plugin install"
    return [
        Finding(area="plugin", name="files", verdict=verdict, found=found, remedy=remedy),
        Finding(
            area="plugin", name="engine", verdict=Verdict.OK, found=f"{connection.address} ({connection.origin})"
        ),
    ]


def check_training_tools() -> list[Finding]:
    """What rendering the training music needs."""
    advice = "only for training: on Debian, apt install fluidsynth fluid-soundfont-gm"
    program = shutil.which("fluidsynth")
    font = next((path for path in _SOUNDFONTS if path.is_file()), None)
    rows = (("fluidsynth", program), ("soundfont", font))
    return [
        Finding(
            area="training",
            name=name,
            verdict=Verdict.LACK if place is None else Verdict.OK,
            found="not found" if place is None else str(place),
            remedy=advice if place is None else "",
        )
        for name, place in rows
    ]


def check_configuration(effective: Effective) -> list[Finding]:
    """Where settings come from (they are valid, or we would not be here)."""
    changed = [f"{name} ({origin})" for name, origin in effective.origin.items() if origin != "default"]
    found = ", ".join(changed) if changed else "all defaults"
    there = "" if effective.file.is_file() else " (no file)"
    return [Finding(area="configuration", name=f"{effective.file}{there}", verdict=Verdict.OK, found=found)]


def _import_problem(module: str, *, light: bool) -> str | None:
    """Why `module` cannot be used; heavy ones are only looked for."""
    try:
        if light:
            importlib.import_module(module)
        elif importlib.util.find_spec(module) is None:
            return "not installed"
    except ImportError as error:
        return f"does not import: {error}"
    return None


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "installed, version unknown"


def _provider_problem(onnxruntime: Any, provider: str) -> str | None:
    """Why a provider does not compute 1.5 + 1.5, or None if it does."""
    import numpy as np

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(_TINY_GRAPH, options, providers=[provider])
        if session.get_providers()[0] != provider:
            return "onnxruntime fell back to another provider"
        result = session.run(None, {"x": np.full(2, 1.5, dtype=np.float32)})[0]
    except Exception as error:  # whatever a driver's loader raises
        return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return None if np.array_equal(result, np.full(2, 3.0, dtype=np.float32)) else f"computes {result}, not 3"


def _bind_problem(kind: int, host: str, port: int) -> str | None:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=kind)[0]
        with socket.socket(family, kind) as probe:
            if os.name == "posix" and kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _host_port(address: str) -> tuple[str, int]:
    """tcp://host:port -> (host, port); "*" is every interface, a port of "*" is none in particular."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return ("0.0.0.0" if host == "*" else host.strip("[]")), int(port) if port.isdigit() else 0


def _audio_devices() -> list[str]:
    import sounddevice

    return [str(device["name"]) for device in sounddevice.query_devices()]


def _midi_ports() -> list[str]:
    import rtmidi

    return [str(name) for name in rtmidi.MidiIn().get_ports()]
