"""The shared vectors against the rational reference that made them; the native plugin is held to the same file."""

from __future__ import annotations

import json

import pytest
from scripted_transport import PythonTime, same
from transport_vectors import FILE, answers, generate, load

CASES = load()
LARGEST_BYTES = 300_000


def test_the_file_is_what_the_generator_writes() -> None:
    text = FILE.read_text()
    assert len(text) < LARGEST_BYTES
    assert json.loads(text) == generate(), "run python tests/transport_vectors.py and look at what changed"


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_the_reference_gives_the_vectors(case: tuple) -> None:
    _, rate, blocks, rows = case
    for number, (expected, found) in enumerate(zip(rows, answers(PythonTime(rate), blocks), strict=True)):
        assert same(expected, found), f"block {number}"


def test_the_vectors_hold_every_change() -> None:
    changes = {row[0] for _, _, _, rows in CASES for row in rows}
    assert changes == {"first", "held", "start", "stop", "seek", "tempo", "meter", "renumbered", "bend"}
