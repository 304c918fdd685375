"""What the scanners of Ardour and qtractor and the lister of lilv find in the bundles: both variants, no complaint.

Scanners load a plugin in a process of their own before a host trusts it. Debian's qtractor is built without VST3,
and scans LV2 through lilv.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Formats, Variant

from attacca.bridge.params import METERS, PARAMETERS, PLUGIN_PARAMETERS

pytestmark = pytest.mark.plugin

CONTROLS = len(PARAMETERS) + len(PLUGIN_PARAMETERS) + 1  # and bypass
ARDOUR = sorted(Path("/usr/lib").glob("ardour*/ardour-vst3-scanner"))
QTRACTOR = sorted(Path("/usr/lib").glob("*/qtractor/qtractor_plugin_scan"))


@dataclass(frozen=True, kw_only=True)
class Expected:
    uri: str
    name: str
    lv2_class: str
    vst3_category: str
    vst3_inputs: int  # of the main bus
    vst3_side_inputs: int
    channels: int = 2


EXPECTED = {
    "Attacca": Expected(
        uri="urn:attacca:effect", name="Attacca", lv2_class="Generator", vst3_category="Fx|Generator|Stereo",
        vst3_inputs=2, vst3_side_inputs=0,
    ),
    "AttaccaInstrument": Expected(
        uri="urn:attacca:instrument", name="Attacca Instrument", lv2_class="Instrument",
        vst3_category="Instrument|Sampler|Stereo", vst3_inputs=0, vst3_side_inputs=2,
    ),
    "AttaccaMono": Expected(
        uri="urn:attacca:effect-mono", name="Attacca Mono", lv2_class="Generator",
        vst3_category="Fx|Generator|Mono", vst3_inputs=1, vst3_side_inputs=0, channels=1,
    ),
}  # fmt: skip


@pytest.fixture(params=list(EXPECTED))
def variant(request: pytest.FixtureRequest, formats: Formats) -> Variant:
    return {row.name: row for row in (formats.effect, formats.instrument, formats.mono)}[request.param]


def scan(command: list[str | Path], folder: Path, said: str = "", **environment: str) -> str:
    """What a scanner says on both its outputs; it must end well."""
    home = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    done = subprocess.run(
        list(map(str, command)), input=said, capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | home | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_ardour_finds_the_vst3(variant: Variant, tmp_path: Path) -> None:
    if not ARDOUR:
        pytest.skip("Ardour's VST3 scanner (ardour) is not installed")
    libraries = str(ARDOUR[-1].parent)
    told = scan([ARDOUR[-1], "-f", "-v", variant.vst3], tmp_path, LD_LIBRARY_PATH=libraries)
    assert not re.search(r"\[(error|warning)\]", told, re.IGNORECASE), told
    found = ElementTree.fromstring(told[told.index("<VST3Cache") : told.index("</VST3Cache>") + 12])
    (plugin,) = found
    expected = EXPECTED[variant.name]
    assert Path(found.attrib["bundle"]) == variant.vst3
    assert plugin.attrib["name"] == expected.name
    assert plugin.attrib["vendor"] == "Attacca"
    assert plugin.attrib["category"] == expected.vst3_category
    counts = [int(plugin.attrib[f"n_{kind}"]) for kind in ("inputs", "aux_inputs", "outputs", "midi_inputs")]
    assert counts == [expected.vst3_inputs, expected.vst3_side_inputs, expected.channels, 1]


def test_qtractor_finds_the_clap(variant: Variant, tmp_path: Path) -> None:
    if not QTRACTOR:
        pytest.skip("qtractor's scanner (qtractor) is not installed")
    told = scan([QTRACTOR[-1]], tmp_path, said=f"CLAP:{variant.clap}\n")
    (line,) = told.splitlines()
    kind, name, audio, midi, controls, flags, file, index, identifier = line.split("|")
    assert (kind, name, file, index) == ("CLAP", EXPECTED[variant.name].name, str(variant.clap), "0")
    channels = EXPECTED[variant.name].channels
    assert (audio, midi, controls) == (f"{channels}:{channels}", "1:0", f"{CONTROLS}:{len(METERS)}")
    assert "RT" in flags.split(",")
    assert int(identifier, 16)


def test_the_variants_are_told_apart(formats: Formats, tmp_path: Path) -> None:
    """Hosts keep VST3s by these numbers. (qtractor's number of a CLAP is a pointer's: nobody can set it.)"""
    if not ARDOUR:
        pytest.skip("Ardour's VST3 scanner (ardour) is not installed")
    variants = (formats.effect, formats.instrument, formats.mono)
    environment = {"LD_LIBRARY_PATH": str(ARDOUR[-1].parent)}
    vst3 = [scan([ARDOUR[-1], "-f", "-v", variant.vst3], tmp_path, **environment) for variant in variants]
    uids = [re.search(r'uid="([0-9A-F]{32})"', told).group(1) for told in vst3]  # type: ignore[union-attr]
    assert len(set(uids)) == 3


def test_lilv_lists_the_lv2(variant: Variant, tmp_path: Path) -> None:
    """From a folder as hosts search it, beside the bundles of LV2 itself."""
    for tool in ("lv2ls", "lv2info"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} (lilv-utils) is not installed")
    shutil.copytree(variant.lv2, tmp_path / variant.lv2.name)
    path = f"{tmp_path}:/usr/lib/lv2:/usr/local/lib/lv2"
    expected = EXPECTED[variant.name]
    assert scan(["lv2ls"], tmp_path, LV2_PATH=str(tmp_path)).split() == [expected.uri]
    assert expected.name in scan(["lv2ls", "-n"], tmp_path, LV2_PATH=str(tmp_path)).splitlines()
    told = scan(["lv2info", expected.uri], tmp_path, LV2_PATH=path)
    assert "error" not in told.lower(), told
    assert re.search(rf"Name: +{expected.name}\n", told)
    assert re.search(rf"Class: +{expected.lv2_class}", told)
    assert re.search(r"Has latency: +yes", told)
    assert told.count("#AudioPort") == 2 * expected.channels


def test_a_bundle_that_is_damaged_is_noticed(formats: Formats, tmp_path: Path) -> None:
    """The same scanners, of files that cannot be loaded."""
    if not ARDOUR or not QTRACTOR:
        pytest.skip("Ardour's or qtractor's scanner (ardour, qtractor) is not installed")
    broken = Path(shutil.copytree(formats.effect.vst3, tmp_path / "Broken.vst3"))
    (module,) = broken.rglob("*.so")
    module.write_text("no module")
    module.rename(module.with_name("Broken.so"))
    environment = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment["LD_LIBRARY_PATH"] = str(ARDOUR[-1].parent)
    done = subprocess.run(
        [ARDOUR[-1], "-f", "-v", broken], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert "<VST3Info" not in done.stdout + done.stderr
    clap = tmp_path / "Broken.clap"
    clap.write_text("no module")
    assert "CLAP|" not in scan([QTRACTOR[-1]], tmp_path, said=f"CLAP:{clap}\n")
