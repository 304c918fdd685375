"""Settings: which source wins, and that every mistake is one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacca.bridge import config
from attacca.bridge.config import ConfigError, Settings, resolve


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "attacca.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_flag_wins_over_environment_over_file_over_default(toml: Any) -> None:
    path = toml("threads = 2\ntemperature = 0.5\nosc_port = 7000\n")
    environment = {"ATTACCA_THREADS": "3", "ATTACCA_TEMPERATURE": "0.75", "HOME": "/nowhere"}
    effective = resolve({"threads": 4, "seed": None}, environment=environment, file=path)
    assert effective.settings == Settings(threads=4, temperature=0.75, osc_port=7000)
    assert effective.origin["threads"] == "flag"
    assert effective.origin["temperature"] == "ATTACCA_TEMPERATURE"
    assert effective.origin["osc_port"] == str(path)
    assert effective.origin["seed"] == "default"


def test_every_setting_can_come_from_every_source(tmp_path: Path) -> None:
    other: dict[str, Any] = {
        "model": "elsewhere",
        "fake": True,
        "hold_level": False,
        "hold_beat": False,
        "threads": 2,
        "second_core": "off",
        "backend": "cuda",
        "text": "slow jazz",
        "seed": 7,
        "temperature": 0.5,
        "top_k": 50,
        "guidance": 2.5,
        "address": "tcp://127.0.0.1:1",
        "publish": "tcp://127.0.0.1:2",
        "osc_host": "0.0.0.0",
        "osc_port": 3,
        "midi_port": "keys",
        "allow_remote": True,
        "priority": "high",
        "cores": "2,3",
        "lock_memory": True,
        "log_level": "error",
    }
    assert set(other) == set(config.ROWS)
    path = tmp_path / "a.toml"
    lines = [f"{name} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for name, v in other.items()]
    path.write_text("\n".join(lines))
    environment = {f"ATTACCA_{name.upper()}": str(value) for name, value in other.items()}
    wanted = Settings(**other)
    assert resolve({}, environment={}, file=path).settings == wanted
    assert resolve({}, environment={**environment, "ATTACCA_CONFIG": str(path)}).settings == wanted
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    assert resolve({}, environment=environment, file=empty).settings == wanted
    assert resolve(other, environment={}, file=empty).settings == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("treads = 2", ["treads", "did you mean 'threads'?"]),
        ("osc-port = 2", ["osc-port", "did you mean 'osc_port'?"]),
        ("zzzzzz = 2", ["zzzzzz", "known are model, fake"]),
        ("threads = 0", ["threads = 0", "1..64"]),
        ("threads = true", ["threads = True", "whole number"]),
        ("threads = 2.5", ["threads = 2.5", "whole number"]),
        ('temperature = "hot"', ["temperature = 'hot'", "a number"]),
        ("temperature = nan", ["temperature = nan", "0.0..4.0"]),
        ('log_level = "loud"', ["log_level", "debug, info, warning, error"]),
        ('address = "127.0.0.1:5"', ["address", "tcp://"]),
        ("[engine]\nthreads = 2", ["unknown setting 'engine'"]),
        ("threads = ", ["not TOML"]),
    ],
)
def test_a_mistake_in_the_file_is_named(toml: Any, text: str, words: list[str]) -> None:
    path = toml(text)
    with pytest.raises(ConfigError) as caught:
        resolve({}, environment={}, file=path)
    for word in [str(path), *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value).split("not TOML")[0]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ATTACCA_TREADS": "2"}, ["ATTACCA_TREADS", "did you mean 'ATTACCA_THREADS'?"]),
        ({"ATTACCA_THREADS": "two"}, ["ATTACCA_THREADS", "'two'", "whole number"]),
        ({"ATTACCA_FAKE": "perhaps"}, ["ATTACCA_FAKE", "neither yes nor no"]),
        ({"ATTACCA_GUIDANCE": "-1"}, ["ATTACCA_GUIDANCE", "guidance = -1.0", "0.0..10.0"]),
        ({"ATTACCA_CONFIG": "/no/such/file.toml"}, ["/no/such/file.toml", "no such configuration file"]),
    ],
)
def test_a_mistake_in_the_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: list[str]
) -> None:
    monkeypatch.setattr(config, "default_file", lambda: tmp_path / "none.toml")
    with pytest.raises(ConfigError) as caught:
        resolve({}, environment=environment)
    for word in words:
        assert word in str(caught.value)


def test_a_flag_out_of_range_is_named_as_a_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "default_file", lambda: tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"--osc-port = 65536 is outside 0\.\.65535"):
        resolve({"osc_port": 65536}, environment={})


def test_an_unreadable_file_is_an_error_and_a_missing_default_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "default_file", lambda: tmp_path / "none.toml")
    assert resolve({}, environment={}).settings == Settings()
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve({}, environment={}, file=tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve({}, environment={}, file=binary)


@given(st.binary(max_size=60))
def test_any_bytes_as_a_file_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    try:
        resolve({}, environment={}, file=path)
    except ConfigError as error:
        assert str(path) in str(error)


def test_settings_validate_themselves() -> None:
    with pytest.raises(ConfigError, match=r"threads = 65 is outside 1\.\.64"):
        Settings(threads=65)
