"""`attacca plugin`: copies of built files in a home of the test's own, and the file that names the engine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from attacca.bridge import config, doctor, plugin_address, plugin_files
from attacca.bridge.cli import app
from attacca.bridge.plugin_address import AddressError
from attacca.bridge.plugin_files import PluginFilesError

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home on an empty Linux."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("XDG_CONFIG_HOME", "ATTACCA_ENGINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(plugin_files, "build_folder", lambda: tmp_path / "build")
    return folder


@pytest.fixture
def attacca(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*args: object) -> tuple[int, str, str]:
        code = app(["plugin", *map(str, args)], standalone_mode=False)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def build(tmp_path: Path, version: str = "1.2.3", more: bytes = b"") -> Path:
    """What a build leaves, as far as names and marks go."""
    folder = tmp_path / "build"
    binary = b"\x7fELF..attacca-plugin-version=" + version.encode() + b";.." + more
    for name in plugin_files.NAMES:
        for file in (
            f"{name}.clap",
            f"{name}.vst3/Contents/x86_64-linux/{name}.so",
            f"{name}.lv2/{name}_dsp.so",
            name,
        ):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(binary)
        (folder / f"{name}.lv2" / "manifest.ttl").write_text("@prefix lv2: <...> .")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def states(run: Run, *args: object) -> dict[str, tuple[str, str | None]]:
    code, out, _ = run("where", "--json", *args)
    assert code == 0
    return {f"{row['name']}.{row['format']}": (row["state"], row["version"]) for row in json.loads(out)}


ALL = [f"{name}.{kind}" for kind in plugin_files.FORMATS for name in plugin_files.NAMES]


def test_install_where_uninstall(attacca: Run, home: Path, tmp_path: Path) -> None:
    assert states(attacca) == dict.fromkeys(ALL, ("absent", None))
    source = build(tmp_path)
    code, out, err = attacca("install")
    assert (code, err) == (0, "")
    assert out.count("installed") == len(ALL)
    expected = {
        f".{kind}/{file}": content
        for kind in plugin_files.FORMATS
        for file, content in tree(source).items()
        if f".{kind}" in file
    }
    assert tree(home) == expected
    assert not [file for file in home.rglob("*") if "partial" in file.name]
    assert states(attacca) == dict.fromkeys(ALL, ("same", "1.2.3"))
    assert attacca("install")[1].count("unchanged") == len(ALL)
    assert attacca("uninstall")[1].count("removed") == len(ALL)
    assert tree(home) == {}
    assert attacca("uninstall") == (0, "nothing is installed\n", "")


def test_a_new_build_replaces_and_leaves_nothing_of_the_old(attacca: Run, home: Path, tmp_path: Path) -> None:
    build(tmp_path)
    attacca("install")
    (home / ".lv2" / "Attacca.lv2" / "old.ttl").write_text("of an older version")
    build(tmp_path, "1.3.0", b"more")
    assert set(states(attacca).values()) == {("differs", "1.2.3")}
    assert attacca("install")[1].count("replaced") == len(ALL)
    assert not (home / ".lv2" / "Attacca.lv2" / "old.ttl").exists()
    assert set(states(attacca).values()) == {("same", "1.3.0")}


def test_a_rebuild_of_the_same_version_is_told_apart(attacca: Run, tmp_path: Path) -> None:
    build(tmp_path)
    attacca("install")
    build(tmp_path, more=b"another")
    assert set(states(attacca).values()) == {("differs", "1.2.3")}


def test_one_format_from_another_folder(attacca: Run, home: Path, tmp_path: Path) -> None:
    source = build(tmp_path).rename(tmp_path / "elsewhere")
    assert attacca("install")[0] == 2
    code, out, _ = attacca("install", "--from", source, "--format", "clap", "--json")
    assert code == 0
    rows = json.loads(out)
    assert [(row["name"], row["format"], row["action"], row["built_version"]) for row in rows] == [
        ("Attacca", "clap", "installed", "1.2.3"),
        ("AttaccaInstrument", "clap", "installed", "1.2.3"),
        ("AttaccaMono", "clap", "installed", "1.2.3"),
    ]
    assert sorted(tree(home)) == [f".clap/{name}.clap" for name in plugin_files.NAMES]
    assert states(attacca, "--format", "clap") == {name: ("installed", "1.2.3") for name in ALL if "clap" in name}


def test_a_dry_run_changes_nothing(attacca: Run, home: Path, tmp_path: Path) -> None:
    build(tmp_path)
    assert "would be done" in attacca("install", "--dry-run")[1]
    assert list(home.iterdir()) == []
    attacca("install")
    before = tree(home)
    assert attacca("uninstall", "-n")[1].count("removed") == len(ALL)
    assert tree(home) == before


@pytest.mark.parametrize("kind", ["file", "folder", "ours with more", "dangling link"])
def test_foreign_files_are_neither_replaced_nor_removed(
    attacca: Run, home: Path, tmp_path: Path, kind: str
) -> None:
    build(tmp_path)
    target = home / ".vst3" / "Attacca.vst3"
    target.parent.mkdir()
    if kind == "file":
        target.write_text("another plugin of this name")
    elif kind == "dangling link":
        target.symlink_to(home / "nowhere")
    else:
        if kind == "ours with more":
            attacca("install", "--format", "vst3")
        (target / "Contents").mkdir(parents=True, exist_ok=True)
        (target / "Contents" / "my song.wav").write_text("not to be lost")
    (home / ".vst3" / "Other.vst3").write_text("untouched")
    before = tree(home)
    code, out, err = attacca("install")
    assert (code, out) == (2, "")
    assert str(target) in err
    assert tree(home) == before
    attacca("install", "--format", "clap")
    assert states(attacca)["Attacca.vst3"][0] == "foreign"
    code, out, _ = attacca("uninstall")
    assert code == 0
    assert "left alone" in out
    assert tree(home).items() >= {k: v for k, v in before.items() if "Attacca.vst3" in k or "Other" in k}.items()


def test_an_installed_link_is_replaced_and_what_it_leads_to_stays(attacca: Run, home: Path, tmp_path: Path) -> None:
    source = build(tmp_path)
    (home / ".clap").mkdir()
    (home / ".clap" / "Attacca.clap").symlink_to(source / "Attacca.clap")
    assert states(attacca)["Attacca.clap"] == ("same", "1.2.3")
    attacca("uninstall")
    assert not (home / ".clap" / "Attacca.clap").is_symlink()
    assert (source / "Attacca.clap").exists()


def test_what_fails_half_way_leaves_the_old_one(
    attacca: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path)
    attacca("install", "--format", "lv2")
    before = tree(home)
    build(tmp_path, "2.0.0")

    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if ".new" in path.name:
            raise OSError(28, "No space left on device", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    code, _, err = attacca("install", "--format", "lv2")
    assert code == 2
    assert "No space left" in err
    assert tree(home) == before


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("Linux", {"HOME": "/h"}, {"vst3": "/h/.vst3", "clap": "/h/.clap", "lv2": "/h/.lv2"}),
        (
            "Darwin",
            {"HOME": "/h"},
            {kind: f"/h/Library/Audio/Plug-Ins/{kind.upper()}" for kind in plugin_files.FORMATS},
        ),
        (
            "Windows",
            {"LOCALAPPDATA": "/l", "APPDATA": "/a"},
            {"vst3": "/l/Programs/Common/VST3", "clap": "/l/Programs/Common/CLAP", "lv2": "/a/LV2"},
        ),
    ],
)
def test_hosts_look_in_the_users_folders(
    system: str, environment: dict[str, str], expected: dict[str, str]
) -> None:
    found = plugin_files.places(environment, system).folders
    assert {kind: folder.as_posix() for kind, folder in found.items()} == expected
    with pytest.raises(PluginFilesError, match="is not set"):
        plugin_files.places({}, system)


def test_connect_writes_what_the_plugin_reads(attacca: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / ".config" / "attacca" / "plugin.conf"
    assert attacca("connect", "--show")[1] == "plugins connect to tcp://127.0.0.1:9123 (the default)\n"
    assert attacca("connect", "tcp://192.168.1.20:9123")[0] == 0
    assert [line for line in file.read_text().splitlines() if "=" in line] == ["address = tcp://192.168.1.20:9123"]
    shown = json.loads(attacca("connect", "--show", "--json")[1])
    assert shown == {"address": "tcp://192.168.1.20:9123", "origin": "file", "file": str(file)}
    monkeypatch.setenv("ATTACCA_ENGINE", " tcp://gpu:1 ")
    assert json.loads(attacca("connect", "--show", "--json")[1])["address"] == "tcp://gpu:1"
    assert "it holds where ATTACCA_ENGINE is not set" in attacca("connect", "tcp://other:2")[1]
    monkeypatch.delenv("ATTACCA_ENGINE")
    assert "tcp://other:2" in attacca("connect", "--show")[1]
    assert "the default" in attacca("connect", "--reset")[1]
    assert not file.exists()
    assert attacca("connect", "--reset")[0] == 0


@pytest.mark.parametrize(
    "address",
    ["gpu:9123", "tcp://gpu", "tcp://:9123", "tcp://gpu:0", "tcp://gpu:65536", "tcp://gpu:*", "tcp://g pu:1",
     "ipc:///tmp/engine", "tcp://gpu:1\naddress=tcp://evil:2", "tcp://[::1:9123", "tcp://::1:9123", "tcp://gpu:１",
     "tcp://" + "a" * 254 + ":1", ""],
)  # fmt: skip
def test_what_no_plugin_could_use_is_refused(attacca: Run, home: Path, address: str) -> None:
    code, out, err = attacca("connect", address)
    assert (code, out) == (2, "")
    assert err.startswith("attacca: ")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("address", ["tcp://[::1]:9123", "tcp://[fe80::1%eth0]:1", "tcp://my-gpu.lan:65535"])
def test_addresses_that_plugins_take(address: str) -> None:
    assert plugin_address.checked(f" {address}\n") == address


def test_the_plugins_variables_do_not_stop_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set for a whole desktop they reach `attacca serve` too, which refuses variables that it does not know."""
    for variable in ("ATTACCA_ENGINE", "ATTACCA_OFFLINE"):
        source = (ROOT / "plugin_stub" / "plugin").glob("*.[ch]pp")
        assert any(f'"{variable}"' in file.read_text() for file in source)
        monkeypatch.setenv(variable, "1")
    assert config.resolve({}, file=None).settings.address == "tcp://127.0.0.1:9123"


def test_one_thing_at_a_time(attacca: Run) -> None:
    for args in ((), ("tcp://a:1", "--show"), ("--show", "--reset")):
        assert attacca("connect", *args)[0] == 2


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("Linux", {"HOME": "/h"}, "/h/.config/attacca/plugin.conf"),
        ("Linux", {"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/x/attacca/plugin.conf"),
        ("Darwin", {"HOME": "/h"}, "/h/Library/Application Support/attacca/plugin.conf"),
        ("Windows", {"LOCALAPPDATA": "/l"}, "/l/attacca/attacca/plugin.conf"),
    ],
)
def test_the_file_lies_where_the_plugin_looks(system: str, environment: dict[str, str], expected: str) -> None:
    """The literals of engine_address.cpp, joined, end this path."""
    path = plugin_address.conf_path(environment, system).as_posix()
    assert path == expected
    source = (ROOT / "plugin_stub" / "plugin" / "engine_address.cpp").read_text()
    ends = [text.replace("\\\\", "/") for text in re.findall(r'"([^"]*plugin\.conf)"', source)]
    assert any(path.endswith(end) for end in ends)
    with pytest.raises(AddressError, match="names no folder"):
        plugin_address.conf_path({}, system)


def test_the_doctor_knows_of_it(attacca: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict() -> tuple[str, str]:
        finding = doctor.check_plugin()[0]
        assert bool(finding.remedy) == (finding.verdict is not doctor.Verdict.OK)
        return finding.verdict.value, finding.found

    assert verdict() == ("lack", "not installed")
    build(tmp_path)
    attacca("install", "--format", "clap")
    assert verdict() == ("ok", ", ".join(f"{name}.clap 1.2.3" for name in plugin_files.NAMES))
    build(tmp_path, "2.0.0")
    assert verdict()[0] == "warn"
    monkeypatch.delenv("HOME")
    assert verdict()[0] == "lack"
