"""The doctor's checks: each lack is seen, and each comes with something to do."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
from pathlib import Path

import pytest

from attacca.bridge import config, doctor
from attacca.bridge.doctor import Finding, Verdict, check_cpu, check_packages, check_ports, check_providers


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_packages_that_are_missing_are_told_apart() -> None:
    rows = (
        ("json", "numpy", "arrays", ""),
        ("no_such_module_a", "needed-thing", "everything", ""),
        ("no_such_module_b", "extra-thing", "pictures", "demo"),
    )
    found = by_name(check_packages(rows))
    assert found["numpy"].verdict is Verdict.OK
    assert found["numpy"].found[0].isdigit()
    assert found["needed-thing"].verdict is Verdict.FAIL
    assert "pip install needed-thing" in found["needed-thing"].remedy
    assert found["extra-thing"].verdict is Verdict.LACK
    assert "attacca[demo]" in found["extra-thing"].remedy


def test_the_default_path_is_whole_here() -> None:
    needed = [finding for finding in check_packages() if finding.verdict is Verdict.FAIL]
    assert needed == []


def test_the_cpu_provider_computes() -> None:
    assert by_name(check_providers())["CPUExecutionProvider"] == Finding(
        area="providers", name="CPUExecutionProvider", verdict=Verdict.OK, found="answers"
    )


class BrokenRuntime:
    """onnxruntime whose providers are listed but do not answer."""

    class SessionOptions:
        log_severity_level = 0

    @staticmethod
    def get_available_providers() -> list[str]:
        return ["CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]

    class InferenceSession:
        def __init__(self, graph: bytes, options: object, providers: list[str]) -> None:
            if providers == ["CPUExecutionProvider"]:
                raise RuntimeError("illegal instruction\nstack")

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]


def test_a_provider_that_is_only_listed_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", BrokenRuntime)
    found = by_name(check_providers())
    assert set(found) == {"CUDAExecutionProvider", "CPUExecutionProvider"}
    assert found["CUDAExecutionProvider"].verdict is Verdict.WARN
    assert "fell back" in found["CUDAExecutionProvider"].found
    assert found["CPUExecutionProvider"].verdict is Verdict.FAIL
    assert found["CPUExecutionProvider"].found == "does not answer: illegal instruction"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_in_use_is_seen(kind: int) -> None:
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        port = holder.getsockname()[1]
        (finding,) = check_ports([("osc", kind, "127.0.0.1", port)])
        assert finding.verdict is Verdict.WARN
        assert "--osc-port" in finding.remedy
    (finding,) = check_ports([("osc", kind, "127.0.0.1", port)])
    assert finding.verdict is Verdict.OK
    assert check_ports([("osc", kind, "127.0.0.1", 0)]) == []


def test_more_threads_than_cores_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0, 0), raising=False)
    assert check_cpu(2)[0].verdict is Verdict.OK
    assert check_cpu(3)[0].verdict is Verdict.WARN
    assert "at most 2" in check_cpu(3)[0].remedy
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 0, 0), raising=False)
    assert check_cpu(1)[0].verdict is Verdict.WARN


def test_a_model_that_is_not_there_fails(tmp_path: Path) -> None:
    (finding,) = doctor.check_bundle(str(tmp_path / "none"))
    assert finding.verdict is Verdict.FAIL
    assert finding.remedy


def test_devices_are_asked_for_only_where_the_extra_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert doctor.check_devices() == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(doctor, "_audio_devices", lambda: ["Interface A", "Interface B"])

    def no_driver() -> list[str]:
        raise RuntimeError("no sequencer")

    monkeypatch.setattr(doctor, "_midi_ports", no_driver)
    found = by_name(doctor.check_devices())
    assert found["audio"].found == "Interface A, Interface B"
    assert found["midi"].verdict is Verdict.LACK
    assert "no sequencer" in found["midi"].found


def test_the_whole_report_has_every_area_and_every_lack_a_remedy(tmp_path: Path) -> None:
    file = tmp_path / "attacca.toml"
    file.write_text("osc_port = 0\nthreads = 1\n")
    findings = doctor.examine(config.resolve({}, environment={}, file=file))
    areas = {finding.area for finding in findings}
    assert {"python", "packages", "providers", "model", "machine", "ports", "training", "configuration"} <= areas
    assert all(finding.remedy for finding in findings if finding.verdict is not Verdict.OK)
    assert not [finding for finding in findings if finding.area == "ports" and finding.name == "osc"]
    told = doctor.as_json(findings)
    assert told["ok"] is doctor.healthy(findings)
    assert len(told["findings"]) == len(findings)


@pytest.mark.train
def test_the_tiny_graph_is_what_it_says() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(doctor._TINY_GRAPH)
    onnx.checker.check_model(model)
    assert [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node] == [
        ("Add", ["x", "x"], ["y"])
    ]
