"""Levels read from codes, and a take held to them: exact however it was planned, and it does hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from decoder_fixtures import SAMPLING, TINY, Source, random_codes, tiny_runtime
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.bundle import ManifestError, load_bundle
from attacca.engine.code_levels import FRAMES_BEFORE, LOOKED_AT_FRAMES, CodeLevels, LevelHold
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Sampling
from attacca.engine.pattern import make_pattern
from attacca.export.bundle import write_bundle

RUNTIME = tiny_runtime()
BOOKS, SIZE = 4, 16
CONTEXT, END = 90, 260
# Codes below 8 are quiet, the others loud, by 12 dB a codebook.
STEPS = CodeLevels(np.tile((12.0 * (np.arange(SIZE) >= 8))[:, None], (BOOKS, 1, 1)), [-60.0])


def decoder(levels: CodeLevels | None = STEPS, name: str = "stack-delay", p: int = 1) -> PatternDecoder:
    made = PatternDecoder(RUNTIME, make_pattern(name, BOOKS, p=p), levels=levels)
    made.listen(random_codes(CONTEXT) % 8 + np.array([8, 0, 0, 0], np.uint16), Source().rows(0, CONTEXT))
    return made


def test_one_component_is_a_sum_and_many_their_soft_maximum() -> None:
    rng = np.random.default_rng(0)
    tables, bias = rng.normal(0, 6, (BOOKS, SIZE, 3)), rng.normal(-30, 3, 3)
    codes = random_codes(50)
    parts = tables[np.arange(BOOKS), codes].sum(1) + bias
    levels, share = CodeLevels(tables, bias).measure(codes)
    np.testing.assert_allclose(levels, 10 * np.log10((10 ** (parts / 10)).sum(1)), atol=1e-9)
    np.testing.assert_allclose(share, 10 ** (parts / 10) / (10 ** (parts / 10)).sum(1, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(CodeLevels(tables[..., :1], bias[:1]).measure(codes)[0], parts[:, 0], atol=1e-9)


def test_the_slope_is_what_a_code_changes() -> None:
    rng = np.random.default_rng(1)
    levels = CodeLevels(rng.normal(0, 1e-3, (BOOKS, SIZE, 5)), rng.normal(-30, 5, 5))
    codes = random_codes(1)
    slope = levels.slope(levels.measure(codes)[1][0])
    for book in range(BOOKS):
        changed = np.repeat(codes, SIZE, 0)
        changed[:, book] = np.arange(SIZE)
        found = levels.measure(changed)[0]
        np.testing.assert_allclose(slope[book], found - found.mean(), atol=1e-5)
    np.testing.assert_allclose(slope.mean(1), 0.0, atol=1e-7)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_how_frames_arrive_changes_nothing(parts: list[int], seed: int) -> None:
    codes = random_codes(sum(parts), seed)
    whole, pieces = LevelHold(STEPS, 400), LevelHold(STEPS, 400)
    whole.put(0, codes, heard=True)
    first = 0
    for part in parts:
        pieces.put(first, codes[first : first + part], heard=True)
        first += part
    for timestep in range(first + FRAMES_BEFORE + 1):
        assert whole.excess_db(timestep) == pieces.excess_db(timestep)


@pytest.mark.parametrize(("loud_books", "sign"), [(1, 0), (2, 1), (4, 1), (0, -1)])
def test_it_acts_beyond_the_tolerance_only(loud_books: int, sign: int) -> None:
    hold = LevelHold(STEPS, 400)
    heard = np.zeros((200, BOOKS), np.uint16)
    heard[:, 0] = 8
    hold.put(0, heard, heard=True)
    taken = np.zeros((100, BOOKS), np.uint16)
    taken[:, :loud_books] = 8
    hold.put(200, taken, heard=False)
    last = 200 + LOOKED_AT_FRAMES + FRAMES_BEFORE
    assert np.sign(hold.excess_db(last)) == sign
    assert hold.excess_db(200) == 0.0 and hold.tilt(200, 0) is None
    tilt = hold.tilt(last, 1)
    if sign == 0:
        assert tilt is None
    else:
        assert tilt is not None and np.sign(tilt[8] - tilt[0]) == sign  # taken from the louder, or the quieter


def test_without_anything_heard_nothing_is_held() -> None:
    hold = LevelHold(STEPS, 400)
    hold.put(0, np.full((200, BOOKS), 9, np.uint16), heard=False)
    assert hold.excess_db(200) == 0.0
    silent = CodeLevels(STEPS.tables, [-120.0])
    hold = LevelHold(silent, 400)
    hold.put(0, np.zeros((200, BOOKS), np.uint16), heard=True)
    assert hold.excess_db(200) == 0.0


def test_a_take_is_brought_back_to_what_was_heard() -> None:
    held, left = decoder(), decoder(levels=None)
    unconditioned = Sampling(seed=5, guidance=0.0)  # what is commanded has the last word in so small a model
    for made in (held, left):
        made.plan(END, Source(), unconditioned)
    heard_db = STEPS.measure(held.read(CONTEXT - 40, CONTEXT))[0].mean()
    off = {made: STEPS.measure(made.read(END - 80, END))[0].mean() - heard_db for made in (held, left)}
    assert off[left] > 10.0  # the tiny model draws loud and quiet codes alike
    assert off[held] < 0.6 * off[left]
    first = CONTEXT + FRAMES_BEFORE - 10
    np.testing.assert_array_equal(held.read(CONTEXT, first), left.read(CONTEXT, first))


WHOLE = decoder()
WHOLE.plan(END, Source(), SAMPLING)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6))
@settings(max_examples=10, deadline=None)
def test_pieces_forks_and_snapshots_change_nothing(parts: list[int]) -> None:
    made = decoder()
    for part in parts:
        made.plan(min(END, made.frontier + part), Source(), SAMPLING)
        made = made.fork()
        state = made.snapshot()
        made.plan(min(END, made.frontier + 7), Source(salt=3), SAMPLING)
        made.restore(state)
    made.plan(END, Source(), SAMPLING)
    np.testing.assert_array_equal(made.read(CONTEXT, END), WHOLE.read(CONTEXT, END))


@pytest.mark.parametrize(
    ("name", "p"), [("stack-delay", 1), ("stack-delay", 3), ("stack", 1), ("delay", 1), ("flat", 1)]
)
@pytest.mark.parametrize("to", [198, 205])
def test_rolled_back_is_never_planned(name: str, p: int, to: int) -> None:
    back, never = decoder(name=name, p=p), decoder(name=name, p=p)
    back.plan(210, Source(), SAMPLING)
    never.plan(to, Source(), SAMPLING)
    for made in (back, never):
        made.rollback(to)
        made.plan(240, Source(), SAMPLING)
    np.testing.assert_array_equal(back.read(CONTEXT, 240), never.read(CONTEXT, 240))


def test_forced_frames_are_not_what_was_heard() -> None:
    made = decoder()
    made.force(np.full((60, BOOKS), 15, np.uint16), Source())
    assert made._hold is not None
    assert made._hold.excess_db(CONTEXT + 60 + FRAMES_BEFORE) > 20.0


def test_bundles_carry_levels_or_say_what_is_wrong(tmp_path: Path) -> None:
    plain = load_bundle(TINY)
    assert plain.levels is None
    for file in TINY.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    fields = {name: getattr(plain.manifest, name) for name in plain.manifest.__struct_fields__}
    del fields["format_version"]
    files = {role: entry.path for role, entry in fields.pop("files").items()}

    def written(tables: np.ndarray, bias: np.ndarray) -> Path:
        np.savez(tmp_path / "levels.npz", tables=tables, bias=bias)
        write_bundle(tmp_path, fields, {**files, "code_levels": "levels.npz"})
        return tmp_path

    levels = load_bundle(written(STEPS.tables, STEPS.bias)).levels
    assert levels is not None and np.array_equal(levels.tables, STEPS.tables)
    for tables, bias, said in (
        (STEPS.tables[:2], STEPS.bias, "of other codes"),
        (STEPS.tables, np.zeros(2), "bias of the code levels"),
        (STEPS.tables * np.nan, STEPS.bias, "not finite"),
    ):
        with pytest.raises(ManifestError, match=said):
            load_bundle(written(tables, bias))
    (tmp_path / "levels.npz").write_bytes(b"no archive")
    write_bundle(tmp_path, fields, {**files, "code_levels": "levels.npz"})
    with pytest.raises(ManifestError, match="code_levels"):
        load_bundle(tmp_path)
